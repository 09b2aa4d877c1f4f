//! What of the catalog a query reads.

use std::sync::atomic::Ordering;

use serde_json::json;

use crate::support::Service;

#[tokio::test]
async fn a_query_reads_the_objects_of_the_datasets_that_it_names() {
    let service = Service::start().await;
    let handed_out = || service.catalog.handed_out.swap(0, Ordering::Relaxed);
    service.rows("select 1").await;
    assert_eq!(handed_out(), 0, "it names none");
    service.rows("select count(*) from ns_default.local_blocks").await;
    assert_eq!(handed_out(), 1);
    service
        .rows("select count(*) from demo.local_blocks a join demo.local_blocks b using (block_number)")
        .await;
    assert_eq!(handed_out(), 2, "each object once");
    service.get("/v1/datasets").await;
    assert_eq!(handed_out(), 0, "a listing takes sums");
}

#[tokio::test]
async fn a_dataset_that_goes_while_the_sql_is_parsed_is_unknown() {
    let service = Service::start().await;
    service.catalog.deleted.store(true, Ordering::Relaxed);
    let (code, detail) = service.problem(json!({"sql": "select 1 from demo.local_blocks"})).await;
    assert_eq!(code, "UnknownDataset");
    assert!(detail.contains("demo.local_blocks"), "{detail}");
    assert_eq!(service.query(json!({"sql": "select 1"})).await.status(), 200);
}
