//! A job that cannot be planned is its own trouble.

use sqlx::PgPool;

use crate::{
    silence::silence,
    support::{Replica, Setup, add_job, count, install, wait_for_count},
};

#[sqlx::test(migrations = "../lib/state/migrations")]
async fn a_job_that_cannot_be_planned_keeps_nobody_behind_it_waiting(db: PgPool) {
    install(&db).await;
    // Announced jobs have their own way.
    silence(&db).await;
    add_job(&db).await;
    for sql in [
        "UPDATE job_plans SET planned_at = clock_timestamp() - interval '1 hour'",
        // The same once more, never planned, hence the first in the queue.
        "INSERT INTO jobs (job_id, namespace, owner_kind, owner_name, name, generation, operator, semantics, config, pool_id, rpc_pool,
             target_start, target_end, chunk_size, max_in_flight, max_attempts, backoff_ms, max_backoff_ms, timeout_seconds)
         SELECT '00000000-0000-0000-0000-000000000006', namespace, owner_kind, owner_name, 'broken', generation, operator, semantics,
             config, pool_id, rpc_pool, target_start, target_end, chunk_size, max_in_flight, max_attempts, backoff_ms, max_backoff_ms,
             timeout_seconds FROM jobs",
        "INSERT INTO job_outputs (job_id, output, namespace, version, dataset_id)
         SELECT '00000000-0000-0000-0000-000000000006', output, namespace, version, dataset_id FROM job_outputs",
        "ALTER TABLE tasks ADD CONSTRAINT not_of_this_one CHECK (job_id <> '00000000-0000-0000-0000-000000000006')",
    ] {
        sqlx::query(sql).execute(&db).await.unwrap();
    }
    let _replica = Replica::start(&db, &Setup::default()).await;
    wait_for_count(&db, "SELECT count(*) FROM tasks", 3).await;
    let tried = "SELECT count(*) FROM jobs JOIN job_plans USING (job_id)
                 WHERE name = 'broken' AND planned_at IS NOT NULL AND planned_target IS NULL";
    assert_eq!(count(&db, tried).await, 1, "it is tried again when its turn comes");
}
