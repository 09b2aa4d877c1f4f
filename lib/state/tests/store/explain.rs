//! The plans of hot queries, at the size that a busy installation has: a million tasks, of which most wait, their messages, and a day
//! of history. The statements are those that the product was checked with (`.sqlx`), not copies.
//!
//! Ranges lie in GiST indexes, which take long to fill, and history is looked up by id alone: what is to be covered and what is covered
//! are seeded with 30,000 rows, history with 200,000. `UPDATE_GOLDEN=1` writes the files anew.

#![expect(clippy::panic, reason = "a test panics with what went wrong")]

use std::{fs, path::PathBuf};

use dagwright_state::lane;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres, Row, pool::PoolConnection};

use crate::support::{World, version};

/// The major whose plans are committed; another one's are only looked at for scans of whole tables.
const MAJOR: i32 = 15;

/// Tables that grow with the work.
const BIG: [&str; 6] = ["tasks", "outbox", "task_outputs", "partition_versions", "task_history", "attempts"];

/// What it counts, it reads.
const OF_THE_CONTROLLER: &str = "progress_marks";

const POOL: &str = "'00000000-0000-0000-0000-000000000001'";
const JOB: &str = "'00000000-0000-0000-0000-000000000064'";

/// Name of the golden file, and words that only this statement has.
const QUERIES: [(&str, &str); 32] = [
    ("claim", "further AS MATERIALIZED"),
    ("claim_outputs", "SELECT task_id, output, version FROM task_outputs"),
    ("claim_sort_out", "SELECT t.task_id, t.attempt FROM tasks t JOIN jobs j"),
    ("own_tasks", "SELECT task_id, pool_id FROM tasks"),
    ("publish_due", "o.sent_at IS NULL AND o.priority = c.priority"),
    ("publish_lost", "ORDER BY o.sent_at LIMIT $2"),
    ("publish_mark_sent", "SET sent_at = clock_timestamp(), sends = sends + 1"),
    ("publish_outstanding", "SELECT count(*) AS \"count!\" FROM outbox"),
    ("publish_pools", "so that nothing else than it is read"),
    ("complete_scopes", "s.output,\n                  s.version"),
    ("complete_lock", "SELECT DISTINCT * FROM UNNEST($2::uuid[], $3::uuid[], $4::uuid[])"),
    ("complete_targets", "SELECT task_id, output, namespace, version, range FROM task_outputs"),
    ("complete_neighbours", "AS \"overlaps!\""),
    ("complete_before", "FROM task_history WHERE task_id = ANY($1) AND state = 'Completed'"),
    ("complete_versions", "ORDER BY v.namespace, v.version FOR NO KEY UPDATE"),
    ("complete_pointers", "WITH put AS"),
    ("complete_attempts", "INSERT INTO attempts"),
    ("complete_archive", "WITH ended AS"),
    ("fail_before", "SELECT task_id, attempt_id FROM attempts"),
    ("heartbeat", "held AS MATERIALIZED"),
    ("expire", "t.lease_expires_at <= (SELECT clock_timestamp())"),
    ("cancel", "WHERE cancel_requested ORDER BY task_id LIMIT $1"),
    ("plan_lock", "planned.planned_at < clock_timestamp() - make_interval"),
    ("plan_outside", "lower(t.range) < j.target_start)"),
    ("plan_suspended", "q.state IN ('Queued', 'Failed')"),
    ("plan_redrive", "t.failed_generation < j.generation"),
    ("plan_coverage", "AS \"pending?\""),
    ("plan_tasks", "INSERT INTO tasks"),
    ("plan_outputs", "Committed by another job since the coverage was read"),
    ("scale_waiting", "COALESCE(waiting.first, clock_timestamp())"),
    ("scale_running", "interval '1 minute') GROUP BY pool_id"),
    ("progress_marks", "max(failed_at) AS at"),
];

#[sqlx::test]
async fn hot_queries_keep_their_plans_at_a_million_rows(db: PgPool) {
    let world = World::new(db).await;
    let mut conn = world.db.acquire().await.expect("connect");
    seed(&mut conn).await;
    let mut dispatcher = of_the_dispatcher(&world.db).await;
    let major: i32 = sqlx::query_scalar("SELECT current_setting('server_version_num')::int / 10000")
        .fetch_one(&mut *conn)
        .await
        .expect("ask for the version");
    if major != MAJOR {
        println!(
            "Postgres {major} plans as it likes; the committed plans are those of {MAJOR}, and are not compared"
        );
    }
    let statements = statements();
    let mut wrong = Vec::new();
    for (name, words) in QUERIES {
        let found: Vec<_> = statements.iter().filter(|sql| sql.contains(words)).collect();
        assert_eq!(found.len(), 1, "statements with the words of {name}: {found:#?}");
        let conn = if name == OF_THE_CONTROLLER { &mut *conn } else { &mut *dispatcher };
        let plan = explain(conn, name, found[0]).await;
        wrong.extend(scanned(&plan).map(|line| format!("{name} reads a whole table: {line}")));
        if major == MAJOR && !golden(name, &plan) {
            wrong.push(format!("{name} has another plan:\n{plan}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Plans that were made while a table was empty are used for a while when it is not any more.
#[sqlx::test]
async fn no_table_is_read_whole_because_it_was_empty(db: PgPool) {
    let world = World::new(db).await;
    let mut conn = of_the_dispatcher(&world.db).await;
    let (statements, mut wrong) = (statements(), Vec::new());
    for (name, words) in QUERIES.into_iter().filter(|(name, _)| *name != OF_THE_CONTROLLER) {
        for sql in statements.iter().filter(|sql| sql.contains(words)) {
            let plan = explain(&mut conn, name, sql).await;
            wrong.extend(scanned(&plan).map(|line| format!("{name} reads a whole table: {line}\n{plan}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

async fn of_the_dispatcher(db: &PgPool) -> PoolConnection<Postgres> {
    let mut conn = lane(db, 1).acquire().await.expect("connect");
    run(&mut conn, "SET plan_cache_mode = force_generic_plan").await;
    conn
}

/// A line of a plan that reads a big table from its beginning to its end.
fn scanned(plan: &str) -> Option<&str> {
    let whole = |line: &&str| {
        BIG.iter().any(|table| {
            line.split_once("Seq Scan on ").is_some_and(|(_, rest)| {
                let rest = rest.strip_prefix(table).unwrap_or("-");
                // A partition of an empty day is read as a whole, and costs nothing.
                rest.is_empty() || rest.starts_with(' ')
            })
        })
    };
    plan.lines().find(whole)
}

/// Every statement of the product.
fn statements() -> Vec<String> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../.sqlx");
    let files = fs::read_dir(&folder).expect("the statements are committed");
    let statement = |file: fs::DirEntry| {
        let text = fs::read_to_string(file.path()).expect("read a statement");
        let json: serde_json::Value = serde_json::from_str(&text).expect("statements are JSON");
        json["query"].as_str().expect("a statement has its text").to_owned()
    };
    files.map(|file| statement(file.expect("list the statements"))).collect()
}

/// The generic plan, which Postgres comes to after five executions and which knows no arguments: those of the product do not change it.
async fn explain(conn: &mut PgConnection, name: &str, sql: &str) -> String {
    run(conn, &format!("PREPARE hot AS {sql}")).await;
    let arguments = (1..).take_while(|n| sql.contains(&format!("${n}"))).map(|_| "NULL").collect::<Vec<_>>();
    let arguments = if arguments.is_empty() { String::new() } else { format!("({})", arguments.join(", ")) };
    let rows = sqlx::raw_sql(AssertSqlSafe(format!("EXPLAIN (COSTS OFF) EXECUTE hot{arguments}")))
        .fetch_all(&mut *conn)
        .await
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    run(conn, "DEALLOCATE hot").await;
    let lines: Vec<String> = rows.iter().map(|row| any_day(row.get::<&str, _>(0))).collect();
    lines.join("\n") + "\n"
}

/// A partition's name without its day.
fn any_day(line: &str) -> String {
    let mut parts = line.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |line, part| {
        let is_day = part.len() >= 8 && part.bytes().take(8).all(|b| b.is_ascii_digit());
        line + "_" + if is_day { "DAY" } else { "" } + if is_day { &part[8..] } else { part }
    })
}

fn golden(name: &str, plan: &str) -> bool {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/store/explain/{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&file, plan).expect("write a plan");
    }
    fs::read_to_string(&file).is_ok_and(|committed| committed == plan)
}

async fn run(conn: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(conn)
        .await
        .unwrap_or_else(|error| panic!("{error}: {}", sql.chars().take(300).collect::<String>()));
}

async fn seed(conn: &mut PgConnection) {
    // Twenty jobs, twenty versions.
    let of = format!("CASE n % 20 WHEN 0 THEN '{}' ELSE md5((n % 20)::text)::uuid END", version(0).0);
    let sql = format!(
        "SET session_replication_role = replica;
         SET synchronous_commit = off;
         SET plan_cache_mode = force_generic_plan;
         -- Ids in the order of their time, as the product draws them.
         CREATE FUNCTION pg_temp.id(n int) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
             SELECT (lpad(to_hex(n), 12, '0') || '7' || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid $$;
         UPDATE jobs SET target_end = 10000000, max_in_flight = 1000;
         INSERT INTO jobs (job_id, namespace, owner_kind, owner_name, name, generation, operator, semantics, config, pool_id, target_start,
             target_end, chunk_size, max_in_flight, max_attempts, backoff_ms, max_backoff_ms, timeout_seconds)
         SELECT lpad(n::text, 32, '9')::uuid, namespace, owner_kind, owner_name, name || n, generation, operator, semantics, config, pool_id,
             target_start, target_end, chunk_size, max_in_flight, max_attempts, backoff_ms, max_backoff_ms, timeout_seconds
         FROM jobs, generate_series(1, 19) n;
         INSERT INTO job_plans (job_id, live) SELECT job_id, true FROM jobs ON CONFLICT DO NOTHING;
         UPDATE job_plans SET planned_target = int8range(0, 10000000);
         INSERT INTO tasks (task_id, job_id, pool_id, range, state, priority, not_before, max_attempts, attempt_id, lease_token,
                            lease_expires_at, worker_id, started_at, progress_at)
         SELECT pg_temp.id(n), CASE job WHEN 0 THEN {JOB}::uuid ELSE lpad(job::text, 32, '9')::uuid END, {POOL},
                int8range(n * 10, n * 10 + 10), CASE WHEN runs THEN 'Running' ELSE 'Queued' END, n % 20 / 9,
                now() - make_interval(secs => (1000000 - n) / 300.0), 3, CASE WHEN runs THEN gen_random_uuid() END,
                CASE WHEN runs THEN gen_random_uuid() END, CASE WHEN runs THEN now() + interval '30 seconds' END,
                CASE WHEN runs THEN gen_random_uuid() END, CASE WHEN runs THEN now() END, CASE WHEN runs THEN now() END
         FROM (SELECT n, n % 200 = 0 AS runs, n / 200 % 20 AS job FROM generate_series(1, 1000000) n) t;
         INSERT INTO outbox (task_id, attempt, pool_id, priority, not_before, sent_at)
         SELECT task_id, attempt, pool_id, priority, not_before, CASE WHEN lower(range) % 5000 = 10 THEN now() END
         FROM tasks WHERE state = 'Queued';
         INSERT INTO task_outputs (task_id, output, namespace, version, range)
         SELECT pg_temp.id(n), 'blocks', 'demo', {of}, int8range(n * 10, n * 10 + 10) FROM generate_series(490001, 520000) n;
         INSERT INTO partition_versions (namespace, version, range, content_hash, first_parent_hash, last_hash, rows, bytes,
                                         verification, task_id, attempt_id)
         SELECT 'demo', {of}, int8range(n * 10, n * 10 + 10), '', '', '', 1, 1, 'verified', pg_temp.id(n), gen_random_uuid()
         FROM generate_series(1100001, 1130000) n;
         SELECT history_prepare((now() AT TIME ZONE 'UTC')::date);
         INSERT INTO task_history (task_id, job_id, pool_id, range, outputs, state, attempt, attempt_id, lease_token, created_at)
         SELECT pg_temp.id(n), {JOB}, {POOL}, int8range(n * 10, n * 10 + 10), '{{blocks}}', 'Completed', 1, gen_random_uuid(),
                gen_random_uuid(), now() FROM generate_series(1100001, 1300000) n;
         INSERT INTO attempts (attempt_id, task_id, number, state, worker_id, started_at)
         SELECT gen_random_uuid(), pg_temp.id(n), 1, 'Succeeded', gen_random_uuid(), now() FROM generate_series(1100001, 1300000) n;
         ANALYZE tasks, outbox, task_outputs, partition_versions, task_history, attempts, jobs, job_plans, pools"
    );
    run(conn, &sql).await;
}
