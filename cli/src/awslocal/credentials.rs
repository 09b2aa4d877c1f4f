//! The container-credentials endpoint: what ECS and the EKS pod identity agent are to a process in AWS.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use aws_config::SdkConfig;
use aws_sdk_sts::types::Credentials as StsCredentials;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header::AUTHORIZATION};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rand::Rng;
use serde_json::json;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Hands sessions of roles to processes on loopback. Clones share one server, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct CredentialsEndpoint {
    shared: Arc<Shared>,
    address: SocketAddr,
    _server: Arc<DropGuard>,
}

#[derive(Debug)]
struct Shared {
    sts_endpoint: String,
    sts: aws_sdk_sts::Client,
    root: SdkConfig,
    secret: [u8; 32],
    roles: Mutex<BTreeMap<String, Arc<Role>>>,
}

/// One at a time per role: a burst of clients costs one AssumeRole.
#[derive(Debug)]
struct Role {
    arn: String,
    session: tokio::sync::Mutex<Option<StsCredentials>>,
}

/// How long a client may keep what it got. Sessions live an hour, but an endpoint that was killed forgets them: a client that asks
/// again within the minute recovers by itself.
const HANDED_OUT_FOR: Duration = Duration::from_secs(60);
const SESSION: Duration = Duration::from_secs(3600);

impl CredentialsEndpoint {
    /// Listens; `sts_endpoint` is asked when a process asks, so it may start later and restart at will.
    pub async fn start(listen: SocketAddr, sts_endpoint: String) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(listen).await;
        let listener = listener.with_context(|| format!("listen for container credentials on {listen}"))?;
        let address = listener.local_addr().context("read the address of the credentials endpoint")?;
        let root = super::root_config(&sts_endpoint, super::REGION);
        let shared = Arc::new(Shared {
            sts: aws_sdk_sts::Client::new(&root),
            sts_endpoint,
            root,
            secret: rand::rng().random(),
            roles: Mutex::default(),
        });
        let app = Router::new().route("/v1/credentials/{role}", get(serve)).with_state(Arc::clone(&shared));
        let stop = CancellationToken::new();
        let server = axum::serve(listener, app).with_graceful_shutdown(stop.clone().cancelled_owned());
        tokio::spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "credentials endpoint stopped serving");
            }
        });
        Ok(Self { shared, address, _server: Arc::new(stop.drop_guard()) })
    }

    /// The variables by which every AWS SDK finds the credentials of `role_arn`.
    #[must_use]
    pub fn env_for(&self, role_arn: &str) -> Vec<(String, String)> {
        let id = role_id(role_arn);
        let role = || Arc::new(Role { arn: role_arn.to_owned(), session: tokio::sync::Mutex::default() });
        let mut roles = self.shared.roles.lock().unwrap_or_else(PoisonError::into_inner);
        roles.entry(id.clone()).or_insert_with(role);
        let uri = format!("http://{}/v1/credentials/{id}", self.address);
        vec![
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI".to_owned(), uri),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN".to_owned(), self.shared.token(&id)),
        ]
    }

    /// Root, for the engine to read task definitions with.
    pub(crate) fn root_config(&self) -> SdkConfig {
        self.shared.root.clone()
    }
}

fn role_id(role_arn: &str) -> String {
    hex::encode(&Sha256::digest(role_arn.as_bytes())[..8])
}

impl Shared {
    /// A token opens one role: knowing one says nothing about another.
    fn token(&self, role_id: &str) -> String {
        hex::encode(Sha256::new().chain_update(self.secret).chain_update(role_id.as_bytes()).finalize())
    }

    async fn session(&self, role: &Role) -> anyhow::Result<StsCredentials> {
        let mut cached = role.session.lock().await;
        if let Some(session) = cached.as_ref()
            && is_fresh(session)
            && self.is_known(session).await
        {
            return Ok(session.clone());
        }
        let session = self.assume(&role.arn).await?;
        *cached = Some(session.clone());
        Ok(session)
    }

    /// The endpoint forgets its sessions when it is killed.
    async fn is_known(&self, session: &StsCredentials) -> bool {
        let credentials = aws_credential_types::Credentials::new(
            session.access_key_id(),
            session.secret_access_key(),
            Some(session.session_token().to_owned()),
            None,
            "session check",
        );
        let config = super::config(&self.sts_endpoint, super::REGION, credentials);
        aws_sdk_sts::Client::new(&config).get_caller_identity().send().await.is_ok()
    }

    async fn assume(&self, role_arn: &str) -> anyhow::Result<StsCredentials> {
        let seconds = i32::try_from(SESSION.as_secs()).context("session length")?;
        let answer = self
            .sts
            .assume_role()
            .role_arn(role_arn)
            .role_session_name("dagwright-local")
            .duration_seconds(seconds);
        let answer = answer.send().await.with_context(|| format!("assume role {role_arn}"))?;
        answer.credentials.with_context(|| format!("assume role {role_arn}: no credentials in the answer"))
    }
}

fn is_fresh(session: &StsCredentials) -> bool {
    let left = session.expiration().secs() - OffsetDateTime::now_utc().unix_timestamp();
    u64::try_from(left).is_ok_and(|left| left > 5 * HANDED_OUT_FOR.as_secs())
}

async fn serve(State(shared): State<Arc<Shared>>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let role = shared.roles.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
    let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Some(role) = role.filter(|_| token == shared.token(&id)) else {
        return (StatusCode::UNAUTHORIZED, "unknown role or wrong token\n").into_response();
    };
    match shared.session(&role).await {
        Ok(session) => axum::Json(body(&role, &session)).into_response(),
        Err(error) => {
            tracing::warn!(role = %role.arn, error = format!("{error:#}"), "cannot hand out credentials");
            (StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}\n")).into_response()
        }
    }
}

fn body(role: &Role, session: &StsCredentials) -> serde_json::Value {
    let expiration = (OffsetDateTime::now_utc() + HANDED_OUT_FOR).format(&Rfc3339).unwrap_or_default();
    json!({
        "RoleArn": role.arn,
        "AccessKeyId": session.access_key_id(),
        "SecretAccessKey": session.secret_access_key(),
        "Token": session.session_token(),
        "Expiration": expiration,
    })
}
