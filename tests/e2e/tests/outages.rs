//! What is away holds up only what needs it; what always fails, nobody beside it (I9).

use dagwright_e2e::{
    World,
    checker::assert_covered_once,
    manifests::{LocalSync, dataset, worker_pool},
    processes::{pid_of, send, workers_of},
    wait_for,
};
use dagwright_testkit::fault_proxy::{Fault, Lie, RpcFaultProxy, Rule};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection, PgPool};

/// End of what is committed from block 0 on without a gap, of the output that is furthest behind.
async fn cursor(world: &World, namespace: &str) -> i64 {
    sqlx::query_scalar(
        "SELECT COALESCE(min(upper(c.r)), 0)::bigint FROM datasets d
         LEFT JOIN LATERAL (SELECT r FROM (SELECT unnest(range_agg(p.range)) AS r FROM partition_versions p
             WHERE p.namespace = d.namespace AND p.version = d.served_version AND p.current) u WHERE u.r @> 0::bigint) c ON true
         WHERE d.namespace = $1",
    )
    .bind(namespace)
    .fetch_one(&world.state)
    .await
    .expect("read coverage")
}

async fn wait_for_cursor(world: &World, namespace: &str, at: i64) {
    wait_for(&format!("{namespace} to be committed up to block {at}"), || async {
        match cursor(world, namespace).await {
            found if found >= at => Ok(()),
            found => Err(format!("it is at {found}")),
        }
    })
    .await;
}

/// With the API server frozen the head is followed, tasks are planned and committed; status catches up when it is back.
#[tokio::test]
async fn without_the_api_server_running_pipelines_go_on_and_status_catches_up() {
    let world = World::enter().await;
    let (node, namespace) = (world.url("EVM_RPC_URL").to_owned(), "e2e-no-apiserver");
    let sync = LocalSync { chunk_size: 100, ..LocalSync::new(namespace, &node) };
    let mut objects = sync.objects();
    objects.pop();
    objects.push(
        sync.chain_sync_with(json!({ "mode": { "followHead": { "from": 0, "behind": { "blocks": 10 } } } })),
    );
    world.apply(namespace, &objects).await;
    world.wait_condition("ChainSync", namespace, "chain", "Synced", "True").await;
    let before = cursor(&world, namespace).await;

    let apiserver = pid_of("kube-apiserver").expect("an API server runs");
    send(apiserver, Signal::SIGSTOP);
    let mine = json!({ "jsonrpc": "2.0", "id": 1, "method": "anvil_mine", "params": ["0x1e"] });
    world.http.post(&node).json(&mine).send().await.expect("the node mines");
    wait_for_cursor(&world, namespace, before + 30).await;
    send(apiserver, Signal::SIGCONT);

    wait_for("the status to catch up", || async {
        let object = world.get("ChainSync", namespace, "chain").await?;
        match object["status"]["streams"][0]["cursor"].as_i64() {
            Some(shown) if shown >= before + 30 => Ok(()),
            _ => Err(format!("status {}", object["status"])),
        }
    })
    .await;
    world.delete("ChainSync", namespace, "chain").await;
}

/// Nobody opens the database `data` yet: without it all of scheduling goes on. Hot storage, which will need it, is refused whether it
/// is there or not, with a condition that says so; that cold work beside such a Dataset goes on is shown here as well.
#[tokio::test]
async fn without_the_data_database_scheduling_goes_on_and_hot_storage_is_refused_in_words() {
    let world = World::enter().await;
    let (node, namespace) = (world.url("EVM_RPC_URL").to_owned(), "e2e-no-data");
    let closed = Closed::new(&world).await;
    let refused = PgPool::connect(world.url("DATA_DATABASE_URL")).await.expect_err("it is closed");
    assert!(refused.to_string().contains("not currently accepting connections"), "{refused}");

    let sync = LocalSync { to: 40, ..LocalSync::new(namespace, &node) };
    let mut hot = dataset(namespace, "logs");
    hot["metadata"]["name"] = json!("hot-logs");
    hot["spec"]["storage"] = json!({ "postgres": {} });
    world.apply(namespace, &sync.objects()).await;
    world.apply(namespace, &[hot]).await;
    world.wait_condition("ChainSync", namespace, "chain", "Synced", "True").await;
    assert_covered_once(&world, namespace, sync.outputs, sync.from, sync.to).await;
    let stalled = world.wait_condition("Dataset", namespace, "hot-logs", "Stalled", "True").await;
    assert_eq!(stalled["reason"], "StorageNotAvailable");

    drop(closed);
    PgPool::connect(world.url("DATA_DATABASE_URL")).await.expect("it is open again");
}

/// Keeps the database `data` closed; however the test ends, it is opened again for the others.
struct Closed {
    admin: String,
}

impl Closed {
    async fn new(world: &World) -> Self {
        let closed = Self { admin: world.url("POSTGRES_ADMIN_URL").to_owned() };
        let mut admin = PgConnection::connect(&closed.admin).await.expect("an administrator");
        for statement in [
            "ALTER DATABASE data WITH ALLOW_CONNECTIONS false",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'data'",
        ] {
            sqlx::query(statement).execute(&mut admin).await.expect("close the database");
        }
        closed
    }
}

impl Drop for Closed {
    /// On a thread of its own: the test's runtime cannot be waited for from within.
    fn drop(&mut self) {
        let admin = self.admin.clone();
        let opening = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut admin = PgConnection::connect(&admin).await.map_err(std::io::Error::other)?;
                let opened = sqlx::query("ALTER DATABASE data WITH ALLOW_CONNECTIONS true");
                opened.execute(&mut admin).await.map_err(std::io::Error::other)
            })
        });
        let opened = opening.join();
        if !std::thread::panicking() {
            opened.expect("the thread ends").expect("open the database again");
        }
    }
}

/// A provider that lies about one block: its range runs out of attempts and the status names it; all others are committed.
#[tokio::test]
async fn a_poisoned_task_never_blocks_its_neighbours() {
    let world = World::enter().await;
    let (node, namespace) = (world.url("EVM_RPC_URL").to_owned(), "e2e-poisoned-range");
    let liar = RpcFaultProxy::start(&node).await.expect("the fault proxy starts");
    let lie = Rule::always(Fault::Lie(Lie::AlterHeader)).on_method("eth_getBlockByNumber").on_block(55);
    liar.control().add(lie);
    let sync = LocalSync { chunk_size: 10, to: 120, max_attempts: 2, ..LocalSync::new(namespace, &node) };
    let mut objects = sync.objects();
    objects[0] = sync.rpc_pool(&[("liar", &liar.url())]);
    objects[0]["spec"]["failover"] = json!({ "onVerificationFailure": "Continue" });
    world.apply(namespace, &objects).await;
    let stalled = world.wait_condition("ChainSync", namespace, "chain", "Stalled", "True").await;
    assert_eq!(stalled["reason"], "TasksFailed");
    let message = stalled["message"].as_str().expect("a message");
    assert!(message.contains("blocks 50 to 60"), "the range is named: {message}");

    wait_for("both sides of the poisoned range", || async {
        let found: Vec<String> = sqlx::query_scalar(
            "SELECT range_agg(p.range)::text FROM datasets d JOIN partition_versions p USING (namespace)
             WHERE d.namespace = $1 AND d.name LIKE 'chain-%' AND p.version = d.served_version AND p.current GROUP BY d.name",
        )
        .bind(namespace)
        .fetch_all(&world.state)
        .await
        .map_err(|e| e.to_string())?;
        if found == ["{[0,50),[60,120)}"; 3] { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

async fn attempts(world: &World, namespace: &str, filter: &str) -> Vec<uuid::Uuid> {
    let sql = format!(
        "SELECT worker_id FROM attempts WHERE task_id IN (
             SELECT task_id FROM tasks JOIN jobs USING (job_id) WHERE namespace = $1
             UNION SELECT task_id FROM task_history h JOIN jobs j USING (job_id) WHERE j.namespace = $1) AND {filter}"
    );
    let query = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(namespace);
    query.fetch_all(&world.state).await.expect("read attempts")
}

/// A worker that is stopped past its leases and woken finds them gone: its attempts stay expired, each task has exactly one
/// commit, and the worker goes on with other work (I1, I3).
#[tokio::test]
async fn a_worker_that_wakes_after_its_leases_changes_nothing() {
    let world = World::enter().await;
    let (node, namespace) = (world.url("EVM_RPC_URL").to_owned(), "e2e-stuck-worker");
    let slow = RpcFaultProxy::start(&node).await.expect("the fault proxy starts");
    slow.control().add(Rule::always(Fault::Delay { milliseconds: 300 }));
    let sync = LocalSync { chunk_size: 5, to: 200, ..LocalSync::new(namespace, &node) };
    let mut objects = sync.objects();
    objects[0] = sync.rpc_pool(&[("slow", &slow.url())]);
    objects[1] = pool_of_two(namespace);
    world.apply(namespace, &objects).await;
    wait_for("commits by two workers", || async {
        let mut workers = attempts(&world, namespace, "state = 'Succeeded'").await;
        workers.sort_unstable();
        workers.dedup();
        if workers.len() == 2 { Ok(()) } else { Err(format!("{} workers", workers.len())) }
    })
    .await;
    let stuck = workers_of(&world, namespace)[0];
    send(stuck, Signal::SIGSTOP);
    world.wait_condition("ChainSync", namespace, "chain", "Synced", "True").await;
    let expired = attempts(&world, namespace, "state = 'Expired'").await;
    let worker = *expired.first().expect("the stuck worker held leases");

    send(stuck, Signal::SIGCONT);
    let longer = json!({ "mode": { "fixedTarget": { "from": 0, "to": 400 } } });
    world.apply(namespace, &[sync.chain_sync_with(longer)]).await;
    world.wait_condition("ChainSync", namespace, "chain", "Synced", "True").await;
    let since = "state = 'Succeeded' AND started_at > (SELECT max(finished_at) FROM attempts e WHERE e.state = 'Expired')";
    let working = attempts(&world, namespace, since).await;
    assert!(working.contains(&worker), "the woken worker works again");
    assert_eq!(
        attempts(&world, namespace, "state = 'Expired'").await.len(),
        expired.len(),
        "they stay expired"
    );
    assert_covered_once(&world, namespace, sync.outputs, 0, 400).await;
}

/// Two workers that stay, with short leases.
fn pool_of_two(namespace: &str) -> Value {
    let mut pool = worker_pool(namespace);
    pool["spec"]["run"]["service"] = json!({ "min": 2, "max": 2 });
    pool["spec"]["queue"]["lease"] = json!("15s");
    pool
}
