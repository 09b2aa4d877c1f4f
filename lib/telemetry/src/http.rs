use axum::{
    body::Body,
    http::{HeaderValue, Request, StatusCode, header},
    response::{IntoResponse, Response},
};
use dagwright_contracts::problem::{MEDIA_TYPE, Problem};
use tower_http::{
    classify::{ServerErrorsAsFailures, SharedClassifier},
    trace::TraceLayer,
};

/// A [`Problem`] as an answer; handlers return `Result<_, Rejection>`.
#[derive(Clone, Debug)]
pub struct Rejection {
    problem: Problem,
    retry_after_seconds: Option<u64>,
}

impl Rejection {
    /// Answers with a problem of a stable PascalCase `code`.
    #[must_use]
    pub fn new(status: StatusCode, code: &str, title: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { problem: Problem::new(status.as_u16(), code, title, detail), retry_after_seconds: None }
    }

    /// Adds a Retry-After header.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// The problem.
    #[must_use]
    pub fn problem(&self) -> &Problem {
        &self.problem
    }
}

impl From<Problem> for Rejection {
    fn from(problem: Problem) -> Self {
        Self { problem, retry_after_seconds: None }
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.problem).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, MEDIA_TYPE)], body).into_response();
        if let Some(seconds) = self.retry_after_seconds {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// One span a request with method and path; server errors are logged by the layer.
#[must_use]
pub fn trace_layer() -> TraceLayer<
    SharedClassifier<ServerErrorsAsFailures>,
    impl Fn(&Request<Body>) -> tracing::Span + Clone + Send + Sync,
> {
    TraceLayer::new_for_http().make_span_with(|request: &Request<Body>| {
        tracing::info_span!("http.request", method = %request.method(), path = request.uri().path())
    })
}
