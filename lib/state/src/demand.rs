//! What the tasks of pools ask for: those that wait and are due, and those that run. It is looked at every other second, and like any look
//! at a queue goes on from a place (see [`crate::cursor`]).

use std::collections::HashMap;

use dagwright_core::ids::{PoolId, TaskId};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Result,
    cursor::{Cursor, Place},
    error::During,
    rows,
};

/// A pool whose demand is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) pool_id: PoolId,
    /// Where its queue is looked at from.
    pub(crate) from: Cursor,
    /// Tasks of one priority that are counted at most.
    pub(crate) most: u64,
}

/// What a pool's tasks ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Demand {
    /// Tasks that wait, are due, and do not belong to suspended jobs.
    pub(crate) due: u64,
    /// Since when the oldest of them is due.
    pub(crate) oldest: Option<OffsetDateTime>,
    /// Tasks that run.
    pub(crate) running: u64,
    /// Per priority, where the first of those that wait is due; with none, this moment.
    pub(crate) first: Vec<Place>,
}

pub(crate) async fn of(conn: &mut PgConnection, asked: &[Asked]) -> Result<HashMap<PoolId, Demand>> {
    let mut demands = waiting(conn, asked).await?;
    let running = sqlx::query!(
        // What ended before is not read again and again. After an outage of more than a minute, what runs counts again when its
        // leases are renewed.
        r#"SELECT pool_id, count(*) AS "count!" FROM tasks
           WHERE state = 'Running' AND lease_expires_at > (SELECT clock_timestamp() - interval '1 minute') GROUP BY pool_id"#
    )
    .fetch_all(conn)
    .await
    .during("count the running tasks of pools")?;
    for row in running {
        if let Some(demand) = demands.get_mut(&PoolId(row.pool_id)) {
            demand.running = rows::count(row.count);
        }
    }
    Ok(demands)
}

async fn waiting(conn: &mut PgConnection, asked: &[Asked]) -> Result<HashMap<PoolId, Demand>> {
    let (mut pools, mut most) = (Vec::<Uuid>::new(), Vec::new());
    let (mut priorities, mut times, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    for one in asked {
        let (classes, from_times, from_ids) = one.from.columns();
        pools.extend(classes.iter().map(|_| one.pool_id.0));
        most.extend(classes.iter().map(|_| rows::height_to_pg(one.most)));
        priorities.extend(classes);
        times.extend(from_times);
        ids.extend(from_ids);
    }
    let found = sqlx::query!(
        r#"SELECT c.pool_id AS "pool_id!", c.priority AS "priority!", waiting.due AS "due!", waiting.oldest,
                  COALESCE(waiting.first, clock_timestamp()) AS "first!"
           FROM UNNEST($1::uuid[], $2::smallint[], $3::timestamptz[], $4::uuid[], $5::bigint[]) AS c (pool_id, priority, not_before, task_id, most)
           CROSS JOIN LATERAL (
               SELECT count(*) AS due, min(d.since) AS oldest, min(d.not_before) AS first FROM (
                   SELECT GREATEST(t.queued_at, t.not_before) AS since, t.not_before FROM tasks t JOIN jobs j ON j.job_id = t.job_id
                   WHERE t.pool_id = c.pool_id AND t.priority = c.priority AND t.state = 'Queued'
                     AND (t.not_before, t.task_id) > (c.not_before, c.task_id) AND t.not_before <= (SELECT clock_timestamp())
                     AND NOT t.cancel_requested AND NOT j.suspended
                   ORDER BY t.not_before, t.task_id LIMIT c.most) d) waiting"#,
        &pools,
        &priorities,
        &times,
        &ids,
        &most
    )
    .fetch_all(conn)
    .await
    .during("count the waiting tasks of pools")?;
    let mut demands: HashMap<PoolId, Demand> = HashMap::with_capacity(asked.len());
    for row in found {
        let demand = demands.entry(PoolId(row.pool_id)).or_default();
        demand.due += rows::count(row.due);
        demand.oldest = demand.oldest.into_iter().chain(row.oldest).min();
        let task_id = TaskId(Uuid::nil());
        demand.first.push(Place { priority: row.priority, not_before: row.first, task_id });
    }
    Ok(demands)
}
