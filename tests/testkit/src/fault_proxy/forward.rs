//! Sending a request on, byte for byte.

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response, Uri,
    body::Bytes,
    header::{CONNECTION, TRANSFER_ENCODING},
    http::uri::{Authority, Scheme},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

/// Where requests go.
pub(super) struct Upstream {
    authority: Authority,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Upstream {
    pub(super) fn new(url: &str) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("read upstream URL {url}"))?;
        anyhow::ensure!(uri.scheme() == Some(&Scheme::HTTP), "upstream {url}: only http is proxied");
        let authority = uri.authority().cloned().with_context(|| format!("upstream {url} has no host"))?;
        Ok(Self { authority, client: Client::builder(TokioExecutor::new()).build_http() })
    }

    /// The whole answer. `Host` and the signature in the headers stay as they are.
    pub(super) async fn send(&self, request: Request<Bytes>) -> anyhow::Result<Response<Bytes>> {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        parts.uri = format!("http://{}{path}", self.authority).parse().context("build upstream URL")?;
        parts.headers.remove(CONNECTION);
        // The body was read whole, so its length is known now.
        parts.headers.remove(TRANSFER_ENCODING);
        let response =
            self.client.request(Request::from_parts(parts, Full::new(body))).await.context("ask upstream")?;
        let (mut parts, body) = response.into_parts();
        parts.headers.remove(CONNECTION);
        parts.headers.remove(TRANSFER_ENCODING);
        Ok(Response::from_parts(parts, body.collect().await.context("read upstream")?.to_bytes()))
    }
}
