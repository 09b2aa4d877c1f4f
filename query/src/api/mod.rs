//! The HTTP API.

mod answer;
mod datasets;
mod problem;
mod query;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{HeaderValue, StatusCode, header},
    response::Response,
    routing::{get, post},
};
use dagwright_telemetry::Rejection;
use tokio::sync::Semaphore;

use crate::{
    auth::{Authenticator, Caller},
    catalog::{self, Catalog, Readable},
    objects::ObjectGateway,
    pool::EnginePool,
};

/// What one query may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub timeout: Duration,
    pub max_rows: u64,
    pub max_bytes: u64,
}

/// What every request works with.
pub struct App {
    pub auth: Authenticator,
    pub catalog: Box<dyn Catalog>,
    pub objects: ObjectGateway,
    pub engines: EnginePool,
    pub limits: Limits,
    pub slots: Arc<Semaphore>,
}

/// SQL is at most 64 KiB; the rest is parameters.
const MAX_BODY: usize = 1 << 20;

pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/query", post(query::query))
        .route("/v1/datasets", get(datasets::list))
        .route("/v1/datasets/{name}/schema", get(datasets::schema))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(axum::middleware::map_response(challenge))
        .layer(dagwright_telemetry::trace_layer())
        .with_state(app)
}

impl App {
    /// What `caller` may read now, without objects.
    async fn readable(&self, caller: &Caller) -> Result<Readable, Rejection> {
        let datasets =
            self.catalog.datasets(&caller.namespaces).await.map_err(|error| unavailable(&error))?;
        Ok(catalog::readable(caller, datasets))
    }
}

fn unavailable(error: &dagwright_state::Error) -> Rejection {
    tracing::error!(error = error as &dyn std::error::Error, "catalog could not be read");
    problem::of("CatalogUnavailable", CATALOG_UNAVAILABLE).retry_after(5)
}

const CATALOG_UNAVAILABLE: &str = "the catalog cannot be read now; try again";

/// RFC 6750 wants a 401 to name the scheme.
async fn challenge(mut response: Response) -> Response {
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}
