//! A JSON-RPC request, single or batch, checked before anything is sent.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::method;

/// A checked request; its bytes go upstream unchanged.
#[derive(Clone, Debug)]
pub struct RpcRequest {
    /// As received.
    pub body: Bytes,
    /// The calls, in order.
    pub calls: Vec<Call>,
    /// Whether the body is an array.
    pub is_batch: bool,
}

/// One call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The caller's id.
    pub id: Value,
    /// The method.
    pub method: String,
}

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Not JSON-RPC.
    #[error("the body is not a JSON-RPC 2.0 request or batch")]
    Malformed(#[source] serde_json::Error),
    /// Empty batch.
    #[error("the batch is empty")]
    Empty,
    /// Too many calls.
    #[error("the batch has {got} calls; the limit is {limit}")]
    TooMany {
        /// How many came.
        got: usize,
        /// How many may.
        limit: usize,
    },
    /// A method that does not pass.
    #[error("method \"{0}\" does not pass: the gateway serves methods that read the chain")]
    MethodDenied(String),
    /// Answers could not be told apart, or would not come at all.
    #[error("call {0} has no id of its own: give each call of a request its own number or string")]
    BadId(usize),
}

#[derive(Deserialize)]
struct RawCall {
    #[serde(default)]
    id: Value,
    method: String,
}

impl RpcRequest {
    /// Checks a body.
    ///
    /// # Errors
    /// When it is not a request, too large a batch, or names a method that does not pass.
    pub fn parse(body: Bytes, max_batch: usize) -> Result<Self, RequestError> {
        let is_batch = body.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'[');
        let raw: Vec<RawCall> = if is_batch {
            let items: Vec<&RawValue> = serde_json::from_slice(&body).map_err(RequestError::Malformed)?;
            if items.len() > max_batch {
                return Err(RequestError::TooMany { got: items.len(), limit: max_batch });
            }
            items
                .iter()
                .map(|item| serde_json::from_str(item.get()))
                .collect::<Result<_, _>>()
                .map_err(RequestError::Malformed)?
        } else {
            vec![serde_json::from_slice(&body).map_err(RequestError::Malformed)?]
        };
        let calls = check(raw)?;
        Ok(Self { body, calls, is_batch })
    }

    /// A request of the gateway's own: one call without parameters.
    #[must_use]
    pub fn own(name: &str) -> Self {
        let body = serde_json::json!({"jsonrpc": "2.0", "id": 1, "method": name, "params": []}).to_string();
        Self { body: body.into(), calls: vec![Call { id: 1.into(), method: name.into() }], is_batch: false }
    }
}

fn check(raw: Vec<RawCall>) -> Result<Vec<Call>, RequestError> {
    let mut calls: Vec<Call> = Vec::with_capacity(raw.len());
    for (index, RawCall { id, method }) in raw.into_iter().enumerate() {
        if !method::is_allowed(&method) {
            return Err(RequestError::MethodDenied(method));
        }
        if !(id.is_number() || id.is_string()) || calls.iter().any(|call| call.id == id) {
            return Err(RequestError::BadId(index));
        }
        calls.push(Call { id, method });
    }
    if calls.is_empty() { Err(RequestError::Empty) } else { Ok(calls) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &'static str) -> Result<RpcRequest, RequestError> {
        RpcRequest::parse(Bytes::from_static(body.as_bytes()), 2)
    }

    #[test]
    fn single_and_batch_are_read() {
        let one = parse(r#"{"jsonrpc":"2.0","id":7,"method":"eth_chainId"}"#).unwrap();
        assert!(!one.is_batch);
        assert_eq!(one.calls[0].id, 7);
        let two =
            parse(r#" [{"id":1,"method":"eth_chainId"},{"id":"b","method":"eth_blockNumber"}]"#).unwrap();
        assert!(two.is_batch);
        assert_eq!(two.calls[1].id, "b");
    }

    #[test]
    fn what_cannot_be_forwarded_is_refused() {
        assert!(matches!(parse("garbage"), Err(RequestError::Malformed(_))));
        assert!(matches!(parse("[]"), Err(RequestError::Empty)));
        assert!(matches!(parse("[{},{},{}]"), Err(RequestError::TooMany { got: 3, limit: 2 })));
        assert!(matches!(
            parse(r#"{"id":1,"method":"eth_sendRawTransaction"}"#),
            Err(RequestError::MethodDenied(_))
        ));
        assert!(matches!(parse(r#"{"method":"eth_chainId"}"#), Err(RequestError::BadId(0))));
        assert!(matches!(
            parse(r#"[{"id":1,"method":"eth_chainId"},{"id":1,"method":"eth_chainId"}]"#),
            Err(RequestError::BadId(1))
        ));
    }
}
