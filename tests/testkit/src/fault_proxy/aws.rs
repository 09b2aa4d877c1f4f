//! How AWS fails: errors in the words of each protocol, deliveries that come twice or late, batches that succeed in part.

use std::collections::VecDeque;

use hyper::{Request, Response, StatusCode, body::Bytes, header::CONTENT_LENGTH};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::rules::Subject;

/// An error as the service would write it.
pub(super) fn error(subject: &Subject, status: u16, code: &str, message: &str) -> Response<Bytes> {
    let (kind, body) = match subject.service.as_deref() {
        Some("s3") => (
            "application/xml",
            format!(
                "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message><RequestId>fault</RequestId></Error>"
            ),
        ),
        Some("sts" | "iam") => (
            "text/xml",
            format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error><RequestId>fault</RequestId></ErrorResponse>"
            ),
        ),
        _ => ("application/x-amz-json-1.1", json!({ "__type": code, "message": message }).to_string()),
    };
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert("content-type", http_value(kind));
    response
}

fn http_value(text: &'static str) -> hyper::header::HeaderValue {
    hyper::header::HeaderValue::from_static(text)
}

/// A JSON answer.
pub(super) fn answer(body: &Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body.to_string()));
    response.headers_mut().insert("content-type", http_value("application/x-amz-json-1.0"));
    response
}

/// A request's or an answer's JSON; null when it is none.
pub(super) fn json_of(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or(Value::Null)
}

/// The same request with another JSON body. The signature covers the hash of the old one; the local endpoint believes the
/// header that names it.
pub(super) fn with_body(request: Request<Bytes>, body: &Value) -> Request<Bytes> {
    let (mut parts, old) = request.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    let hash = hex::encode(Sha256::digest(&old));
    parts.headers.entry("x-amz-content-sha256").or_insert_with(|| {
        hyper::header::HeaderValue::from_str(&hash).expect("hex digits are a header value")
    });
    Request::from_parts(parts, Bytes::from(body.to_string()))
}

/// What a delete is answered when it is held back.
pub(super) fn deleted(request: &Value) -> Value {
    match request["Entries"].as_array() {
        Some(entries) => {
            let done: Vec<Value> = entries.iter().map(|entry| json!({ "Id": entry["Id"] })).collect();
            json!({ "Successful": done, "Failed": [] })
        }
        None => json!({}),
    }
}

/// Splits a batch: what passes, and the failures of the others. The last entry of an odd batch fails too, so that a batch
/// of one does.
pub(super) fn halves(request: &Value) -> (Value, Vec<Value>) {
    let entries = request["Entries"].as_array().cloned().unwrap_or_default();
    let (mut kept, mut failed) = (vec![], vec![]);
    for (n, entry) in entries.into_iter().enumerate() {
        if n % 2 == 0 {
            failed.push(json!({
                "Id": entry["Id"], "SenderFault": false, "Code": "InternalError", "Message": "failed by a fault rule",
            }));
        } else {
            kept.push(entry);
        }
    }
    let mut rest = request.clone();
    rest["Entries"] = Value::Array(kept);
    (rest, failed)
}

/// Messages that were delivered, to be delivered again.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    seen: VecDeque<(Value, Value)>,
}

/// What SQS hands out at most in one answer, and what is remembered at most.
const BATCH: usize = 10;
const REMEMBERED: usize = 200;

impl Deliveries {
    /// Adds to an answer of `ReceiveMessage` what was delivered before, the oldest first and behind the new ones, and
    /// remembers the new ones. Returns how many were added.
    pub(super) fn again(&mut self, queue: &Value, answer: &mut Value) -> u64 {
        let mut messages = answer["Messages"].as_array().cloned().unwrap_or_default();
        let fresh = messages.clone();
        let mut added = 0;
        for _ in 0..self.seen.len() {
            if messages.len() >= BATCH {
                break;
            }
            let Some((of, message)) = self.seen.pop_front() else { break };
            if of == *queue {
                messages.push(message);
                added += 1;
            } else {
                self.seen.push_back((of, message));
            }
        }
        for message in fresh {
            // At once as well, where there is room.
            if messages.len() < BATCH {
                messages.push(message.clone());
                added += 1;
            }
            self.seen.push_back((queue.clone(), message));
        }
        while self.seen.len() > REMEMBERED {
            self.seen.pop_front();
        }
        if added > 0 {
            answer["Messages"] = Value::Array(messages);
        }
        added
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_fails_by_halves_and_a_batch_of_one_whole() {
        let batch = |ids: &[&str]| json!({ "QueueUrl": "q", "Entries": ids.iter().map(|id| json!({ "Id": id })).collect::<Vec<_>>() });
        let (rest, failed) = halves(&batch(&["a", "b", "c"]));
        assert_eq!(rest, batch(&["b"]));
        assert_eq!(failed.iter().map(|f| f["Id"].as_str().unwrap()).collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(halves(&batch(&["a"])).0, batch(&[]));
    }

    #[test]
    fn a_delivery_comes_again_at_once_and_later_but_not_in_another_queue() {
        let mut deliveries = Deliveries::default();
        let (ours, theirs) = (json!("ours"), json!("theirs"));
        let mut first = json!({ "Messages": [{ "MessageId": "1" }] });
        assert_eq!(deliveries.again(&ours, &mut first), 1);
        assert_eq!(first["Messages"].as_array().unwrap().len(), 2);
        let mut other = json!({});
        assert_eq!(deliveries.again(&theirs, &mut other), 0);
        let mut empty = json!({});
        assert_eq!(deliveries.again(&ours, &mut empty), 1);
        assert_eq!(empty["Messages"][0]["MessageId"], "1");
        assert_eq!(deliveries.again(&ours, &mut json!({})), 0, "each comes again twice at most");
    }

    #[test]
    fn a_held_delete_is_answered_like_a_done_one() {
        assert_eq!(deleted(&json!({ "ReceiptHandle": "r" })), json!({}));
        let batch = deleted(&json!({ "Entries": [{ "Id": "7" }] }));
        assert_eq!(batch, json!({ "Successful": [{ "Id": "7" }], "Failed": [] }));
    }
}
