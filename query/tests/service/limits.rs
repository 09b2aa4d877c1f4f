use std::time::{Duration, Instant};

use dagwright_query::api::Limits;
use serde_json::{Value, json};

use crate::support::{LIMITS, Service};

#[tokio::test]
async fn rows_and_bytes_are_capped_and_the_answer_says_so() {
    let service = Service::start().await;
    for (rows, truncated) in [(1, true), (1_999, true), (2_000, false), (5_000, false)] {
        let body = json!({"sql": "select block_number from demo.local_blocks", "maxRows": rows});
        let answer: Value = service.query(body.clone()).await.json().await.unwrap();
        assert_eq!(answer["rowCount"], 2_000.min(rows), "{body}");
        assert_eq!(answer["rows"].as_array().unwrap().len() as u64, 2_000.min(rows));
        assert_eq!(answer["truncated"], truncated, "{body}");
    }
    let service = Service::with_limits(Limits { max_bytes: 100_000, ..LIMITS }).await;
    let response = service.query(json!({"sql": "select i from range(1000000) r(i)", "format": "csv"})).await;
    assert_eq!(response.headers()["dagwright-truncated"], "true");
    assert!(response.bytes().await.unwrap().len() < 200_000);
}

#[tokio::test]
async fn a_long_answer_is_streamed_whole() {
    let service = Service::with_limits(Limits { max_rows: 2_000_000, ..LIMITS }).await;
    let response = service.query(json!({"sql": "select i, 'some text' t from range(1000000) r(i)"})).await;
    assert!(response.headers().contains_key("trailer"));
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["rowCount"], 1_000_000);
    assert_eq!(answer["truncated"], false);
}

#[tokio::test]
async fn a_query_ends_at_its_deadline() {
    let service = Service::start().await;
    for sql in [
        // Stops when interrupted.
        "select count(*) from range(10000000) a(i), range(10000000) b(j) where hash(i, j) = 0",
        // Does not look at interrupts: only SIGKILL ends it.
        "select levenshtein(repeat('a', 100000) || i, repeat('b', 100000)) from range(1) r(i)",
    ] {
        let started = Instant::now();
        let (code, detail) = service.problem(json!({"sql": sql, "timeoutSeconds": 1})).await;
        assert_eq!(code, "QueryTimeout", "{sql}: {detail}");
        assert!(started.elapsed() < Duration::from_secs(6), "{sql}: {:?}", started.elapsed());
    }
    assert_eq!(service.rows("select 1").await, json!([[1]]), "the service goes on");
}

#[tokio::test]
async fn memory_is_bounded_by_the_process() {
    let service = Service::start().await;
    for sql in [
        "select len(repeat('x', 1000000)), length(string_agg(repeat(i::varchar, 100000), '')) from range(100000) r(i)",
        "select list_sort(list_transform(range(9999999), lambda x: repeat('abcdefgh', 100) || x))[1]",
        "select length(md5(string_agg(repeat('y', 1000000), ''))) from range(10000)",
    ] {
        let (code, detail) = service.problem(json!({"sql": sql, "timeoutSeconds": 15})).await;
        assert!(
            matches!(code.as_str(), "MemoryLimit" | "QueryTimeout" | "QueryFailed" | "ValueOutOfRange"),
            "{sql}: {code} {detail}"
        );
    }
    assert_eq!(service.rows("select 1").await, json!([[1]]));
}

#[tokio::test]
async fn a_failure_half_way_through_a_long_answer_breaks_it_off() {
    let service = Service::with_limits(Limits { max_rows: 10_000_000, ..LIMITS }).await;
    let sql = "select case when i > 1500000 then cast('x' || i as int) else i end, 'some text' from range(2000000) r(i)";
    for format in ["json", "csv", "arrow"] {
        let response = service.query(json!({"sql": sql, "format": format})).await;
        assert_eq!(response.status(), 200, "{format}: it began well");
        assert!(response.bytes().await.is_err(), "{format}: a broken answer must not look whole");
    }
}
