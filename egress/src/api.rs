//! What workers and the dispatcher call.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use dagwright_contracts::{
    gateway::{AVOID_HEADER, PROVIDER_HEADER, VerificationFailure},
    token::{bearer, token_hash},
};
use dagwright_telemetry::Rejection;

use crate::{
    pool::{
        call::{CallError, call},
        registry::{Pool, Registry},
    },
    rpc::request::{RequestError, RpcRequest},
};

/// What handlers need.
pub struct Api {
    /// Pools and callers.
    pub registry: Arc<Registry>,
    /// SHA-256 of the gateway token.
    pub gateway_token: [u8; 32],
    /// Calls that a batch may have.
    pub max_batch: usize,
    /// Bytes that a request may have.
    pub max_request_bytes: usize,
}

/// The routes.
pub fn router(api: Arc<Api>) -> Router {
    let limit = api.max_request_bytes;
    Router::new()
        .route("/v1/{namespace}/{pool}", post(rpc))
        .route("/v1/{namespace}/{pool}/verification-failures", post(verification_failure))
        .layer(DefaultBodyLimit::max(limit))
        .layer(dagwright_telemetry::trace_layer())
        .with_state(api)
}

async fn rpc(
    State(api): State<Arc<Api>>,
    Path((namespace, pool)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Rejection> {
    let pool = find(&api, &namespace, &pool, &headers)?;
    let request = RpcRequest::parse(body, api.max_batch).map_err(|error| refuse(&error))?;
    let answered = call(&pool, &request, &avoided(&headers)).await;
    let outcome = if answered.is_ok() { "answered" } else { "failed" };
    metrics::counter!("dagwright_rpc_requests_total", "outcome" => outcome).increment(1);
    let answer = answered.map_err(|error| unanswered(&error))?;
    let headers =
        [(header::CONTENT_TYPE.as_str(), "application/json"), (PROVIDER_HEADER, answer.provider.as_str())];
    Ok((headers, answer.body).into_response())
}

async fn verification_failure(
    State(api): State<Arc<Api>>,
    Path((namespace, pool)): Path<(String, String)>,
    headers: HeaderMap,
    Json(failure): Json<VerificationFailure>,
) -> Result<StatusCode, Rejection> {
    let pool = find(&api, &namespace, &pool, &headers)?;
    let provider = pool.providers.iter().find(|p| p.config.name == failure.provider).ok_or_else(|| {
        let detail = format!("RpcPool {} has no provider \"{}\"", pool.title(), failure.provider);
        Rejection::new(StatusCode::NOT_FOUND, "UnknownProvider", "no such provider", detail)
    })?;
    let VerificationFailure { block, field, detail, .. } = failure;
    tracing::warn!(
        pool = pool.title(),
        provider = provider.config.name,
        block,
        field,
        detail,
        "provider fed wrong data"
    );
    metrics::counter!("dagwright_rpc_verification_failures_total").increment(1);
    if pool.config.cordon_on_verification_failure {
        let message = format!("block {block} failed verification: {field}: {detail}");
        provider.cordon(Duration::from_secs(pool.config.cordon_seconds), message);
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Finds a pool that the caller may use. A pool of a namespace that its token does not open reads like one that is not there.
fn find(api: &Api, namespace: &str, pool: &str, headers: &HeaderMap) -> Result<Arc<Pool>, Rejection> {
    let snapshot = api.registry.snapshot();
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
    let hash = token.map(token_hash).ok_or_else(unauthorized)?;
    if hash != api.gateway_token {
        let opened = snapshot.callers.get(&hex::encode(hash)).ok_or_else(unauthorized)?;
        if opened != namespace {
            let detail =
                format!("the token is one of namespace {opened} and opens no pool of namespace {namespace}");
            return Err(Rejection::new(
                StatusCode::FORBIDDEN,
                "WrongNamespace",
                "not your namespace",
                detail,
            ));
        }
    }
    snapshot.pools.get(&(namespace.to_owned(), pool.to_owned())).cloned().ok_or_else(|| {
        let detail = format!("there is no RpcPool {namespace}/{pool}; create it, or look at its conditions");
        Rejection::new(StatusCode::NOT_FOUND, "UnknownPool", "no such pool", detail)
    })
}

fn unauthorized() -> Rejection {
    let detail = "send a current pool token as `Authorization: Bearer`";
    Rejection::new(StatusCode::UNAUTHORIZED, "Unauthorized", "unknown token", detail)
}

fn avoided(headers: &HeaderMap) -> Vec<String> {
    let lists = headers.get_all(AVOID_HEADER).iter().filter_map(|value| value.to_str().ok());
    let names = lists.flat_map(|list| list.split(',')).map(str::trim).filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

fn refuse(error: &RequestError) -> Rejection {
    let (status, code) = match error {
        RequestError::MethodDenied(_) => (StatusCode::FORBIDDEN, "MethodDenied"),
        RequestError::TooMany { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "BatchTooLarge"),
        RequestError::Malformed(_) | RequestError::Empty | RequestError::BadId(_) => {
            (StatusCode::BAD_REQUEST, "InvalidRequest")
        }
    };
    let detail = match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    Rejection::new(status, code, "the request cannot be forwarded", detail)
}

fn unanswered(error: &CallError) -> Rejection {
    let detail = error.to_string();
    match error {
        CallError::NoProvider { .. } => {
            Rejection::new(StatusCode::SERVICE_UNAVAILABLE, "NoProvider", "no usable provider", detail)
                .retry_after(5)
        }
        CallError::Limited { .. } => Rejection::new(
            StatusCode::TOO_MANY_REQUESTS,
            "ProvidersLimited",
            "all providers at their limit",
            detail,
        )
        .retry_after(1),
        CallError::TooLarge { .. } => {
            Rejection::new(StatusCode::BAD_GATEWAY, "AnswerTooLarge", "the answer is too large", detail)
        }
        CallError::Failed { .. } => {
            Rejection::new(StatusCode::BAD_GATEWAY, "UpstreamFailed", "no provider answered", detail)
        }
    }
}
