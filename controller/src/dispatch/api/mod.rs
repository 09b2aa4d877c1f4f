//! The HTTP API. Every call authenticates first, moves sets, and is safe to be repeated.

mod auth;
mod claim;
mod complete;
mod credentials;
mod finish;
mod gateway;
mod heartbeat;
mod lanes;
mod reject;
mod workers;

use std::time::Instant;

use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath, Request},
    middleware::{self, Next},
    response::Response,
    routing::{get, post},
};
use dagwright_telemetry::trace_layer;

use self::lanes::{Lane, admit, admit_waiting};
use super::{Dispatcher, context::VITAL_CONNECTIONS};

/// A completion names at most 8 outputs and a call at most [`MAX_ROWS`] rows: this leaves room for many objects each.
const MAX_BODY: usize = 4 * 1024 * 1024;
/// [`MAX_ROWS`] rows that are little more than a fence.
const MAX_SMALL_BODY: usize = 512 * 1024;
/// [`MAX_ROWS`] offers. Many claims wait at once.
const MAX_CLAIM_BODY: usize = 128 * 1024;
/// Rows of one call.
const MAX_ROWS: usize = 500;
/// Claims at once, nearly all of them waiting for work, which costs no connection of Postgres.
const MAX_CLAIMS: usize = 1024;
/// Each of these waits for STS rather than for Postgres.
const MAX_CREDENTIALS: usize = 32;
/// One per replica of the RPC gateway, which long-polls, and its reports.
const MAX_GATEWAY: usize = 64;
/// Bulk calls that wait, for each that runs.
const WAITING_PER_RUNNING: usize = 4;
/// Completions under way for each bulk call that runs: one in its transaction, one that looks at its objects, which takes no turn of
/// claims and failures, however long the store takes.
const COMPLETIONS_PER_RUNNING: usize = 2;

/// All routes, in their lanes.
pub fn router(dispatcher: Dispatcher) -> Router {
    let bulk = dispatcher.args.bulk_connections.max(1) as usize;
    let lanes = Lanes {
        vital: Lane::new("heartbeats and check-ins", 2 * VITAL_CONNECTIONS as usize, 256),
        bulk: Lane::new("claims and reports", bulk, WAITING_PER_RUNNING * bulk),
        claims: Lane::new("claims", MAX_CLAIMS, 0),
        completions: Lane::new(
            "completions",
            COMPLETIONS_PER_RUNNING * bulk,
            (1 + WAITING_PER_RUNNING - COMPLETIONS_PER_RUNNING) * bulk,
        ),
        credentials: Lane::new("requests for credentials", MAX_CREDENTIALS, 2 * MAX_CREDENTIALS),
        gateway: Lane::new("requests of the RPC gateway", MAX_GATEWAY, 0),
    };
    Router::new()
        .merge(vital(&lanes).with_state(dispatcher.over_vital_connections()))
        .merge(bulk_work(&lanes).with_state(dispatcher.over_bulk_connections()))
        .merge(gateway_routes(&lanes).with_state(dispatcher))
        .fallback(|| async { reject::not_found() })
        .layer(middleware::from_fn(measure))
        .layer(trace_layer())
}

struct Lanes {
    vital: Lane,
    bulk: Lane,
    claims: Lane,
    completions: Lane,
    credentials: Lane,
    gateway: Lane,
}

// The limits of bodies lie around the lanes: these read the bodies.

/// What keeps leases and workers alive, or hands leases back in time.
fn vital(lanes: &Lanes) -> Router<Dispatcher> {
    Router::new()
        .route("/v1/tasks:heartbeat", post(heartbeat::heartbeat))
        .route("/v1/tasks:release", post(finish::release))
        .route("/v1/workers:checkin", post(workers::check_in))
        .route_layer(middleware::from_fn_with_state(lanes.vital.clone(), admit))
        .layer(DefaultBodyLimit::max(MAX_SMALL_BODY))
}

fn bulk_work(lanes: &Lanes) -> Router<Dispatcher> {
    let claims = Router::new()
        .route("/v1/tasks:claim", post(claim::claim))
        .route_layer(middleware::from_fn_with_state(
            (lanes.claims.clone(), lanes.bulk.clone()),
            admit_waiting,
        ))
        .layer(DefaultBodyLimit::max(MAX_CLAIM_BODY));
    let completions = Router::new()
        .route("/v1/tasks:complete", post(complete::complete))
        .route_layer(middleware::from_fn_with_state(
            (lanes.completions.clone(), lanes.bulk.clone()),
            admit_waiting,
        ))
        .layer(DefaultBodyLimit::max(MAX_BODY));
    let failures = Router::new()
        .route("/v1/tasks:fail", post(finish::fail))
        .route_layer(middleware::from_fn_with_state(lanes.bulk.clone(), admit))
        .layer(DefaultBodyLimit::max(MAX_BODY));
    let credentials = Router::new()
        .route("/v1/tasks:credentials", post(credentials::credentials))
        .route_layer(middleware::from_fn_with_state(lanes.credentials.clone(), admit))
        .layer(DefaultBodyLimit::max(MAX_SMALL_BODY));
    claims.merge(completions).merge(failures).merge(credentials)
}

fn gateway_routes(lanes: &Lanes) -> Router<Dispatcher> {
    Router::new()
        .route("/v1/gateway/config", get(gateway::config))
        .route("/v1/gateway/health", post(gateway::health))
        .route_layer(middleware::from_fn_with_state(lanes.gateway.clone(), admit))
        .layer(DefaultBodyLimit::max(MAX_BODY))
}

async fn measure(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("none".into(), |p| p.as_str().to_owned());
    let began = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_str().to_owned();
    metrics::histogram!("dagwright_api_request_seconds", "route" => route, "status" => status)
        .record(began.elapsed());
    response
}
