//! Our own log lines: to stderr, text or JSON. A log that nobody reads must neither stop nor end this process.

use crate::env::{self, Vars};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fmt;
use std::io::{self, Write};
use std::os::fd::AsFd;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};

/// Starts logging for this process, which calls itself `name` in its lines. Wrong words in the variables count as unset here: the settings report them.
pub fn start(vars: &dyn Vars, name: String) {
    let word = |variable: &env::Variable| {
        vars.get(variable.name).and_then(|text| text.into_string().ok()).map(|text| text.trim().to_ascii_lowercase())
    };
    let level = match word(&env::KUBE_AIRFLOW_LOG_LEVEL).as_deref() {
        Some("error") => LevelFilter::ERROR,
        Some("warn") => LevelFilter::WARN,
        Some("debug") => LevelFilter::DEBUG,
        _ => LevelFilter::INFO,
    };
    let json = word(&env::KUBE_AIRFLOW_LOG_FORMAT).as_deref() == Some("json");
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(Stderr)
        // Its fallback is eprintln!, which panics when stderr is gone.
        .log_internal_errors(false)
        .event_format(Format { json, name });
    // What libraries say while we wait is our business to say, once and in our words.
    let ours = tracing_subscriber::filter::filter_fn(|meta| meta.target().starts_with("kube_airflow_init"));
    let _ =
        tracing::subscriber::set_global_default(Registry::default().with(layer.with_filter(level).with_filter(ours)));
}

struct Format {
    json: bool,
    name: String,
}

#[derive(Default)]
struct Message {
    text: String,
    fields: Vec<(&'static str, String)>,
}

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.text = format!("{value:?}");
        } else {
            self.fields.push((field.name(), format!("{value:?}")));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.push((field.name(), value.to_owned()));
    }
}

impl<S, N> FormatEvent<S, N> for Format
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut message = Message::default();
        event.record(&mut message);
        let level = match *event.metadata().level() {
            Level::ERROR => "ERROR",
            Level::WARN => "WARN",
            Level::INFO => "INFO",
            _ => "DEBUG",
        };
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        if self.json {
            let mut object = serde_json::Map::new();
            object.insert("time".into(), time.into());
            object.insert("level".into(), level.to_lowercase().into());
            object.insert("logger".into(), self.name.clone().into());
            object.insert("message".into(), message.text.into());
            object.extend(message.fields.into_iter().map(|(name, value)| (name.to_owned(), value.into())));
            return writeln!(writer, "{}", serde_json::Value::Object(object));
        }
        write!(writer, "{time} {level:<5} {}: {}", self.name, message.text)?;
        for (name, value) in message.fields {
            write!(writer, " {name}={value}")?;
        }
        writeln!(writer)
    }
}

/// Standard error, written to only when it takes the line at once: a full pipe or a closed stream loses the line.
#[derive(Clone, Copy, Debug)]
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let stderr = io::stderr();
        let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
        if poll(&mut fds, PollTimeout::ZERO) == Ok(1) {
            // A pipe that is ready takes PIPE_BUF bytes in one piece; longer lines go in such pieces, each asked for.
            for piece in line.chunks(4096) {
                if poll(&mut fds, PollTimeout::ZERO) != Ok(1) || rustix::io::write(stderr.as_fd(), piece).is_err() {
                    break;
                }
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}
