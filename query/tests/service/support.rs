//! A running service over fixture datasets.

use std::{
    collections::HashMap,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arrow::{
    array::{BinaryArray, Decimal128Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array},
    datatypes::{DataType, Field, Schema, TimeUnit},
};
use dagwright_core::{
    ids::{DatasetId, VersionId},
    range::BlockRange,
};
use dagwright_query::{
    api::{self, App, Limits},
    auth::{Authenticator, KeySource},
    catalog::{Catalog, CatalogDataset, CatalogObject, CatalogSize},
    objects::{Bytes, ObjectGateway, ObjectSource, ReadError},
    pool::{EnginePool, EngineSpec},
};
use dagwright_telemetry::Health;
use jsonwebtoken::{
    Algorithm, EncodingKey, Header,
    jwk::{Jwk, JwkSet},
};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};
use tokio::{io::AsyncSeekExt, net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub const ISSUER: &str = "https://issuer.test";
pub const AUDIENCE: &str = "dagwright-query";

/// Rows of each fixture object.
pub const ROWS: u64 = 1_000;

pub fn extension_dir() -> PathBuf {
    let given = std::env::var_os("DAGWRIGHT_DUCKDB_EXTENSION_DIR").map(PathBuf::from);
    let beside = || option_env!("DUCKDB_LIB_DIR").map(|lib| Path::new(lib).join("../duckdb-extensions"));
    let dir = given
        .or_else(beside)
        .expect("set DAGWRIGHT_DUCKDB_EXTENSION_DIR to the folder of httpfs.duckdb_extension");
    let there = dir.join("httpfs.duckdb_extension").exists();
    assert!(there, "no httpfs.duckdb_extension in {}; `./dev test` puts it there", dir.display());
    dir
}

/// A folder of the test's own, removed with it.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("dagwright-query-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Objects in a folder, where a bucket would be.
pub struct FolderSource(pub PathBuf);

#[async_trait::async_trait]
impl ObjectSource for FolderSource {
    async fn read(&self, object: &CatalogObject, range: Range<u64>) -> Result<Bytes, ReadError> {
        use tokio::io::AsyncReadExt;
        let file = tokio::fs::File::open(self.0.join(&object.key)).await;
        let mut file = file.map_err(|_| ReadError::Missing)?;
        let found = file.metadata().await.unwrap().len();
        if found != object.bytes {
            return Err(ReadError::Changed { committed: object.bytes, found });
        }
        file.seek(std::io::SeekFrom::Start(range.start)).await.unwrap();
        Ok(Box::pin(file.take(range.end - range.start)))
    }
}

/// A catalog that stands still, but for what a test deletes, and counts the objects that it hands out.
#[derive(Default)]
pub struct Fixed {
    datasets: Vec<CatalogDataset>,
    pub handed_out: AtomicUsize,
    /// Gone between the gate's look and the query's.
    pub deleted: AtomicBool,
}

pub struct Shared(Arc<Fixed>);

#[async_trait::async_trait]
impl Catalog for Shared {
    async fn datasets(&self, namespaces: &[String]) -> dagwright_state::Result<Vec<CatalogDataset>> {
        let visible = self.0.datasets.iter().filter(|dataset| namespaces.contains(&dataset.namespace));
        Ok(visible.map(|dataset| CatalogDataset { objects: vec![], ..dataset.clone() }).collect())
    }

    async fn pin(&self, ids: &[DatasetId]) -> dagwright_state::Result<Vec<CatalogDataset>> {
        if self.0.deleted.load(Ordering::Relaxed) {
            return Ok(vec![]);
        }
        let pinned: Vec<_> =
            self.0.datasets.iter().filter(|dataset| ids.contains(&dataset.dataset_id)).cloned().collect();
        let objects = pinned.iter().map(|dataset| dataset.objects.len()).sum();
        self.0.handed_out.fetch_add(objects, Ordering::Relaxed);
        Ok(pinned)
    }

    async fn sizes(&self, ids: &[DatasetId]) -> dagwright_state::Result<HashMap<DatasetId, CatalogSize>> {
        let size = |objects: &[CatalogObject]| CatalogSize {
            objects: objects.len() as u64,
            rows: objects.iter().map(|o| o.rows).sum(),
            bytes: objects.iter().map(|o| o.bytes).sum(),
        };
        let asked = self.0.datasets.iter().filter(|dataset| ids.contains(&dataset.dataset_id));
        Ok(asked.map(|dataset| (dataset.dataset_id, size(&dataset.objects))).collect())
    }
}

/// Writes one object of blocks `start..start + ROWS`.
pub fn write_object(folder: &Path, key: &str, start: u64) -> CatalogObject {
    let fields = vec![
        Field::new("block_number", DataType::UInt64, false),
        Field::new("block_hash", DataType::Binary, false),
        Field::new("value", DataType::Decimal128(38, 0), true),
        Field::new("miner", DataType::Utf8, true),
        Field::new("mined_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
    ];
    let schema = Arc::new(Schema::new(fields));
    let numbers: Vec<u64> = (start..start + ROWS).collect();
    let batch = RecordBatch::try_new(
        schema.clone(),
        vec![
            Arc::new(UInt64Array::from(numbers.clone())),
            Arc::new(BinaryArray::from_iter_values(numbers.iter().map(|n| n.to_be_bytes()))),
            Arc::new(
                Decimal128Array::from_iter_values(
                    numbers.iter().map(|n| i128::from(*n) * 1_000_000_000_000_000_000),
                )
                .with_precision_and_scale(38, 0)
                .unwrap(),
            ),
            Arc::new(
                numbers
                    .iter()
                    .map(|n| (n % 2 == 0).then(|| format!("miner {}", n % 7)))
                    .collect::<StringArray>(),
            ),
            Arc::new(
                TimestampMicrosecondArray::from_iter_values(
                    numbers.iter().map(|n| i64::try_from(*n).unwrap() * 12_000_000),
                )
                .with_timezone("UTC"),
            ),
        ],
    );
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, None).unwrap();
    writer.write(&batch.unwrap()).unwrap();
    let bytes = writer.into_inner().unwrap();
    std::fs::write(folder.join(key), &bytes).unwrap();
    CatalogObject {
        bucket: "data".into(),
        key: key.into(),
        bytes: bytes.len() as u64,
        sha256: format!("hash of {key}"),
        rows: ROWS,
        range: BlockRange::new(start, start + ROWS).unwrap(),
    }
}

fn dataset(namespace: &str, name: &str, roles: &[&str], objects: Vec<CatalogObject>) -> CatalogDataset {
    CatalogDataset {
        namespace: namespace.into(),
        name: name.into(),
        dataset_id: DatasetId(Uuid::now_v7()),
        schema: json!({"evm": "blocks"}),
        read_roles: roles.iter().map(ToString::to_string).collect(),
        version: Some(VersionId(Uuid::now_v7())),
        objects,
    }
}

pub struct Service {
    pub url: String,
    pub folder: Folder,
    pub catalog: Arc<Fixed>,
    key: EncodingKey,
    http: reqwest::Client,
    stop: CancellationToken,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub const LIMITS: Limits =
    Limits { timeout: Duration::from_secs(20), max_rows: 100_000, max_bytes: 64 << 20 };

impl Service {
    pub async fn start() -> Self {
        Self::with_limits(LIMITS).await
    }

    pub async fn with_limits(limits: Limits) -> Self {
        let folder = Folder::new();
        let write = |key: &str, start| write_object(&folder.0, key, start);
        let datasets = vec![
            dataset(
                "demo",
                "local-blocks",
                &["analyst"],
                vec![write("a.parquet", 0), write("b.parquet", ROWS)],
            ),
            dataset("default", "local-blocks", &["analyst"], vec![write("c.parquet", 7 * ROWS)]),
            dataset("demo", "salaries", &["admin"], vec![write("d.parquet", 0)]),
            dataset("other", "blocks", &["analyst"], vec![write("e.parquet", 0)]),
            dataset("demo", "empty", &["analyst"], vec![]),
        ];
        let catalog = Arc::new(Fixed { datasets, ..Fixed::default() });
        let pair = rcgen::KeyPair::generate().unwrap();
        let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
        let mut jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
        jwk.common.key_id = Some("k1".into());
        let jwks = folder.0.join("jwks.json");
        std::fs::write(&jwks, serde_json::to_vec(&JwkSet { keys: vec![jwk] }).unwrap()).unwrap();

        let (stop, http) = (CancellationToken::new(), reqwest::Client::builder().build().unwrap());
        let app = App {
            auth: Authenticator::new(KeySource::File(jwks), http.clone(), ISSUER.into(), AUDIENCE.into()),
            catalog: Box::new(Shared(catalog.clone())),
            objects: ObjectGateway::spawn(FolderSource(folder.0.clone()), stop.clone()).await.unwrap(),
            engines: EnginePool::spawn(spec(), 1, Health::new().check("engine"), stop.clone()),
            limits,
            slots: Arc::new(Semaphore::new(4)),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serve = axum::serve(listener, api::router(Arc::new(app)))
            .with_graceful_shutdown(stop.clone().cancelled_owned());
        tokio::spawn(serve.into_future());
        Self { url, folder, catalog, key, http, stop }
    }

    pub fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some("k1".into()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }

    pub fn token(&self) -> String {
        self.sign(&claims())
    }

    pub async fn post(&self, token: &str, body: Value) -> reqwest::Response {
        let request = self.http.post(format!("{}/v1/query", self.url)).bearer_auth(token);
        request.header("content-type", "application/json").body(body.to_string()).send().await.unwrap()
    }

    pub async fn get(&self, path: &str) -> Value {
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(self.token());
        request.send().await.unwrap().json().await.unwrap()
    }

    pub async fn query(&self, body: Value) -> reqwest::Response {
        self.post(&self.token(), body).await
    }

    /// Rows of a query that must succeed.
    pub async fn rows(&self, sql: &str) -> Value {
        let response = self.query(json!({ "sql": sql })).await;
        let (status, body) = (response.status(), response.json::<Value>().await.unwrap());
        assert_eq!(status, 200, "{sql}: {body}");
        body["rows"].clone()
    }

    /// The problem of a query that must fail: code and detail.
    pub async fn problem(&self, body: Value) -> (String, String) {
        let response = self.query(body.clone()).await;
        let (status, problem) = (response.status().as_u16(), response.json::<Value>().await.unwrap());
        assert_eq!(problem["status"], status, "{body}: {problem}");
        let code = problem["code"].as_str().unwrap_or_else(|| panic!("{body}: {problem}")).to_owned();
        assert_eq!(problem["type"], format!("https://dagwright.dev/problems/{code}"));
        (code, problem["detail"].as_str().unwrap().to_owned())
    }
}

pub fn spec() -> EngineSpec {
    EngineSpec {
        program: env!("CARGO_BIN_EXE_dagwright-query").into(),
        extension_dir: extension_dir(),
        memory_mib: 256,
        threads: 2,
    }
}

pub fn claims() -> Value {
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": now + 600,
        "roles": ["analyst"], "namespaces": ["demo", "default"],
    })
}
