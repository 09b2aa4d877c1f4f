//! Waiting on conditions. A condition that is not met yet says what is missing, and that is what a timeout shows.

use std::{future::Future, time::Duration};

/// Generous: two cores run a control plane, two databases and the whole product in debug builds.
const LIMIT: Duration = Duration::from_secs(180);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Waits until `condition` gives `Ok`; its `Err` says what is missing.
pub async fn wait_for<T, F>(what: &str, condition: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    wait_for_within(LIMIT, what, condition).await
}

/// [`wait_for`] with a limit of its own.
pub async fn wait_for_within<T, F>(limit: Duration, what: &str, mut condition: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let started = tokio::time::Instant::now();
    loop {
        looks.tick().await;
        match condition().await {
            Ok(value) => return value,
            Err(missing) => {
                assert!(started.elapsed() < limit, "waited {limit:?} for {what}, still missing: {missing}");
            }
        }
    }
}
