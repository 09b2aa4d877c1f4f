//! The proxy's server side: judge a request, then let it pass, spoil it or lie about it.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use futures::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Frame, Incoming},
    header::CONTENT_LENGTH,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    aws,
    control::{FaultControl, Strike},
    forward::Upstream,
    lies::Lie,
    rules::{Fault, RpcMatch, Rule, RuleId, Subject, collect},
};

/// A running proxy; it stops when dropped.
pub struct FaultProxy {
    address: SocketAddr,
    control: FaultControl,
    _stop: DropGuard,
}

type Body = BoxBody<Bytes, Cut>;

/// The connection is to be closed here.
#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut by a fault rule")
    }
}

impl std::error::Error for Cut {}

impl FaultProxy {
    /// Listens on a free loopback port before `upstream`, an `http://host:port` URL.
    ///
    /// # Errors
    /// When the URL is none, or nothing can be bound.
    pub async fn start(upstream: &str) -> anyhow::Result<Self> {
        Self::start_on(SocketAddr::from(([127, 0, 0, 1], 0)), upstream).await
    }

    /// As [`Self::start`], on a given address.
    ///
    /// # Errors
    /// When the URL is none, or the address cannot be bound.
    pub async fn start_on(listen: SocketAddr, upstream: &str) -> anyhow::Result<Self> {
        let upstream = Arc::new(Upstream::new(upstream)?);
        let listener = TcpListener::bind(listen).await.with_context(|| format!("listen on {listen}"))?;
        let (address, control, stop) =
            (listener.local_addr()?, FaultControl::default(), CancellationToken::new());
        let (shared, stopped) = (control.clone(), stop.clone());
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = stopped.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                let Ok((connection, _)) = accepted else { continue };
                tokio::spawn(connected(connection, shared.clone(), Arc::clone(&upstream), stopped.clone()));
            }
        });
        Ok(Self { address, control, _stop: stop.drop_guard() })
    }

    /// Where clients connect.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sets rules.
    #[must_use]
    pub fn control(&self) -> FaultControl {
        self.control.clone()
    }
}

/// A provider that lies, before a node that does not.
pub struct RpcFaultProxy {
    proxy: FaultProxy,
    rules: Mutex<Vec<RuleId>>,
}

impl RpcFaultProxy {
    /// Truthful until told otherwise.
    ///
    /// # Errors
    /// As [`FaultProxy::start`].
    pub async fn start(node: &str) -> anyhow::Result<Self> {
        Ok(Self { proxy: FaultProxy::start(node).await?, rules: Mutex::default() })
    }

    /// Where its clients connect.
    #[must_use]
    pub fn url(&self) -> String {
        self.proxy.url()
    }

    /// Tells these lies from now on, another one with each request; each about every call that it can be about.
    pub fn tell(&self, lies: Vec<Lie>) {
        let id = self.proxy.control().add(Rule::always(Fault::LieInTurn(lies)));
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).push(id);
    }

    /// How many answers were falsified.
    #[must_use]
    pub fn lies_told(&self) -> u64 {
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        rules.iter().map(|id| self.proxy.control().hits(*id)).sum()
    }

    /// Further faults.
    #[must_use]
    pub fn control(&self) -> FaultControl {
        self.proxy.control()
    }
}

async fn connected(
    connection: TcpStream,
    control: FaultControl,
    upstream: Arc<Upstream>,
    stop: CancellationToken,
) {
    let service = service_fn(move |request| handle(request, control.clone(), Arc::clone(&upstream)));
    let builder = auto::Builder::new(TokioExecutor::new());
    let serving = builder.serve_connection(TokioIo::new(connection), service);
    tokio::select! {
        () = stop.cancelled() => {}
        // An error here is a fault that was asked for, or a client that went away.
        _ = serving => {}
    }
}

async fn handle(
    request: Request<Incoming>,
    control: FaultControl,
    upstream: Arc<Upstream>,
) -> anyhow::Result<Response<Body>> {
    let request = collect(request).await?;
    let (subject, way) = (Subject::of(&request), Way { control, upstream });
    match way.control.strike(&subject) {
        Some(strike) => spoil(strike, &subject, request, &way).await,
        None => Ok(whole(way.pass(&subject, request).await)),
    }
}

/// To the upstream, as AWS would take it: whatever a fault does before or after, a request that AWS refuses never gets there.
#[derive(Clone)]
struct Way {
    control: FaultControl,
    upstream: Arc<Upstream>,
}

impl Way {
    /// The upstream's answer; an upstream that is down reads as a bad gateway, as with any proxy.
    async fn pass(&self, subject: &Subject, request: Request<Bytes>) -> Response<Bytes> {
        if let Some(refusal) = self.control.refused(subject, request.body()) {
            return refusal;
        }
        let body = request.body().clone();
        let response = self.upstream.send(request).await.unwrap_or_else(|error| {
            let mut response = Response::new(Bytes::from(format!("{error:#}")));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        });
        if response.status().is_success() {
            self.control.applied(subject, &body);
        }
        response
    }
}

async fn spoil(
    Strike { id, fault, when }: Strike,
    subject: &Subject,
    request: Request<Bytes>,
    way: &Way,
) -> anyhow::Result<Response<Body>> {
    match fault {
        Fault::AwsError { status, code, message } => Ok(whole(aws::error(subject, status, &code, &message))),
        Fault::TaskFailures { reason } => {
            let failure = json!({ "arn": "arn:aws:ecs:fault", "reason": reason });
            Ok(whole(aws::answer(&json!({ "tasks": [], "failures": [failure] }))))
        }
        Fault::Redeliver => Ok(whole(redelivered(id, subject, request, way).await)),
        Fault::DelayDelivery { milliseconds } => {
            Ok(whole(delivered_late(id, subject, request, milliseconds, way).await))
        }
        Fault::HoldDelete { milliseconds } => Ok(whole(held(subject, request, milliseconds, way))),
        Fault::PartialBatch => Ok(whole(in_part(subject, request, way).await)),
        Fault::Status { status, body, retry_after } => {
            let mut response = Response::builder().status(status);
            if let Some(seconds) = retry_after {
                response = response.header("retry-after", seconds);
            }
            Ok(whole(response.body(Bytes::from(body))?))
        }
        Fault::RpcError { code, message } => Ok(whole(rpc_error(request.body(), code, &message))),
        Fault::Garbage => Ok(whole(Response::new(Bytes::from_static(b"<html>\xff\xfe not an answer")))),
        Fault::Truncate { after } => {
            let bodiless = request.method() == Method::HEAD;
            truncated(way.pass(subject, request).await, bodiless, after)
        }
        Fault::Hang => std::future::pending().await,
        Fault::Reset => anyhow::bail!(Cut),
        Fault::DropAnswer => {
            way.pass(subject, request).await;
            anyhow::bail!(Cut)
        }
        Fault::Delay { milliseconds } => {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            Ok(whole(way.pass(subject, request).await))
        }
        // `strike` has picked one already.
        Fault::LieInTurn(_) => Ok(whole(way.pass(subject, request).await)),
        Fault::Lie(lie) => {
            let (response, told) = lied(&lie, &when, subject, request, way).await?;
            way.control.told(id, told);
            Ok(whole(response))
        }
    }
}

/// An answer that delivers nothing is not struck: only what comes again counts.
async fn redelivered(id: RuleId, subject: &Subject, request: Request<Bytes>, way: &Way) -> Response<Bytes> {
    let queue = aws::json_of(request.body())["QueueUrl"].clone();
    let response = way.pass(subject, request).await;
    let mut body = aws::json_of(response.body());
    if !response.status().is_success() || way.control.deliver_again(&queue, &mut body) == 0 {
        return response;
    }
    way.control.told(id, 1);
    aws::answer(&body)
}

/// SQS has handed the messages out and counts their visibility while they are still on their way.
async fn delivered_late(
    id: RuleId,
    subject: &Subject,
    request: Request<Bytes>,
    milliseconds: u64,
    way: &Way,
) -> Response<Bytes> {
    let response = way.pass(subject, request).await;
    if aws::json_of(response.body())["Messages"].as_array().is_some_and(|messages| !messages.is_empty()) {
        way.control.told(id, 1);
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }
    response
}

fn held(subject: &Subject, request: Request<Bytes>, milliseconds: u64, way: &Way) -> Response<Bytes> {
    let answer = aws::deleted(&aws::json_of(request.body()));
    let (way, subject) = (way.clone(), subject.clone());
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        way.pass(&subject, request).await;
    });
    aws::answer(&answer)
}

async fn in_part(subject: &Subject, request: Request<Bytes>, way: &Way) -> Response<Bytes> {
    let asked = aws::json_of(request.body());
    let (rest, failed) = aws::halves(&asked);
    let mut body = json!({ "Successful": [], "Failed": [] });
    if rest["Entries"].as_array().is_some_and(|entries| !entries.is_empty()) {
        let response = way.pass(subject, aws::with_body(request, &rest)).await;
        if !response.status().is_success() {
            return response;
        }
        body = aws::json_of(response.body());
    }
    let mut all = body["Failed"].as_array().cloned().unwrap_or_default();
    all.extend(failed);
    body["Failed"] = Value::Array(all);
    aws::answer(&body)
}

async fn lied(
    lie: &Lie,
    when: &RpcMatch,
    subject: &Subject,
    request: Request<Bytes>,
    way: &Way,
) -> anyhow::Result<(Response<Bytes>, u64)> {
    let asked: Value = serde_json::from_slice(request.body()).context("a lie needs a JSON-RPC request")?;
    let mut twisted = asked.clone();
    let mut told = lie.twist_request(&mut twisted, when);
    let (mut parts, _) = request.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    let request = Request::from_parts(parts, Bytes::from(serde_json::to_vec(&twisted)?));
    let (mut parts, body) = way.pass(subject, request).await.into_parts();
    let Ok(mut answer) = serde_json::from_slice::<Value>(&body) else {
        return Ok((Response::from_parts(parts, body), told));
    };
    told += lie.twist_answer(&asked, &mut answer, when);
    parts.headers.remove(CONTENT_LENGTH);
    Ok((Response::from_parts(parts, Bytes::from(serde_json::to_vec(&answer)?)), told))
}

fn whole(response: Response<Bytes>) -> Response<Body> {
    response.map(|body| Full::new(body).map_err(|never: Infallible| match never {}).boxed())
}

/// Promises the whole body and breaks the promise, at the latest in its middle: a short answer is cut too. One without a body has
/// nothing that could be cut but the connection.
fn truncated(response: Response<Bytes>, bodiless: bool, after: usize) -> anyhow::Result<Response<Body>> {
    let (mut parts, body) = response.into_parts();
    if bodiless || body.is_empty() {
        anyhow::bail!(Cut);
    }
    parts.headers.insert(CONTENT_LENGTH, body.len().into());
    let kept = body.slice(..after.min(body.len() / 2));
    // The server flushes what it has when the body makes it wait; an error at once would swallow head and data.
    let cut = stream::once(async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Err(Cut)
    });
    let frames = stream::iter([Ok(Frame::data(kept))]).chain(cut);
    Ok(Response::from_parts(parts, BoxBody::new(StreamBody::new(frames))))
}

fn rpc_error(request: &[u8], code: i64, message: &str) -> Response<Bytes> {
    let error = |call: &Value| json!({"jsonrpc": "2.0", "id": call["id"], "error": {"code": code, "message": message}});
    let answer = match serde_json::from_slice::<Value>(request) {
        Ok(Value::Array(calls)) => Value::Array(calls.iter().map(error).collect()),
        Ok(call) => error(&call),
        Err(_) => error(&Value::Null),
    };
    Response::new(Bytes::from(answer.to_string()))
}
