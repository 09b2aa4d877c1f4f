//! The gateway as a whole: flags, parts, start, stop.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::Parser;
use dagwright_aws::secret_read::SecretReader;
use dagwright_contracts::{endpoints::Endpoints, token::BearerToken};
use dagwright_telemetry::{CommonArgs, Health, ListenArgs};
use tokio::{net::TcpListener, sync::Notify};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{self, Api},
    background,
    dispatcher::Dispatcher,
    pool::{provider::Shared, registry::Registry, upstream::Upstream},
};

/// The RPC gateway: the one process that reaches JSON-RPC providers.
///
/// It reads its pools from the dispatcher, keys from Secrets Manager, and answers workers of the pools' namespaces with
/// limits, failover and cordons per provider.
#[derive(Parser, Clone, Debug)]
#[command(name = "dagwright-rpc", version)]
pub struct Args {
    #[command(flatten)]
    pub common: CommonArgs,

    #[command(flatten)]
    pub listen: ListenArgs,

    /// Base URL of the dispatcher; a comma-separated list when there are several replicas without a balancer.
    #[arg(long, env = "DAGWRIGHT_DISPATCHER_URL", value_name = "URL")]
    pub dispatcher_url: Endpoints,

    /// Secret that the gateway shares with the dispatcher.
    #[arg(long, env = "DAGWRIGHT_GATEWAY_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub gateway_token: BearerToken,

    /// Largest request body that is read.
    #[arg(long, env = "DAGWRIGHT_RPC_MAX_REQUEST_BYTES", default_value_t = 1 << 20, value_name = "BYTES")]
    pub max_request_bytes: usize,

    /// Largest answer that is read from a provider.
    #[arg(long, env = "DAGWRIGHT_RPC_MAX_RESPONSE_BYTES", default_value_t = 64 << 20, value_name = "BYTES")]
    pub max_response_bytes: usize,

    /// Most calls that a batch may have.
    #[arg(long, env = "DAGWRIGHT_RPC_MAX_BATCH", default_value_t = 100, value_name = "CALLS")]
    pub max_batch: usize,
}

/// Requests in flight at the end may take so long; callers repeat what got lost.
const GRACE: Duration = Duration::from_secs(8);

/// A started gateway.
pub struct Gateway {
    /// Where it listens.
    pub address: SocketAddr,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
    background: tokio::task::JoinSet<()>,
}

impl Gateway {
    /// Binds, and starts to serve and to follow the config, until `stop` is cancelled.
    ///
    /// # Errors
    /// When the address cannot be bound, or TLS cannot be set up.
    pub async fn start(args: &Args, health: &Health, stop: CancellationToken) -> anyhow::Result<Self> {
        let changed = Arc::new(Notify::new());
        let shared = Shared {
            upstream: Upstream::new(args.max_response_bytes)
                .context("set up the HTTP client for providers")?,
            secrets: SecretReader::new(&dagwright_aws::config().await),
            changed: Arc::clone(&changed),
        };
        let registry = Arc::new(Registry::new(shared));
        let dispatcher = Dispatcher::new(args.dispatcher_url.clone(), args.gateway_token.clone())
            .context("set up the HTTP client for the dispatcher")?;
        let listener = TcpListener::bind(args.listen.listen)
            .await
            .with_context(|| format!("listen on {}", args.listen.listen))?;
        let address = listener.local_addr()?;
        let reprobe = Arc::new(Notify::new());
        let mut tasks = tokio::task::JoinSet::new();
        let check = health.check("config");
        tasks.spawn(background::follow_config(
            dispatcher.clone(),
            Arc::clone(&registry),
            Arc::clone(&reprobe),
            check,
            stop.clone(),
        ));
        tasks.spawn(background::probe(Arc::clone(&registry), reprobe, stop.clone()));
        tasks.spawn(background::report(dispatcher, Arc::clone(&registry), changed, stop.clone()));
        let api = Arc::new(Api {
            registry,
            gateway_token: args.gateway_token.hash(),
            max_batch: args.max_batch,
            max_request_bytes: args.max_request_bytes,
        });
        let app = api::router(api);
        let serving = tokio::spawn(async move {
            axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await
        });
        tracing::info!(%address, "gateway listens");
        Ok(Self { address, serving, background: tasks })
    }

    /// Waits until `stop` is cancelled and it has stopped; requests in flight have [`GRACE`] to be answered.
    ///
    /// # Errors
    /// When serving failed.
    pub async fn stopped(mut self, stop: &CancellationToken) -> anyhow::Result<()> {
        let grace = async {
            stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            served = self.serving => served.context("serving ended abnormally")??,
            () = grace => tracing::warn!("some requests are still waiting for providers, leaving them"),
        }
        while let Some(ended) = self.background.join_next().await {
            ended.context("a background task ended abnormally")?;
        }
        Ok(())
    }
}
