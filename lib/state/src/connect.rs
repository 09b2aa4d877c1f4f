use std::{str::FromStr, time::Duration};

use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
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
        // A statement that runs longer is stuck behind a lock that its holder lost; holding on would only add to the queue.
        .options([("statement_timeout", "30s"), ("idle_in_transaction_session_timeout", "60s")]);
    let pool = PgPoolOptions::new()
        .max_connections(16)
        .acquire_timeout(Duration::from_secs(5))
        .idle_timeout(Duration::from_secs(300))
        .connect_lazy_with(options);
    Ok(pool)
}

/// One connection of its own that listens on a channel.
///
/// # Errors
/// When the database cannot be reached.
pub async fn listen(pool: &PgPool, channel: &str) -> Result<PgListener> {
    let mut listener = PgListener::connect_with(pool).await.during("open a listening connection")?;
    listener.listen(channel).await.during("listen")?;
    Ok(listener)
}
