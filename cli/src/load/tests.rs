use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::rpc::{Rpc, quantity};
use super::script::{Action, Script, Transaction};
use super::{LoadConfig, LoadSummary, anvil_args, run};
use crate::awslocal::testing::wait_for;

/// Where the node's program is; `./dev test` sets it.
const PROGRAM: &str = "DAGWRIGHT_ANVIL";
const BLOCKS: u64 = 120;

struct Node {
    child: Child,
    port: u16,
    dir: PathBuf,
}

impl Node {
    async fn start() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = std::env::temp_dir().join(format!("dw-anvil-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&dir).unwrap();
        let node = Self { child: spawn(port, &dir.join("state.json")), port, dir };
        node.ready().await;
        node
    }

    fn rpc(&self) -> Rpc {
        Rpc::new(self.url()).unwrap()
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    async fn ready(&self) {
        let rpc = self.rpc();
        let check = async || rpc.height().await.map_err(|error| format!("{error:#}"));
        wait_for("the node", Duration::from_secs(20), check).await;
    }

    async fn load(&self, blocks: u64) -> LoadSummary {
        run(LoadConfig { rpc_url: self.url(), blocks }, |_| {}).await.unwrap()
    }

    async fn restart(&mut self) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGTERM).unwrap();
        self.child.wait().unwrap();
        self.child = spawn(self.port, &self.dir.join("state.json"));
        self.ready().await;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn spawn(port: u16, state: &Path) -> Child {
    let program = std::env::var(PROGRAM).unwrap_or_else(|_| {
        panic!("{PROGRAM} is not set: run the tests by `./dev test`, which installs the node")
    });
    Command::new(program)
        .args(anvil_args(port, Some(state)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap()
}

async fn receipts(rpc: &Rpc, number: u64) -> Vec<Value> {
    rpc.call("eth_getBlockReceipts", json!([quantity(number)])).await.unwrap()
}

#[tokio::test]
async fn two_nodes_get_the_same_chain_and_it_is_what_the_summary_says() {
    let (one, two) = tokio::join!(Node::start(), Node::start());
    let heights = Mutex::new(Vec::new());
    let progress = |height| heights.lock().unwrap().push(height);
    let config = LoadConfig { rpc_url: one.url(), blocks: BLOCKS };
    let first = run(config, progress).await.unwrap();
    assert_eq!(*heights.lock().unwrap(), (0..=BLOCKS).collect::<Vec<_>>());
    // Half a block in the pool and half of the chain, as a load leaves it that is killed.
    two.load(BLOCKS / 2).await;
    let accounts: Vec<String> = two.rpc().call("eth_accounts", json!([])).await.unwrap();
    let stray = json!([{ "from": accounts[4], "to": accounts[5], "value": "0x1", "gas": "0x5208" }]);
    two.rpc().call::<String>("eth_sendTransaction", stray).await.unwrap();
    assert_eq!(two.load(BLOCKS).await, first);
    assert_eq!(one.load(BLOCKS).await, first);

    let rpc = one.rpc();
    let mut script = Script::default();
    for number in 1..=BLOCKS {
        let planned = script.block(number);
        let mined = receipts(&rpc, number).await;
        assert_eq!(mined.len(), planned.len(), "block {number}");
        for (transaction, receipt) in planned.iter().zip(&mined) {
            check(transaction, receipt, &format!("{transaction:?} in block {number}: {receipt}"));
        }
    }
    assert_eq!(LoadSummary { head_hash: first.head_hash.clone(), ..script.summary() }, first);
    let safe: Value = rpc.call("eth_getBlockByNumber", json!(["safe", false])).await.unwrap();
    assert_eq!(safe["number"], quantity(BLOCKS - super::SLOTS_IN_AN_EPOCH));
}

fn check(transaction: &Transaction, receipt: &Value, context: &str) {
    let reverts = matches!(transaction.action, Action::Overdraw { .. } | Action::Overreach { .. });
    assert_eq!(receipt["status"], if reverts { "0x0" } else { "0x1" }, "{context}");
    let topics: Vec<_> =
        receipt["logs"].as_array().unwrap().iter().map(|log| log["topics"].clone()).collect();
    match transaction.action {
        Action::Transfer { .. } => assert_eq!(topics[0][0], TRANSFER, "{context}"),
        Action::EmitLogs { .. } => assert_eq!(topics.len(), 5, "{context}"),
        Action::DeployToken | Action::DeployLogShapes => {
            assert!(receipt["contractAddress"].is_string(), "{context}");
        }
        Action::Pay { .. } | Action::Overdraw { .. } | Action::Overreach { .. } => {
            assert!(topics.is_empty(), "{context}");
        }
        Action::Approve { .. } => assert_eq!(topics.len(), 1, "{context}"),
    }
}

const TRANSFER: &str = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef";

#[tokio::test]
async fn the_chain_outlives_its_node() {
    let mut node = Node::start().await;
    let before = node.load(BLOCKS).await;
    let mut blocks = Vec::new();
    for number in 0..=BLOCKS {
        let block: Value =
            node.rpc().call("eth_getBlockByNumber", json!([quantity(number), true])).await.unwrap();
        blocks.push((block, receipts(&node.rpc(), number).await));
    }
    node.restart().await;
    for (number, (block, logs)) in (0..).zip(blocks) {
        let again: Value =
            node.rpc().call("eth_getBlockByNumber", json!([quantity(number), true])).await.unwrap();
        assert_eq!(again, block, "block {number}");
        assert_eq!(receipts(&node.rpc(), number).await, logs, "receipts of block {number}");
    }
    assert_eq!(node.load(BLOCKS).await, before);
    let higher = node.load(BLOCKS + 5).await;
    assert_eq!(higher.blocks, BLOCKS + 5);
}

#[tokio::test]
async fn another_chain_is_refused() {
    let node = Node::start().await;
    let rpc = node.rpc();
    let accounts: Vec<String> = rpc.call("eth_accounts", json!([])).await.unwrap();
    let stray = json!([{ "from": accounts[4], "to": accounts[5], "value": "0x1", "gas": "0x5208" }]);
    rpc.call::<String>("eth_sendTransaction", stray).await.unwrap();
    rpc.call::<Value>("evm_mine", json!([])).await.unwrap();
    let error = run(LoadConfig { rpc_url: node.url(), blocks: 20 }, |_| {}).await.unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("loaded by something else"), "{error}");
}
