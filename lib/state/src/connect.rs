use std::{str::FromStr, time::Duration};

use sqlx::{
    Connection, PgPool, Postgres, Transaction,
    postgres::{PgConnectOptions, PgListener, PgNotification, PgPoolOptions},
};

use crate::{Result, error::During};

/// Opens a pool of connections to the state database. `app_name` is what `pg_stat_activity` shows.
///
/// Nothing is connected yet: a process may start before its database and say so by its readiness.
///
/// # Errors
/// When the URL does not parse.
pub fn connect(url: &str, app_name: &str) -> Result<PgPool> {
    let options = PgConnectOptions::from_str(url)
        .during("read the URL of the state database")?
        .application_name(app_name)
        .options([
            // A statement that runs longer is stuck behind a lock that its holder lost; holding on would only add to the queue.
            ("statement_timeout", "30s"),
            ("idle_in_transaction_session_timeout", "60s"),
            // Statements are short, however dear the planner takes one to be: compiling it would take longer than running it.
            ("jit", "off"),
        ]);
    Ok(pool(options, 16))
}

/// Another pool of connections to the same database, so that what uses up one leaves the other alone. They are for statements that look
/// rows up by their keys: where an index has them, it is used, whatever size Postgres takes the table for.
#[must_use]
pub fn lane(of: &PgPool, max_connections: u32) -> PgPool {
    pool((*of.connect_options()).clone().options(BY_KEY), max_connections)
}

/// The tables of a queue are nearly empty when their statements are planned, and plans stay until somebody has counted the rows again: for
/// a minute each call would read a whole table to join it with a hundred keys. Nor is any of them worth parallel workers.
const BY_KEY: [(&str, &str); 4] = [
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("max_parallel_workers_per_gather", "0"),
];

/// A connection that was used within this time is taken to be alive: to ask it each time would double the round trips of short work.
const FRESH: Duration = Duration::from_secs(1);

fn pool(options: PgConnectOptions, max_connections: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(max_connections)
        .test_before_acquire(false)
        .before_acquire(|conn, meta| {
            Box::pin(async move {
                if meta.idle_for > FRESH {
                    conn.ping().await?;
                }
                Ok(true)
            })
        })
        .acquire_timeout(Duration::from_secs(5))
        .idle_timeout(Duration::from_secs(300))
        .connect_lazy_with(options)
}

/// One connection of its own that listens on channels.
///
/// # Errors
/// When the database cannot be reached.
pub async fn listen(pool: &PgPool, channels: &[&str]) -> Result<PgListener> {
    let mut listener = PgListener::connect_with(pool).await.during("open a listening connection")?;
    // A lost connection is reported, not replaced in silence: what was missed meanwhile has to be looked for.
    listener.eager_reconnect(false);
    listener.listen_all(channels.iter().copied()).await.during("listen")?;
    Ok(listener)
}

/// The next notification.
///
/// # Errors
/// When the connection is lost.
pub async fn next_notification(listener: &mut PgListener) -> Result<PgNotification> {
    listener.recv().await.during("wait for a notification")
}

/// Begins a transaction.
///
/// # Errors
/// When the database cannot be reached.
pub async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>> {
    pool.begin().await.during("begin a transaction")
}

/// Commits it.
///
/// # Errors
/// When the database cannot be reached; whether it committed is then unknown.
pub async fn commit(tx: Transaction<'static, Postgres>) -> Result<()> {
    tx.commit().await.during("commit a transaction")
}

/// Whether the database answers.
///
/// # Errors
/// When it does not.
pub async fn ping(pool: &PgPool) -> Result<()> {
    let mut conn = pool.acquire().await.during("reach the state database")?;
    conn.ping().await.during("reach the state database")
}
