//! The RPC gateway as operators call it.

use std::time::Duration;

use bytes::BytesMut;
use dagwright_contracts::{
    endpoints::Endpoints,
    gateway::{AVOID_HEADER, PROVIDER_HEADER, VerificationFailure},
    problem::Problem,
    token::BearerToken,
};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

/// Of one call. The gateway asks several providers within it.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Of one answer, so that a task's memory has a bound.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Calls the RPC pools of one namespace.
#[derive(Clone, Debug)]
pub struct Gateway {
    http: reqwest::Client,
    endpoints: Endpoints,
    token: BearerToken,
}

/// One call of a batch.
#[derive(Clone, Debug)]
pub struct Call {
    /// Method.
    pub method: &'static str,
    /// Parameters.
    pub params: Value,
}

/// A batch's results, in the order of its calls.
#[derive(Debug)]
pub struct BatchAnswer {
    /// Who answered.
    pub provider: String,
    /// A result, or a JSON-RPC error as text.
    pub results: Vec<Result<Box<RawValue>, String>>,
}

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// No connection, or no answer in time.
    #[error("reach the RPC gateway at {base}")]
    Unreachable {
        /// The replica.
        base: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The answer is larger than a task may hold.
    #[error("an answer of the RPC gateway is larger than {MAX_ANSWER_BYTES} bytes")]
    TooLarge,
    /// Not a JSON-RPC batch.
    #[error("the RPC gateway's answer, given by provider {provider}, is no answer to the batch: {why}")]
    Garbage {
        /// Who answered.
        provider: String,
        /// What is wrong.
        why: String,
    },
    /// Another status than success.
    #[error("RPC gateway: {status} {code}: {detail}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The problem's code.
        code: String,
        /// The problem's detail.
        detail: String,
        /// How long to wait.
        retry_after: Option<Duration>,
    },
}

impl GatewayError {
    /// Whether the same call may go through later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Garbage { .. } => true,
            Self::TooLarge => false,
            // 404: the gateway has not heard of the pool yet, as just after the pool was made.
            Self::Refused { status, .. } => {
                matches!(status, 404 | 408 | 425 | 429 | 500..) && !self.is_too_large()
            }
        }
    }

    /// Whether fewer calls at once would help.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        match self {
            Self::TooLarge => true,
            Self::Refused { code, .. } => code == "AnswerTooLarge",
            _ => false,
        }
    }

    /// How long the gateway asked to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct RawAnswer {
    id: usize,
    #[serde(default)]
    result: Option<Box<RawValue>>,
    #[serde(default)]
    error: Option<Value>,
}

impl Gateway {
    /// A client for one of the replicas.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(endpoints: Endpoints, token: BearerToken) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder().connect_timeout(Duration::from_secs(3)).no_proxy().build()?;
        Ok(Self { http, endpoints, token })
    }

    /// Sends a batch to the pool `namespace/pool`; one provider answers all of it, if possible none of `avoid`.
    ///
    /// # Errors
    /// When no provider answered, or the answer is none to this batch.
    pub async fn batch(
        &self,
        namespace: &str,
        pool: &str,
        calls: &[Call],
        avoid: &[String],
    ) -> Result<BatchAnswer, GatewayError> {
        let body: Vec<Value> = calls
            .iter()
            .enumerate()
            .map(|(id, call)| json!({"jsonrpc": "2.0", "id": id, "method": call.method, "params": call.params}))
            .collect();
        let path = format!("/v1/{namespace}/{pool}");
        let with = |request: reqwest::RequestBuilder| match avoid {
            [] => request,
            avoid => request.header(AVOID_HEADER, avoid.join(",")),
        };
        let mut response = self.post(&path, &Value::Array(body), with).await?;
        let provider = response.headers().get(PROVIDER_HEADER).and_then(|name| name.to_str().ok());
        let provider = provider.unwrap_or("unknown").to_owned();
        let mut bytes = BytesMut::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if bytes.len() + chunk.len() > MAX_ANSWER_BYTES => {
                    return Err(GatewayError::TooLarge);
                }
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(source) => {
                    return Err(GatewayError::Unreachable { base: self.endpoints.current().base, source });
                }
            }
        }
        sort(&bytes, calls.len())
            .map(|results| BatchAnswer { provider: provider.clone(), results })
            .map_err(|why| GatewayError::Garbage { provider, why })
    }

    /// Tells the gateway that a provider fed wrong data.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn verification_failed(
        &self,
        namespace: &str,
        pool: &str,
        failure: &VerificationFailure,
    ) -> Result<(), GatewayError> {
        let path = format!("/v1/{namespace}/{pool}/verification-failures");
        self.post(&path, failure, |request| request.timeout(Duration::from_secs(5))).await?;
        Ok(())
    }

    async fn post(
        &self,
        path: &str,
        body: &(impl serde::Serialize + Sync + ?Sized),
        with: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, GatewayError> {
        let endpoint = self.endpoints.current();
        let request = self.http.post(format!("{}{path}", endpoint.base)).bearer_auth(self.token.expose());
        let response = match with(request.timeout(TIMEOUT).json(body)).send().await {
            Ok(response) => response,
            Err(source) => {
                self.endpoints.failed(&endpoint);
                return Err(GatewayError::Unreachable { base: endpoint.base, source });
            }
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let retry_after =
            response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let text = response.text().await.unwrap_or_default();
        let (code, detail) = match serde_json::from_str::<Problem>(&text) {
            Ok(problem) => (problem.code, problem.detail),
            Err(_) => ("NoProblem".into(), text.chars().take(300).collect()),
        };
        Err(GatewayError::Refused { status, code, detail, retry_after: retry_after.map(Duration::from_secs) })
    }
}

/// Brings a batch's answers into the order of its calls.
fn sort(bytes: &[u8], calls: usize) -> Result<Vec<Result<Box<RawValue>, String>>, String> {
    let answers = match serde_json::from_slice::<Vec<RawAnswer>>(bytes) {
        Ok(answers) => answers,
        Err(error) => {
            // A single object is how a server refuses a batch as a whole.
            let whole: Option<Value> = serde_json::from_slice(bytes).ok();
            return Err(whole
                .and_then(|w| w.get("error").map(Value::to_string))
                .unwrap_or_else(|| error.to_string()));
        }
    };
    let mut sorted: Vec<Option<Result<Box<RawValue>, String>>> = (0..calls).map(|_| None).collect();
    for RawAnswer { id, result, error } in answers {
        let place = sorted.get_mut(id).ok_or_else(|| format!("it holds id {id}, which was not asked"))?;
        *place = Some(match (error, result) {
            (Some(error), _) => Err(error.to_string()),
            (None, Some(result)) => Ok(result),
            (None, None) => Ok(RawValue::from_string("null".into()).expect("null is JSON")),
        });
    }
    sorted
        .into_iter()
        .enumerate()
        .map(|(id, answer)| answer.ok_or_else(|| format!("it lacks id {id}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_back_in_the_order_of_the_calls() {
        let sorted = sort(br#"[{"id":1,"result":null},{"id":0,"result":{"a":1}}]"#, 2).unwrap();
        assert_eq!(sorted[0].as_ref().unwrap().get(), r#"{"a":1}"#);
        assert_eq!(sorted[1].as_ref().unwrap().get(), "null");
        let sorted = sort(br#"[{"id":0,"error":{"code":-32601,"message":"no"}}]"#, 1).unwrap();
        assert!(sorted[0].as_ref().unwrap_err().contains("-32601"));
    }

    #[test]
    fn what_is_not_an_answer_to_the_batch_is_named() {
        assert_eq!(sort(br#"[{"id":0,"result":1}]"#, 2).unwrap_err(), "it lacks id 1");
        assert_eq!(sort(br#"[{"id":7,"result":1}]"#, 1).unwrap_err(), "it holds id 7, which was not asked");
        assert!(
            sort(br#"{"error":{"code":1,"message":"no batches"}}"#, 1).unwrap_err().contains("no batches")
        );
        assert!(sort(b"<html>", 1).is_err());
    }
}
