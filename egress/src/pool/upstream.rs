//! One HTTP request to a provider: with a deadline, without redirects, and with a cap on what is read.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use reqwest::{
    StatusCode, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header,
    redirect::Policy,
};

use crate::rpc::{
    answer::{self, Outcome, Verdict},
    request::RpcRequest,
};

/// What came back: a verdict, and the body when there is one worth handing on.
#[derive(Debug)]
pub struct Reply {
    /// How it went.
    pub verdict: Verdict,
    /// The body, if it is a JSON-RPC answer.
    pub body: Option<Bytes>,
    /// What the provider asked us to wait.
    pub retry_after: Option<Duration>,
}

impl Reply {
    /// No body.
    pub fn without_body(outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { verdict: Verdict::new(outcome, detail), body: None, retry_after: None }
    }
}

/// Sends requests to providers.
#[derive(Clone, Debug)]
pub struct Upstream {
    http: reqwest::Client,
    max_response_bytes: usize,
}

/// Why a provider's URL is refused.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// Not a URL. The text is not repeated: it may hold a key.
    #[error("it is not a URL")]
    Malformed,
    /// Another scheme.
    #[error("its scheme is neither http nor https")]
    Scheme,
    /// A metadata service or the like.
    #[error("it leads to a link-local address")]
    LinkLocal,
}

impl Upstream {
    /// A client for all providers.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(max_response_bytes: usize) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            // A redirect could lead anywhere, and would carry the key in the path along.
            .redirect(Policy::none())
            .no_proxy()
            .dns_resolver(Arc::new(OutsideTheLink))
            .connect_timeout(Duration::from_secs(5))
            .pool_idle_timeout(Duration::from_secs(60))
            .user_agent(concat!("dagwright-rpc/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http, max_response_bytes })
    }

    /// Posts a request. Whatever happens is a [`Reply`]; texts in it never hold the URL.
    pub async fn post(&self, url: &Url, request: &RpcRequest, timeout: Duration) -> Reply {
        match tokio::time::timeout(timeout, self.exchange(url, request)).await {
            Ok(reply) => reply,
            Err(_) => {
                let waited = format!("no complete answer within {} ms", timeout.as_millis());
                Reply::without_body(Outcome::Timeout, waited)
            }
        }
    }

    async fn exchange(&self, url: &Url, request: &RpcRequest) -> Reply {
        let sent = self
            .http
            .post(url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .body(request.body.clone())
            .send()
            .await;
        let mut response = match sent {
            Ok(response) => response,
            Err(error) => return Reply::without_body(Outcome::Transport, chain(error)),
        };
        let (status, retry_after) = (response.status(), retry_after(response.headers()));
        let mut body = BytesMut::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > self.max_response_bytes => {
                    let detail = format!("the answer is larger than {} bytes", self.max_response_bytes);
                    return Reply::without_body(Outcome::TooLarge, detail);
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) => return Reply::without_body(Outcome::Transport, chain(error)),
            }
        }
        let mut reply = judge(status, request, body.freeze());
        reply.retry_after = retry_after;
        reply
    }
}

fn judge(status: StatusCode, request: &RpcRequest, body: Bytes) -> Reply {
    if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::PAYMENT_REQUIRED {
        return Reply::without_body(Outcome::RateLimited, format!("HTTP {status}"));
    }
    let verdict = answer::judge(request, &body);
    if !status.is_success() && (status.is_server_error() || verdict.outcome == Outcome::Garbage) {
        return Reply::without_body(Outcome::HttpStatus, format!("HTTP {status}"));
    }
    let body = (verdict.outcome != Outcome::Garbage).then_some(body);
    Reply { verdict, body, retry_after: None }
}

fn retry_after(headers: &header::HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

/// An error with its sources and without its URL, which may hold a key.
fn chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(next) = source {
        text = format!("{text}: {next}");
        source = next.source();
    }
    text
}

/// Reads a provider's URL.
///
/// # Errors
/// When it is not one, or one that a tenant must not make the gateway call.
pub fn provider_url(text: &str) -> Result<Url, UrlError> {
    let url = Url::parse(text.trim()).map_err(|_| UrlError::Malformed)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(UrlError::Scheme);
    }
    let literal = url.host_str().map(|host| host.trim_matches(['[', ']'])).and_then(|host| host.parse().ok());
    if literal.is_some_and(is_link_local) { Err(UrlError::LinkLocal) } else { Ok(url) }
}

/// Metadata services of clouds and containers live on link-local addresses, and nothing that a tenant may call does.
fn is_link_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_unspecified(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.is_unspecified() || ip == METADATA_V6,
    }
}

/// EC2's metadata service over IPv6.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Names resolve as usual, except to link-local addresses: a name must not reach what its address may not.
struct OutsideTheLink;

impl Resolve for OutsideTheLink {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let usable: Vec<_> = found.filter(|address| !is_link_local(address.ip())).collect();
            if usable.is_empty() {
                return Err(UrlError::LinkLocal.into());
            }
            Ok(Box::new(usable.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_urls_outside_the_link_are_called() {
        assert!(provider_url(" https://eth.example/v2/key\n").is_ok());
        assert!(provider_url("http://127.0.0.1:8545").is_ok());
        for (url, text) in [
            ("not a url with-key", "it is not a URL"),
            ("file:///etc/passwd", "its scheme is neither http nor https"),
            ("http://169.254.169.254/latest/meta-data", "it leads to a link-local address"),
            ("http://[fe80::1]/", "it leads to a link-local address"),
            ("http://[::ffff:169.254.169.254]/", "it leads to a link-local address"),
            ("http://[fd00:ec2::254]/", "it leads to a link-local address"),
            ("http://0.0.0.0/", "it leads to a link-local address"),
        ] {
            assert_eq!(provider_url(url).unwrap_err().to_string(), text);
        }
    }
}
