//! Jobs that follow a head, and the heights that move their targets.

use dagwright_core::{
    follow::{Behind, SeenHead},
    ids::JobId,
};
use serde::Deserialize;
use sqlx::PgConnection;

use crate::{Error, Result, error::During, rows};

/// A job that follows the head of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follower {
    /// The job.
    pub job_id: JobId,
    /// Namespace.
    pub namespace: String,
    /// Where the head is asked for.
    pub rpc_pool: String,
    /// How far behind.
    pub behind: Behind,
    /// End of what is wanted now.
    pub target_end: u64,
    /// The head that was seen last.
    pub seen: Option<SeenHead>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum BehindJson {
    Finalized {},
    Safe {},
    Blocks(u64),
}

/// All jobs that follow, ordered by where they ask.
///
/// # Errors
/// When Postgres cannot be reached or a row is invalid.
pub async fn followers(conn: &mut PgConnection) -> Result<Vec<Follower>> {
    let found = sqlx::query!(
        r#"SELECT job_id, namespace, rpc_pool AS "rpc_pool!", follow AS "follow!", target_end, head,
                  extract(epoch FROM clock_timestamp() - head_at)::bigint AS seconds_ago FROM jobs
           WHERE follow IS NOT NULL AND rpc_pool IS NOT NULL AND removed_at IS NULL AND NOT suspended ORDER BY namespace, rpc_pool, job_id"#
    )
    .fetch_all(conn)
    .await
    .during("read jobs that follow a head")?;
    let mut followers = Vec::with_capacity(found.len());
    for row in found {
        let behind = serde_json::from_value(row.follow)
            .map_err(|e| Error::invalid("jobs", "follow", row.job_id, e))?;
        let behind = match behind {
            BehindJson::Finalized {} => Behind::Finalized,
            BehindJson::Safe {} => Behind::Safe,
            BehindJson::Blocks(n) => Behind::Blocks(n),
        };
        let (job_id, target_end) = (JobId(row.job_id), rows::count(row.target_end));
        let seen = row.head.zip(row.seconds_ago).map(|(height, seconds_ago)| SeenHead {
            height: rows::count(height),
            seconds_ago: rows::count(seconds_ago),
        });
        followers.push(Follower {
            job_id,
            namespace: row.namespace,
            rpc_pool: row.rpc_pool,
            behind,
            target_end,
            seen,
        });
    }
    Ok(followers)
}

/// Moves a job's target, never down, and notes the head that was seen.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn advance(
    conn: &mut PgConnection,
    job_id: JobId,
    target_end: u64,
    head: Option<u64>,
) -> Result<()> {
    sqlx::query!(
        "UPDATE jobs SET target_end = GREATEST(target_end, $2), head = COALESCE($3, head),
             head_at = CASE WHEN $3::bigint IS NULL THEN head_at ELSE clock_timestamp() END
         WHERE job_id = $1 AND follow IS NOT NULL AND (target_end < $2 OR head IS DISTINCT FROM $3)",
        job_id.0,
        rows::height_to_pg(target_end),
        head.map(rows::height_to_pg)
    )
    .execute(conn)
    .await
    .during("move a follow target")?;
    Ok(())
}

/// Takes a target back that a wrong head raised, to `target_end` or to the end of what is covered, whichever is higher (I11), and
/// notes the head that two providers agree on. Returns whether it moved.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn take_back(
    conn: &mut PgConnection,
    job_id: JobId,
    target_end: u64,
    head: Option<u64>,
) -> Result<bool> {
    let moved = sqlx::query!(
        "UPDATE jobs j SET head = COALESCE($3, j.head), head_at = clock_timestamp(),
             target_end = GREATEST($2, (SELECT max(upper(p.range)) FROM job_outputs o
                 JOIN partition_versions p ON p.namespace = o.namespace AND p.version = o.version AND p.current
                 WHERE o.job_id = j.job_id))
         WHERE j.job_id = $1 AND j.follow IS NOT NULL AND j.target_end > GREATEST($2, (SELECT max(upper(p.range)) FROM job_outputs o
                 JOIN partition_versions p ON p.namespace = o.namespace AND p.version = o.version AND p.current
                 WHERE o.job_id = j.job_id))",
        job_id.0,
        rows::height_to_pg(target_end),
        head.map(rows::height_to_pg)
    )
    .execute(conn)
    .await
    .during("take a follow target back")?;
    Ok(moved.rows_affected() == 1)
}
