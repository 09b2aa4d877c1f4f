use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{CommonArgs, LogFormat};

/// Buckets of every duration metric, in seconds: from a cached answer to a slow chunk.
const SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// Logs, metrics or traces could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The filter does not parse.
    #[error("read log directives {directives:?}")]
    Filter {
        /// As given.
        directives: String,
        /// What the parser says.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// A subscriber or recorder is there already.
    #[error("install {what}: {message}")]
    Install {
        /// Which.
        what: &'static str,
        /// Why not.
        message: String,
    },
}

/// Keeps traces flowing; flushes them when dropped. Hold it until the end of `main`.
pub struct Telemetry {
    metrics: PrometheusHandle,
    traces: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// The handle that renders /metrics.
    #[must_use]
    pub fn metrics(&self) -> PrometheusHandle {
        self.metrics.clone()
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(provider) = self.traces.take() {
            // A collector that is away must not turn a clean exit into a failed one.
            let _ = provider.shutdown();
        }
    }
}

/// Sets up logs on standard error, the Prometheus recorder, and traces when `OTEL_EXPORTER_OTLP_ENDPOINT` is set.
///
/// # Errors
/// When the filter does not parse, or something is installed already.
pub fn init(args: &CommonArgs, service: &'static str) -> Result<Telemetry, InitError> {
    let filter = EnvFilter::try_new(&args.log_filter)
        .map_err(|source| InitError::Filter { directives: args.log_filter.clone(), source })?;
    let logs = match args.log_format {
        LogFormat::Text => {
            tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false).boxed()
        }
        LogFormat::Json => tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr).boxed(),
    };
    let traces = tracer(service)?;
    let spans = traces.as_ref().map(|p| tracing_opentelemetry::layer().with_tracer(p.tracer(service)));
    tracing_subscriber::registry()
        .with(filter)
        .with(logs)
        .with(spans)
        .try_init()
        .map_err(|e| InitError::Install { what: "the log subscriber", message: e.to_string() })?;
    let metrics = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(|e| InitError::Install { what: "the metrics recorder", message: e.to_string() })?;
    metrics::gauge!("dagwright_build_info", "version" => env!("CARGO_PKG_VERSION"), "service" => service)
        .set(1.0);
    Ok(Telemetry { metrics, traces })
}

fn tracer(service: &'static str) -> Result<Option<SdkTracerProvider>, InitError> {
    if std::env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT").is_none() {
        return Ok(None);
    }
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .build()
        .map_err(|e| InitError::Install { what: "the trace exporter", message: e.to_string() })?;
    let resource = Resource::builder().with_service_name(service).build();
    Ok(Some(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build()))
}
