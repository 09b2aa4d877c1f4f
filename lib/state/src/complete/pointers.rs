//! Pointers at what attempts wrote.

use std::collections::HashMap;

use dagwright_core::ids::{TaskId, VersionId};
use sqlx::PgConnection;

use super::{Candidate, Object, Partition, Target};
use crate::{
    Result,
    error::{During, expect_rows},
    rows,
};

/// Points at the partitions of good candidates and emits their events.
pub(super) async fn insert(conn: &mut PgConnection, good: &[Candidate<'_>]) -> Result<()> {
    let all: Vec<(&Candidate<'_>, &Target, &Partition)> = good
        .iter()
        .flat_map(|c| c.pairs.iter().map(move |(target, partition)| (c, target, *partition)))
        .collect();
    if all.is_empty() {
        return Ok(());
    }
    let ids = insert_partitions(conn, &all).await?;
    expect_rows("point at partitions", all.len() as u64, ids.len() as u64)?;
    let objects = all.iter().flat_map(|(candidate, target, partition)| {
        let id = ids.get(&(candidate.row.task_id, target.version)).copied().unwrap_or_default();
        (0i32..).zip(&partition.objects).map(move |(n, object)| (id, n, object))
    });
    insert_objects(conn, &objects.collect::<Vec<_>>()).await
}

/// The ids of the new partitions: a task writes at most one into a version.
async fn insert_partitions(
    conn: &mut PgConnection,
    all: &[(&Candidate<'_>, &Target, &Partition)],
) -> Result<HashMap<(TaskId, VersionId), i64>> {
    let namespaces: Vec<_> = all.iter().map(|(_, t, _)| t.namespace.clone()).collect();
    let versions: Vec<_> = all.iter().map(|(_, t, _)| t.version.0).collect();
    let starts: Vec<_> = all.iter().map(|(_, t, _)| rows::height_to_pg(t.range.start())).collect();
    let ends: Vec<_> = all.iter().map(|(_, t, _)| rows::height_to_pg(t.range.end())).collect();
    let content: Vec<_> = all.iter().map(|(.., p)| p.content_hash.clone()).collect();
    let parents: Vec<_> = all.iter().map(|(.., p)| p.ends.first_parent_hash.clone()).collect();
    let lasts: Vec<_> = all.iter().map(|(.., p)| p.ends.last_hash.clone()).collect();
    let counts: Vec<_> = all.iter().map(|(.., p)| rows::height_to_pg(p.rows)).collect();
    let bytes: Vec<_> =
        all.iter().map(|(.., p)| rows::height_to_pg(p.objects.iter().map(|o| o.bytes).sum())).collect();
    let levels: Vec<_> = all.iter().map(|(.., p)| p.verification.clone()).collect();
    let tasks: Vec<_> = all.iter().map(|(c, ..)| c.fence.task_id.0).collect();
    let attempts: Vec<_> = all.iter().map(|(c, ..)| c.fence.attempt_id.0).collect();
    let put = sqlx::query!(
        r#"WITH put AS (
               INSERT INTO partition_versions
                   (namespace, version, range, revision, content_hash, first_parent_hash, last_hash, rows, bytes, verification, task_id,
                    attempt_id)
               -- Nothing current overlaps: earlier revisions are past ones.
               SELECT u.namespace, u.version, int8range(u.lower, u.upper), COALESCE(past.revision, 0) + 1, u.content, u.parent, u.last,
                      u.rows, u.bytes, u.level, u.task_id, u.attempt_id
               FROM UNNEST($1::text[], $2::uuid[], $3::bigint[], $4::bigint[], $5::bytea[], $6::bytea[], $7::bytea[], $8::bigint[],
                           $9::bigint[], $10::text[], $11::uuid[], $12::uuid[])
                    AS u (namespace, version, lower, upper, content, parent, last, rows, bytes, level, task_id, attempt_id)
               CROSS JOIN LATERAL (
                   SELECT max(p.revision) AS revision FROM partition_versions p
                   WHERE p.namespace = u.namespace AND p.version = u.version AND NOT p.current
                     AND p.range && int8range(u.lower, u.upper)) past
               RETURNING partition_id, namespace, version, range, revision, task_id),
           told AS (INSERT INTO events (namespace, version, range, revision) SELECT namespace, version, range, revision FROM put)
           SELECT partition_id AS "partition_id!", task_id AS "task_id!", version AS "version!" FROM put"#,
        &namespaces,
        &versions,
        &starts,
        &ends,
        &content,
        &parents,
        &lasts,
        &counts,
        &bytes,
        &levels,
        &tasks,
        &attempts
    )
    .fetch_all(conn)
    .await
    .during("point at partitions")?;
    Ok(put.into_iter().map(|row| ((row.task_id.into(), row.version.into()), row.partition_id)).collect())
}

async fn insert_objects(conn: &mut PgConnection, objects: &[(i64, i32, &Object)]) -> Result<()> {
    if objects.is_empty() {
        return Ok(());
    }
    let partitions: Vec<_> = objects.iter().map(|(id, ..)| *id).collect();
    let numbers: Vec<_> = objects.iter().map(|(_, n, _)| *n).collect();
    let buckets: Vec<_> = objects.iter().map(|(.., o)| o.bucket.clone()).collect();
    let keys: Vec<_> = objects.iter().map(|(.., o)| o.key.clone()).collect();
    let bytes: Vec<_> = objects.iter().map(|(.., o)| rows::height_to_pg(o.bytes)).collect();
    let checksums: Vec<_> = objects.iter().map(|(.., o)| o.sha256.clone()).collect();
    let counts: Vec<_> = objects.iter().map(|(.., o)| rows::height_to_pg(o.rows)).collect();
    sqlx::query!(
        "INSERT INTO partition_objects (partition_id, n, bucket, key, bytes, sha256, rows)
         SELECT * FROM UNNEST($1::bigint[], $2::int[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::bigint[])",
        &partitions,
        &numbers,
        &buckets,
        &keys,
        &bytes,
        &checksums,
        &counts
    )
    .execute(conn)
    .await
    .during("point at objects")?;
    Ok(())
}
