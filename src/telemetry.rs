//! Logs to stderr, traces by OTLP where an endpoint is set, panics into the log.

use std::backtrace::Backtrace;
use std::panic;

use anyhow::{Context, Result};
use deploy::config::values::LogFormat;
use deploy::config::{ApiServerConfig, ProcessConfig, StoreConfig};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

/// Libraries that tell more at `info` than an operator wants to read. openraft warns of every
/// heartbeat and vote that a dead peer does not answer: the store says so once.
const QUIET: [(&str, &str); 6] = [
    ("h2", "warn"),
    ("hyper", "warn"),
    ("hyper_util", "warn"),
    ("openraft", "error"),
    ("rustls", "warn"),
    ("tonic", "warn"),
];

/// What is logged and traced, and where to.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// A level, or a filter such as `info,raft_store::wal=debug`.
    level: String,
    format: LogFormat,
    otlp_endpoint: Option<String>,
    /// The `service.name` and `service.instance.id` of traces.
    service: (&'static str, String),
}

impl Settings {
    /// Warnings only, for people.
    pub(crate) fn for_commands() -> Settings {
        Settings {
            level: "warn".into(),
            format: LogFormat::Text,
            otlp_endpoint: None,
            service: ("trireme", String::new()),
        }
    }

    /// As a member is configured.
    pub(crate) fn for_store(config: &StoreConfig) -> Settings {
        Settings {
            level: config.log_level.clone(),
            format: config.log_format,
            otlp_endpoint: config.otlp_endpoint.clone(),
            service: ("trireme-store", config.name.clone()),
        }
    }

    /// As an API server is configured.
    pub(crate) fn for_api_server(config: &ApiServerConfig) -> Settings {
        Settings {
            level: config.log_level.clone(),
            format: config.log_format,
            otlp_endpoint: config.otlp_endpoint.clone(),
            service: ("trireme-apiserver", config.name.clone()),
        }
    }

    /// As a process beside masters is configured.
    pub(crate) fn for_process(config: &ProcessConfig, service: &'static str) -> Settings {
        Settings {
            level: config.log_level.clone(),
            format: config.log_format,
            otlp_endpoint: config.otlp_endpoint.clone(),
            service: (service, config.name.clone().unwrap_or_default()),
        }
    }
}

/// What must be ended for nothing to be lost.
pub(crate) struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Sets the process up. To be called once, inside the runtime.
    pub(crate) fn init(settings: &Settings) -> Result<Telemetry> {
        let filter = filter(&settings.level)?;
        let base = fmt::layer().with_writer(std::io::stderr);
        let logs = match settings.format {
            LogFormat::Text => base.with_ansi(is_terminal()).boxed(),
            LogFormat::Json => base.json().flatten_event(true).boxed(),
        };
        let traces = settings
            .otlp_endpoint
            .as_deref()
            .map(|endpoint| provider(endpoint, &settings.service))
            .transpose()?;
        let export = traces.as_ref().map(|provider| {
            tracing_opentelemetry::layer().with_tracer(provider.tracer(settings.service.0))
        });
        tracing_subscriber::registry()
            .with(filter)
            .with(logs)
            .with(export)
            .try_init()
            .context("logging is set up already")?;
        log_panics();
        Ok(Telemetry { traces })
    }

    /// Sends what is left.
    pub(crate) fn shutdown(self) {
        if let Some(traces) = self.traces
            && let Err(error) = traces.shutdown()
        {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}

/// A level alone is meant for everything; a filter that names some modules leaves the libraries
/// quiet, unless it names them too.
fn filter(level: &str) -> Result<EnvFilter> {
    let bare = level.parse::<tracing::Level>().is_ok();
    let text = if bare && level != "info" {
        level.to_string()
    } else {
        let quiet = QUIET.map(|(library, most)| format!("{library}={most},"));
        format!("{}{level}", quiet.concat())
    };
    EnvFilter::try_new(text).with_context(|| format!("log-level: `{level}` is not a filter"))
}

fn is_terminal() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stderr())
}

fn provider(endpoint: &str, service: &(&'static str, String)) -> Result<SdkTracerProvider> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .with_context(|| format!("otlp-endpoint: cannot export to {endpoint}"))?;
    let instance = opentelemetry::KeyValue::new("service.instance.id", service.1.clone());
    let resource = Resource::builder()
        .with_service_name(service.0)
        .with_attribute(instance)
        .build();
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .build())
}

/// A panic becomes an error in the log, with its place and a backtrace where one is wanted.
fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        let thread = std::thread::current()
            .name()
            .unwrap_or_default()
            .to_string();
        let message = panic.payload_as_str().unwrap_or("no message");
        let backtrace = Backtrace::capture();
        tracing::error!(place, thread, %backtrace, "panic: {message}");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_checked() {
        assert!(
            filter("info")
                .unwrap()
                .to_string()
                .contains("openraft=error")
        );
        assert_eq!(filter("debug").unwrap().to_string(), "debug");
        let some = filter("info,raft_store=debug").unwrap().to_string();
        assert!(some.contains("openraft=error"), "{some}");
        let named = filter("info,openraft=debug").unwrap().to_string();
        assert!(
            named.contains("openraft=debug") && !named.contains("openraft=error"),
            "{named}"
        );
        assert!(filter("info,raft_store::wal=debug").is_ok());
        let error = filter("loud=very=much").unwrap_err().to_string();
        assert!(
            error.contains("log-level") && error.contains("loud"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn an_exporter_can_be_built_before_its_collector_runs() {
        let provider = provider("http://127.0.0.1:9", &("test", "one".into())).unwrap();
        // Nothing was traced, so nothing needs to be sent.
        tokio::task::spawn_blocking(move || provider.shutdown())
            .await
            .unwrap()
            .unwrap();
    }
}
