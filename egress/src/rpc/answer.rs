//! What a provider's answer is worth: whether it goes to the caller or another provider is asked.

use serde::{Deserialize, Deserializer};
use serde_json::{Value, value::RawValue};

use super::{
    error::{self, ErrorClass},
    method,
    request::RpcRequest,
};

/// How one upstream request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Every call has a result.
    Answered,
    /// An error that is the caller's own goes back to it.
    CallerError,
    /// A block is not there.
    Missing,
    /// HTTP 429 or its like.
    RateLimited,
    /// Our own limits for this provider are used up.
    Busy,
    /// No answer in time.
    Timeout,
    /// Connection refused, reset, TLS, DNS.
    Transport,
    /// Another HTTP status than success.
    HttpStatus,
    /// Not the JSON-RPC answer to what was asked.
    Garbage,
    /// Larger than the cap.
    TooLarge,
    /// A JSON-RPC error of the provider's own.
    ProviderError,
    /// Another chain.
    WrongChain,
    /// Its URL cannot be read.
    NoUrl,
}

impl Outcome {
    /// The metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::CallerError => "caller_error",
            Self::Missing => "missing",
            Self::RateLimited => "rate_limited",
            Self::Busy => "busy",
            Self::Timeout => "timeout",
            Self::Transport => "transport",
            Self::HttpStatus => "http_status",
            Self::Garbage => "garbage",
            Self::TooLarge => "too_large",
            Self::ProviderError => "provider_error",
            Self::WrongChain => "wrong_chain",
            Self::NoUrl => "no_url",
        }
    }

    /// Whether the answer goes to the caller without asking anybody else.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Answered | Self::CallerError)
    }

    /// Whether it speaks against the provider's health. A full queue of ours and an absent block do not.
    #[must_use]
    pub fn is_fault(self) -> bool {
        !matches!(self, Self::Answered | Self::CallerError | Self::Missing | Self::Busy)
    }

    /// Whether the connection may now lead to another node, so that the chain id is to be asked again.
    #[must_use]
    pub fn forgets_chain(self) -> bool {
        matches!(self, Self::Timeout | Self::Transport | Self::HttpStatus | Self::Garbage | Self::WrongChain)
    }
}

/// An outcome with words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The class.
    pub outcome: Outcome,
    /// What happened; empty when all is well.
    pub detail: String,
}

impl Verdict {
    /// A verdict.
    pub fn new(outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { outcome, detail: detail.into() }
    }
}

#[derive(Deserialize)]
struct RawAnswer<'a> {
    #[serde(default)]
    id: Value,
    #[serde(default, borrow, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<RawError>,
}

#[derive(Deserialize)]
struct RawError {
    #[serde(default)]
    code: i64,
    #[serde(default)]
    message: String,
}

/// Keeps `null` apart from an absent field.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Judges the body of an answer. Of a batch the worst item counts, because one provider has to answer all of it.
#[must_use]
pub fn judge(request: &RpcRequest, body: &[u8]) -> Verdict {
    let answers: Vec<RawAnswer<'_>> = if request.is_batch && first_byte(body) == Some(b'[') {
        match serde_json::from_slice(body) {
            Ok(answers) => answers,
            Err(error) => return garbage(&error),
        }
    } else {
        match serde_json::from_slice(body) {
            Ok(answer) => vec![answer],
            Err(error) => return garbage(&error),
        }
    };
    if let [RawAnswer { id, error: Some(error), .. }] = answers.as_slice()
        && (request.is_batch || id.is_null())
    {
        // A refusal of the whole request, which carries no id or that of nobody.
        return judge_error(error);
    }
    let mut worst = Verdict::new(Outcome::Answered, "");
    for call in &request.calls {
        let Some(answer) = answers.iter().find(|answer| answer.id == call.id) else {
            return Verdict::new(
                Outcome::Garbage,
                format!("the answer lacks id {} ({})", call.id, call.method),
            );
        };
        let verdict = match (&answer.error, answer.result) {
            (Some(error), _) => judge_error(error),
            (None, Some(result)) if result.get() == "null" && method::null_means_missing(&call.method) => {
                Verdict::new(Outcome::Missing, format!("{} answered null", call.method))
            }
            (None, Some(_)) => continue,
            (None, None) => Verdict::new(Outcome::Garbage, "an answer has neither result nor error"),
        };
        if severity(verdict.outcome) > severity(worst.outcome) {
            worst = verdict;
        }
    }
    worst
}

fn first_byte(body: &[u8]) -> Option<u8> {
    body.iter().copied().find(|b| !b.is_ascii_whitespace())
}

fn garbage(error: &serde_json::Error) -> Verdict {
    Verdict::new(Outcome::Garbage, format!("the answer is not JSON-RPC: {error}"))
}

fn judge_error(error: &RawError) -> Verdict {
    let outcome = match error::classify(error.code, &error.message) {
        ErrorClass::Caller => Outcome::CallerError,
        ErrorClass::Missing => Outcome::Missing,
        ErrorClass::RateLimited => Outcome::RateLimited,
        ErrorClass::Provider => Outcome::ProviderError,
    };
    let shown: String = error.message.chars().take(200).collect();
    Verdict::new(outcome, format!("JSON-RPC error {}: {shown}", error.code))
}

fn severity(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Answered => 0,
        Outcome::CallerError => 1,
        Outcome::Missing => 2,
        Outcome::ProviderError => 3,
        _ => 4,
    }
}

/// The number in a hex quantity result, such as that of `eth_chainId`.
#[must_use]
pub fn quantity(body: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Quantity {
        result: String,
    }
    let answer: Quantity = serde_json::from_slice(body).ok()?;
    u64::from_str_radix(answer.result.strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn batch() -> RpcRequest {
        let body = r#"[{"id":1,"method":"eth_getBlockByNumber"},{"id":2,"method":"eth_getBlockReceipts"}]"#;
        RpcRequest::parse(Bytes::from_static(body.as_bytes()), 10).unwrap()
    }

    #[test]
    fn a_batch_is_worth_its_worst_item() {
        for (body, outcome) in [
            (r#"[{"id":2,"result":[]},{"id":1,"result":{}}]"#, Outcome::Answered),
            (r#"[{"id":1,"result":{}}]"#, Outcome::Garbage),
            (r#"[{"id":1,"result":{}},{"id":3,"result":[]}]"#, Outcome::Garbage),
            (r#"[{"id":1,"result":null},{"id":2,"result":[]}]"#, Outcome::Missing),
            (
                r#"[{"id":1,"result":{}},{"id":2,"error":{"code":-32601,"message":"no"}}]"#,
                Outcome::CallerError,
            ),
            (
                r#"[{"id":1,"result":null},{"id":2,"error":{"code":-32005,"message":"rate limit"}}]"#,
                Outcome::RateLimited,
            ),
            (r#"{"id":null,"error":{"code":-32603,"message":"broken"}}"#, Outcome::ProviderError),
            ("<html>", Outcome::Garbage),
            (r#"[{"id":1,"result":{}},{"id":2,"res"#, Outcome::Garbage),
            (r#"[{"id":1},{"id":2,"result":[]}]"#, Outcome::Garbage),
        ] {
            assert_eq!(judge(&batch(), body.as_bytes()).outcome, outcome, "{body}");
        }
    }

    #[test]
    fn null_is_an_answer_where_it_may_be_one() {
        let body = r#"{"id":1,"method":"eth_getTransactionByHash"}"#;
        let request = RpcRequest::parse(Bytes::from_static(body.as_bytes()), 1).unwrap();
        assert_eq!(judge(&request, br#"{"id":1,"result":null}"#).outcome, Outcome::Answered);
    }

    #[test]
    fn quantities() {
        assert_eq!(quantity(br#"{"id":1,"result":"0x7a69"}"#), Some(31337));
        assert_eq!(quantity(br#"{"id":1,"result":null}"#), None);
    }
}
