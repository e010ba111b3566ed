//! Logs, traces and metrics.
//!
//! One line for each request and each push, with ids, latency and codes; never a code of `wx.login`, a
//! token, a key, an openid's messages or a phone number. `RUST_LOG` sets the level, `MAGPIE_LOG_FORMAT`
//! (`text` or `json`) the form.
//!
//! Spans are those of the libraries (statements, connections). With `MAGPIE_LOG_SPANS=true` each is a line with its
//! fields when it begins and when it ends, which is how one looks for where the time goes.

mod lines;

use std::{
    io::{self, IsTerminal},
    sync::OnceLock,
    time::Duration,
};

use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use tracing::Level;
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::filter_fn,
    fmt::{self, format::FmtSpan, writer::BoxMakeWriter},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use lines::Lines;

const DEFAULT_LEVEL: &str = "info,sqlx=warn,sea_orm=warn,sea_orm_migration=warn";

/// sea-orm writes the address of the database, with its password, into the span of each connection (level trace).
/// Whatever `RUST_LOG` asks for, no more than warnings come from there.
const WITH_PASSWORDS: &str = "sea_orm::driver";

static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();
/// None when no thread could be had for them.
static LINES: OnceLock<Option<Lines>> = OnceLock::new();

/// Sets up logs to standard error and the metrics' recorder. Only the first call of a process counts.
pub fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_LEVEL));
    let json = std::env::var("MAGPIE_LOG_FORMAT").is_ok_and(|format| format == "json");
    let registry = tracing_subscriber::registry().with(filter);
    let spans = std::env::var("MAGPIE_LOG_SPANS").is_ok_and(|spans| spans == "true");
    let spans = if spans { FmtSpan::NEW | FmtSpan::CLOSE } else { FmtSpan::NONE };
    let layer = fmt::layer().with_writer(standard_error()).with_ansi(io::stderr().is_terminal());
    let layer = layer.with_span_events(spans);
    let harmless = filter_fn(|line| !line.target().starts_with(WITH_PASSWORDS) || *line.level() <= Level::WARN);
    let started = if json {
        registry.with(layer.json().flatten_event(true).with_filter(harmless)).try_init()
    } else {
        registry.with(layer.with_filter(harmless)).try_init()
    };
    if started.is_ok()
        && let Ok(handle) = recorder()
    {
        // The recorder is installed once, so is its handle.
        let _ = METRICS.set(handle);
    }
}

fn standard_error() -> BoxMakeWriter {
    match LINES.get_or_init(|| Lines::to(io::stderr()).ok()) {
        Some(lines) => BoxMakeWriter::new(lines.clone()),
        None => BoxMakeWriter::new(io::stderr),
    }
}

/// Writes the log to its last line. To be called before the process ends.
pub fn flush() {
    if let Some(Some(lines)) = LINES.get() {
        lines.flush();
    }
}

/// Durations as histograms, so that several nodes can be added up.
fn recorder() -> Result<PrometheusHandle, BuildError> {
    const SECONDS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
    PrometheusBuilder::new().set_buckets(&SECONDS)?.install_recorder()
}

/// How often what was measured is added up.
const ADDED_UP_EVERY: Duration = Duration::from_secs(2);

/// Adds up what was measured, until it is dropped. Each duration is kept by itself until then, or until somebody reads the
/// metrics, which nobody may ever do.
pub async fn add_up() {
    loop {
        tokio::time::sleep(ADDED_UP_EVERY).await;
        if let Some(metrics) = METRICS.get() {
            metrics.run_upkeep();
        }
    }
}

/// All metrics in Prometheus' text format; None when no recorder runs.
pub fn render_metrics() -> Option<String> {
    METRICS.get().map(PrometheusHandle::render)
}
