use std::time::Duration;

use axum::{Json, Router, routing::any};
use serde_json::{Value, json};

use super::*;

/// A node that answers every call from a table, and repeats the Host that it was asked under.
async fn upstream() -> String {
    let answer = |call: &Value| {
        let log = |n: u64| json!({"logIndex": n, "topics": ["0xaa"], "data": "0x00"});
        let result = match call["method"].as_str() {
            Some("eth_chainId") => json!("0x1"),
            Some("eth_getBlockReceipts") => {
                json!([{"of": call["params"][0], "logs": []}, {"logs": [log(0), log(1)]}])
            }
            Some("eth_getBlockByNumber") => json!({"number": call["params"][0], "stateRoot": "0x01"}),
            _ => Value::Null,
        };
        json!({"jsonrpc": "2.0", "id": call["id"], "result": result})
    };
    let app = Router::new()
        .route(
            "/",
            any(async move |Json(body): Json<Value>| {
                Json(match body {
                    Value::Array(calls) => calls.iter().map(answer).collect(),
                    call => answer(&call),
                })
            }),
        )
        .route(
            "/host",
            any(async |headers: axum::http::HeaderMap| headers["host"].to_str().unwrap_or("").to_owned()),
        )
        .route("/full", any(async || Json(json!({ "Messages": [{ "MessageId": "1" }] }))))
        .route("/empty", any(async || Json(json!({}))));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().timeout(Duration::from_secs(5)).build().unwrap()
}

fn call(method: &str, block: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": [block]})
}

async fn ask(proxy: &FaultProxy, body: &Value) -> Value {
    client().post(proxy.url()).json(body).send().await.unwrap().json().await.unwrap()
}

#[tokio::test]
async fn without_rules_bytes_and_host_pass() {
    let proxy = FaultProxy::start(&upstream().await).await.unwrap();
    let host =
        client().get(format!("{}/host", proxy.url())).header("host", "sqs.example").send().await.unwrap();
    assert_eq!(host.text().await.unwrap(), "sqs.example");
    assert_eq!(ask(&proxy, &call("eth_chainId", "")).await["result"], "0x1");
    assert_eq!(proxy.control().calls("eth_chainId"), 1);
}

#[tokio::test]
async fn lies_touch_only_what_they_are_about() {
    let proxy = FaultProxy::start(&upstream().await).await.unwrap();
    let control = proxy.control();
    let lie = |lie| Rule::always(Fault::Lie(lie));
    let receipts = call("eth_getBlockReceipts", "0x10");
    for (rule, pointer, expected) in [
        (lie(Lie::ShortReceipts), "/result/1", Value::Null),
        (lie(Lie::EmptyReceipts), "/result", json!([])),
        (lie(Lie::NullInsideReceipts), "/result/0", Value::Null),
        (lie(Lie::Null), "/result", Value::Null),
        (lie(Lie::DropLogs), "/result/1/logs", json!([])),
        (lie(Lie::DropOneLog), "/result/1/logs/1", Value::Null),
        (lie(Lie::CopyLog), "/result/1/logs/2/logIndex", json!(0)),
        (lie(Lie::AlterTopic), "/result/1/logs/0/topics/0", json!("0xa1")),
        (lie(Lie::AlterData), "/result/1/logs/0/data", json!("0x01")),
        (lie(Lie::SiblingReceipts), "/result/0/of", json!("0xf")),
    ] {
        control.clear();
        let id = control.add(rule.on_method("eth_getBlockReceipts").on_block(16));
        let answer = ask(&proxy, &receipts).await;
        assert_eq!(answer.pointer(pointer).unwrap_or(&Value::Null), &expected, "{answer}");
        assert_eq!(control.hits(id), 1);
        let other = ask(&proxy, &call("eth_getBlockReceipts", "0x11")).await;
        assert_eq!(
            other["result"][1]["logs"].as_array().map(Vec::len),
            Some(2),
            "another block is told truly"
        );
    }
    control.clear();
    control.add(lie(Lie::ChainId(5)));
    control.add(lie(Lie::OtherBlock));
    assert_eq!(ask(&proxy, &call("eth_chainId", "")).await["result"], "0x5");
}

#[tokio::test]
async fn in_a_batch_only_the_matching_call_is_lied_about() {
    let proxy = FaultProxy::start(&upstream().await).await.unwrap();
    let id = proxy.control().add(Rule::always(Fault::Lie(Lie::OtherBlock)).on_block(5));
    let mut second = call("eth_getBlockByNumber", "0x5");
    second["id"] = json!(2);
    let answer = ask(&proxy, &json!([call("eth_getBlockByNumber", "0x9"), second])).await;
    assert_eq!(
        (&answer[0]["result"]["number"], &answer[1]["result"]["number"]),
        (&json!("0x9"), &json!("0x4"))
    );
    assert_eq!(proxy.control().hits(id), 1);
}

#[tokio::test]
async fn transport_faults_strike_as_often_as_told() {
    let proxy = FaultProxy::start(&upstream().await).await.unwrap();
    let control = proxy.control();
    let body = call("eth_chainId", "");
    let send = || client().post(proxy.url()).timeout(Duration::from_millis(500)).json(&body).send();

    control.add(
        Rule::always(Fault::Status { status: 429, body: String::new(), retry_after: Some(7) })
            .times(1)
            .skip(1),
    );
    assert_eq!(send().await.unwrap().status(), 200, "the first passes");
    assert_eq!(send().await.unwrap().headers()["retry-after"], "7");
    assert_eq!(send().await.unwrap().status(), 200, "it is used up");

    control.add(Rule::always(Fault::Reset).times(1));
    assert!(send().await.is_err());
    control.add(Rule::always(Fault::Truncate { after: 5 }).times(1));
    assert!(send().await.unwrap().bytes().await.is_err());
    control.add(Rule::always(Fault::Garbage).times(1));
    assert!(send().await.unwrap().json::<Value>().await.is_err());
    let hang = control.add(Rule::always(Fault::Hang).times(1));
    assert!(send().await.unwrap_err().is_timeout());
    control.wait_for_hits(hang, 1, Duration::from_secs(1)).await.unwrap();
    control.add(Rule::always(Fault::RpcError { code: -32005, message: "rate limit".into() }).times(1));
    assert_eq!(send().await.unwrap().json::<Value>().await.unwrap()["error"]["code"], -32005);
    let before = control.calls("eth_chainId");
    control.add(Rule::always(Fault::DropAnswer).times(1));
    assert!(send().await.is_err());
    assert_eq!(control.calls("eth_chainId"), before + 1);
}

#[tokio::test]
async fn an_answer_is_cut_however_short_it_is() {
    let proxy = FaultProxy::start(&upstream().await).await.unwrap();
    let id = proxy.control().add(Rule::always(Fault::Truncate { after: 1000 }));
    let asked = client().get(format!("{}/empty", proxy.url())).send().await.unwrap();
    assert_eq!(asked.headers()["content-length"], "2");
    assert!(asked.bytes().await.is_err());
    assert!(client().head(format!("{}/empty", proxy.url())).send().await.is_err(), "no body to cut");
    assert_eq!(proxy.control().hits(id), 2);
}

/// A request as the AWS SDK signs it.
fn sqs(proxy: &FaultProxy, path: &str, operation: &str, body: &Value) -> reqwest::RequestBuilder {
    client()
        .post(format!("{}{path}", proxy.url()))
        .header("authorization", "AWS4-HMAC-SHA256 Credential=K/20260101/us-east-1/sqs/aws4_request, x")
        .header("x-amz-target", format!("AmazonSQS.{operation}"))
        .json(body)
}

#[tokio::test]
async fn a_delivery_fault_strikes_only_what_delivers() {
    let proxy = FaultProxy::start(&upstream().await).await.unwrap();
    let control = proxy.control();
    for fault in [Fault::Redeliver, Fault::DelayDelivery { milliseconds: 50 }] {
        control.clear();
        let id = control.add(Rule::always(fault).on_aws("ReceiveMessage"));
        sqs(&proxy, "/empty", "ReceiveMessage", &json!({ "QueueUrl": "a" })).send().await.unwrap();
        assert_eq!(control.hits(id), 0, "nothing was delivered");
        let full = sqs(&proxy, "/full", "ReceiveMessage", &json!({ "QueueUrl": "b" })).send().await.unwrap();
        assert_eq!(full.json::<Value>().await.unwrap()["Messages"][0]["MessageId"], "1");
        assert_eq!(control.hits(id), 1);
    }
}

/// Faults that pass requests on do not switch AWS's own rules off: neither what it remembers nor what it refuses.
#[tokio::test]
async fn what_aws_refuses_is_refused_under_faults_too() {
    let proxy = FaultProxy::start(&upstream().await).await.unwrap();
    let control = proxy.control();
    control.refuse_as_aws(Account::default());
    control.add(Rule::always(Fault::DropAnswer).on_aws("DeleteQueue"));
    let deleted = json!({ "QueueUrl": "http://host/000000000000/q" });
    assert!(sqs(&proxy, "/full", "DeleteQueue", &deleted).send().await.is_err(), "applied all the same");
    control.add(Rule::always(Fault::Delay { milliseconds: 1 }).on_aws("CreateQueue"));
    let again = sqs(&proxy, "/full", "CreateQueue", &json!({ "QueueName": "q" })).send().await.unwrap();
    assert_eq!(again.status(), 400);
    let told: Value = again.json().await.unwrap();
    assert!(told["__type"].as_str().unwrap().ends_with("QueueDeletedRecently"), "{told}");
    control.clear();
    control.add(Rule::always(Fault::DropAnswer).on_aws("CreateQueue"));
    let other = json!({ "QueueName": "other" });
    assert!(sqs(&proxy, "/full", "CreateQueue", &other).send().await.is_err());
}

#[test]
fn aws_requests_are_told_apart() {
    let request = |method: &str, path: &str, headers: &[(&str, &str)], body: &'static str| {
        let mut request = hyper::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        rules::Subject::of(&request.body(hyper::body::Bytes::from_static(body.as_bytes())).unwrap())
    };
    let signed = |service| {
        (
            "authorization",
            format!("AWS4-HMAC-SHA256 Credential=K/20260101/us-east-1/{service}/aws4_request, x"),
        )
    };
    let (sqs, s3, sts) = (signed("sqs"), signed("s3"), signed("sts"));
    for (subject, service, operation) in [
        (
            request("POST", "/", &[(sqs.0, &sqs.1), ("x-amz-target", "AmazonSQS.DeleteMessageBatch")], "{}"),
            "sqs",
            "DeleteMessageBatch",
        ),
        (request("PUT", "/bucket/a/b.parquet?x-id=PutObject", &[(s3.0, &s3.1)], ""), "s3", "PutObject"),
        (request("GET", "/bucket?list-type=2", &[(s3.0, &s3.1)], ""), "s3", "ListObjects"),
        (
            request("POST", "/", &[(sts.0, &sts.1)], "Action=AssumeRole&Version=2011-06-15"),
            "sts",
            "AssumeRole",
        ),
    ] {
        assert_eq!(subject.service.as_deref(), Some(service));
        assert_eq!(subject.operation.as_deref(), Some(operation));
        let Match::Aws(wanted) = Rule::always(Fault::Reset).on_aws(operation).when else {
            panic!("an AWS match")
        };
        assert!(Match::Aws(wanted).matches(&subject));
    }
}
