//! A JSON-RPC pool as workers see it: two real nodes with the same chain, a fault proxy before each, and the RPC gateway's
//! API before both. For tests of the gateway, and of operators that read through it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test part panics with what went wrong")]

use std::{
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use dagwright_cli::load::{self, CHAIN_ID, LoadConfig};
use dagwright_contracts::{
    gateway::{
        Caller, GatewayConfig, ProviderConfig, ProviderHealth, ProviderState, ProviderUrl, RpcPoolConfig,
    },
    token::token_hash,
};
use dagwright_egress::{
    api::{Api, router},
    pool::{provider::Shared, registry::Registry, upstream::Upstream},
};
use reqwest::Response;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::{
    fault_proxy::{FaultControl, FaultProxy},
    wait::wait_until,
};

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Where the node's program is; `./dev test` sets it.
const PROGRAM: &str = "DAGWRIGHT_ANVIL";
/// The token that the gateway shares with the dispatcher.
pub const GATEWAY_TOKEN: &str = "gateway-token";
/// A worker of namespace `demo`.
pub const POOL_TOKEN: &str = "dwp_demo-token";
/// A worker of namespace `other`.
pub const FOREIGN_TOKEN: &str = "dwp_other-token";

/// A node that ends with the test.
pub struct Node {
    child: Child,
    url: String,
}

impl Node {
    /// Starts it and gives it the local chain up to `blocks`.
    pub async fn start(blocks: u64) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let program = std::env::var(PROGRAM).unwrap_or_else(|_| {
            panic!("{PROGRAM} is not set: run the tests by `./dev test`, which installs the node")
        });
        let child = Command::new(&program)
            .args(load::anvil_args(port, None))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let node = Self { child, url: format!("http://127.0.0.1:{port}") };
        let http = client();
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []});
        wait_until(PATIENCE, "the node", async || http.post(&node.url).json(&call).send().await.is_ok())
            .await;
        if blocks > 0 {
            load::run(LoadConfig { rpc_url: node.url.clone(), blocks }, |_| {}).await.unwrap();
        }
        node
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The gateway with pool `demo/chain` of providers `a` and `b`.
pub struct Gateway {
    /// Its pools.
    pub registry: Arc<Registry>,
    /// Its base URL.
    pub url: String,
    setup: Setup,
    upstreams: Arc<([Node; 2], [FaultProxy; 2])>,
}

/// What a test changes of the usual pool.
#[derive(Clone)]
pub struct Setup {
    /// Height of the chain.
    pub blocks: u64,
    /// Of one upstream request.
    pub timeout_ms: u64,
    /// After wrong data.
    pub cordon_seconds: u64,
    /// Cap.
    pub max_response_bytes: usize,
    /// Of provider `a`.
    pub max_requests_per_second: Option<u32>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            blocks: 0,
            timeout_ms: 2_000,
            cordon_seconds: 600,
            max_response_bytes: 16 << 20,
            max_requests_per_second: None,
        }
    }
}

impl Gateway {
    /// As usual.
    pub async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    /// With changes.
    pub async fn with(setup: Setup) -> Self {
        let (first, second) = tokio::join!(Node::start(setup.blocks), Node::start(setup.blocks));
        let proxies =
            [FaultProxy::start(&first.url).await.unwrap(), FaultProxy::start(&second.url).await.unwrap()];
        Self::before(setup, Arc::new(([first, second], proxies)))
    }

    /// Another gateway that has heard nothing yet, before the same nodes and proxies.
    #[must_use]
    pub fn again(&self) -> Self {
        Self::before(self.setup.clone(), Arc::clone(&self.upstreams))
    }

    fn before(setup: Setup, upstreams: Arc<([Node; 2], [FaultProxy; 2])>) -> Self {
        let registry = Arc::new(Registry::new(shared(setup.max_response_bytes)));
        registry.replace(config(&setup, [upstreams.1[0].url(), upstreams.1[1].url()]));
        let api = Arc::new(Api {
            registry: Arc::clone(&registry),
            gateway_token: token_hash(GATEWAY_TOKEN),
            max_batch: 10,
            max_request_bytes: 1 << 16,
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        tokio::spawn(async move { axum::serve(listener, router(api)).await });
        Self { registry, url, setup, upstreams }
    }

    /// Faults of provider `a` (0) or `b` (1).
    pub fn faults(&self, provider: usize) -> FaultControl {
        self.upstreams.1[provider].control()
    }

    /// Posts as somebody.
    pub async fn post(&self, path: &str, token: Option<&str>, avoid: Option<&str>, body: &Value) -> Response {
        let mut request = client().post(format!("{}{path}", self.url)).json(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(avoid) = avoid {
            request = request.header("x-dagwright-avoid-providers", avoid);
        }
        request.send().await.unwrap()
    }

    /// Asks the pool as a worker.
    pub async fn ask(&self, body: &Value) -> Response {
        self.post("/v1/demo/chain", Some(POOL_TOKEN), None, body).await
    }

    /// What is known of a provider.
    pub fn health(&self, provider: &str) -> ProviderHealth {
        let snapshot = self.registry.snapshot();
        let pool = &snapshot.pools[&("demo".to_owned(), "chain".to_owned())];
        pool.providers.iter().find(|p| p.config.name == provider).unwrap().report()
    }

    /// State of a provider.
    pub fn state(&self, provider: &str) -> ProviderState {
        self.health(provider).state
    }

    /// Asks every provider for its head, as the gateway does now and then.
    pub async fn probe(&self) {
        let snapshot = self.registry.snapshot();
        for provider in snapshot.pools.values().flat_map(|pool| &pool.providers) {
            provider.probe(Duration::from_secs(2)).await;
        }
    }
}

fn shared(max_response_bytes: usize) -> Shared {
    let aws =
        aws_config::SdkConfig::builder().behavior_version(aws_config::BehaviorVersion::latest()).build();
    Shared {
        upstream: Upstream::new(max_response_bytes).unwrap(),
        secrets: dagwright_aws::secret_read::SecretReader::new(&aws),
        changed: Arc::new(Notify::new()),
    }
}

/// The config of the pool, with these URLs.
pub fn config(setup: &Setup, urls: [String; 2]) -> GatewayConfig {
    let provider = |(name, url): (&str, String)| ProviderConfig {
        name: name.into(),
        url: ProviderUrl::Value(url),
        max_requests_per_second: setup.max_requests_per_second.filter(|_| name == "a"),
        max_concurrent: None,
    };
    let pool = RpcPoolConfig {
        namespace: "demo".into(),
        name: "chain".into(),
        chain_id: CHAIN_ID,
        providers: ["a", "b"].into_iter().zip(urls).map(provider).collect(),
        timeout_ms: setup.timeout_ms,
        cordon_on_verification_failure: true,
        cordon_seconds: setup.cordon_seconds,
    };
    let caller = |token: &str, namespace: &str| Caller {
        token_sha256: token_hash(token).iter().map(|byte| format!("{byte:02x}")).collect(),
        namespace: namespace.into(),
    };
    GatewayConfig {
        revision: 1,
        pools: vec![pool],
        callers: vec![caller(POOL_TOKEN, "demo"), caller(FOREIGN_TOKEN, "other")],
    }
}

/// One JSON-RPC call.
#[expect(clippy::needless_pass_by_value, reason = "callers write `json!([])` in place")]
pub fn call(method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
}

/// What the worker asks for a block.
pub fn bundle() -> Value {
    let mut receipts = call("eth_getBlockReceipts", json!(["0x0"]));
    receipts["id"] = json!(2);
    json!([call("eth_getBlockByNumber", json!(["0x0", true])), receipts])
}

/// Who answered.
pub fn provider(response: &Response) -> String {
    response.headers()["x-dagwright-provider"].to_str().unwrap().to_owned()
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().timeout(Duration::from_secs(10)).no_proxy().build().unwrap()
}
