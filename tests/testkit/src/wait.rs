//! Waiting on conditions, the one way of all tests. A condition that is not met yet says what is missing, and that is what a
//! timeout shows.
#![expect(clippy::panic, reason = "a test part panics with what went wrong")]

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

/// Generous: two cores run a control plane, two databases and the whole product in debug builds.
pub const LIMIT: Duration = Duration::from_secs(180);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Waits until `condition` gives `Ok`; its `Err` says what is missing.
///
/// # Panics
/// After [`LIMIT`].
pub async fn wait_for<T>(what: &str, condition: impl AsyncFnMut() -> Result<T, String>) -> T {
    wait_for_within(LIMIT, what, condition).await
}

/// [`wait_for`] with a limit of its own.
///
/// # Panics
/// After `limit`.
pub async fn wait_for_within<T>(
    limit: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let mut looks = interval(LOOK_EVERY);
    // A look that took long is no reason to look in a burst.
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let began = Instant::now();
    loop {
        looks.tick().await;
        match condition().await {
            Ok(value) => return value,
            Err(missing) if began.elapsed() >= limit => {
                panic!("waited {limit:?} for {what}, still missing: {missing}")
            }
            Err(_) => {}
        }
    }
}

/// [`wait_for_within`] for a condition that has nothing to say.
///
/// # Panics
/// After `limit`.
pub async fn wait_until(limit: Duration, what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let began = Instant::now();
    loop {
        looks.tick().await;
        if holds().await {
            return;
        }
        assert!(began.elapsed() < limit, "waited {limit:?} for {what}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_condition_is_looked_at_until_it_holds_and_its_value_is_given() {
        let mut looks = 0;
        let value = wait_for("three looks", async || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err(format!("look {looks}")) }
        });
        assert_eq!(value.await, 3);
    }

    #[tokio::test]
    #[should_panic(expected = "waited 200ms for the moon, still missing: cheese")]
    async fn a_timeout_shows_what_was_missing() {
        let never = async || Err::<(), _>("cheese".to_owned());
        wait_for_within(Duration::from_millis(200), "the moon", never).await;
    }
}
