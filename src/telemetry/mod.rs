//! Logs: what is written, in which form, and what never is.
//!
//! Our own events go by the filter of the settings. Those of other crates are written at INFO, WARN and ERROR only,
//! whatever the filter says: below that, HTTP crates log header values and buffers, which hold tokens and signatures.
//! `init` is the one place that sets something global; only `cli` calls it. Records go to standard error, so that standard
//! output holds answers alone.

mod queue;

use serde::Deserialize;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

pub use self::queue::FlushOnDrop;
use self::queue::Queue;

/// `[telemetry]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How a record is written.
    pub format: Format,
    /// Which of our events are written.
    pub filter: String,
}

/// How a log record is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

/// A subscriber is in place already, or the filter is none.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The filter cannot be read.
    #[error("telemetry.filter is not a log filter")]
    Filter,
    /// Something else in this process logs already.
    #[error("logging was started twice in this process")]
    Twice,
    /// The system gives no thread.
    #[error("the thread that writes the log cannot be started")]
    Thread(#[from] std::io::Error),
}

/// Whether the text is a filter that can be used.
pub fn is_filter(text: &str) -> bool {
    // Each directive costs at every new call site; a handful is enough for anybody.
    // The parser of directives cuts other texts between the bytes of a character and panics.
    text.len() <= 4096
        && text.is_ascii()
        && !text.trim().is_empty()
        && EnvFilter::builder().parse(text).is_ok()
}

/// Whether records of this origin and level may be written at all.
fn allowed(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let ours =
        target.strip_prefix("acs_broker").is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    ours || *metadata.level() <= Level::INFO
}

/// A subscriber that writes to `writer`.
pub fn subscriber<W>(settings: &Settings, writer: W) -> Result<impl Subscriber + Send + Sync, InitError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let chosen = EnvFilter::builder().parse(&settings.filter).map_err(|_| InitError::Filter)?;
    let filter = chosen.and(filter_fn(allowed).with_max_level_hint(LevelFilter::TRACE));
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match settings.format {
        Format::Json => {
            layer.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
        }
        Format::Pretty => layer.with_ansi(false).with_target(false).boxed(),
    };
    Ok(tracing_subscriber::registry().with(layer.with_filter(filter)))
}

/// Starts logging to standard error for the whole process, and makes a panic a record without its message, which could
/// hold anything. Keep what is returned until the process ends.
pub fn init(settings: &Settings) -> Result<FlushOnDrop, InitError> {
    let (queue, flush) = Queue::start(std::io::stderr(), queue::CAPACITY)?;
    let subscriber = subscriber(settings, queue)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| InitError::Twice)?;
    std::panic::set_hook(Box::new(|panic| {
        let (file, line) = panic.location().map_or(("unknown", 0), |at| (at.file(), at.line()));
        tracing::error!(file, line, "a task panicked; this is a bug, please report it");
    }));
    Ok(flush)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, filter: &str, events: impl FnOnce()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let settings = Settings { format, filter: filter.into() };
        let subscriber = subscriber(&settings, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, events);
        String::from_utf8(captured.0.lock().unwrap().clone()).unwrap()
    }

    fn everybody_talks() {
        tracing::trace!(target: "h2::codec", "authorization: canary");
        tracing::debug!(target: "hyper::proto", "buffer canary");
        tracing::trace!(target: "acs_brokerage", "canary of another crate with a longer name");
        let span = tracing::trace_span!(target: "h2", "connection", header = "canary");
        span.in_scope(|| tracing::trace!(target: "acs_broker::store", "ours"));
        tracing::warn!(target: "hyper", "theirs");
    }

    #[test]
    fn other_crates_are_silent_below_info_even_when_the_filter_asks() {
        for filter in ["trace", "h2=trace,hyper=trace,acs_broker=trace,warn"] {
            for format in [Format::Json, Format::Pretty] {
                let log = logged(format, filter, everybody_talks);
                assert!(!log.contains("canary"), "{log}");
                assert!(log.contains("ours") && log.contains("theirs"), "{log}");
            }
        }
    }

    #[test]
    fn the_filter_decides_about_our_own_events() {
        let log = logged(Format::Json, "info", everybody_talks);
        assert!(!log.contains("ours"), "{log}");
        assert!(log.contains("theirs"), "{log}");
    }

    #[test]
    fn a_json_record_is_one_object_a_line() {
        let log = logged(Format::Json, "info", || {
            let span = tracing::info_span!(target: "acs_broker::grpc", "rpc", request_id = "r1");
            span.in_scope(|| tracing::info!(target: "acs_broker::grpc", answer = 42, "two\nlines"));
        });
        assert_eq!(log.lines().count(), 1, "{log}");
        let record: serde_json::Value = serde_json::from_str(&log).unwrap();
        assert_eq!(record["message"], "two\nlines");
        assert_eq!(record["answer"], 42);
        assert_eq!(record["span"]["request_id"], "r1");
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for text in ["", " ", "a=b=c", "[[[", "=loud"] {
            assert!(!is_filter(text), "{text:?}");
        }
        for text in ["info", "off", "acs_broker::store=trace,info", "h2=debug"] {
            assert!(is_filter(text), "{text:?}");
        }
    }
}
