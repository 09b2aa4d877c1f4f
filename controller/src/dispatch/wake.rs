//! Notifications of Postgres, for latency alone: with every one dropped the result is the same, later.

use std::time::Duration;

use dagwright_core::ids::{JobId, PoolId};
use sqlx::{PgPool, postgres::PgNotification};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

/// Something that a waiter may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// A pool has something to claim.
    Tasks(PoolId),
    /// A claim of this replica took tasks of a pool, so that its window has room.
    Room(PoolId),
    /// A job may have something to plan, or its datasets something to serve.
    Plan(JobId),
    /// What the RPC gateway has to know has changed.
    Gateway,
}

/// Hands notifications on to everybody in this process who waits.
#[derive(Clone)]
pub struct Wakes(broadcast::Sender<Wake>);

impl Default for Wakes {
    fn default() -> Self {
        Self(broadcast::Sender::new(1024))
    }
}

impl Wakes {
    /// Everything from now on. One who falls behind loses some and must look for itself.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Wake> {
        self.0.subscribe()
    }

    /// Tells everybody in this process.
    pub(crate) fn tell(&self, wake: Wake) {
        // Nobody waits: nobody has to be woken.
        let _ = self.0.send(wake);
    }

    /// Listens on one connection of its own until `stop`; opens another when it is lost.
    pub(crate) async fn listen(self, db: PgPool, stop: CancellationToken) {
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => return,
                lost = self.pump(&db) => tracing::debug!(error = %lost, "lost the notification connection"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        }
    }

    async fn pump(&self, db: &PgPool) -> dagwright_state::Error {
        let mut listener =
            match dagwright_state::listen(db, &["dagwright_tasks", "dagwright_plan", "dagwright_gateway"])
                .await
            {
                Ok(listener) => listener,
                Err(error) => return error,
            };
        loop {
            match dagwright_state::next_notification(&mut listener).await {
                Ok(notification) => self.hand_on(&notification),
                Err(error) => return error,
            }
        }
    }

    fn hand_on(&self, notification: &PgNotification) {
        let wake = match notification.channel() {
            "dagwright_tasks" => notification.payload().parse().ok().map(Wake::Tasks),
            "dagwright_plan" => notification.payload().parse().ok().map(Wake::Plan),
            "dagwright_gateway" => Some(Wake::Gateway),
            _ => None,
        };
        if let Some(wake) = wake {
            self.tell(wake);
        }
    }
}

/// Waits until a wake that `wanted` accepts arrives, at most `patience`. A waiter that fell behind counts as woken.
pub(crate) async fn wait(
    wakes: &mut broadcast::Receiver<Wake>,
    patience: Duration,
    mut wanted: impl FnMut(Wake) -> bool,
) {
    let woken = async {
        loop {
            match wakes.recv().await {
                Ok(wake) if !wanted(wake) => {}
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return,
                // The sender lives as long as the process: this never happens, and waiting out the patience is right if it does.
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    };
    let _ = tokio::time::timeout(patience, woken).await;
}
