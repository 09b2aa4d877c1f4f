//! An answer on its way: whole when it is small, streamed when it is not.
//!
//! What fits into [`WHOLE`] is answered with its row count and whether it was cut in headers, and a failure half-way is still a
//! proper problem. A longer answer carries both in trailers, and a failure half-way breaks the connection off, which every
//! client sees in every format.

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::Response,
};
use dagwright_contracts::query::Format;
use dagwright_telemetry::Rejection;
use futures::Stream;
use http_body_util::StreamBody;
use hyper::body::Frame as BodyFrame;
use tokio::sync::mpsc;

use super::{problem::Ended, query::Running};
use crate::engine::protocol::{Frame, Outcome};

/// Bytes of an answer that are collected before its head is sent.
const WHOLE: usize = 4 << 20;

const QUERY_ID: HeaderName = HeaderName::from_static("dagwright-query-id");
const ROW_COUNT: HeaderName = HeaderName::from_static("dagwright-row-count");
const TRUNCATED: HeaderName = HeaderName::from_static("dagwright-truncated");

pub(super) async fn respond(mut running: Running, format: Format) -> Result<Response, Rejection> {
    let mut begun = Vec::new();
    loop {
        match running.next().await {
            Ok(Frame::Data(bytes)) => begun.extend_from_slice(&bytes),
            Ok(Frame::Done(outcome)) => {
                running.audit.record("Succeeded", running.access.as_ref(), outcome.rows, begun.len() as u64);
                let mut response = head(format, &running, Body::from(begun));
                response.headers_mut().extend(ending(outcome));
                return Ok(response);
            }
            Ok(Frame::Failed(failure)) => return Err(running.end(&Ended::Failed(failure))),
            Ok(_) => return Err(running.end(&Ended::Broken(crate::pool::EngineError::OutOfTurn))),
            Err(ended) => return Err(running.end(&ended)),
        }
        if begun.len() >= WHOLE {
            return Ok(stream(running, format, begun));
        }
    }
}

fn stream(running: Running, format: Format, begun: Vec<u8>) -> Response {
    let (sender, receiver) = mpsc::channel(2);
    let mut response = head(format, &running, Body::new(StreamBody::new(frames(receiver))));
    let trailers = HeaderValue::from_static("dagwright-row-count, dagwright-truncated");
    response.headers_mut().insert(header::TRAILER, trailers);
    tokio::spawn(pump(running, begun, sender));
    response
}

type Sent = Result<BodyFrame<Bytes>, std::io::Error>;

fn frames(receiver: mpsc::Receiver<Sent>) -> impl Stream<Item = Sent> {
    futures::stream::unfold(receiver, async |mut receiver| {
        receiver.recv().await.map(|frame| (frame, receiver))
    })
}

/// Passes frames on until the engine is done, the reader is gone or time is up: a stalled reader holds its engine no longer
/// than a slow query would.
async fn pump(mut running: Running, begun: Vec<u8>, sender: mpsc::Sender<Sent>) {
    let mut bytes = begun.len() as u64;
    let mut chunk = begun;
    let ended = loop {
        match tokio::time::timeout_at(running.kill_at, sender.send(Ok(BodyFrame::data(Bytes::from(chunk)))))
            .await
        {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return running.audit.record("ClientGone", running.access.as_ref(), 0, bytes),
            Err(_) => break Ended::Deadline,
        }
        match running.next().await {
            Ok(Frame::Data(next)) => {
                bytes += next.len() as u64;
                chunk = next;
            }
            Ok(Frame::Done(outcome)) => {
                running.audit.record("Succeeded", running.access.as_ref(), outcome.rows, bytes);
                let _ = sender.send(Ok(BodyFrame::trailers(ending(outcome)))).await;
                return;
            }
            Ok(Frame::Failed(failure)) => break Ended::Failed(failure),
            Ok(_) => break Ended::Broken(crate::pool::EngineError::OutOfTurn),
            Err(ended) => break ended,
        }
    };
    let code = running.end(&ended).problem().code.clone();
    // A reader that does not read must not keep the query's slot.
    drop(running);
    let _ = sender.send(Err(std::io::Error::other(code))).await;
}

fn head(format: Format, running: &Running, body: Body) -> Response {
    let mut response = Response::new(body);
    let media_type = match format {
        Format::Json => "application/json",
        Format::Arrow => "application/vnd.apache.arrow.stream",
        Format::Csv => "text/csv; charset=utf-8; header=present",
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(&running.audit.id.to_string()) {
        headers.insert(QUERY_ID, id);
    }
    response
}

fn ending(outcome: Outcome) -> HeaderMap {
    HeaderMap::from_iter([
        (ROW_COUNT, HeaderValue::from(outcome.rows)),
        (TRUNCATED, HeaderValue::from_static(if outcome.truncated { "true" } else { "false" })),
    ])
}
