//! An installation that has run for days: finished tasks, and queued ones. Rows are written as sets, in the shape that the
//! product gives them.

use anyhow::Context as _;
use futures::future::try_join_all;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use crate::install::{Installation, NAMESPACE, OUTPUT};

/// Tasks of one statement: enough for speed, few enough to follow.
const BATCH: u64 = 500_000;
/// Connections that write side by side.
const WRITERS: usize = 2;

/// The jobs by number, and two functions: an id whose order is its time's, as the product draws them, and a hash of a height.
const SETUP: &str = "
    CREATE TEMP TABLE streams AS
        SELECT row_number() OVER (ORDER BY j.job_id) - 1 AS number, count(*) OVER () AS of, j.job_id, j.pool_id, o.output,
               o.namespace, o.version
        FROM jobs j JOIN job_outputs o ON o.job_id = j.job_id WHERE o.namespace = '{namespace}' AND o.output = '{output}';
    CREATE FUNCTION pg_temp.id(n bigint, at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
        SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3) || '8'
                || substr(md5(n::text), 4, 15))::uuid $$;
    CREATE FUNCTION pg_temp.hash(height bigint) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
        SELECT decode(lpad(to_hex(height), 64, '0'), 'hex') $$;
    -- Triggers and foreign keys are for writers that may be wrong; constraints of one table are checked as ever.
    SET session_replication_role = replica";

/// The days of history, as the dispatcher made them one by one.
const DAYS_OF_HISTORY: &str = "SELECT history_prepare((clock_timestamp() AT TIME ZONE 'UTC')::date - n) FROM generate_series(0, {days}) AS n";

/// Finished tasks lie within so many days: fewer than history is kept.
const DAYS: &str = "10";

/// Task `n` is block `n / of` of stream `n % of`.
const FINISHED_ROWS: &str = "
    SELECT n, n / s.of AS height, s.*, t.at, pg_temp.id(n, t.at - interval '1 minute') AS task_id, md5('attempt ' || n)::uuid AS attempt_id
    FROM generate_series({from}::bigint, {to}::bigint - 1) AS n JOIN streams s ON s.number = n % s.of,
         LATERAL (SELECT transaction_timestamp() - make_interval(secs => {days} * 86400.0 * (1 - n::float8 / {all})) AS at) t";

const FINISHED: [&str; 4] = [
    "INSERT INTO task_history (task_id, job_id, pool_id, range, outputs, state, attempt, attempt_id, lease_token, created_at,
                               started_at, finished_at)
     SELECT task_id, job_id, pool_id, int8range(height, height + 1), ARRAY[output], 'Completed', 1, attempt_id, gen_random_uuid(),
            at - interval '1 minute', at - interval '1 second', at FROM ({rows}) r",
    "INSERT INTO attempts (attempt_id, task_id, number, state, worker_id, started_at, finished_at)
     SELECT attempt_id, task_id, 1, 'Succeeded', md5('worker')::uuid, at - interval '1 second', at FROM ({rows}) r",
    "INSERT INTO partition_versions (namespace, version, range, content_hash, first_parent_hash, last_hash, rows, bytes,
                                     verification, task_id, attempt_id, committed_at)
     SELECT namespace, version, int8range(height, height + 1), pg_temp.hash(height), pg_temp.hash(height), pg_temp.hash(height + 1),
            1, 0, 'verified', task_id, attempt_id, at FROM ({rows}) r",
    "INSERT INTO events (namespace, version, range, revision, created_at)
     SELECT namespace, version, int8range(height, height + 1), 1, at FROM ({rows}) r",
];

/// Queued tasks lie behind the finished ones, the oldest first.
const QUEUED_ROWS: &str = "
    SELECT n, n / s.of AS height, s.*, t.at, pg_temp.id(n, t.at) AS task_id
    FROM generate_series({from}::bigint, {to}::bigint - 1) AS n JOIN streams s ON s.number = n % s.of,
         LATERAL (SELECT transaction_timestamp() - make_interval(secs => 3600.0 * ({end} - n) / {all}) AS at) t";

const QUEUED: [&str; 3] = [
    "INSERT INTO tasks (task_id, job_id, pool_id, range, state, priority, not_before, max_attempts, created_at, queued_at)
     SELECT task_id, job_id, pool_id, int8range(height, height + 1), 'Queued', 1, at, 5, at, at FROM ({rows}) r",
    "INSERT INTO task_outputs (task_id, output, namespace, version, range)
     SELECT task_id, output, namespace, version, int8range(height, height + 1) FROM ({rows}) r",
    "INSERT INTO outbox (task_id, attempt, pool_id, priority, not_before) SELECT task_id, 1, pool_id, 1, at FROM ({rows}) r",
];

/// Writes so many finished and queued tasks of the streams that are there, and lets Postgres look at them.
pub(crate) async fn seed(
    db: &PgPool,
    installed: &Installation,
    finished: u64,
    queued: u64,
) -> anyhow::Result<()> {
    anyhow::ensure!(!installed.streams.is_empty(), "old tasks belong to streams, and there are none");
    let mut conn = db.acquire().await.context("connect to seed")?.detach();
    run(&mut conn, &DAYS_OF_HISTORY.replace("{days}", DAYS)).await?;
    try_join_all((0..WRITERS).map(|writer| write(db, writer, finished, queued))).await?;
    // What autovacuum has done by then.
    for sql in ["VACUUM (ANALYZE)", "CHECKPOINT"] {
        run(&mut conn, sql).await?;
    }
    Ok(())
}

/// The share of one of the writers: every so many batches one.
async fn write(db: &PgPool, writer: usize, finished: u64, queued: u64) -> anyhow::Result<()> {
    let mut conn = db.acquire().await.context("connect to seed")?.detach();
    run(&mut conn, &SETUP.replace("{namespace}", NAMESPACE).replace("{output}", OUTPUT)).await?;
    let batch = usize::try_from(BATCH)?;
    let rows = FINISHED_ROWS.replace("{all}", &finished.to_string()).replace("{days}", DAYS);
    for from in (0..finished).step_by(batch).skip(writer).step_by(WRITERS) {
        let to = (from + BATCH).min(finished);
        insert(&mut conn, &FINISHED, &rows, from, to).await?;
        eprintln!("  {from} to {to} finished");
    }
    let end = finished + queued;
    let rows = QUEUED_ROWS.replace("{all}", &queued.to_string()).replace("{end}", &end.to_string());
    for from in (finished..end).step_by(batch).skip(writer).step_by(WRITERS) {
        insert(&mut conn, &QUEUED, &rows, from, (from + BATCH).min(end)).await?;
    }
    Ok(())
}

async fn insert(
    conn: &mut PgConnection,
    tables: &[&str],
    rows: &str,
    from: u64,
    to: u64,
) -> anyhow::Result<()> {
    let rows = rows.replace("{from}", &from.to_string()).replace("{to}", &to.to_string());
    // One transaction, so that the rows of a task agree about its times.
    run(conn, "BEGIN").await?;
    for table in tables {
        run(conn, &table.replace("{rows}", &rows)).await?;
    }
    run(conn, "COMMIT").await
}

async fn run(conn: &mut PgConnection, sql: &str) -> anyhow::Result<()> {
    let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(conn).await;
    done.map(drop).with_context(|| format!("seed old tasks: {}", sql.chars().take(120).collect::<String>()))
}
