//! The dispatcher's task API as the worker calls it.

use std::time::{Duration, Instant};

use dagwright_contracts::{
    endpoints::Endpoints,
    problem::Problem,
    tasks::{
        ClaimRequest, ClaimResponse, CompleteRequest, CredentialsRequest, CredentialsResponse, FailRequest,
        Fence, HeartbeatRequest, HeartbeatResponse, OutcomeResponse, ReleaseRequest,
    },
    token::BearerToken,
    workers::{CheckInRequest, CheckInResponse},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::backoff::Holds;

/// Of every call but a waiting claim, which gets its wait on top.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Of a check-in, which the next one replaces.
const CHECK_IN_TIMEOUT: Duration = Duration::from_secs(3);

/// Calls the dispatcher with the pool's token. When it is told to come back later, calls of that kind wait as long.
#[derive(Clone, Debug)]
pub struct TasksApi {
    http: reqwest::Client,
    endpoints: Endpoints,
    token: BearerToken,
    holds: Holds,
}

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No connection, or no answer in time: whether it was applied is not known.
    #[error("{operation} at the dispatcher {base}")]
    Unreachable {
        /// What was wanted.
        operation: &'static str,
        /// The replica.
        base: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// Another status than success.
    #[error("{operation} at the dispatcher {base}: {status} {code}: {detail}")]
    Refused {
        /// What was wanted.
        operation: &'static str,
        /// The replica.
        base: String,
        /// HTTP status.
        status: u16,
        /// The problem's code.
        code: String,
        /// The problem's detail.
        detail: String,
        /// How long the dispatcher asked to wait; the next call of this kind does.
        retry_after: Option<Duration>,
    },
}

impl ApiError {
    /// Whether the same call may go through later. What is refused for its content (4xx) will be refused again.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => matches!(status, 401 | 408 | 425 | 429 | 500..),
        }
    }
}

impl TasksApi {
    /// A client for one of the replicas.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(endpoints: Endpoints, token: BearerToken) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder().connect_timeout(Duration::from_secs(3)).no_proxy().build()?;
        Ok(Self { http, endpoints, token, holds: Holds::default() })
    }

    /// Claims tasks.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn claim(&self, request: &ClaimRequest) -> Result<ClaimResponse, ApiError> {
        self.post("claim", request, TIMEOUT + Duration::from_millis(request.wait_ms)).await
    }

    /// Extends leases. An answer that takes longer than `patience` is not waited for: there has to be time for another try.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn heartbeat(
        &self,
        request: &HeartbeatRequest,
        patience: Duration,
    ) -> Result<HeartbeatResponse, ApiError> {
        self.post("heartbeat", request, TIMEOUT.min(patience)).await
    }

    /// Commits finished tasks.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn complete(&self, request: &CompleteRequest) -> Result<OutcomeResponse, ApiError> {
        // The dispatcher looks at every object in S3 before it commits.
        self.post("complete", request, TIMEOUT * 3).await
    }

    /// Reports failed attempts.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn fail(&self, request: &FailRequest) -> Result<OutcomeResponse, ApiError> {
        self.post("fail", request, TIMEOUT).await
    }

    /// Hands leases back.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn release(&self, request: &ReleaseRequest) -> Result<OutcomeResponse, ApiError> {
        self.post("release", request, TIMEOUT).await
    }

    /// Says that this worker is there, or that it leaves.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn check_in(&self, request: &CheckInRequest) -> Result<CheckInResponse, ApiError> {
        self.call("workers:checkin", "checkin", request, CHECK_IN_TIMEOUT).await
    }

    /// S3 rights of one attempt.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn credentials(&self, fence: Fence) -> Result<CredentialsResponse, ApiError> {
        self.post("credentials", &CredentialsRequest { fence }, TIMEOUT).await
    }

    async fn post<Request, Response>(
        &self,
        operation: &'static str,
        request: &Request,
        timeout: Duration,
    ) -> Result<Response, ApiError>
    where
        Request: Serialize + Sync,
        Response: DeserializeOwned,
    {
        self.call(&format!("tasks:{operation}"), operation, request, timeout).await
    }

    async fn call<Request, Response>(
        &self,
        route: &str,
        operation: &'static str,
        request: &Request,
        timeout: Duration,
    ) -> Result<Response, ApiError>
    where
        Request: Serialize + Sync,
        Response: DeserializeOwned,
    {
        tokio::time::sleep(self.holds.left(operation, Instant::now())).await;
        let endpoint = self.endpoints.current();
        let base = endpoint.base.clone();
        let sent = self
            .http
            .post(format!("{base}/v1/{route}"))
            .bearer_auth(self.token.expose())
            .timeout(timeout)
            .json(request)
            .send()
            .await;
        let unreachable = |source: reqwest::Error| {
            self.endpoints.failed(&endpoint);
            ApiError::Unreachable { operation, base: endpoint.base.clone(), source }
        };
        let response = sent.map_err(unreachable)?;
        if response.status().is_success() {
            return response.json().await.map_err(unreachable);
        }
        let status = response.status().as_u16();
        if status >= 500 {
            self.endpoints.failed(&endpoint);
        }
        let retry_after = retry_after(&response);
        if let Some(length) = retry_after {
            self.holds.hold(operation, length, Instant::now());
        }
        let text = response.text().await.unwrap_or_default();
        let (code, detail) = match serde_json::from_str::<Problem>(&text) {
            Ok(problem) => (problem.code, problem.detail),
            Err(_) => ("NoProblem".into(), text.chars().take(300).collect()),
        };
        Err(ApiError::Refused { operation, base, status, code, detail, retry_after })
    }
}

/// In seconds; a date is what only caches send.
fn retry_after(response: &reqwest::Response) -> Option<Duration> {
    let header = response.headers().get(reqwest::header::RETRY_AFTER)?;
    header.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}
