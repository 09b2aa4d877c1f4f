//! Errors as the API tells them.

use axum::{
    Json,
    extract::{FromRequest, Request, rejection::JsonRejection},
    http::StatusCode,
};
use dagwright_core::ids::TaskId;
use dagwright_telemetry::Rejection;

use crate::dispatch::loops::chain;

/// A state error: tells the caller what to do, and the log what happened.
#[expect(clippy::needless_pass_by_value, reason = "it stands where map_err wants a function of the error")]
pub(super) fn state(error: dagwright_state::Error) -> Rejection {
    if error.category() == "unavailable" {
        tracing::warn!(error = chain(&error), "the state database is away");
        let detail = "the state database cannot be reached now; try again";
        return Rejection::new(StatusCode::SERVICE_UNAVAILABLE, "Unavailable", "Unavailable", detail)
            .retry_after(1);
    }
    tracing::error!(error = chain(&error), "failed to serve a request");
    let detail = "the request could not be served; the dispatcher's log says why. Try again";
    Rejection::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal", "Internal error", detail).retry_after(5)
}

pub(super) fn aws(error: &dagwright_aws::AwsError) -> Rejection {
    tracing::warn!(error = chain(error), class = error.class.as_str(), "a call to AWS failed");
    let detail = format!("{} failed ({}); try again", error.operation, error.class.as_str());
    Rejection::new(StatusCode::SERVICE_UNAVAILABLE, "Unavailable", "Unavailable", detail).retry_after(1)
}

pub(super) fn unauthorized() -> Rejection {
    let detail =
        "send the pool's token as `Authorization: Bearer …`; an expired or unknown token opens nothing";
    Rejection::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unknown token", detail)
}

pub(super) fn wrong_pool(task: TaskId) -> Rejection {
    let detail = format!("task {task} belongs to another pool; nothing of this call was applied");
    Rejection::new(StatusCode::FORBIDDEN, "WrongPool", "Task of another pool", detail)
}

pub(super) fn stale_lease(task: TaskId) -> Rejection {
    let detail = format!("the lease of task {task} is not the current one; stop working on it");
    Rejection::new(StatusCode::CONFLICT, "StaleLease", "Lease lost", detail)
}

pub(super) fn too_many(rows: usize) -> Rejection {
    let detail = format!("the call names {rows} rows; send at most {}", super::MAX_ROWS);
    Rejection::new(StatusCode::PAYLOAD_TOO_LARGE, "TooManyRows", "Too many rows", detail)
}

pub(super) fn not_found() -> Rejection {
    Rejection::new(
        StatusCode::NOT_FOUND,
        "NotFound",
        "No such route",
        "see the API reference for the routes of the dispatcher",
    )
}

/// A JSON body whose errors are problems too.
pub(super) struct Body<T>(pub(super) T);

impl<S, T> FromRequest<S> for Body<T>
where
    S: Send + Sync,
    Json<T>: FromRequest<S, Rejection = JsonRejection>,
{
    type Rejection = Rejection;

    async fn from_request(request: Request, state: &S) -> Result<Self, Rejection> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(error) => {
                Err(Rejection::new(error.status(), "InvalidBody", "Invalid body", error.body_text()))
            }
        }
    }
}
