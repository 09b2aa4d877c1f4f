use std::fs;

use serde_json::json;

use crate::support::Service;

#[tokio::test]
async fn a_missing_object_is_named_by_its_dataset() {
    let service = Service::start().await;
    fs::remove_file(service.folder.0.join("b.parquet")).unwrap();
    for sql in ["select count(*) from demo.local_blocks", "select max(value) from demo.local_blocks"] {
        let (code, detail) = service.problem(json!({ "sql": sql })).await;
        assert_eq!(code, "ObjectMissing", "{detail}");
        assert!(detail.contains("demo.local_blocks"), "{detail}");
    }
    assert_eq!(service.rows("select count(*) from ns_default.local_blocks").await, json!([[1000]]));
}

#[tokio::test]
async fn an_object_that_is_not_what_was_committed_is_refused() {
    let service = Service::start().await;
    let path = service.folder.0.join("a.parquet");
    let mut bytes = fs::read(&path).unwrap();
    bytes.push(0);
    fs::write(&path, bytes).unwrap();
    let (code, detail) = service.problem(json!({"sql": "select count(*) from demo.local_blocks"})).await;
    assert_eq!(code, "ObjectChanged", "{detail}");
}
