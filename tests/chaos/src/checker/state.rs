//! What the state database says of one namespace, in one snapshot.

use std::collections::BTreeMap;

use dagwright_e2e::World;
use sqlx::{Connection as _, PgConnection, Row as _, postgres::PgRow};

use super::{Attempt, Facts, Finished, Live, Partition, Pointer};

/// Reads everything that the rules of the work are about; the other facts stay empty.
pub(super) async fn read(world: &World, namespace: &str) -> anyhow::Result<Facts> {
    let mut conn = world.state.acquire().await?;
    let mut tx = conn.begin().await?;
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY").execute(&mut *tx).await?;
    let mut facts = Facts::default();
    let datasets = "SELECT name, served_version::text AS version FROM datasets
                    WHERE namespace = $1 AND deleted_at IS NULL AND served_version IS NOT NULL";
    for row in rows(&mut tx, datasets, namespace).await? {
        facts.datasets.insert(row.get("name"), row.get("version"));
    }
    facts.partitions = partitions(&mut tx, namespace).await?;
    tasks(&mut tx, namespace, &mut facts).await?;
    attempts(&mut tx, namespace, &mut facts).await?;
    tx.commit().await?;
    Ok(facts)
}

async fn rows(conn: &mut PgConnection, sql: &'static str, namespace: &str) -> sqlx::Result<Vec<PgRow>> {
    sqlx::query(sql).bind(namespace).fetch_all(conn).await
}

fn range(row: &PgRow) -> anyhow::Result<(u64, u64)> {
    Ok((u64::try_from(row.get::<i64, _>("lower"))?, u64::try_from(row.get::<i64, _>("upper"))?))
}

async fn partitions(conn: &mut PgConnection, namespace: &str) -> anyhow::Result<Vec<Partition>> {
    let mut partitions = BTreeMap::<i64, Partition>::new();
    let sql = "SELECT p.partition_id, p.version::text AS version, v.output, lower(p.range) AS lower, upper(p.range) AS upper,
                      p.revision, p.current, p.missing_since IS NOT NULL AS missing, p.rows, p.task_id::text AS task,
                      p.attempt_id::text AS attempt
               FROM partition_versions p JOIN dataset_versions v ON v.namespace = p.namespace AND v.version = p.version
               WHERE p.namespace = $1";
    for row in rows(conn, sql, namespace).await? {
        let (lower, upper) = range(&row)?;
        let partition = Partition {
            version: row.get("version"),
            output: row.get("output"),
            lower,
            upper,
            revision: row.get("revision"),
            current: row.get("current"),
            missing: row.get("missing"),
            rows: row.get("rows"),
            task: row.get("task"),
            attempt: row.get("attempt"),
            objects: vec![],
        };
        partitions.insert(row.get("partition_id"), partition);
    }
    let sql = "SELECT o.partition_id, o.key, o.bytes, o.sha256, o.rows
               FROM partition_objects o JOIN partition_versions p USING (partition_id) WHERE p.namespace = $1";
    for row in rows(conn, sql, namespace).await? {
        let pointer = Pointer {
            key: row.get("key"),
            bytes: row.get("bytes"),
            sha256: row.get("sha256"),
            rows: row.get("rows"),
        };
        if let Some(partition) = partitions.get_mut(&row.get("partition_id")) {
            partition.objects.push(pointer);
        }
    }
    Ok(partitions.into_values().collect())
}

async fn tasks(conn: &mut PgConnection, namespace: &str, facts: &mut Facts) -> anyhow::Result<()> {
    let sql = "SELECT t.task_id::text AS task, t.state, t.attempt,
                      t.state || ' ' || t.range::text || ', attempt ' || t.attempt || ', spent ' || t.attempts_spent
                      || coalesce(', ' || t.last_reason || ': ' || t.last_error, '') AS what
               FROM tasks t JOIN jobs j USING (job_id) WHERE j.namespace = $1";
    for row in rows(conn, sql, namespace).await? {
        facts.live.push(Live {
            task: row.get("task"),
            state: row.get("state"),
            attempt: row.get::<i32, _>("attempt").into(),
            what: row.get("what"),
        });
    }
    let sql = "SELECT h.task_id::text AS task, h.state, coalesce(h.attempt_id::text, '') AS attempt, lower(h.range) AS lower,
                      upper(h.range) AS upper, h.outputs, j.max_attempts
               FROM task_history h JOIN jobs j USING (job_id) WHERE j.namespace = $1";
    for row in rows(conn, sql, namespace).await? {
        facts.finished.push(Finished {
            task: row.get("task"),
            state: row.get("state"),
            attempt: row.get("attempt"),
            range: range(&row)?,
            outputs: row.get("outputs"),
            max_attempts: row.get::<i32, _>("max_attempts").into(),
        });
    }
    let sql = "SELECT o.task_id::text AS task, o.attempt FROM outbox o JOIN pools p USING (pool_id) WHERE p.namespace = $1";
    for row in rows(conn, sql, namespace).await? {
        facts.outbox.push((row.get("task"), row.get::<i32, _>("attempt").into()));
    }
    Ok(())
}

async fn attempts(conn: &mut PgConnection, namespace: &str, facts: &mut Facts) -> anyhow::Result<()> {
    let attempt = |row: PgRow| Attempt {
        task: row.get("task"),
        id: row.get("id"),
        number: row.get::<i32, _>("number").into(),
        state: row.get("state"),
    };
    let sql = "SELECT a.task_id::text AS task, a.attempt_id::text AS id, a.number, a.state FROM attempts a
               WHERE a.task_id IN (SELECT task_id FROM task_history h JOIN jobs j USING (job_id) WHERE j.namespace = $1
                                   UNION SELECT task_id FROM tasks t JOIN jobs j USING (job_id) WHERE j.namespace = $1)";
    facts.attempts = rows(conn, sql, namespace).await?.into_iter().map(attempt).collect();
    // No namespace is left to ask for: the stack has nobody else's.
    let strays = "SELECT a.task_id::text AS task, a.attempt_id::text AS id, a.number, a.state FROM attempts a
                  WHERE NOT EXISTS (SELECT FROM tasks t WHERE t.task_id = a.task_id)
                    AND NOT EXISTS (SELECT FROM task_history h WHERE h.task_id = a.task_id)";
    let strays = sqlx::query(strays).fetch_all(conn).await?;
    facts.strays = strays.into_iter().map(attempt).collect();
    Ok(())
}
