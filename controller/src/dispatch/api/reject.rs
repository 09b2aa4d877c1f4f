//! Errors as the API tells them.

use axum::{
    Json,
    extract::{FromRequest, Request, rejection::JsonRejection},
    http::StatusCode,
};
use dagwright_aws::Class;
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

/// What AWS refuses for good is told as such: the call may be repeated, but somebody has to do something first.
pub(super) fn aws(error: &dagwright_aws::AwsError) -> Rejection {
    let (operation, class) = (error.operation, error.class.as_str());
    if matches!(error.class, Class::Denied | Class::Permanent) {
        tracing::error!(error = chain(error), class, "AWS refuses a call");
        let detail = format!(
            "AWS refuses to {operation} {} ({class}); it will not pass by itself: check the dispatcher's role, the data role and the bucket",
            error.object
        );
        return Rejection::new(StatusCode::SERVICE_UNAVAILABLE, "AwsRefused", "AWS refuses", detail)
            .retry_after(5);
    }
    tracing::warn!(error = chain(error), class, "a call to AWS failed");
    let detail = format!("{operation} failed ({class}); try again");
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

pub(super) fn no_ecs_name(field: &str) -> Rejection {
    let detail = format!("{field} is not what ECS calls anything: at most 512 printable ASCII characters");
    Rejection::new(StatusCode::UNPROCESSABLE_ENTITY, "InvalidBody", "Invalid body", detail)
}

pub(super) fn too_many_workers() -> Rejection {
    let most = dagwright_state::workers::MAX_PER_POOL;
    let detail = format!(
        "{most} workers of this pool checked in within the last two hours, the most that are noted; see what starts so many"
    );
    Rejection::new(StatusCode::TOO_MANY_REQUESTS, "TooManyWorkers", "Too many workers", detail)
        .retry_after(30)
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
