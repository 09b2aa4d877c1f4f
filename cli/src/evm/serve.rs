//! `dagwright evm serve`: recorded answers as a JSON-RPC provider. It answers what was recorded and nothing else.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::Context;
use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::header::CONTENT_TYPE,
    response::IntoResponse,
    routing::{get, post},
};
use clap::Args;
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::recording::{RecordedBlock, Recording, hex_number};

/// Bytes of a batch of questions: thousands of them fit.
const BODY_LIMIT: usize = 4 << 20;

const PARSE_ERROR: i64 = -32700;
const INVALID_REQUEST: i64 = -32600;
const UNKNOWN_METHOD: i64 = -32601;
const INVALID_PARAMS: i64 = -32602;

/// What to replay.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// A directory written by `record`, or laid out like one: `{height}/block.json`, `{height}/receipts.json`, `chain.json`.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Address to listen on; port 0 picks a free one, which is printed.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The chain id to answer, in place of the one in chain.json.
    #[arg(long, value_name = "ID")]
    chain_id: Option<u64>,
}

pub(super) async fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let recording = Recording::load(&args.directory, args.chain_id).context("load the recording")?;
    let listener =
        TcpListener::bind(args.listen).await.with_context(|| format!("listen on {}", args.listen))?;
    let stop = dagwright_telemetry::shutdown::token().context("listen for signals")?;
    let (blocks, chain, head) = (recording.len(), recording.chain_id, recording.head());
    println!("serving {blocks} blocks of chain {chain}, head {head}, on http://{}", listener.local_addr()?);
    serve(recording, listener, stop).await.context("serve")?;
    Ok(ExitCode::SUCCESS)
}

/// Answers until the token is cancelled; questions under way are answered first.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    recording: Recording,
    listener: TcpListener,
    stop: CancellationToken,
) -> std::io::Result<()> {
    axum::serve(listener, router(recording)).with_graceful_shutdown(stop.cancelled_owned()).await
}

/// The HTTP side: every path takes questions, as providers put keys into paths.
pub fn router(recording: Recording) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/", post(answer))
        .route("/{*path}", post(answer))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(Arc::new(recording))
}

async fn answer(State(recording): State<Arc<Recording>>, body: Bytes) -> impl IntoResponse {
    let text = match serde_json::from_slice::<Value>(&body) {
        Err(error) => failure(&Value::Null, &RpcError::new(PARSE_ERROR, format!("not JSON: {error}"))),
        Ok(Value::Array(questions)) if questions.is_empty() => {
            failure(&Value::Null, &RpcError::new(INVALID_REQUEST, "an empty batch".to_owned()))
        }
        Ok(Value::Array(questions)) => {
            let answers: Vec<String> = questions.iter().map(|question| one(&recording, question)).collect();
            format!("[{}]", answers.join(","))
        }
        Ok(question) => one(&recording, &question),
    };
    ([(CONTENT_TYPE, "application/json")], text)
}

struct RpcError {
    code: i64,
    message: String,
}

impl RpcError {
    fn new(code: i64, message: String) -> Self {
        Self { code, message }
    }
}

fn failure(id: &Value, error: &RpcError) -> String {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": error.code, "message": error.message}}).to_string()
}

fn one(recording: &Recording, question: &Value) -> String {
    let id = &question["id"];
    let Some(method) = question["method"].as_str() else {
        return failure(id, &RpcError::new(INVALID_REQUEST, "the question names no method".to_owned()));
    };
    match result(recording, method, &question["params"]) {
        // Recorded answers go out byte for byte: parsing them again would only cost.
        Ok(result) => format!(
            r#"{{"jsonrpc":"2.0","id":{id},"result":{}}}"#,
            result.as_ref().map_or("null", |raw| raw.get())
        ),
        Err(error) => failure(id, &error),
    }
}

type Found<'a> = Option<std::borrow::Cow<'a, RawValue>>;

fn result<'a>(recording: &'a Recording, method: &str, params: &Value) -> Result<Found<'a>, RpcError> {
    match method {
        "eth_chainId" => made(&format!("{:#x}", recording.chain_id)),
        "net_version" => made(&recording.chain_id.to_string()),
        "web3_clientVersion" => made(&concat!("dagwright-replay/", env!("CARGO_PKG_VERSION"))),
        "eth_blockNumber" => made(&format!("{:#x}", recording.head())),
        "eth_syncing" => made(&false),
        "eth_getBlockByNumber" => block(params, |at| by_number_or_tag(recording, at)),
        "eth_getBlockByHash" => block(params, |at| Ok(recording.by_hash(text(at)?))),
        "eth_getBlockReceipts" => {
            let found = receipts_of(recording, &params[0])?;
            Ok(found.map(|found| std::borrow::Cow::Borrowed(&*found.receipts)))
        }
        other => Err(RpcError::new(UNKNOWN_METHOD, format!("the method {other} was not recorded"))),
    }
}

fn made<'a>(value: &impl serde::Serialize) -> Result<Found<'a>, RpcError> {
    let raw = to_raw_value(value).map_err(|error| RpcError::new(INVALID_REQUEST, error.to_string()))?;
    Ok(Some(std::borrow::Cow::Owned(raw)))
}

fn block<'a>(
    params: &Value,
    find: impl FnOnce(&Value) -> Result<Option<&'a RecordedBlock>, RpcError>,
) -> Result<Found<'a>, RpcError> {
    let full = match &params[1] {
        Value::Bool(full) => *full,
        Value::Null => false,
        other => return Err(RpcError::new(INVALID_PARAMS, format!("expected true or false, got {other}"))),
    };
    let found = find(&params[0])?;
    Ok(found.map(|found| std::borrow::Cow::Borrowed(if full { &*found.full } else { &*found.slim })))
}

/// By height, tag, hash, or an object that names one of them (EIP-1898).
fn receipts_of<'a>(recording: &'a Recording, at: &Value) -> Result<Option<&'a RecordedBlock>, RpcError> {
    if let Some(hash) = at.get("blockHash") {
        return Ok(recording.by_hash(text(hash)?));
    }
    let at = at.get("blockNumber").unwrap_or(at);
    let is_hash = at.as_str().is_some_and(|text| text.len() == 2 + 64);
    if is_hash { Ok(recording.by_hash(text(at)?)) } else { by_number_or_tag(recording, at) }
}

fn by_number_or_tag<'a>(recording: &'a Recording, at: &Value) -> Result<Option<&'a RecordedBlock>, RpcError> {
    let height = match text(at)? {
        // A recording does not change: its head is final.
        "latest" | "pending" | "safe" | "finalized" => recording.head(),
        "earliest" => 0,
        other => hex_number(other).ok_or_else(|| {
            RpcError::new(INVALID_PARAMS, format!("expected a height, a tag or a hash, got {other:?}"))
        })?,
    };
    Ok(recording.by_height(height))
}

fn text(value: &Value) -> Result<&str, RpcError> {
    value.as_str().ok_or_else(|| RpcError::new(INVALID_PARAMS, format!("expected a string, got {value}")))
}
