use std::io::Cursor;

use arrow::ipc::reader::StreamReader;
use serde_json::{Value, json};

use crate::support::{ROWS, Service};

#[tokio::test]
async fn datasets_answer_in_every_format() {
    let service = Service::start().await;
    assert_eq!(
        service.rows("select count(*), max(block_number) from demo.local_blocks").await,
        json!([[2 * ROWS, 2 * ROWS - 1]])
    );
    assert_eq!(
        service.rows("select min(block_number) from ns_default.local_blocks").await,
        json!([[7 * ROWS]])
    );
    let sql = "select block_number, block_hash, value, miner, mined_at, [1, null] l, {'a': 1} s
        from demo.local_blocks where block_number < 2 order by 1";
    let body: Value = service.query(json!({ "sql": sql })).await.json().await.unwrap();
    assert_eq!(body["columns"][0], json!({"name": "block_number", "type": "UInt64"}), "{body}");
    assert_eq!(
        body["rows"],
        json!([
            [0, "0x0000000000000000", "0", "miner 0", "1970-01-01T00:00:00Z", [1, null], {"a": 1}],
            [1, "0x0000000000000001", "1000000000000000000", null, "1970-01-01T00:00:12Z", [1, null], {"a": 1}],
        ])
    );
    assert_eq!((&body["rowCount"], &body["truncated"]), (&json!(2), &json!(false)));

    let response = service.query(json!({ "sql": sql, "format": "csv" })).await;
    assert_eq!(response.headers()["dagwright-row-count"], "2");
    let text = response.text().await.unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "block_number,block_hash,value,miner,mined_at,l,s");
    assert_eq!(
        lines[2],
        "1,0x0000000000000001,1000000000000000000,,1970-01-01T00:00:12Z,\"[1,null]\",\"{\"\"a\"\":1}\""
    );

    let response = service.query(json!({ "sql": "from demo.local_blocks", "format": "arrow" })).await;
    assert_eq!(response.headers()["content-type"], "application/vnd.apache.arrow.stream");
    let bytes = response.bytes().await.unwrap();
    let batches: Vec<_> =
        StreamReader::try_new(Cursor::new(bytes), None).unwrap().map(Result::unwrap).collect();
    assert_eq!(batches.iter().map(|b| b.num_rows() as u64).sum::<u64>(), 2 * ROWS);
    assert_eq!(batches.len(), 1, "batches are joined");
}

#[tokio::test]
async fn parameters_bind_as_values() {
    let service = Service::start().await;
    let body = json!({
        "sql": "select count(*), $2, $3, $4::double from demo.local_blocks where block_number < $1",
        "params": [10, "'; drop", null, 0.5],
    });
    let answer: Value = service.query(body).await.json().await.unwrap();
    assert_eq!(answer["rows"], json!([[10, "'; drop", null, 0.5]]));
    let (code, _) = service.problem(json!({"sql": "select $1", "params": [[1]]})).await;
    assert_eq!(code, "InvalidParameter");
    let (code, detail) = service.problem(json!({"sql": "select $1, $2", "params": [1]})).await;
    assert_eq!(code, "InvalidParameter", "{detail}");
}

#[tokio::test]
async fn a_dataset_without_objects_is_empty_with_its_columns() {
    let service = Service::start().await;
    assert_eq!(service.rows("select count(*) from demo.empty").await, json!([[0]]));
    let columns = service.get("/v1/datasets/demo.empty/schema").await;
    let names: Vec<&str> =
        columns["columns"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"block_number"), "{names:?}");
    let answer: Value = service.query(json!({"sql": "from demo.empty"})).await.json().await.unwrap();
    let found: Vec<&str> =
        answer["columns"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(found, names);
}

#[tokio::test]
async fn the_list_shows_what_can_be_read() {
    let service = Service::start().await;
    let list = service.get("/v1/datasets").await;
    let names: Vec<&str> =
        list["datasets"].as_array().unwrap().iter().map(|d| d["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["demo.empty", "demo.local_blocks", "ns_default.local_blocks"]);
    assert_eq!(list["datasets"][1]["rows"], 2 * ROWS);
}

#[tokio::test]
async fn errors_speak_of_the_callers_sql_only() {
    let service = Service::start().await;
    for (sql, code, says) in [
        ("select nope from demo.local_blocks", "InvalidQuery", "column \"nope\" does not exist"),
        ("selec 1", "SyntaxError", "at character 1"),
        ("select 1 from demo.salaries", "UnknownDataset", "demo.salaries"),
        ("select 1 from other.blocks", "UnknownDataset", "other.blocks"),
        ("select 1 from demo.nothing", "UnknownDataset", "demo.nothing"),
        ("select cast(miner as int) from demo.local_blocks", "ConversionFailed", "try_cast"),
        ("select abs('x', 1)", "InvalidQuery", "abs"),
        ("select 1; select 2", "NotOneSelect", "one SELECT"),
        ("select read_text('/etc/passwd')", "FunctionNotAllowed", "read_text"),
    ] {
        let (found, detail) = service.problem(json!({ "sql": sql })).await;
        assert_eq!(found, code, "{sql}: {detail}");
        assert!(detail.contains(says), "{sql}: {detail}");
        assert!(!detail.contains("127.0.0.1") && !detail.contains("Error"), "{sql}: {detail}");
    }
    let (code, _) = service.problem(json!({"query": "select 1"})).await;
    assert_eq!(code, "InvalidRequest");
}
