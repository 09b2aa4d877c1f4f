//! The HTTP API. Every call authenticates first, moves sets, and is safe to be repeated.

mod auth;
mod claim;
mod complete;
mod credentials;
mod finish;
mod gateway;
mod heartbeat;
mod reject;
mod workers;

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::Response,
    routing::{get, post},
};
use dagwright_telemetry::{Rejection, trace_layer};
use tokio::sync::Semaphore;

use super::Dispatcher;

/// A completion names at most 8 outputs and a call at most [`MAX_ROWS`] rows: this leaves room for many objects each.
const MAX_BODY: usize = 4 * 1024 * 1024;
/// Rows of one call.
const MAX_ROWS: usize = 500;
/// Requests at once, waiting claims included; more are told to come back.
const MAX_REQUESTS: usize = 2048;

/// All routes.
pub fn router(dispatcher: Dispatcher) -> Router {
    let room = Arc::new(Semaphore::new(MAX_REQUESTS));
    Router::new()
        .route("/v1/tasks:claim", post(claim::claim))
        .route("/v1/tasks:heartbeat", post(heartbeat::heartbeat))
        .route("/v1/tasks:complete", post(complete::complete))
        .route("/v1/tasks:fail", post(finish::fail))
        .route("/v1/tasks:release", post(finish::release))
        .route("/v1/tasks:credentials", post(credentials::credentials))
        .route("/v1/workers:checkin", post(workers::check_in))
        .route("/v1/gateway/config", get(gateway::config))
        .route("/v1/gateway/health", post(gateway::health))
        .fallback(|| async { reject::not_found() })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(room, admit))
        .layer(trace_layer())
        .with_state(dispatcher)
}

async fn admit(
    State(room): State<Arc<Semaphore>>,
    request: Request,
    next: Next,
) -> Result<Response, Rejection> {
    let Ok(_permit) = room.try_acquire() else {
        let detail = "the dispatcher serves as many requests as it can; try again";
        return Err(
            Rejection::new(StatusCode::TOO_MANY_REQUESTS, "Overloaded", "Overloaded", detail).retry_after(1)
        );
    };
    let route = request.extensions().get::<MatchedPath>().map_or("none".into(), |p| p.as_str().to_owned());
    let began = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_str().to_owned();
    metrics::histogram!("dagwright_api_request_seconds", "route" => route, "status" => status)
        .record(began.elapsed());
    Ok(response)
}
