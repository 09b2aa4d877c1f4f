//! `dagwright evm` as a user runs it: the real binary, real blocks, a provider made of recorded answers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails by panicking")]

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

fn fixtures(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/evm").join(relative)
}

/// An empty directory of this test's own.
fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("evm-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn dagwright() -> Command {
    Command::new(env!("CARGO_BIN_EXE_dagwright"))
}

fn verify(chain: &str, block: &Path, receipts: &Path, more: &[&str]) -> Output {
    let mut command = dagwright();
    command
        .args(["evm", "verify", "--chain", chain])
        .arg("--block")
        .arg(block)
        .arg("--receipts")
        .arg(receipts);
    command.args(more).output().unwrap()
}

fn verify_fixture(chain: &str, directory: &str, more: &[&str]) -> Output {
    let directory = fixtures(directory);
    verify(chain, &directory.join("block.json"), &directory.join("receipts.json"), more)
}

fn lines(output: &Output) -> Vec<String> {
    String::from_utf8(output.stdout.clone()).unwrap().lines().map(str::to_owned).collect()
}

fn errors(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn http() -> reqwest::Client {
    reqwest::Client::builder().timeout(Duration::from_secs(30)).build().unwrap()
}

/// A replaying provider, stopped with its test.
struct Provider {
    child: Child,
    url: String,
}

impl Provider {
    fn start(directory: &Path) -> Self {
        let mut child =
            dagwright().args(["evm", "serve"]).arg(directory).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (_, url) = line.trim().rsplit_once(' ').unwrap_or_else(|| panic!("no address in {line:?}"));
        Self { url: url.to_owned(), child }
    }

    async fn post(&self, question: &Value) -> Value {
        let response = http().post(&self.url).json(question).send().await.unwrap();
        response.json().await.unwrap()
    }

    async fn call(&self, method: &str, params: Value) -> Value {
        self.post(&json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})).await
    }

    async fn result(&self, method: &str, params: Value) -> Value {
        let mut answer = self.call(method, params).await;
        assert_eq!(answer["id"], 7, "{answer}");
        answer["result"].take()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_real_block_verifies_line_by_line() {
    let output = verify_fixture("ethereum", "ethereum/18000000", &[]);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    let lines = lines(&output);
    assert!(lines.contains(&"block 18000000 receipts_root verified".to_owned()), "{lines:?}");
    assert!(lines.iter().all(|line| line.ends_with(" verified")), "{lines:?}");
    assert_eq!(lines.len(), 13);
}

#[test]
fn json_is_one_object_per_check() {
    let output = verify_fixture("cronos", "cronos/10000", &["--format", "json"]);
    assert_eq!(output.status.code(), Some(3));
    let lines: Vec<Value> = lines(&output).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let header = lines.iter().find(|line| line["check"] == "header_hash").unwrap();
    assert_eq!(header["outcome"], "unverifiable");
    assert_eq!(header["block"], 10_000);
    assert!(header["reason"].as_str().unwrap().contains("Tendermint"));
}

#[test]
fn a_lie_is_exit_status_one_and_named() {
    let directory = scratch("lie");
    let mut receipts: Value =
        serde_json::from_slice(&std::fs::read(fixtures("ethereum/4369999/receipts.json")).unwrap()).unwrap();
    receipts[0]["logs"][0]["data"] = json!("0x00");
    let path = directory.join("receipts.json");
    std::fs::write(&path, receipts.to_string()).unwrap();
    let output = verify("ethereum", &fixtures("ethereum/4369999/block.json"), &path, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        lines(&output)
            .iter()
            .any(|line| line.starts_with("block 4369999 receipts_root failed: receiptsRoot: expected "))
    );
}

#[test]
fn what_cannot_run_is_exit_status_two_and_says_why() {
    let output = verify_fixture("atlantis", "ethereum/4369999", &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).contains("unknown chain profile \"atlantis\": expected one of ethereum, anvil"));
    let output = verify("ethereum", Path::new("/nowhere.json"), Path::new("/nowhere.json"), &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).contains("read /nowhere.json"));
    let output = dagwright()
        .args(["evm", "verify", "--rpc-url", "http://127.0.0.1:1", "--range", "5:5"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).contains("range [5, 5) is empty"), "{}", errors(&output));
    let output = dagwright()
        .args(["evm", "verify", "--rpc-url", "http://127.0.0.1:1", "--range", "5:6"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).contains("ask eth_chainId"), "{}", errors(&output));
    let output = dagwright().args(["evm", "serve"]).arg(scratch("empty")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).contains("pass --chain-id"), "{}", errors(&output));
}

#[tokio::test]
async fn the_replay_answers_like_a_node() {
    let provider = Provider::start(&fixtures("ethereum"));
    assert_eq!(provider.result("eth_chainId", json!([])).await, "0x1");
    assert_eq!(provider.result("net_version", json!([])).await, "1");
    assert_eq!(provider.result("eth_blockNumber", json!([])).await, "0x112a880");
    assert!(
        provider
            .result("web3_clientVersion", json!([]))
            .await
            .as_str()
            .unwrap()
            .starts_with("dagwright-replay/")
    );
    let recorded: Value =
        serde_json::from_slice(&std::fs::read(fixtures("ethereum/18000000/block.json")).unwrap()).unwrap();
    let hash = recorded["hash"].clone();
    for tag in ["0x112a880", "latest", "safe", "finalized"] {
        assert_eq!(provider.result("eth_getBlockByNumber", json!([tag, true])).await, recorded, "{tag}");
    }
    assert_eq!(provider.result("eth_getBlockByHash", json!([hash, true])).await, recorded);
    let slim = provider.result("eth_getBlockByHash", json!([hash, false])).await;
    assert_eq!(slim["transactions"][3], recorded["transactions"][3]["hash"]);
    for at in [json!("0x112a880"), json!("latest"), hash.clone(), json!({"blockHash": hash})] {
        assert_eq!(provider.result("eth_getBlockReceipts", json!([at])).await.as_array().unwrap().len(), 94);
    }
    for absent in ["0x112a881", "earliest", "0x0"] {
        assert_eq!(provider.result("eth_getBlockByNumber", json!([absent, true])).await, Value::Null);
        assert_eq!(provider.result("eth_getBlockReceipts", json!([absent])).await, Value::Null);
    }
}

#[tokio::test]
async fn the_replay_refuses_as_the_specification_says() {
    let provider = Provider::start(&fixtures("ethereum"));
    let code =
        async |method: &str, params: Value| provider.call(method, params).await["error"]["code"].clone();
    assert_eq!(code("eth_getLogs", json!([{}])).await, -32601);
    assert_eq!(code("eth_getBlockByNumber", json!(["tomorrow", true])).await, -32602);
    assert_eq!(code("eth_getBlockByNumber", json!([5, true])).await, -32602);
    assert_eq!(code("eth_getBlockByNumber", json!([])).await, -32602);
    assert_eq!(code("eth_getBlockByNumber", json!(["latest", "yes"])).await, -32602);
    let batch = json!([
        {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId"},
        {"jsonrpc": "2.0", "id": "b", "method": "eth_nonsense", "params": []},
        5,
    ]);
    let answers = provider.post(&batch).await;
    assert_eq!(answers[0], json!({"jsonrpc": "2.0", "id": 1, "result": "0x1"}));
    assert_eq!((&answers[1]["id"], &answers[1]["error"]["code"]), (&json!("b"), &json!(-32601)));
    assert_eq!((&answers[2]["id"], &answers[2]["error"]["code"]), (&Value::Null, &json!(-32600)));
    assert_eq!(provider.post(&json!([])).await["error"]["code"], -32600);
    let garbage = http().post(&provider.url).body("{").send().await.unwrap();
    assert_eq!(garbage.json::<Value>().await.unwrap()["error"]["code"], -32700);
}

#[test]
fn the_replay_ends_with_status_zero_on_sigterm() {
    let mut provider = Provider::start(&fixtures("ethereum"));
    let pid = Pid::from_raw(i32::try_from(provider.child.id()).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(provider.child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_was_recorded_replays_and_verifies_the_same() {
    let original = Provider::start(&fixtures("ethereum"));
    let directory = scratch("record");
    let record = |url: &str, range: &str| {
        let mut command = dagwright();
        command.args(["evm", "record", "--rpc-url", url, "--range", range]).arg(&directory).output().unwrap()
    };
    let output = record(&original.url, "18000000:18000001");
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    let read = |path: PathBuf| serde_json::from_slice::<Value>(&std::fs::read(path).unwrap()).unwrap();
    for file in ["18000000/block.json", "18000000/receipts.json"] {
        assert_eq!(read(directory.join(file)), read(fixtures("ethereum").join(file)));
    }
    assert_eq!(read(directory.join("chain.json")), json!({"chainId": 1, "range": [18_000_000, 18_000_001]}));

    let replay = Provider::start(&directory);
    let range = |range: &str| {
        dagwright().args(["evm", "verify", "--rpc-url", &replay.url, "--range", range]).output().unwrap()
    };
    let output = range("18000000:18000001");
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    assert_eq!(lines(&output).len(), 13);
    let beyond = range("18000000:18000002");
    assert_eq!(beyond.status.code(), Some(2));
    assert!(errors(&beyond).contains("answered null"), "{}", errors(&beyond));
}
