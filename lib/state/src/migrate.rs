use std::time::Duration;

use sqlx::{PgPool, migrate::Migrator};

use crate::{Error, Result, error::During};

static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// Any number: all processes that migrate this database take the same advisory lock.
const LOCK: i64 = 0x6461_6777_7269_6768;
const PATIENCE_SECONDS: u64 = 120;

/// Brings the schema up to date. Safe to call from several processes at once.
///
/// The lock is tried, not awaited: a waiter inside Postgres would hold a snapshot, which `CREATE INDEX CONCURRENTLY` of the
/// process that migrates waits for, for ever.
///
/// # Errors
/// When the database cannot be reached, a migration fails, or another process holds the lock for two minutes.
pub async fn migrate(pool: &PgPool) -> Result<()> {
    let mut conn = pool.acquire().await.during("connect to migrate")?.detach();
    // An index over a large table takes as long as it takes.
    sqlx::query("SET statement_timeout = 0").execute(&mut conn).await.during("lift the statement timeout")?;
    for _ in 0..PATIENCE_SECONDS {
        let locked = sqlx::query_scalar!(r#"SELECT pg_try_advisory_lock($1) AS "locked!""#, LOCK)
            .fetch_one(&mut conn)
            .await
            .during("take the migration lock")?;
        if locked {
            let done = run(&mut conn).await;
            sqlx::query_scalar!(r#"SELECT pg_advisory_unlock($1) AS "unlocked!""#, LOCK)
                .fetch_one(&mut conn)
                .await
                .during("give the migration lock back")?;
            return done;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Err(Error::MigrationLock { seconds: PATIENCE_SECONDS })
}

async fn run(conn: &mut sqlx::PgConnection) -> Result<()> {
    let migrator = Migrator { locking: false, migrations: MIGRATOR.migrations.clone(), ..Migrator::DEFAULT };
    migrator.run(conn).await.map_err(Error::Migrate)
}
