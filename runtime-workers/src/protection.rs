//! ECS task protection: while a worker may hold leases, neither a scale-in nor a deployment of ECS takes it.
//!
//! It is on whenever the worker claims, not only while it holds something: otherwise a lease would be unprotected between its claim
//! and the call to the agent. It ends by itself soon after the worker does, and is renewed until then.

use std::time::{Duration, Instant};

use serde_json::json;

/// Set by ECS where the agent has an endpoint for its containers.
const AGENT: &str = "ECS_AGENT_URI";
const TIMEOUT: Duration = Duration::from_secs(5);
/// A worker that vanished without a word holds up a deployment for no longer.
const MINUTES: u64 = 15;
const RENEW: Duration = Duration::from_secs(5 * 60);
/// Between tries of a call that failed.
const RETRY: Duration = Duration::from_secs(30);

/// This worker's protection; without an agent it does nothing.
#[derive(Debug)]
pub struct Protection {
    url: Option<String>,
    http: reqwest::Client,
    is_on: bool,
    renew_at: Instant,
    retry_at: Instant,
    complained: bool,
}

impl Protection {
    /// By the agent that the environment names.
    #[must_use]
    pub fn from_env(http: reqwest::Client) -> Self {
        Self::at(std::env::var(AGENT).ok(), http)
    }

    /// By the agent at `base`.
    #[must_use]
    pub fn at(base: Option<String>, http: reqwest::Client) -> Self {
        let url = base.map(|base| format!("{base}/task-protection/v1/state"));
        let now = Instant::now();
        Self { url, http, is_on: false, renew_at: now, retry_at: now, complained: false }
    }

    /// Sets or renews it, when that is due. Drain does not depend on it: who is drained holds nothing.
    pub async fn set(&mut self, on: bool) {
        let now = Instant::now();
        let due = now >= self.retry_at && (on != self.is_on || (on && now >= self.renew_at));
        let (Some(url), true) = (&self.url, due) else { return };
        let body = if on {
            json!({ "ProtectionEnabled": true, "ExpiresInMinutes": MINUTES })
        } else {
            json!({ "ProtectionEnabled": false })
        };
        let answer = self.http.put(url).timeout(TIMEOUT).json(&body).send().await;
        match answer.and_then(reqwest::Response::error_for_status) {
            Ok(_) => {
                (self.is_on, self.renew_at, self.complained) = (on, now + RENEW, false);
            }
            Err(error) => {
                self.retry_at = now + RETRY;
                if !std::mem::replace(&mut self.complained, true) {
                    tracing::warn!(error = %crate::chain(&error), on, "the ECS agent did not set task protection");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::{Json, Router, extract::State, routing::put};
    use serde_json::Value;

    use super::*;

    type Calls = Arc<Mutex<Vec<Value>>>;

    /// The local endpoint has no agent: this one answers as AWS documents it.
    async fn agent() -> (String, Calls) {
        let calls = Calls::default();
        let note = async |State(calls): State<Calls>, Json(body): Json<Value>| {
            calls.lock().unwrap().push(body);
        };
        let app = Router::new().route("/task-protection/v1/state", put(note)).with_state(Arc::clone(&calls));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (url, calls)
    }

    #[tokio::test]
    async fn it_is_set_once_and_taken_back_when_the_worker_is_drained() {
        let (url, calls) = agent().await;
        let mut protection = Protection::at(Some(url), reqwest::Client::builder().build().unwrap());
        for on in [false, true, true, false, false, true] {
            protection.set(on).await;
        }
        let said: Vec<_> = calls.lock().unwrap().iter().map(|c| c["ProtectionEnabled"] == true).collect();
        assert_eq!(said, [true, false, true], "each change once");
        assert_eq!(calls.lock().unwrap()[0]["ExpiresInMinutes"], 15);
    }

    #[tokio::test]
    async fn without_an_agent_nothing_is_called() {
        let mut protection = Protection::at(None, reqwest::Client::builder().build().unwrap());
        protection.set(true).await;
        assert!(!protection.is_on);
    }
}
