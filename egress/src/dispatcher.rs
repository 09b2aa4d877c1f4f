//! The gateway's two calls to the dispatcher: config comes in, health goes out.

use std::time::Duration;

use dagwright_contracts::{
    endpoints::Endpoints,
    gateway::{GatewayConfig, HealthReport},
    token::BearerToken,
};

/// A config poll waits up to 20 s at the dispatcher; longer than that is a dead connection.
const POLL_TIMEOUT: Duration = Duration::from_secs(30);
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Calls the dispatcher with the gateway token.
#[derive(Clone)]
pub struct Dispatcher {
    http: reqwest::Client,
    endpoints: Endpoints,
    token: BearerToken,
}

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub enum DispatcherError {
    /// No connection, or no answer in time.
    #[error("reach the dispatcher at {base}")]
    Unreachable {
        /// The replica.
        base: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// Another status than success.
    #[error("dispatcher at {base} answered {status}: {body}")]
    Refused {
        /// The replica.
        base: String,
        /// HTTP status.
        status: u16,
        /// The beginning of its text.
        body: String,
    },
}

impl Dispatcher {
    /// A client for one of the replicas.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(endpoints: Endpoints, token: BearerToken) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder().connect_timeout(Duration::from_secs(3)).no_proxy().build()?;
        Ok(Self { http, endpoints, token })
    }

    /// The config, as soon as its revision is another than `known`.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn config(&self, known: Option<i64>) -> Result<GatewayConfig, DispatcherError> {
        // No revision is negative, so -1 is answered at once.
        let path = format!("/v1/gateway/config?revision={}", known.unwrap_or(-1));
        let response = self.send(reqwest::Method::GET, &path, POLL_TIMEOUT, |request| request).await?;
        let base = self.endpoints.current().base;
        response.json().await.map_err(|source| DispatcherError::Unreachable { base, source })
    }

    /// Reports the providers' health.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn report(&self, report: &HealthReport) -> Result<(), DispatcherError> {
        let path = "/v1/gateway/health";
        self.send(reqwest::Method::POST, path, REPORT_TIMEOUT, |request| request.json(report)).await?;
        Ok(())
    }

    async fn send(
        &self,
        method: reqwest::Method,
        path: &str,
        timeout: Duration,
        with: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, DispatcherError> {
        let endpoint = self.endpoints.current();
        let base = endpoint.base.clone();
        let request = self.http.request(method, format!("{base}{path}")).timeout(timeout);
        let response = match with(request.bearer_auth(self.token.expose())).send().await {
            Ok(response) => response,
            Err(source) => {
                self.endpoints.failed(&endpoint);
                return Err(DispatcherError::Unreachable { base, source });
            }
        };
        if response.status().is_success() {
            return Ok(response);
        }
        self.endpoints.failed(&endpoint);
        let status = response.status().as_u16();
        let body: String = response.text().await.unwrap_or_default().chars().take(300).collect();
        Err(DispatcherError::Refused { base, status, body })
    }
}
