//! The loopback object gateway: an engine's only way to data.
//!
//! Each query gets a token and a list of objects pinned by the catalog; the engine asks for `/{token}/{n}.parquet`. So the
//! engine holds no AWS credential, cannot name an object that its query does not read, and every byte is counted.

use std::{
    ops::Range,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use dagwright_aws::{Class, object_read::ObjectReader};
use dashmap::DashMap;
use rand::Rng as _;
use tokio::{io::AsyncRead, net::TcpListener};
use tokio_util::{io::ReaderStream, sync::CancellationToken};

use crate::{catalog::CatalogObject, gate::DatasetName};

/// Bytes of an object on their way.
pub type Bytes = Pin<Box<dyn AsyncRead + Send>>;

/// Why an object cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("the object does not exist")]
    Missing,
    #[error("the object has {found} bytes, not the {committed} that were committed")]
    Changed { committed: u64, found: u64 },
    #[error("{0}")]
    Unavailable(String),
}

/// Where objects lie.
#[async_trait::async_trait]
pub trait ObjectSource: Send + Sync + 'static {
    async fn read(&self, object: &CatalogObject, range: Range<u64>) -> Result<Bytes, ReadError>;
}

/// S3, by the service's own role.
#[async_trait::async_trait]
impl ObjectSource for ObjectReader {
    async fn read(&self, object: &CatalogObject, range: Range<u64>) -> Result<Bytes, ReadError> {
        let part = ObjectReader::read(self, &object.bucket, &object.key, Some(range)).await;
        let part = part.map_err(|error| match error.class {
            Class::NotFound => ReadError::Missing,
            _ => ReadError::Unavailable(error.to_string()),
        })?;
        match part.object_bytes {
            Some(found) if found != object.bytes => {
                Err(ReadError::Changed { committed: object.bytes, found })
            }
            _ => Ok(Box::pin(part.body.into_async_read())),
        }
    }
}

/// What one query may read and has read.
#[derive(Debug)]
struct Session {
    objects: Vec<(DatasetName, CatalogObject)>,
    requests: AtomicU64,
    bytes: AtomicU64,
    problem: Mutex<Option<ObjectProblem>>,
}

/// The first object of a query that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectProblem {
    pub dataset: DatasetName,
    pub key: String,
    pub error: ReadError,
}

struct Shared {
    sessions: DashMap<String, Arc<Session>>,
    source: Box<dyn ObjectSource>,
}

/// The running gateway.
pub struct ObjectGateway {
    base: String,
    shared: Arc<Shared>,
}

/// One query's access; dropping it ends the access.
pub struct Access {
    base: String,
    token: String,
    session: Arc<Session>,
    shared: Arc<Shared>,
}

/// What a query has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub requests: u64,
    pub bytes: u64,
}

impl ObjectGateway {
    /// Listens on a free loopback port until `stop`.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn spawn(source: impl ObjectSource, stop: CancellationToken) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let base = format!("http://{}", listener.local_addr()?);
        let shared = Arc::new(Shared { sessions: DashMap::new(), source: Box::new(source) });
        let app = Router::new().route("/{token}/{file}", get(read).head(size)).with_state(shared.clone());
        tokio::spawn(async move {
            if let Err(error) =
                axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await
            {
                tracing::error!(%error, "object gateway ended");
            }
        });
        Ok(Self { base, shared })
    }

    /// Opens access to exactly `objects`.
    #[must_use]
    pub fn open(&self, objects: Vec<(DatasetName, CatalogObject)>) -> Access {
        let token = hex::encode(rand::rng().random::<[u8; 16]>());
        let session = Arc::new(Session {
            objects,
            requests: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            problem: Mutex::new(None),
        });
        self.shared.sessions.insert(token.clone(), session.clone());
        Access { base: self.base.clone(), token, session, shared: self.shared.clone() }
    }
}

impl Access {
    /// URLs of a dataset's objects, in the order of its ranges.
    #[must_use]
    pub fn urls(&self, dataset: &DatasetName) -> Vec<String> {
        let objects = self.session.objects.iter().enumerate();
        let own = objects.filter(|(_, (name, _))| name == dataset);
        own.map(|(n, _)| format!("{}/{}/{n}.parquet", self.base, self.token)).collect()
    }

    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            requests: self.session.requests.load(Ordering::Relaxed),
            bytes: self.session.bytes.load(Ordering::Relaxed),
        }
    }

    /// The first object that could not be read, if any.
    #[must_use]
    pub fn problem(&self) -> Option<ObjectProblem> {
        self.session.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        self.shared.sessions.remove(&self.token);
    }
}

type Request = (State<Arc<Shared>>, Path<(String, String)>);

/// The catalog knows the size; S3 need not be asked.
async fn size((State(shared), Path((token, file))): Request) -> Response {
    match pinned(&shared, &token, &file) {
        Some((session, n)) => {
            let (_, object) = &session.objects[n];
            (StatusCode::OK, describe(object), [(header::CONTENT_LENGTH, object.bytes.to_string())])
                .into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn read((State(shared), Path((token, file))): Request, headers: HeaderMap) -> Response {
    let Some((session, n)) = pinned(&shared, &token, &file) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let (dataset, object) = &session.objects[n];
    let asked = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let Some(range) = parse_range(asked, object.bytes) else {
        return (
            StatusCode::RANGE_NOT_SATISFIABLE,
            [(header::CONTENT_RANGE, format!("bytes */{}", object.bytes))],
        )
            .into_response();
    };
    session.requests.fetch_add(1, Ordering::Relaxed);
    match shared.source.read(object, range.clone()).await {
        Ok(bytes) => {
            session.bytes.fetch_add(range.end - range.start, Ordering::Relaxed);
            let length = [(header::CONTENT_LENGTH, (range.end - range.start).to_string())];
            let body = Body::from_stream(ReaderStream::with_capacity(bytes, 64 << 10));
            if asked.is_none() {
                return (StatusCode::OK, describe(object), length, body).into_response();
            }
            let part = format!("bytes {}-{}/{}", range.start, range.end - 1, object.bytes);
            (StatusCode::PARTIAL_CONTENT, describe(object), length, [(header::CONTENT_RANGE, part)], body)
                .into_response()
        }
        Err(error) => {
            tracing::warn!(%dataset, key = object.key, %error, "object could not be read");
            // A status that httpfs does not retry: what is missing stays missing within a query.
            let status =
                if error == ReadError::Missing { StatusCode::NOT_FOUND } else { StatusCode::BAD_GATEWAY };
            let problem = ObjectProblem { dataset: dataset.clone(), key: object.key.clone(), error };
            session.problem.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(problem);
            status.into_response()
        }
    }
}

fn describe(object: &CatalogObject) -> [(header::HeaderName, String); 3] {
    [
        (header::ACCEPT_RANGES, "bytes".into()),
        (header::ETAG, format!("\"{}\"", object.sha256)),
        (header::CONTENT_TYPE, "application/vnd.apache.parquet".into()),
    ]
}

fn pinned(shared: &Shared, token: &str, file: &str) -> Option<(Arc<Session>, usize)> {
    let n: usize = file.strip_suffix(".parquet")?.parse().ok()?;
    let session = shared.sessions.get(token)?.clone();
    (n < session.objects.len()).then_some((session, n))
}

/// The bytes that a Range header asks of an object of `size` bytes; all of them without a header.
fn parse_range(header: Option<&str>, size: u64) -> Option<Range<u64>> {
    let Some(header) = header else { return Some(0..size) };
    let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    let range = match (first.trim(), last.trim()) {
        ("", suffix) => size.saturating_sub(suffix.parse().ok()?)..size,
        (first, "") => first.parse().ok()?..size,
        (first, last) => first.parse().ok()?..last.parse::<u64>().ok()?.saturating_add(1).min(size),
    };
    (range.start < range.end).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_stay_inside_the_object() {
        for (header, range) in [
            (None, Some(0..10)),
            (Some("bytes=0-3"), Some(0..4)),
            (Some("bytes=4-"), Some(4..10)),
            (Some("bytes=-3"), Some(7..10)),
            (Some("bytes=-30"), Some(0..10)),
            (Some("bytes=8-99"), Some(8..10)),
            (Some("bytes=0-18446744073709551615"), Some(0..10)),
            (Some("bytes=10-11"), None),
            (Some("bytes=5-4"), None),
            (Some("bytes=x-4"), None),
            (Some("lines=1-2"), None),
            (Some("bytes=0-1,4-5"), None),
        ] {
            assert_eq!(parse_range(header, 10), range, "{header:?}");
        }
    }
}
