//! Which requests go wrong, and how.

use http_body_util::BodyExt as _;
use hyper::{Method, Request, body::Bytes};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::lies::Lie;

/// One rule. The first one that matches and is not used up strikes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Which requests.
    #[serde(default)]
    pub when: Match,
    /// What happens to them.
    pub then: Fault,
    /// So many matching requests pass first.
    #[serde(default)]
    pub skip: u64,
    /// Of those that come then, each so-manieth is struck. None: each.
    #[serde(default)]
    pub every: Option<u64>,
    /// Strikes at most so often. None: until it is removed.
    #[serde(default)]
    pub times: Option<u64>,
}

impl Rule {
    /// For every request, until removed.
    #[must_use]
    pub fn always(then: Fault) -> Self {
        Self { when: Match::Any, then, skip: 0, every: None, times: None }
    }

    /// Narrows it to calls of a JSON-RPC method.
    #[must_use]
    pub fn on_method(mut self, method: &str) -> Self {
        self.when = Match::Rpc(RpcMatch { method: Some(method.into()), block: None });
        self
    }

    /// Narrows it to calls about one block.
    #[must_use]
    pub fn on_block(mut self, block: u64) -> Self {
        let method = match self.when {
            Match::Rpc(RpcMatch { method, .. }) => method,
            Match::Any | Match::Aws(_) => None,
        };
        self.when = Match::Rpc(RpcMatch { method, block: Some(block) });
        self
    }

    /// Narrows it to an AWS operation, such as `DeleteMessageBatch` or `PutObject`.
    #[must_use]
    pub fn on_aws(mut self, operation: &str) -> Self {
        self.when = Match::Aws(AwsMatch { operation: Some(operation.into()), ..AwsMatch::default() });
        self
    }

    /// Narrows it to an AWS service, such as `sqs`.
    #[must_use]
    pub fn on_service(mut self, service: &str) -> Self {
        self.when = Match::Aws(AwsMatch { service: Some(service.into()), ..AwsMatch::default() });
        self
    }

    /// Strikes each `n`th match.
    #[must_use]
    pub fn every(mut self, n: u64) -> Self {
        self.every = Some(n);
        self
    }

    /// Limits it.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// Lets so many pass first.
    #[must_use]
    pub fn skip(mut self, skip: u64) -> Self {
        self.skip = skip;
        self
    }
}

/// Names a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RuleId(pub u64);

/// Which requests.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Match {
    /// All.
    #[default]
    Any,
    /// JSON-RPC calls; of a batch, those that match.
    Rpc(RpcMatch),
    /// AWS requests.
    Aws(AwsMatch),
}

/// Which JSON-RPC calls.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RpcMatch {
    /// Method.
    pub method: Option<String>,
    /// Height in the first parameter.
    pub block: Option<u64>,
}

/// Which AWS requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AwsMatch {
    /// Lower-case service: `sqs`, `s3`, `ecs`, `sts`, `secretsmanager`.
    pub service: Option<String>,
    /// Operation: from `X-Amz-Target`, from a query protocol's `Action`, or what an S3 request amounts to.
    pub operation: Option<String>,
    /// Part of path and query, such as a key.
    pub path_contains: Option<String>,
}

/// What goes wrong.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Fault {
    /// An HTTP status instead of an answer.
    Status {
        /// Which.
        status: u16,
        /// With this body.
        #[serde(default)]
        body: String,
        /// Retry-After, in seconds.
        #[serde(default)]
        retry_after: Option<u64>,
    },
    /// A JSON-RPC error for every call of the request.
    RpcError {
        /// Code.
        code: i64,
        /// Message.
        message: String,
    },
    /// 200 with bytes that are no answer.
    Garbage,
    /// The answer, cut after so many bytes, then a closed connection. Of an answer without a body nothing comes.
    Truncate {
        /// Bytes that still come, but never more than half of them.
        after: usize,
    },
    /// Accepts and never answers.
    Hang,
    /// Closes the connection without passing the request on.
    Reset,
    /// Passes the request on and throws the answer away: it was applied, and the client cannot know.
    DropAnswer,
    /// Passes everything on, later.
    Delay {
        /// How much later.
        milliseconds: u64,
    },
    /// An AWS error, written as the service's protocol has it.
    AwsError {
        /// HTTP status.
        status: u16,
        /// Such as `ThrottlingException` or `SlowDown`.
        code: String,
        /// Text.
        #[serde(default)]
        message: String,
    },
    /// SQS: what was received comes again, at once and with later receives.
    Redeliver,
    /// SQS: what was received arrives later, while its visibility already counts.
    DelayDelivery {
        /// How much later.
        milliseconds: u64,
    },
    /// SQS: a delete is answered at once and applied later.
    HoldDelete {
        /// How much later.
        milliseconds: u64,
    },
    /// SQS: every second entry of a batch fails, the others are applied.
    PartialBatch,
    /// ECS: nothing is started, and `failures` says why.
    TaskFailures {
        /// Such as `Capacity is unavailable at this time.`
        reason: String,
    },
    /// Another truth.
    Lie(Lie),
    /// One request, one lie, in turn.
    LieInTurn(Vec<Lie>),
}

impl Fault {
    /// Whether only its answer shows if it struck: a lie that found something to be about, a receive that delivered something.
    pub(super) fn counts_itself(&self) -> bool {
        matches!(self, Self::Lie(_) | Self::Redeliver | Self::DelayDelivery { .. })
    }
}

/// What a request is, as far as rules care.
#[derive(Clone, Debug, Default)]
pub(super) struct Subject {
    /// JSON-RPC calls: method, first parameter's height.
    pub(super) calls: Vec<(String, Option<u64>)>,
    pub(super) service: Option<String>,
    pub(super) operation: Option<String>,
    pub(super) path: String,
}

impl Subject {
    pub(super) fn of(request: &Request<Bytes>) -> Self {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let (service, operation) = aws(request, &path);
        Self { calls: calls(request.body()), service, operation, path }
    }
}

impl Match {
    pub(super) fn matches(&self, subject: &Subject) -> bool {
        match self {
            Self::Any => true,
            Self::Rpc(wanted) => subject.calls.iter().any(|call| wanted.matches(call)),
            Self::Aws(wanted) => {
                let same = |wanted: &Option<String>, got: &Option<String>| wanted.is_none() || wanted == got;
                same(&wanted.service, &subject.service)
                    && same(&wanted.operation, &subject.operation)
                    && wanted.path_contains.as_ref().is_none_or(|part| subject.path.contains(part.as_str()))
                    && subject.operation.is_some()
            }
        }
    }
}

impl RpcMatch {
    pub(super) fn matches(&self, (method, block): &(String, Option<u64>)) -> bool {
        self.method.as_ref().is_none_or(|wanted| wanted == method)
            && (self.block.is_none() || self.block == *block)
    }
}

/// The calls of a JSON-RPC body; none when it is something else.
fn calls(body: &[u8]) -> Vec<(String, Option<u64>)> {
    let items = match serde_json::from_slice::<Value>(body) {
        Ok(Value::Array(items)) => items,
        Ok(item @ Value::Object(_)) => vec![item],
        _ => return vec![],
    };
    items.iter().filter_map(call).collect()
}

/// Method and height of one call.
pub(super) fn call(item: &Value) -> Option<(String, Option<u64>)> {
    let method = item.get("method")?.as_str()?.to_owned();
    let block = item.pointer("/params/0").and_then(Value::as_str).and_then(|text| text.strip_prefix("0x"));
    Some((method, block.and_then(|digits| u64::from_str_radix(digits, 16).ok())))
}

fn aws(request: &Request<Bytes>, path: &str) -> (Option<String>, Option<String>) {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    // Credential=KEY/20260101/us-east-1/sqs/aws4_request
    let scope = header("authorization").and_then(|auth| auth.split("Credential=").nth(1));
    // Of a presigned URL the same, with %2F for each slash.
    let presigned = path.split("X-Amz-Credential=").nth(1).map(|scope| scope.replace("%2F", "/"));
    let service = scope.or(presigned.as_deref()).and_then(|scope| scope.split('/').nth(3));
    let service = service.map(str::to_ascii_lowercase);
    if let Some(target) = header("x-amz-target") {
        let operation = target.rsplit('.').next().map(str::to_owned);
        return (service, operation);
    }
    let form = std::str::from_utf8(request.body()).unwrap_or("");
    let action = form.split('&').find_map(|pair| pair.strip_prefix("Action="));
    if let Some(action) = action {
        return (service, Some(action.to_owned()));
    }
    let operation =
        (service.as_deref() == Some("s3")).then(|| s3_operation(request.method(), path).to_owned());
    (service, operation)
}

fn s3_operation(method: &Method, path: &str) -> &'static str {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let has_key = path.trim_matches('/').contains('/');
    match (method.as_str(), has_key) {
        ("PUT", true) if query.contains("uploadId=") => "UploadPart",
        ("PUT", true) => "PutObject",
        ("GET", true) => "GetObject",
        ("HEAD", true) => "HeadObject",
        ("DELETE", true) => "DeleteObject",
        ("POST", true) if query.contains("uploadId=") => "CompleteMultipartUpload",
        ("POST", true) => "CreateMultipartUpload",
        ("GET", false) => "ListObjects",
        ("HEAD", false) => "HeadBucket",
        _ => "Other",
    }
}

/// Reads a whole body, so that it can be judged and sent on unchanged.
pub(super) async fn collect(request: Request<hyper::body::Incoming>) -> Result<Request<Bytes>, hyper::Error> {
    let (parts, body) = request.into_parts();
    Ok(Request::from_parts(parts, body.collect().await?.to_bytes()))
}
