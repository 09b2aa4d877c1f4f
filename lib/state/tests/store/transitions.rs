//! Every transition's SQL does what `core::task::step` says, of which the model has proven I1 to I9: state, lease (I8), message (I5),
//! and what is spent (I7).

use dagwright_core::{
    backoff::Backoff,
    ids::TaskId,
    task::{AttemptState, Event, Policy, Task, TaskState, Transition, step},
};
use dagwright_state::{
    Cause,
    claim::Offer,
    complete::Committed,
    finish::{self, FailedAttempt},
    lease::{self, Beat},
};
use sqlx::{PgPool, Row};
use time::{Duration, OffsetDateTime};

use crate::support::{LEASE_SECONDS, World, completion, full, id, offer};

const LEASE: Duration = Duration::seconds(LEASE_SECONDS as i64);
const POLICY: Policy =
    Policy { max_attempts: 3, backoff: Backoff { first: Duration::seconds(5), cap: Duration::seconds(60) } };

/// Where a task starts, and how to get it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Queued,
    Running,
    Failed,
}

struct Case {
    from: From,
    event: Event,
    spent: u32,
    releases: u32,
}

fn cases() -> Vec<Case> {
    let legal = [
        (From::Queued, Event::Claim { lease: LEASE }),
        (From::Queued, Event::DeadLetter),
        (From::Queued, Event::Cancel),
        (From::Running, Event::Renew { lease: LEASE }),
        (From::Running, Event::Complete),
        (From::Running, Event::Fail { retryable: true }),
        (From::Running, Event::Fail { retryable: false }),
        (From::Running, Event::Release),
        (From::Running, Event::Expire),
        (From::Running, Event::DeadLetter),
        (From::Running, Event::Cancel),
        (From::Failed, Event::Redrive),
    ];
    let counters = [(0, 0), (1, 3), (2, 20)];
    let case = |((from, event), (spent, releases))| Case { from, event, spent, releases };
    legal.iter().flat_map(|l| counters.iter().map(move |c| case((*l, *c)))).collect()
}

#[sqlx::test]
async fn sql_and_core_agree_on_every_legal_transition(db: PgPool) {
    let world = World::new(db).await;
    world.run("UPDATE jobs SET target_end = 1000, max_in_flight = 1000").await;
    world.plan(world.job_id).await;
    for case in cases() {
        check(&world, &case).await;
    }
}

async fn check(world: &World, case: &Case) {
    let task_id = prepare(world, case).await;
    let before = read(world, task_id).await.expect("prepared");
    let expected = step(&before.task, &case.event, &POLICY, before.now, 1.0).expect("legal");
    fire(world, task_id, case.event).await;
    let label =
        format!("{:?} + {:?} at {} spent, {} releases", case.from, case.event, case.spent, case.releases);
    match (read(world, task_id).await, expected.task.state) {
        (None, TaskState::Completed | TaskState::Canceled) => {
            assert_eq!(history(world, task_id).await, expected.task.state.name(), "{label}");
        }
        (Some(after), _) => agree(&label, &after, &expected),
        (None, _) => unreachable!("{label}: the row is gone"),
    }
    assert_eq!(attempt_state(world, &before).await.as_deref(), attempt_after(&before, &expected), "{label}");
    let offered = if expected.publish { Some(expected.task.attempt) } else { None };
    let unclaimed = matches!(case.event, Event::Claim { .. } | Event::Renew { .. });
    assert_eq!(message(world, task_id).await, offered, "{label}");
    assert!(!unclaimed || offered.is_none());
}

fn agree(label: &str, after: &Stored, expected: &Transition) {
    let (got, want) = (after.task, expected.task);
    assert_eq!((got.attempt, got.spent, got.releases), (want.attempt, want.spent, want.releases), "{label}");
    let close = |a: OffsetDateTime, b: OffsetDateTime| (a - b).abs() < Duration::seconds(3);
    match (got.state, want.state) {
        (TaskState::Queued { not_before: a }, TaskState::Queued { not_before: b })
        | (TaskState::Running { lease_expires_at: a }, TaskState::Running { lease_expires_at: b }) => {
            assert!(close(a, b), "{label}: {a} and {b}");
        }
        (a, b) => assert_eq!(a.name(), b.name(), "{label}"),
    }
}

/// A Queued or Running task has no attempt row unless its message died; others have the row of the attempt that ended.
fn attempt_after(before: &Stored, expected: &Transition) -> Option<&'static str> {
    match (before.task.state, expected.attempt) {
        // Its row is written when it ends.
        (_, Some(AttemptState::Running)) => None,
        (_, Some(state)) => Some(state.name()),
        (TaskState::Failed, None) => Some(AttemptState::Errored.name()),
        (_, None) => None,
    }
}

struct Stored {
    task_id: TaskId,
    task: Task,
    now: OffsetDateTime,
}

async fn prepare(world: &World, case: &Case) -> TaskId {
    let lease = world.claim_one().await;
    let task_id = lease.fence.task_id;
    if case.from == From::Failed {
        fire(world, task_id, Event::Fail { retryable: false }).await;
    }
    if case.from == From::Queued {
        // As planned: nobody claimed it yet.
        sqlx::query(
            "UPDATE tasks SET state = 'Queued', attempt_id = NULL, lease_token = NULL, lease_expires_at = NULL, worker_id = NULL
             WHERE task_id = $1",
        )
        .bind(task_id.0)
        .execute(&world.db)
        .await
        .expect("unclaim");
    }
    let over = matches!(case.event, Event::Expire | Event::DeadLetter);
    let expiry = if over { -1.0 } else { 30.0 };
    sqlx::query(
        "UPDATE tasks SET attempts_spent = $2, releases = $3, priority = 0,
             lease_expires_at = CASE WHEN state = 'Running' THEN clock_timestamp() + make_interval(secs => $4) END
         WHERE task_id = $1",
    )
    .bind(task_id.0)
    .bind(i32::try_from(case.spent).expect("small"))
    .bind(i32::try_from(case.releases).expect("small"))
    .bind(expiry)
    .execute(&world.db)
    .await
    .expect("prepare");
    task_id
}

async fn fire(world: &World, task_id: TaskId, event: Event) {
    let row = sqlx::query("SELECT attempt_id, lease_token, attempt FROM tasks WHERE task_id = $1")
        .bind(task_id.0)
        .fetch_one(&world.db)
        .await
        .expect("read the fence");
    let attempt = u32::try_from(row.get::<i32, _>(2)).expect("positive");
    let this = Offer { task_id, attempt };
    let mut tx = world.db.begin().await.expect("begin");
    let fence = || dagwright_core::task::Fence {
        task_id,
        attempt_id: row.get::<uuid::Uuid, _>(0).into(),
        lease_token: row.get::<uuid::Uuid, _>(1).into(),
    };
    let pool = world.pool_id;
    match event {
        Event::Claim { .. } => {
            let claimed = world.claim(&[this], 0).await;
            assert_eq!(claimed.leases.iter().map(offer).collect::<Vec<_>>(), [this]);
        }
        Event::Renew { .. } => {
            let beats = [Beat { fence: fence(), blocks_done: 1 }];
            assert_eq!(lease::renew(&mut tx, pool, &beats).await.expect("renew").extended.len(), 1);
        }
        Event::Complete => {
            let scope = lease::write_scope(&mut tx, &fence()).await.expect("scope").expect("current");
            let lease = lease_of(fence(), attempt, &scope);
            let done =
                dagwright_state::complete::complete(&mut tx, pool, &[completion(&lease)], &mut full).await;
            assert_eq!(done.expect("complete"), [Committed::Applied]);
        }
        Event::Fail { retryable } => {
            let failure = FailedAttempt { fence: fence(), retryable, cause: Cause::default() };
            finish::fail(&mut tx, pool, &[failure], &mut full).await.expect("fail");
        }
        Event::Release => drop(finish::release(&mut tx, pool, &[fence()], &mut full).await.expect("release")),
        Event::Expire => assert_eq!(finish::expire(&mut tx, None, 10, &mut full).await.expect("expire"), 1),
        Event::DeadLetter => {
            assert!(finish::dead_letter(&mut tx, pool, this, &mut full).await.expect("dead letter"));
        }
        Event::Cancel => {
            sqlx::query("UPDATE tasks SET cancel_requested = true WHERE task_id = $1")
                .bind(task_id.0)
                .execute(&mut *tx)
                .await
                .expect("mark");
            assert_eq!(finish::cancel_unwanted(&mut tx, 10, &mut full).await.expect("cancel"), 1);
        }
        Event::Redrive => {
            // Tasks that earlier cases left failed are of the same job.
            sqlx::query("DELETE FROM tasks WHERE state = 'Failed' AND task_id <> $1")
                .bind(task_id.0)
                .execute(&mut *tx)
                .await
                .expect("clear");
            assert_eq!(finish::redrive(&mut tx, world.job_id, 1, &mut full).await.expect("redrive"), 1);
        }
    }
    tx.commit().await.expect("commit");
}

fn lease_of(
    fence: dagwright_core::task::Fence,
    attempt: u32,
    scope: &lease::WriteScope,
) -> dagwright_state::claim::Lease {
    dagwright_state::claim::Lease {
        fence,
        attempt,
        expires_at: OffsetDateTime::UNIX_EPOCH,
        lease_seconds: 30,
        timeout_seconds: 900,
        namespace: scope.namespace.clone(),
        owner_kind: "ChainSync".into(),
        owner_name: "local".into(),
        job: "core".into(),
        operator: "evm_ingest".into(),
        semantics: 1,
        config: serde_json::Value::Null,
        range: scope.range,
        outputs: scope.outputs.clone(),
        avoid_providers: vec![],
    }
}

async fn read(world: &World, task_id: TaskId) -> Option<Stored> {
    let row = sqlx::query(
        "SELECT state, not_before, attempt, attempts_spent, releases, lease_expires_at, clock_timestamp() FROM tasks WHERE task_id = $1",
    )
    .bind(task_id.0)
    .fetch_optional(&world.db)
    .await
    .expect("read a task")?;
    let number = |n: usize| u32::try_from(row.get::<i32, _>(n)).expect("not negative");
    let state = match row.get::<&str, _>(0) {
        "Queued" => TaskState::Queued { not_before: row.get(1) },
        "Running" => TaskState::Running { lease_expires_at: row.get(5) },
        _ => TaskState::Failed,
    };
    let task = Task { state, attempt: number(2), spent: number(3), releases: number(4) };
    Some(Stored { task_id, task, now: row.get(6) })
}

async fn history(world: &World, task_id: TaskId) -> String {
    let row = sqlx::query("SELECT state FROM task_history WHERE task_id = $1").bind(task_id.0);
    row.fetch_one(&world.db).await.expect("in history").get(0)
}

async fn attempt_state(world: &World, before: &Stored) -> Option<String> {
    let row = sqlx::query("SELECT state FROM attempts WHERE task_id = $1 ORDER BY number DESC LIMIT 1")
        .bind(before.task_id.0);
    row.fetch_optional(&world.db).await.expect("read attempts").map(|row| row.get(0))
}

async fn message(world: &World, task_id: TaskId) -> Option<u32> {
    let row = sqlx::query("SELECT attempt FROM outbox WHERE task_id = $1").bind(task_id.0);
    let row = row.fetch_optional(&world.db).await.expect("read the outbox")?;
    Some(u32::try_from(row.get::<i32, _>(0)).expect("positive"))
}

#[sqlx::test]
async fn a_repeated_fail_or_release_is_accepted_once(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    let (a, b) = (world.claim_one().await, world.claim_one().await);
    let cause = Cause {
        reason: Some("VerificationFailed".into()),
        message: Some("block 3: wrong root".into()),
        provider: Some("alchemy".into()),
    };
    for _ in 0..2 {
        let mut tx = world.db.begin().await.expect("begin");
        let failure = FailedAttempt { fence: a.fence, retryable: true, cause: cause.clone() };
        let failed = finish::fail(&mut tx, world.pool_id, &[failure], &mut full).await.expect("fail");
        let released = finish::release(&mut tx, world.pool_id, &[b.fence], &mut full).await.expect("release");
        assert_eq!((failed[0].1, released[0].1), (finish::Verdict::Accepted, finish::Verdict::Accepted));
        tx.commit().await.expect("commit");
    }
    let row = world.task(a.fence.task_id).await.expect("queued again");
    assert_eq!((row.attempt, row.spent, row.reason.as_deref()), (2, 1, Some("VerificationFailed")));
    world.make_due().await;
    let again = world.claim(&[Offer { attempt: 2, ..offer(&a) }], 0).await.leases.pop().expect("due");
    assert_eq!(again.avoid_providers, ["alchemy"]);
}

#[sqlx::test]
async fn tasks_of_a_removed_job_end_whatever_their_state(db: PgPool) {
    let world = World::new(db).await;
    world.plan(world.job_id).await;
    let (failed, _running) = (world.claim_one().await, world.claim_one().await);
    fire(&world, failed.fence.task_id, Event::Fail { retryable: false }).await;
    world.run("UPDATE jobs SET removed_at = clock_timestamp()").await;
    let mut tx = world.db.begin().await.expect("begin");
    assert_eq!(finish::cancel_unwanted(&mut tx, 100, &mut full).await.expect("cancel"), 5);
    tx.commit().await.expect("commit");
    assert_eq!(world.count("SELECT count(*) FROM tasks").await, 0);
    assert_eq!(world.count("SELECT count(*) FROM task_outputs").await, 0, "their ranges are free");
    assert_eq!(world.count("SELECT count(*) FROM task_history WHERE state = 'Canceled'").await, 5);
}

#[sqlx::test]
async fn an_edited_job_gives_its_failed_tasks_another_round_in_its_new_pool(db: PgPool) {
    let world = World::new(db).await;
    world.add_pool(id(2), "other").await;
    world.plan(world.job_id).await;
    let failed = world.claim_one().await;
    fire(&world, failed.fence.task_id, Event::Fail { retryable: false }).await;
    let mut conn = world.db.acquire().await.expect("connect");
    let redrive = async |conn: &mut sqlx::PgConnection| {
        finish::redrive_edited(conn, world.job_id, &mut full).await.expect("redrive")
    };
    assert_eq!(redrive(&mut conn).await, 0, "nothing was edited");
    sqlx::query("UPDATE jobs SET generation = 2, max_attempts = 7, pool_id = $1")
        .bind(uuid::Uuid::from_u128(2))
        .execute(&world.db)
        .await
        .expect("edit");
    assert_eq!(redrive(&mut conn).await, 1);
    assert_eq!(redrive(&mut conn).await, 0, "once per edit");
    let row = world.task(failed.fence.task_id).await.expect("queued");
    assert_eq!((row.state.as_str(), row.attempt, row.spent), ("Queued", 2, 0));
    let sql = "SELECT count(*) FROM tasks t JOIN outbox o USING (task_id, attempt) WHERE t.max_attempts = 7 AND o.pool_id = t.pool_id
               AND t.pool_id = '00000000-0000-0000-0000-000000000002'";
    assert_eq!(world.count(sql).await, 1);
}
