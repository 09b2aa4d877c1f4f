//! What the controller is about to do to AWS: written before the call, closed after it. An open row of an older epoch tells
//! a person which call may have been cut short by a change of leader; the next pass observes and repairs.

use sqlx::PgConnection;

use crate::{Result, error::During};

/// Opens an intent; returns its id. Call it inside a fenced transaction.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn open(conn: &mut PgConnection, epoch: i64, object: &str, action: &str) -> Result<i64> {
    sqlx::query_scalar!(
        "INSERT INTO aws_intents (epoch, object, action) VALUES ($1, $2, $3) RETURNING id",
        epoch,
        object,
        action
    )
    .fetch_one(conn)
    .await
    .during("write an intent")
}

/// Closes an intent.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn close(conn: &mut PgConnection, id: i64, outcome: &str) -> Result<()> {
    sqlx::query!(
        "UPDATE aws_intents SET done_at = clock_timestamp(), outcome = $2 WHERE id = $1",
        id,
        outcome
    )
    .execute(conn)
    .await
    .during("close an intent")?;
    Ok(())
}

/// Removes closed intents older than a week.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn prune(conn: &mut PgConnection) -> Result<u64> {
    let done = sqlx::query!("DELETE FROM aws_intents WHERE done_at < clock_timestamp() - interval '7 days'")
        .execute(conn)
        .await
        .during("prune intents")?;
    Ok(done.rows_affected())
}
