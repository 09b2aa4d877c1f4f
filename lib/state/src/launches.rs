//! Launches: what RunTask was told to start. The row is written before the call, and its id is `startedBy` and the client token of
//! the call, so that a call whose answer was lost is looked for before it is repeated.

use dagwright_core::ids::{LaunchId, PoolId};
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{Result, error::During, rows, task_rows::signed};

/// A launch that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Id.
    pub id: LaunchId,
    /// Tasks that it is to start.
    pub wanted: u32,
    /// What they run.
    pub task_definition_arn: String,
    /// Whether it is not known that the call went through.
    pub intended: bool,
    /// Tasks that ECS named.
    pub task_arns: Vec<String>,
    /// Calls so far.
    pub calls: u32,
    /// When it was intended.
    pub created_at: OffsetDateTime,
}

/// The launches of a pool that have not ended, oldest first.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn open(conn: &mut PgConnection, pool_id: PoolId) -> Result<Vec<Launch>> {
    let found = sqlx::query!(
        r#"SELECT launch_id, wanted, task_definition_arn, state = 'Intended' AS "intended!", task_arns, calls, created_at
           FROM worker_launches WHERE pool_id = $1 AND state IN ('Intended', 'Started') ORDER BY created_at, launch_id"#,
        pool_id.0
    )
    .fetch_all(conn)
    .await
    .during("read a pool's launches")?;
    let launch = found.into_iter().map(|row| Launch {
        id: LaunchId(row.launch_id),
        wanted: rows::small(row.wanted),
        task_definition_arn: row.task_definition_arn,
        intended: row.intended,
        task_arns: row.task_arns,
        calls: rows::small(row.calls),
        created_at: row.created_at,
    });
    Ok(launch.collect())
}

/// Intends to start so many tasks; none when somebody intends already, or launched since `last`, the newest launch that the decision
/// knew of: then it was made for a pool that is not so any more.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn intend(
    conn: &mut PgConnection,
    pool_id: PoolId,
    wanted: u32,
    task_definition_arn: &str,
    last: Option<LaunchId>,
) -> Result<Option<Launch>> {
    // Serialises deciders: each sees what the other intended.
    sqlx::query!("SELECT pool_id FROM pools WHERE pool_id = $1 FOR UPDATE", pool_id.0)
        .fetch_optional(&mut *conn)
        .await
        .during("lock a pool")?;
    let made = sqlx::query!(
        r#"INSERT INTO worker_launches (launch_id, pool_id, wanted, task_definition_arn)
           SELECT gen_random_uuid(), $1, $2, $3
           WHERE (SELECT l.launch_id FROM worker_launches l WHERE l.pool_id = $1 ORDER BY l.created_at DESC, l.launch_id LIMIT 1)
                 IS NOT DISTINCT FROM $4
           ON CONFLICT (pool_id) WHERE state = 'Intended' DO NOTHING
           RETURNING launch_id, created_at"#,
        pool_id.0,
        signed(wanted),
        task_definition_arn,
        last.map(|l| l.0)
    )
    .fetch_optional(conn)
    .await
    .during("intend a launch")?;
    Ok(made.map(|row| Launch {
        id: LaunchId(row.launch_id),
        wanted,
        task_definition_arn: task_definition_arn.to_owned(),
        intended: true,
        task_arns: vec![],
        calls: 0,
        created_at: row.created_at,
    }))
}

/// The newest launch of a pool, ended or not.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn last(conn: &mut PgConnection, pool_id: PoolId) -> Result<Option<LaunchId>> {
    let found = sqlx::query_scalar!(
        "SELECT launch_id FROM worker_launches WHERE pool_id = $1 ORDER BY created_at DESC, launch_id LIMIT 1",
        pool_id.0
    )
    .fetch_optional(conn)
    .await
    .during("read a pool's newest launch")?;
    Ok(found.map(LaunchId))
}

/// Notes that ECS is about to be called for a launch.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn calling(conn: &mut PgConnection, launch: LaunchId) -> Result<()> {
    sqlx::query!("UPDATE worker_launches SET calls = calls + 1 WHERE launch_id = $1", launch.0)
        .execute(conn)
        .await
        .during("note a call for a launch")?;
    Ok(())
}

/// Notes the tasks that a launch started, as answered or as found.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn started(conn: &mut PgConnection, launch: LaunchId, task_arns: &[String]) -> Result<()> {
    sqlx::query!(
        "UPDATE worker_launches SET state = 'Started', task_arns = $2 WHERE launch_id = $1 AND state = 'Intended'",
        launch.0,
        task_arns
    )
    .execute(conn)
    .await
    .during("note the tasks of a launch")?;
    Ok(())
}

/// Ends a launch: its tasks have stopped, or it was refused in the words of `message`.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn end(conn: &mut PgConnection, launch: LaunchId, message: Option<&str>) -> Result<()> {
    sqlx::query!(
        "UPDATE worker_launches SET state = CASE WHEN $2::text IS NULL THEN 'Ended' ELSE 'Failed' END, message = $2,
             ended_at = clock_timestamp()
         WHERE launch_id = $1 AND state IN ('Intended', 'Started')",
        launch.0,
        message
    )
    .execute(conn)
    .await
    .during("end a launch")?;
    Ok(())
}
