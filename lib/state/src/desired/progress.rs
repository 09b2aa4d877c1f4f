//! What moved by itself: the cheap question that tells the controller which objects to look at.

use sqlx::PgConnection;

use crate::{Result, error::During};

/// Something that a status may have to show.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Moved {
    /// Kind of the object.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Differs whenever something moved.
    pub mark: String,
    /// Nothing has happened to it since its own pass wrote it: whoever sees it for the first time has nothing new to show.
    pub untouched: bool,
}

/// A mark per object; whoever asks compares it with the one it saw before.
///
/// Committed partitions are looked at in a window over their ids: ids are drawn before transactions commit, so the window
/// reaches back a little. What a window misses is found by the controller's periodic pass.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn marks(conn: &mut PgConnection) -> Result<Vec<Moved>> {
    sqlx::query_as!(
        Moved,
        r#"WITH recent AS (
               SELECT namespace, version, max(partition_id) AS last FROM partition_versions
               WHERE partition_id > (SELECT COALESCE(max(partition_id), 0) - 2000 FROM partition_versions)
               GROUP BY namespace, version
           ), missing AS (
               SELECT namespace, version, count(*) AS n FROM partition_versions
               WHERE missing_since IS NOT NULL AND current GROUP BY namespace, version
           ), failed AS (
               SELECT job_id, count(*) AS n, max(failed_at) AS at FROM tasks WHERE state = 'Failed' GROUP BY job_id
           )
           SELECT j.owner_kind AS "kind!", j.namespace AS "namespace!", j.owner_name AS "name!",
                  concat_ws('/', max(r.last), sum(f.n), max(f.at), max(j.target_end), max(b.seen_at), count(b.height)) AS "mark!",
                  bool_and(r.last IS NULL AND f.n IS NULL AND j.head IS NULL AND b.height IS NULL) AS "untouched!"
           FROM jobs j
           JOIN job_outputs o ON o.job_id = j.job_id
           LEFT JOIN recent r ON (r.namespace, r.version) = (o.namespace, o.version)
           LEFT JOIN failed f ON f.job_id = j.job_id
           LEFT JOIN border_conflicts b ON (b.namespace, b.version) = (o.namespace, o.version)
           WHERE j.removed_at IS NULL
           GROUP BY 1, 2, 3
           UNION ALL
           SELECT 'Dataset', d.namespace, d.name, concat_ws('/', d.served_version, r.last, m.n, w.owner_kind, w.owner_name, w.job),
                  d.served_version IS NULL AND w.dataset_id IS NULL
           FROM datasets d LEFT JOIN recent r ON (r.namespace, r.version) = (d.namespace, d.served_version)
           LEFT JOIN missing m ON (m.namespace, m.version) = (d.namespace, d.served_version)
           LEFT JOIN dataset_producers w ON w.dataset_id = d.dataset_id
           WHERE d.deleted_at IS NULL
           UNION ALL
           SELECT 'WorkerPool', p.namespace, p.name,
                  concat_ws('/', p.desired_workers, p.running_workers, p.dead_letters, p.last_backlog_at IS NULL, p.start_error), false
           FROM pools p WHERE p.deleted_at IS NULL
           UNION ALL
           SELECT 'RpcPool', h.namespace, h.pool, string_agg(concat_ws('=', h.provider, h.state), ',' ORDER BY h.provider), false
           FROM rpc_provider_health h GROUP BY 2, 3"#
    )
    .fetch_all(conn)
    .await
    .during("ask what moved")
}
