//! `POST /v1/query`.

use std::{sync::Arc, time::Duration};

use axum::{body::Bytes, extract::State, http::HeaderMap, response::Response};
use dagwright_contracts::query::QueryRequest;
use dagwright_telemetry::Rejection;
use sha2::{Digest, Sha256};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout_at},
};
use uuid::Uuid;

use super::{
    App, CATALOG_UNAVAILABLE, Limits, answer,
    problem::{self, Ended},
};
use crate::{
    auth::Caller,
    catalog::{self, Readable},
    engine::protocol::{Failure, Frame, Gated, Job, Relation, Run},
    objects::Access,
    pool::{Engine, EngineError},
};

/// How long a query waits for its turn.
const QUEUE: Duration = Duration::from_secs(5);

/// Between the engine's own interrupt and SIGKILL.
const GRACE: Duration = Duration::from_secs(1);

/// A query at work: dropping it kills its engine and ends its access to objects.
pub(super) struct Running {
    pub(super) engine: Engine,
    pub(super) access: Option<Access>,
    pub(super) kill_at: Instant,
    pub(super) audit: Audit,
    _slot: OwnedSemaphorePermit,
}

/// What the audit log says about a query.
pub(super) struct Audit {
    pub(super) id: Uuid,
    started: Instant,
    subject: String,
    sql_sha256: String,
    canonical: String,
    datasets: Vec<String>,
    functions: Vec<String>,
}

pub(super) async fn query(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Rejection> {
    let caller = app.auth.caller(&headers).await?;
    let request: QueryRequest = serde_json::from_slice(&body)
        .map_err(|error| problem::of("InvalidRequest", format!("the body does not parse: {error}")))?;
    let run = plan(&request, app.limits)?;
    let slot = tokio::time::timeout(QUEUE, app.slots.clone().acquire_owned()).await;
    let Ok(Ok(slot)) = slot else {
        metrics::counter!("dagwright_query_total", "outcome" => "TooManyQueries").increment(1);
        return Err(
            problem::of("TooManyQueries", "as many queries run as may; try again in a moment").retry_after(2)
        );
    };
    let readable = app.readable(&caller).await?;
    let engine = app.engines.take().await.map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "no engine for a query");
        problem::of("EngineFailed", "no engine could be started")
    })?;
    let deadline = Duration::from_millis(run.deadline_ms);
    let audit = Audit::new(&caller, &request.sql);
    let mut running =
        Running { engine, access: None, kill_at: Instant::now() + deadline + GRACE, audit, _slot: slot };
    match running.begin(&app, &caller, &request, readable, run).await {
        Ok(()) => answer::respond(running, request.format).await,
        Err(ended) => Err(running.end(&ended)),
    }
}

/// The limits of this query: what was asked for, under the service's own.
fn plan(request: &QueryRequest, limits: Limits) -> Result<Run, Rejection> {
    if let Some(n) = request.params.iter().position(|p| p.is_array() || p.is_object()) {
        let detail =
            format!("params[{n}] is not a scalar; give numbers, strings, booleans or null, and cast in SQL");
        return Err(problem::of("InvalidParameter", detail));
    }
    if request.max_rows == Some(0) || request.timeout_seconds == Some(0) {
        return Err(problem::of("InvalidRequest", "maxRows and timeoutSeconds must be at least 1"));
    }
    let asked = request.timeout_seconds.map_or(limits.timeout, Duration::from_secs);
    let deadline = asked.min(limits.timeout);
    Ok(Run {
        datasets: Vec::new(),
        params: request.params.clone(),
        format: request.format,
        max_rows: request.max_rows.unwrap_or(limits.max_rows).min(limits.max_rows),
        max_bytes: limits.max_bytes,
        deadline_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
    })
}

impl Running {
    /// Has the SQL gated, gives it its objects and starts it.
    async fn begin(
        &mut self,
        app: &App,
        caller: &Caller,
        request: &QueryRequest,
        visible: Readable,
        mut run: Run,
    ) -> Result<(), Ended> {
        let job = Job { sql: request.sql.clone(), visible: visible.keys().cloned().collect() };
        self.engine.send(&job).await.map_err(Ended::Broken)?;
        let gated = match self.next().await? {
            Frame::Gated(gated) => gated,
            Frame::Failed(failure) => return Err(Ended::Failed(failure)),
            _ => return Err(Ended::Broken(EngineError::OutOfTurn)),
        };
        let pinned = pinned(app, caller, &gated, &visible).await?;
        self.audit.gated(&gated, &pinned);
        let (access, relations) = open(app, &gated, &pinned)?;
        self.access = Some(access);
        run.datasets = relations;
        let left = self.kill_at.saturating_duration_since(Instant::now()).saturating_sub(GRACE);
        run.deadline_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        self.engine.send(&run).await.map_err(Ended::Broken)
    }

    /// The engine's next frame, unless the query's time is up.
    pub(super) async fn next(&mut self) -> Result<Frame, Ended> {
        match timeout_at(self.kill_at, self.engine.next()).await {
            Ok(frame) => frame.map_err(Ended::Broken),
            Err(_) => Err(Ended::Deadline),
        }
    }

    /// The answer for a query that ended badly, which is also when it is recorded.
    pub(super) fn end(&self, ended: &Ended) -> Rejection {
        let rejection = problem::ended(ended, self.access.as_ref().and_then(Access::problem));
        if let Ended::Broken(error) = ended {
            tracing::warn!(query = %self.audit.id, error = error as &dyn std::error::Error, "engine process broke");
        }
        self.audit.record(&rejection.problem().code, self.access.as_ref(), 0, 0);
        rejection
    }
}

/// The datasets that the query names with their objects, all from one snapshot; nothing else of the catalog is read.
async fn pinned(app: &App, caller: &Caller, gated: &Gated, visible: &Readable) -> Result<Readable, Ended> {
    // The gate ran where a stranger's SQL runs, so its word is checked.
    let id = |name| visible.get(name).map(|d| d.dataset_id).ok_or(Ended::Broken(EngineError::OutOfTurn));
    let ids = gated.datasets.iter().map(id).collect::<Result<Vec<_>, _>>()?;
    if ids.is_empty() {
        return Ok(Readable::new());
    }
    let datasets = app.catalog.pin(&ids).await.map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "catalog could not be read");
        Ended::Failed(Failure::new("CatalogUnavailable", CATALOG_UNAVAILABLE))
    })?;
    Ok(catalog::readable(caller, datasets))
}

/// Opens access to the pinned objects. A dataset may have been deleted or closed to the caller since the gate saw it.
fn open(app: &App, gated: &Gated, pinned: &Readable) -> Result<(Access, Vec<Relation>), Ended> {
    let mut objects = Vec::new();
    for name in &gated.datasets {
        let dataset = pinned.get(name).ok_or_else(|| {
            let detail = format!("dataset {name} does not exist any more, or you may not read it any more");
            Ended::Failed(Failure::new("UnknownDataset", detail))
        })?;
        objects.extend(dataset.objects.iter().map(|object| (name.clone(), object.clone())));
    }
    let access = app.objects.open(objects);
    let relations = gated.datasets.iter().map(|name| Relation {
        name: name.clone(),
        urls: access.urls(name),
        columns: pinned.get(name).map(|dataset| catalog::columns(&dataset.schema)).unwrap_or_default(),
    });
    let relations = relations.collect();
    Ok((access, relations))
}

impl Audit {
    fn new(caller: &Caller, sql: &str) -> Self {
        Self {
            id: Uuid::now_v7(),
            started: Instant::now(),
            subject: caller.subject.clone(),
            sql_sha256: hex::encode(Sha256::digest(sql.as_bytes())),
            canonical: String::new(),
            datasets: Vec::new(),
            functions: Vec::new(),
        }
    }

    fn gated(&mut self, gated: &Gated, readable: &Readable) {
        self.canonical.clone_from(&gated.canonical);
        self.functions = gated.functions.iter().cloned().collect();
        let version = |name| {
            readable.get(name).and_then(|dataset| dataset.version).map_or("none".into(), |v| v.to_string())
        };
        self.datasets = gated.datasets.iter().map(|name| format!("{name}@{}", version(name))).collect();
    }

    /// One line a query, and its metrics.
    pub(super) fn record(&self, outcome: &str, access: Option<&Access>, rows: u64, bytes: u64) {
        let usage = access.map(Access::usage).unwrap_or_default();
        let took = self.started.elapsed();
        tracing::info!(
            target: "dagwright_query::audit",
            query = %self.id, subject = self.subject, outcome, rows, bytes,
            sql_sha256 = self.sql_sha256, canonical = self.canonical,
            datasets = self.datasets.join(" "), functions = self.functions.join(" "),
            object_requests = usage.requests, object_bytes = usage.bytes,
            milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "query"
        );
        metrics::counter!("dagwright_query_total", "outcome" => outcome.to_owned()).increment(1);
        metrics::histogram!("dagwright_query_duration_seconds").record(took.as_secs_f64());
        metrics::counter!("dagwright_query_object_bytes_total").increment(usage.bytes);
        metrics::counter!("dagwright_query_object_requests_total").increment(usage.requests);
    }
}
