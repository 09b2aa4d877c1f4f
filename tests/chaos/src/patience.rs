//! Waiting that gives up when nothing moves, however long something that moves may take.

use std::{
    future::Future,
    time::{Duration, Instant},
};

const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What a look at a condition says.
#[derive(Debug)]
pub enum Look<T> {
    /// It holds.
    Holds(T),
    /// It does not; `so_far` changes whenever anything moves.
    Missing { so_far: String, what: String },
}

/// Looks until the condition holds.
///
/// # Errors
/// What is missing, when nothing moved for `still`, or anyway after `most`.
pub async fn until<T, F>(still: Duration, most: Duration, mut look: impl FnMut() -> F) -> Result<T, String>
where
    F: Future<Output = Look<T>>,
{
    let began = Instant::now();
    let (mut moved, mut last) = (began, String::new());
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let (so_far, what) = match look().await {
            Look::Holds(value) => return Ok(value),
            Look::Missing { so_far, what } => (so_far, what),
        };
        if so_far != last {
            (last, moved) = (so_far, Instant::now());
        }
        if moved.elapsed() > still {
            return Err(format!("nothing moved for {} s; missing: {what}", still.as_secs()));
        }
        if began.elapsed() > most {
            return Err(format!("not done after {} s; missing: {what}", most.as_secs()));
        }
    }
}

/// [`until`] for a condition that is only there or not.
///
/// # Errors
/// What the last look said.
pub async fn until_ok<T, F>(limit: Duration, mut look: impl FnMut() -> F) -> Result<T, String>
where
    F: Future<Output = Result<T, String>>,
{
    until(limit, limit, || {
        let looked = look();
        async {
            match looked.await {
                Ok(value) => Look::Holds(value),
                Err(what) => Look::Missing { so_far: String::new(), what },
            }
        }
    })
    .await
}
