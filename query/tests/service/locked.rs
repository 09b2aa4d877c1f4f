//! The engine with the gate off: what its settings alone must hold.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use dagwright_query::{
    engine::{
        instance::{Resources, bind_and_lock, open_blank},
        protocol::Relation,
    },
    gate::DatasetName,
};
use duckdb::Connection;
use serde_json::Value;

use crate::support::{Folder, extension_dir, write_object};

/// An HTTP server over one file that counts requests for anything else.
struct Objects {
    url: String,
    other: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<String>>>,
}

fn serve(file: Vec<u8>) -> Objects {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (other, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let (count, log) = (other.clone(), seen.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut head) = (stream.unwrap(), Vec::new());
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let line = head.lines().next().unwrap_or_default().to_owned();
            if !line.contains(" /t/0.parquet ") {
                count.fetch_add(1, Ordering::SeqCst);
                log.lock().unwrap().push(line);
                let _ = stream
                    .write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                continue;
            }
            let range =
                head.lines().find_map(|l| l.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
            let (from, to) = match range.as_deref().and_then(|r| r.split_once('-')) {
                Some((from, to)) => {
                    (from.parse().unwrap_or(0), to.parse().unwrap_or(file.len() - 1).min(file.len() - 1))
                }
                None => (0, file.len() - 1),
            };
            let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\ncontent-range: bytes {from}-{to}/{}\r\naccept-ranges: bytes\r\nconnection: close\r\n\r\n",
                to + 1 - from,
                file.len()
            );
            let _ = stream.write_all(answer.as_bytes());
            if !line.starts_with("HEAD") {
                let _ = stream.write_all(&file[from..=to]);
            }
        }
    });
    Objects { url, other, seen }
}

fn locked(objects: &Objects) -> Connection {
    let connection = open_blank(&extension_dir(), Resources { memory_mib: 256, threads: 1 }).unwrap();
    let relation = Relation {
        name: DatasetName { schema: "d".into(), table: "x".into() },
        urls: vec![format!("{}/t/0.parquet", objects.url)],
        columns: vec![],
    };
    bind_and_lock(&connection, &[relation]).unwrap();
    connection
}

fn entries(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Categories of the attack list that settings hold; the others are for the gate, the process and the network.
const HELD: &[&str] = &["local-file", "attach", "write", "network", "ext", "config"];

#[test]
fn the_lock_holds_without_the_gate() {
    let folder = Folder::new();
    write_object(&folder.0, "0.parquet", 0);
    fs::write(folder.0.join("secret.csv"), "a,b\n1,2\n").unwrap();
    let objects = serve(fs::read(folder.0.join("0.parquet")).unwrap());
    let before = entries(&folder.0);
    let (dir, url) = (folder.0.display().to_string(), &objects.url);
    let own = [
        format!("select * from read_csv('{dir}/secret.csv')"),
        format!("select * from read_text('{dir}/secret.csv')"),
        format!("select * from read_parquet('{dir}/0.parquet')"),
        format!("from '{dir}/0.parquet'"),
        format!("select * from glob('{dir}/*')"),
        format!("copy (select 1) to '{dir}/out.csv'"),
        format!("copy (select 1) to '{dir}/out.parquet' (format parquet)"),
        format!("export database '{dir}/export'"),
        format!("attach '{dir}/new.duckdb' as n"),
        format!("select * from read_parquet('{url}/t/1.parquet')"),
        format!("select * from read_parquet('{url}/other/0.parquet')"),
        format!("select * from read_text('{url}/x')"),
        format!("select * from read_parquet('{url}/t/0.parquet?x=1')"),
        format!("select * from read_parquet('{url}/t/../u/0.parquet')"),
        format!("copy (select 1) to '{url}/t/2.parquet'"),
        format!("attach '{url}/x.duckdb' as h"),
        format!("install spatial from '{url}'"),
        format!("load '{dir}/x.duckdb_extension'"),
        "set enable_external_access=true".into(),
        "set lock_configuration=false".into(),
        "set allowed_paths=[]".into(),
        format!("set allowed_directories=['{dir}']"),
        "set disabled_filesystems=''".into(),
        format!("set temp_directory='{dir}/tmp'"),
        format!("set home_directory='{dir}'"),
        "reset lock_configuration".into(),
        format!("pragma temp_directory='{dir}/tmp'"),
    ];
    for sql in &own {
        let connection = locked(&objects);
        assert!(run(&connection, sql).is_err(), "{sql} was not refused");
    }
    let rows: i64 = locked(&objects).query_row("select count(*) from d.x", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 1000, "the allowed object still reads");
    assert_eq!(entries(&folder.0), before, "something was written");
    assert_eq!(objects.other.load(Ordering::SeqCst), 0, "asked for {:?}", objects.seen.lock().unwrap());
}

#[test]
fn listed_attacks_that_settings_hold_fail() {
    let folder = Folder::new();
    write_object(&folder.0, "0.parquet", 0);
    let objects = serve(fs::read(folder.0.join("0.parquet")).unwrap());
    let attacks: Vec<Value> =
        serde_json::from_str(include_str!("../../../tests/fixtures/sql/attacks.json")).unwrap();
    let connection = locked(&objects);
    let mut passed = Vec::new();
    for attack in &attacks {
        let (category, sql) = (attack["category"].as_str().unwrap(), attack["sql"].as_str().unwrap());
        if HELD.contains(&category) && run(&connection, sql).is_ok() {
            passed.push(sql);
        }
    }
    // In-memory state of an engine that is thrown away after one query.
    passed.retain(|sql| {
        !matches!(*sql, "drop view d.x" | "create table zz as select 1" | "attach ':memory:' as v")
    });
    assert!(passed.is_empty(), "{passed:#?}");
    assert_eq!(objects.other.load(Ordering::SeqCst), 0, "asked for {:?}", objects.seen.lock().unwrap());
}

fn run(connection: &Connection, sql: &str) -> duckdb::Result<()> {
    let mut statement = connection.prepare(sql)?;
    let _ = statement.stream_arrow([])?;
    while statement.step()?.is_some() {}
    Ok(())
}
