//! Calls to answers.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::container::{self, Container, Phase, Spec};
use super::logs;
use super::registry::{Refusal, Registry};
use super::route::{self, Call};

pub(super) fn router(registry: Arc<Registry>) -> Router {
    // Image names contain slashes and every path may carry a version, so the paths are parsed by `route`.
    Router::new().fallback(handle).with_state(registry)
}

async fn handle(State(registry): State<Arc<Registry>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Some(call) = route::parse(parts.method.as_str(), parts.uri.path(), parts.uri.query()) else {
        let message = format!("not implemented by local Fargate: {} {}", parts.method, parts.uri.path());
        return answer(StatusCode::NOT_IMPLEMENTED, &json!({ "message": message }));
    };
    respond(&registry, call, body).await.unwrap_or_else(IntoResponse::into_response)
}

async fn respond(registry: &Arc<Registry>, call: Call, body: Body) -> Result<Response, Refusal> {
    let done = StatusCode::NO_CONTENT.into_response();
    Ok(match call {
        Call::Ping => "OK".into_response(),
        Call::Version => answer(StatusCode::OK, &version()),
        Call::List { all, labels } => {
            let containers: Vec<Value> = registry.list(all, &labels).iter().map(|c| summary(c)).collect();
            answer(StatusCode::OK, &Value::from(containers))
        }
        Call::Create { name } => {
            let container = registry.create(name, read_spec(body).await?)?;
            answer(StatusCode::CREATED, &json!({ "Id": container.id, "Warnings": [] }))
        }
        Call::Inspect(id) if id == registry.config.self_name => {
            answer(StatusCode::OK, &endpoint_container(&id))
        }
        Call::Inspect(id) => answer(StatusCode::OK, &inspect(&*registry.find(&id)?)),
        Call::Start(id) => {
            registry.start(&id).await?;
            done
        }
        Call::Stop { id, grace_seconds } => {
            registry.stop(&id, Duration::from_secs(grace_seconds)).await?;
            done
        }
        Call::Kill { id, signal } => {
            registry.find(&id)?.signal(parse_signal(&signal)?);
            done
        }
        Call::Interrupt(id) => {
            registry.interrupt(&id)?;
            done
        }
        Call::Remove { id, force } => {
            registry.remove(&id, force)?;
            done
        }
        Call::Wait(id) => {
            let code = registry.find(&id)?.wait_end().await;
            answer(StatusCode::OK, &json!({ "StatusCode": code, "Error": null }))
        }
        Call::Logs { id, follow, tail } => stream_logs(registry.find(&id)?, follow, tail),
        Call::Pull(reference) => pull(registry, &reference),
        Call::Tag(reference) => {
            known_image(registry, &reference)?;
            StatusCode::CREATED.into_response()
        }
        Call::InspectImage(reference) => {
            let digest = known_image(registry, &reference)?;
            answer(StatusCode::OK, &inspect_image(&reference, &digest))
        }
        Call::Distribution(reference) => {
            let digest = known_image(registry, &reference)?;
            answer(StatusCode::OK, &distribution(&digest))
        }
        Call::Ignored { path } => answer(StatusCode::OK, &ignored(&path)),
    })
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::NoImage(_) | Self::NoContainer(_) => StatusCode::NOT_FOUND,
            Self::NameTaken(_) | Self::StillRunning(_) => StatusCode::CONFLICT,
            Self::Bad(_) => StatusCode::BAD_REQUEST,
            Self::Start { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        answer(status, &json!({ "message": self.to_string() }))
    }
}

fn answer(status: StatusCode, body: &Value) -> Response {
    (status, [("api-version", API_VERSION)], axum::Json(body)).into_response()
}

const API_VERSION: &str = "1.43";

/// A container's description is a few kilobytes; its environment may hold secrets of some size.
const SPEC_LIMIT: usize = 1 << 20;

async fn read_spec(body: Body) -> Result<Spec, Refusal> {
    let bytes = axum::body::to_bytes(body, SPEC_LIMIT).await;
    let bytes = bytes.map_err(|error| Refusal::Bad(format!("read the container's description: {error}")))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::Bad(format!("parse the container's description: {error}")))
}

/// The digest of an image of the table.
fn known_image(registry: &Registry, reference: &str) -> Result<String, Refusal> {
    registry.images.digest(reference).ok_or_else(|| Refusal::NoImage(reference.to_owned()))
}

/// A pull always answers 200; failure is a line of the stream.
fn pull(registry: &Registry, reference: &str) -> Response {
    let line = match known_image(registry, reference) {
        Ok(_) => json!({ "status": format!("{reference} is local") }),
        Err(refusal) => {
            json!({ "error": refusal.to_string(), "errorDetail": { "message": refusal.to_string() } })
        }
    };
    ([(CONTENT_TYPE, "application/json")], format!("{line}\n")).into_response()
}

fn stream_logs(container: Arc<Container>, follow: bool, tail: Option<usize>) -> Response {
    let body = Body::from_stream(logs::stream(container, follow, tail));
    ([(CONTENT_TYPE, "application/vnd.docker.multiplexed-stream")], body).into_response()
}

fn parse_signal(text: &str) -> Result<Signal, Refusal> {
    if let Ok(number) = text.parse::<i32>() {
        return Signal::try_from(number).map_err(|_| Refusal::Bad(format!("no such signal: {text}")));
    }
    let name = text.strip_prefix("SIG").unwrap_or(text);
    Signal::from_str(&format!("SIG{name}")).map_err(|_| Refusal::Bad(format!("no such signal: {text}")))
}

fn version() -> Value {
    json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "ApiVersion": API_VERSION,
        "MinAPIVersion": "1.24",
        "Os": "linux",
        "Arch": std::env::consts::ARCH,
        "Name": "dagwright-fargate",
        "ID": "dagwright-fargate",
        "OperatingSystem": "dagwright local Fargate",
        "Runtimes": {},
    })
}

/// The endpoint asks for itself: on loopback, so that every URL it gives to a task is on loopback too.
fn endpoint_container(name: &str) -> Value {
    json!({ "Id": name, "Name": format!("/{name}"), "State": { "Status": "running" }, "NetworkSettings": { "Networks": networks("127.0.0.1") } })
}

fn networks(address: &str) -> Value {
    json!({ "local": { "IPAddress": address } })
}

fn status(state: &container::State) -> &'static str {
    match state.phase {
        Phase::Created => "created",
        Phase::Running | Phase::Stopping => "running",
        Phase::Exited => "exited",
    }
}

fn inspect(container: &Container) -> Value {
    let state = container.state();
    json!({
        "Id": container.id,
        "Name": format!("/{}", container.name),
        "Created": instant(Some(container.created)),
        "Image": container.spec.image,
        "Config": {
            "Image": container.spec.image,
            "Env": container.spec.env,
            "Cmd": container.spec.cmd,
            "Labels": container.spec.labels,
            "Tty": false,
        },
        "HostConfig": { "LogConfig": { "Type": "json-file" } },
        "State": {
            "Status": status(&state),
            "Running": state.is_running(),
            "ExitCode": state.exit_code,
            "Pid": if state.is_running() { state.pid } else { 0 },
            "StartedAt": instant(state.started_at),
            "FinishedAt": instant(state.finished_at),
            "OOMKilled": state.out_of_memory,
        },
        "NetworkSettings": { "Ports": {}, "IPAddress": container.address, "Networks": networks(&container.address) },
        "Mounts": [],
    })
}

fn summary(container: &Container) -> Value {
    let state = container.state();
    json!({
        "Id": container.id,
        "Names": [format!("/{}", container.name)],
        "Image": container.spec.image,
        "Labels": container.spec.labels,
        "State": status(&state),
        "Status": status(&state),
        "Created": container.created.unix_timestamp(),
        "NetworkSettings": { "Networks": networks(&container.address) },
        "Ports": [],
        "Mounts": [],
    })
}

fn inspect_image(reference: &str, digest: &str) -> Value {
    json!({
        "Id": digest,
        "RepoTags": [reference],
        "RepoDigests": [],
        "Config": {},
        "Os": "linux",
        "Architecture": std::env::consts::ARCH,
    })
}

fn distribution(digest: &str) -> Value {
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    json!({ "Descriptor": { "mediaType": media_type, "digest": digest, "size": 1 }, "Platforms": [] })
}

fn ignored(path: &str) -> Value {
    match path.trim_end_matches('/') {
        "/networks" => json!([]),
        _ => json!({ "Id": "local", "Name": "local", "Volumes": [] }),
    }
}

/// Docker's word for "never" is the year one.
fn instant(at: Option<OffsetDateTime>) -> String {
    at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_else(|| "0001-01-01T00:00:00Z".to_owned())
}
