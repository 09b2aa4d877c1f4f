//! `dagwright-fault-proxy LISTEN CONTROL UPSTREAM`: the fault proxy as a process. Rules are set at `http://CONTROL/rules`.

use std::net::SocketAddr;

use anyhow::Context as _;
use dagwright_testkit::fault_proxy::FaultProxy;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [listen, control, upstream] = args.as_slice() else {
        anyhow::bail!(
            "usage: dagwright-fault-proxy LISTEN CONTROL UPSTREAM, such as 127.0.0.1:9000 127.0.0.1:9001 http://127.0.0.1:8545"
        );
    };
    let listen: SocketAddr = listen.parse().with_context(|| format!("read address {listen}"))?;
    let proxy = FaultProxy::start_on(listen, upstream).await?;
    let listener =
        tokio::net::TcpListener::bind(control).await.with_context(|| format!("listen on {control}"))?;
    eprintln!("proxy {} before {upstream}, control http://{}/rules", proxy.url(), listener.local_addr()?);
    let ended = async { tokio::signal::ctrl_c().await.unwrap_or(()) };
    axum::serve(listener, proxy.control().router()).with_graceful_shutdown(ended).await?;
    Ok(())
}
