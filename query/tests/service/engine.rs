//! The engine process itself.

use std::{collections::BTreeSet, fs};

use dagwright_contracts::query::Format;
use dagwright_query::{
    engine::protocol::{Frame, Job, Run},
    pool::{Engine, EngineError},
};

use crate::support::spec;

fn job(sql: &str) -> Job {
    Job { sql: sql.into(), visible: vec![] }
}

fn run() -> Run {
    Run {
        datasets: vec![],
        params: vec![],
        format: Format::Json,
        max_rows: 10,
        max_bytes: 1 << 20,
        deadline_ms: 10_000,
    }
}

#[tokio::test]
async fn it_has_an_empty_environment_and_a_group_of_its_own() {
    let engine = Engine::start(&spec()).await.unwrap();
    let pid = engine.pid().unwrap();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let group: u32 = stat.rsplit(')').next().unwrap().split_whitespace().nth(2).unwrap().parse().unwrap();
    assert_eq!(group, pid);
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let limit = |name: &str| limits.lines().find(|l| l.starts_with(name)).unwrap().to_owned();
    assert!(!limit("Max address space").contains("unlimited"));
    assert!(limit("Max file size").split_whitespace().nth(3).unwrap() == "0");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("NoNewPrivs:\t1"));
    if let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) {
        assert!(environment.is_empty(), "{}", String::from_utf8_lossy(&environment));
    }
}

#[tokio::test]
async fn it_ends_when_the_service_lets_go_of_it() {
    let engine = Engine::start(&spec()).await.unwrap();
    let pid = engine.pid().unwrap();
    drop(engine);
    let gone = async {
        while fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), gone).await.unwrap();
}

#[tokio::test]
async fn it_answers_once_and_exits() {
    let mut engine = Engine::start(&spec()).await.unwrap();
    engine.send(&job("select 40 + 2 as x")).await.unwrap();
    let Frame::Gated(gated) = engine.next().await.unwrap() else { panic!("not gated") };
    assert_eq!((gated.canonical.as_str(), gated.datasets), ("SELECT (40 + 2) AS x", BTreeSet::new()));
    engine.send(&run()).await.unwrap();
    let Frame::Data(data) = engine.next().await.unwrap() else { panic!("no data") };
    assert!(String::from_utf8(data).unwrap().contains("[42]"));
    assert!(matches!(engine.next().await.unwrap(), Frame::Done(_)));
    assert!(matches!(engine.next().await, Err(EngineError::Ended(how)) if how == "exit code 0"));
}

#[tokio::test]
async fn a_tampered_extension_does_not_start() {
    let folder = crate::support::Folder::new();
    let mut bytes = fs::read(spec().extension_dir.join("httpfs.duckdb_extension")).unwrap();
    bytes[100_000] ^= 1;
    fs::write(folder.0.join("httpfs.duckdb_extension"), bytes).unwrap();
    let spec = dagwright_query::pool::EngineSpec { extension_dir: folder.0.clone(), ..spec() };
    assert!(matches!(Engine::start(&spec).await, Err(EngineError::Ended(_))));
}
