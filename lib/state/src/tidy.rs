//! Rows that nobody needs any more. Nothing waits for these statements, and each may be repeated at any time.

use sqlx::PgConnection;

use crate::{Result, error::During};

/// Deletes jobs that were removed more than a day ago, have no task left and none in history. Returns how many.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn removed_jobs(conn: &mut PgConnection) -> Result<u64> {
    let deleted = sqlx::query!(
        "DELETE FROM jobs j WHERE j.removed_at < clock_timestamp() - interval '1 day'
           AND NOT EXISTS (SELECT FROM tasks t WHERE t.job_id = j.job_id)
           AND NOT EXISTS (SELECT FROM task_history h WHERE h.job_id = j.job_id)"
    )
    .execute(conn)
    .await
    .during("delete removed jobs")?;
    Ok(deleted.rows_affected())
}

/// Deletes messages whose task is not there. I5 leaves none: each that is found tells of a defect. Returns how many.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn lost_messages(conn: &mut PgConnection) -> Result<u64> {
    // It reads both tables from end to end, once an hour, on a connection that prefers keys.
    sqlx::raw_sql("SET LOCAL enable_hashjoin = on; SET LOCAL enable_seqscan = on")
        .execute(&mut *conn)
        .await
        .during("prepare to read whole tables")?;
    let deleted = sqlx::query!(
        "DELETE FROM outbox o WHERE NOT EXISTS (SELECT FROM tasks t WHERE t.task_id = o.task_id)"
    )
    .execute(conn)
    .await
    .during("delete messages without a task")?;
    Ok(deleted.rows_affected())
}
