//! Who is served at once, who waits, who is told to come back. Calls go in lanes, each with its own limits and its own Postgres
//! connections, so that a jam in one is no jam in another: what keeps leases alive is never behind what moves rows in bulk. A call has
//! its turn when all of it is here: who sends slowly holds up nobody.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest as _, FromRequestParts, Request, State},
    http::{StatusCode, request::Parts},
    middleware::Next,
    response::Response,
};
use dagwright_telemetry::Rejection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A call that did not get its turn within this time is better tried at another replica, or later.
const PATIENCE: Duration = Duration::from_secs(5);
/// The body of a call is here within this time; the longest is a few MiB.
const ARRIVAL: Duration = Duration::from_secs(5);
/// When to come back, in seconds. Callers add jitter of their own.
const RETRY_AFTER: u64 = 1;

/// Calls of one kind: so many run, so many more wait for their turn, the rest is refused.
#[derive(Clone)]
pub(super) struct Lane {
    name: &'static str,
    room: Arc<Semaphore>,
    running: Arc<Semaphore>,
    patience: Duration,
}

/// A call's place; it is free again when this is dropped.
pub(super) struct Place {
    lane: Lane,
    running: Option<OwnedSemaphorePermit>,
    room: Option<OwnedSemaphorePermit>,
}

impl Lane {
    /// `running` calls run while `waiting` others wait.
    pub(super) fn new(name: &'static str, running: usize, waiting: usize) -> Self {
        let (room, running) = (Semaphore::new(running + waiting), Semaphore::new(running));
        Self { name, room: Arc::new(room), running: Arc::new(running), patience: PATIENCE }
    }

    async fn enter(&self) -> Result<Place, Rejection> {
        self.turn(self.room()?).await
    }

    /// A place to wait at, if there is one.
    fn room(&self) -> Result<OwnedSemaphorePermit, Rejection> {
        Arc::clone(&self.room).try_acquire_owned().map_err(|_| self.refuse("full"))
    }

    /// Waits for its turn.
    async fn turn(&self, room: OwnedSemaphorePermit) -> Result<Place, Rejection> {
        let turn = tokio::time::timeout(self.patience, Arc::clone(&self.running).acquire_owned()).await;
        let Ok(Ok(running)) = turn else { return Err(self.refuse("slow")) };
        Ok(Place { lane: self.clone(), running: Some(running), room: Some(room) })
    }

    fn refuse(&self, why: &'static str) -> Rejection {
        metrics::counter!("dagwright_api_refused_total", "lane" => self.name, "why" => why).increment(1);
        let detail = format!("the dispatcher serves as many {} as it can; try again", self.name);
        Rejection::new(StatusCode::TOO_MANY_REQUESTS, "Overloaded", "Overloaded", detail)
            .retry_after(RETRY_AFTER)
    }
}

impl Place {
    /// Leaves the lane to others while `wait` lasts: who only waits for something to happen is no load. How many wait so is
    /// limited by [`admit_waiting`], hence the return needs no limit of its own.
    pub(super) async fn outside<T>(&mut self, wait: impl Future<Output = T>) -> T {
        self.running = None;
        self.room = None;
        let came = wait.await;
        self.running = Arc::clone(&self.lane.running).acquire_owned().await.ok();
        came
    }
}

/// The place that [`admit_waiting`] found.
impl<S: Sync> FromRequestParts<S> for Place {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Rejection> {
        let slot = parts.extensions.remove::<Slot>();
        let place = slot.and_then(|slot| slot.0.lock().unwrap_or_else(PoisonError::into_inner).take());
        place.ok_or_else(|| {
            let detail = "the request came by no lane";
            Rejection::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal", "Internal error", detail)
        })
    }
}

/// Extensions are cloned, a place is not.
#[derive(Clone)]
struct Slot(Arc<Mutex<Option<Place>>>);

/// A call that holds its place to its end.
pub(super) async fn admit(
    State(lane): State<Lane>,
    request: Request,
    next: Next,
) -> Result<Response, Rejection> {
    let room = lane.room()?;
    let request = arrived(request).await?;
    let _place = lane.turn(room).await?;
    Ok(next.run(request).await)
}

/// A call that may wait for something to happen: it takes a place of `waiting` to its end, and of `lane` while it works.
pub(super) async fn admit_waiting(
    State((waiting, lane)): State<(Lane, Lane)>,
    request: Request,
    next: Next,
) -> Result<Response, Rejection> {
    let room = waiting.room()?;
    let mut request = arrived(request).await?;
    let _waiting = waiting.turn(room).await?;
    let place = lane.enter().await?;
    request.extensions_mut().insert(Slot(Arc::new(Mutex::new(Some(place)))));
    Ok(next.run(request).await)
}

/// The request with all of its body, which is as long as the route's `DefaultBodyLimit` says at most.
async fn arrived(request: Request) -> Result<Request, Rejection> {
    let (parts, body) = request.into_parts();
    let limited = Request::from_parts(parts.clone(), body);
    match tokio::time::timeout(ARRIVAL, Bytes::from_request(limited, &())).await {
        Ok(Ok(body)) => Ok(Request::from_parts(parts, Body::from(body))),
        Ok(Err(error)) => {
            Err(Rejection::new(error.status(), "InvalidBody", "Invalid body", error.body_text()))
        }
        Err(_) => {
            let detail = format!("the body did not arrive within {} s; try again", ARRIVAL.as_secs());
            Err(Rejection::new(StatusCode::REQUEST_TIMEOUT, "SlowBody", "Slow body", detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn status(lane: &Lane) -> Option<u16> {
        lane.enter().await.err().map(|rejection| rejection.problem().status)
    }

    #[tokio::test]
    async fn so_many_run_so_many_wait_the_rest_comes_back() {
        let lane = Lane::new("calls", 2, 1);
        let (first, _second) = (
            lane.enter().await.map_err(drop).expect("runs"),
            lane.enter().await.map_err(drop).expect("runs"),
        );
        let waits = tokio::spawn({
            let lane = lane.clone();
            async move { lane.enter().await.is_ok() }
        });
        while lane.room.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(status(&lane).await, Some(429), "no room");
        drop(first);
        assert!(waits.await.expect("a task"), "the one that waited has its turn");
    }

    #[tokio::test]
    async fn who_waits_too_long_comes_back_and_leaves_no_trace() {
        let lane = Lane { patience: Duration::from_millis(10), ..Lane::new("calls", 1, 1) };
        let first = lane.enter().await.map_err(drop).expect("runs");
        assert_eq!(status(&lane).await, Some(429), "waited in vain");
        drop(first);
        assert_eq!(status(&lane).await, None);
    }

    #[tokio::test]
    async fn waiting_outside_leaves_the_place_to_others() {
        let lane = Lane::new("calls", 1, 0);
        let mut place = lane.enter().await.map_err(drop).expect("runs");
        assert_eq!(status(&lane).await, Some(429));
        let others = async { assert_eq!(status(&lane).await, None) };
        place.outside(others).await;
        assert_eq!(lane.running.available_permits(), 0, "it runs again");
        drop(place);
        assert_eq!((lane.running.available_permits(), lane.room.available_permits()), (1, 1));
    }
}
