//! The gateway against real nodes whose answers are spoiled on the way.

use dagwright_contracts::{gateway::ProviderState, problem::Problem};
use dagwright_testkit::{
    fault_proxy::{Fault, Lie, Rule},
    rpc_pool::{FOREIGN_TOKEN, GATEWAY_TOKEN, Gateway, POOL_TOKEN, Setup, bundle, call, config, provider},
    wait::wait_until,
};
use serde_json::{Value, json};

/// How long a provider may take to be asked again.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

#[tokio::test]
async fn a_batch_is_answered_by_the_preferred_provider() {
    let gateway = Gateway::start().await;
    let answer = gateway.ask(&bundle()).await;
    assert_eq!((answer.status().as_u16(), provider(&answer)), (200, "a".to_owned()));
    let items: Vec<Value> = answer.json().await.unwrap();
    assert_eq!(items.len(), 2);
    assert!(items[0]["result"]["hash"].is_string(), "{items:?}");
    assert_eq!(gateway.faults(1).requests(), 0, "the other one is not asked");
    assert_eq!(gateway.state("a"), ProviderState::Healthy);
}

#[tokio::test]
async fn whatever_a_provider_does_another_answers() {
    let gateway = Gateway::with(Setup { timeout_ms: 500, ..Setup::default() }).await;
    let status = |status| Fault::Status { status, body: "no".into(), retry_after: None };
    let rpc = |code, message: &str| Fault::RpcError { code, message: message.into() };
    for fault in [
        status(500),
        status(502),
        status(401),
        status(302),
        Fault::Reset,
        Fault::Garbage,
        Fault::Truncate { after: 40 },
        Fault::Hang,
        rpc(-32603, "internal error"),
        rpc(-32000, "header not found"),
        rpc(-32005, "rate limit exceeded"),
        status(429),
        Fault::Lie(Lie::Null),
    ] {
        gateway.faults(0).clear();
        let rule = gateway.faults(0).add(Rule::always(fault.clone()).on_method("eth_getBlockByNumber"));
        let answer = gateway.ask(&bundle()).await;
        assert_eq!((answer.status().as_u16(), provider(&answer)), (200, "b".to_owned()), "{fault:?}");
        let items: Vec<Value> = answer.json().await.unwrap();
        assert!(items.iter().all(|item| !item["result"].is_null()), "{fault:?}: {items:?}");
        // Provider b must not be preferred for good: the next fault is to meet provider a again.
        gateway.faults(0).wait_for_hits(rule, 1, std::time::Duration::from_secs(5)).await.unwrap();
        gateway.faults(0).clear();
        wait_until(PATIENCE, "provider a to be healthy again", async || {
            gateway.ask(&call("eth_blockNumber", json!([]))).await;
            gateway.probe().await;
            gateway.state("a") == ProviderState::Healthy
        })
        .await;
    }
}

#[tokio::test]
async fn when_nobody_answers_the_caller_learns_what_each_said() {
    let gateway = Gateway::start().await;
    for provider in [0, 1] {
        gateway.faults(provider).add(Rule::always(Fault::Reset));
    }
    let answer = gateway.ask(&bundle()).await;
    assert_eq!(answer.status().as_u16(), 502);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let problem: Problem = answer.json().await.unwrap();
    assert_eq!(problem.code, "UpstreamFailed");
    assert!(
        problem.detail.contains("demo/chain")
            && problem.detail.contains("a: ")
            && problem.detail.contains("b: ")
    );

    let limited = Gateway::start().await;
    for provider in [0, 1] {
        let fault = Fault::Status { status: 429, body: String::new(), retry_after: Some(1) };
        limited.faults(provider).add(Rule::always(fault).on_method("eth_getBlockByNumber"));
    }
    let answer = limited.ask(&bundle()).await;
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (429, &"1".parse().unwrap()));
}

#[tokio::test]
async fn the_callers_own_errors_go_back_to_it() {
    let gateway = Gateway::start().await;
    let answer = gateway.ask(&call("eth_invented", json!([]))).await;
    assert_eq!((answer.status().as_u16(), provider(&answer)), (200, "a".to_owned()));
    assert_eq!(answer.json::<Value>().await.unwrap()["error"]["code"], -32601);
    assert_eq!(gateway.faults(1).requests(), 0);

    let asked = gateway.faults(0).requests();
    for (body, status, code) in [
        (call("eth_sendRawTransaction", json!(["0x00"])), 403, "MethodDenied"),
        (call("anvil_mine", json!([])), 403, "MethodDenied"),
        (json!([]), 400, "InvalidRequest"),
        (json!("hello"), 400, "InvalidRequest"),
        (Value::Array(vec![call("eth_chainId", json!([])); 11]), 413, "BatchTooLarge"),
    ] {
        let answer = gateway.ask(&body).await;
        assert_eq!(answer.status().as_u16(), status, "{body}");
        assert_eq!(answer.json::<Problem>().await.unwrap().code, code);
    }
    assert_eq!(gateway.faults(0).requests(), asked, "nothing of it reached a provider");
}

#[tokio::test]
async fn a_provider_of_another_chain_is_never_used() {
    let gateway = Gateway::start().await;
    gateway.faults(0).add(Rule::always(Fault::Lie(Lie::ChainId(1))));
    for _ in 0..3 {
        assert_eq!(provider(&gateway.ask(&bundle()).await), "b");
    }
    assert_eq!(gateway.faults(0).calls("eth_getBlockByNumber"), 0);
    let health = gateway.health("a");
    assert_eq!(health.state, ProviderState::Refused);
    assert_eq!(health.message, "it serves chain id 1; the pool is for 31337");
    gateway.faults(0).clear();
    gateway.probe().await;
    assert_eq!(provider(&gateway.ask(&bundle()).await), "a", "a repaired provider comes back");
}

#[tokio::test]
async fn the_chain_is_asked_again_after_a_failure() {
    let gateway = Gateway::start().await;
    assert_eq!(provider(&gateway.ask(&bundle()).await), "a");
    gateway.faults(0).add(Rule::always(Fault::Reset).on_method("eth_getBlockByNumber").times(1));
    assert_eq!(provider(&gateway.ask(&bundle()).await), "b");
    gateway.faults(0).add(Rule::always(Fault::Lie(Lie::ChainId(5))));
    assert_eq!(provider(&gateway.ask(&bundle()).await), "b", "another node stands behind the same URL now");
    assert_eq!(gateway.state("a"), ProviderState::Refused);
}

#[tokio::test]
async fn callers_may_avoid_a_provider() {
    let gateway = Gateway::start().await;
    let avoiding = async |names| {
        provider(&gateway.post("/v1/demo/chain", Some(POOL_TOKEN), Some(names), &bundle()).await)
    };
    assert_eq!(avoiding("a").await, "b");
    assert_eq!(avoiding("b").await, "a");
    assert_eq!(avoiding(" a , b ").await, "a", "when no other is left they are used all the same");
}

#[tokio::test]
async fn a_provider_that_fed_wrong_data_is_cordoned_for_its_time() {
    let gateway = Gateway::with(Setup { cordon_seconds: 1, ..Setup::default() }).await;
    let report = |provider: &str| json!({"provider": provider, "block": 7, "field": "receipts_root", "detail": "differs"});
    let path = "/v1/demo/chain/verification-failures";
    let cordon = async |provider: &str| {
        gateway.post(path, Some(POOL_TOKEN), None, &report(provider)).await.status().as_u16()
    };

    assert_eq!(cordon("nobody").await, 404);
    assert_eq!(gateway.post(path, Some(FOREIGN_TOKEN), None, &report("a")).await.status().as_u16(), 403);
    assert_eq!(cordon("a").await, 204);
    assert_eq!(provider(&gateway.ask(&bundle()).await), "b");
    let health = gateway.health("a");
    assert_eq!(health.state, ProviderState::Cordoned);
    assert!(health.message.contains("block 7") && health.message.contains("receipts_root"));

    assert_eq!(cordon("b").await, 204);
    let answer = gateway.ask(&bundle()).await;
    assert_eq!(answer.status().as_u16(), 503);
    assert_eq!(answer.json::<Problem>().await.unwrap().code, "NoProvider");
    wait_until(PATIENCE, "the cordons to end", async || gateway.ask(&bundle()).await.status().is_success())
        .await;
}

#[tokio::test]
async fn only_the_namespace_of_a_token_is_open() {
    let gateway = Gateway::start().await;
    let status = async |path: &str, token| gateway.post(path, token, None, &bundle()).await.status().as_u16();
    assert_eq!(status("/v1/demo/chain", None).await, 401);
    assert_eq!(status("/v1/demo/chain", Some("dwp_unknown")).await, 401);
    assert_eq!(status("/v1/demo/chain", Some(FOREIGN_TOKEN)).await, 403);
    assert_eq!(status("/v1/demo/absent", Some(POOL_TOKEN)).await, 404);
    assert_eq!(status("/v1/demo/chain", Some(POOL_TOKEN)).await, 200);
    assert_eq!(status("/v1/demo/chain", Some(GATEWAY_TOKEN)).await, 200);
}

#[tokio::test]
async fn our_own_limit_sends_the_surplus_to_the_next() {
    let gateway =
        Gateway::with(Setup { timeout_ms: 100, max_requests_per_second: Some(1), ..Setup::default() }).await;
    gateway.ask(&bundle()).await;
    assert_eq!(provider(&gateway.ask(&bundle()).await), "b");
    assert_ne!(gateway.state("a"), ProviderState::Degraded, "our own limit is not its fault");
}

#[tokio::test]
async fn an_answer_beyond_the_cap_is_not_read() {
    let gateway = Gateway::with(Setup { max_response_bytes: 600, ..Setup::default() }).await;
    let answer = gateway.ask(&bundle()).await;
    assert_eq!(answer.status().as_u16(), 502);
    assert_eq!(answer.json::<Problem>().await.unwrap().code, "AnswerTooLarge");
}

#[tokio::test]
async fn a_key_in_a_url_never_shows() {
    let gateway = Gateway::start().await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let keyed =
        ["v2/s3cr3t-key", "?apikey=s3cr3t-key"].map(|path| format!("http://user:s3cr3t-key@{closed}/{path}"));
    gateway.registry.replace(config(&Setup::default(), keyed));
    let text = gateway.ask(&bundle()).await.text().await.unwrap();
    assert!(text.contains("no provider answered"), "{text}");
    let health = format!("{:?} {:?}", gateway.health("a"), gateway.health("b"));
    for shown in [&text, &health] {
        assert!(!shown.contains("s3cr3t"), "{shown}");
    }
}

#[tokio::test]
async fn a_new_config_keeps_what_is_known_of_unchanged_providers() {
    let gateway = Gateway::start().await;
    assert_eq!(provider(&gateway.ask(&bundle()).await), "a");
    let snapshot = gateway.registry.snapshot();
    let pool = &snapshot.pools[&("demo".to_owned(), "chain".to_owned())];
    let mut next = config(&Setup::default(), ["http://127.0.0.1:1".into(), "http://127.0.0.1:2".into()]);
    next.pools[0].providers[0] = pool.providers[0].config.clone();
    gateway.registry.replace(next);
    assert_eq!(gateway.state("a"), ProviderState::Healthy);
    assert_eq!(gateway.state("b"), ProviderState::Unknown);
}
