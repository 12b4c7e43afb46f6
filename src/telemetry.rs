//! Our own log lines: to stderr, text or JSON. A log that nobody reads must neither stop nor end this process.
//!
//! The subscriber is our own because PID 1 lives with it: it allocates nothing until there is something to say.

use crate::env::{self, Vars};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fmt;
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Starts logging for this process, which calls itself `name` in its lines. Wrong words in the variables count as unset
/// here: the settings report them.
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
    let _ = tracing::subscriber::set_global_default(Log { level, json, name });
}

/// Where errors go besides.
static ERRORS: OnceLock<File> = OnceLock::new();

/// From now on, the text of every error is written to this file, too.
pub fn keep_errors(file: File) {
    let _ = ERRORS.set(file);
}

struct Log {
    level: LevelFilter,
    json: bool,
    name: String,
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // What libraries say while we wait is our business to say, once and in our words.
        metadata.is_event() && *metadata.level() <= self.level && metadata.target().starts_with("kube_airflow_init")
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn event(&self, event: &Event<'_>) {
        let mut message = Message::default();
        event.record(&mut message);
        let level = match *event.metadata().level() {
            Level::ERROR => "ERROR",
            Level::WARN => "WARN",
            Level::INFO => "INFO",
            _ => "DEBUG",
        };
        if level == "ERROR"
            && let Some(mut file) = ERRORS.get()
        {
            let _ = io::Write::write_all(&mut file, format!("{}\n", message.text).as_bytes());
        }
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        write(line(&message, level, &timestamp(time), self).as_bytes());
    }

    // We have no spans, and those of libraries are not enabled.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
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

fn line(message: &Message, level: &str, time: &str, log: &Log) -> String {
    let fields = &message.fields;
    if log.json {
        let mut object = serde_json::Map::new();
        object.insert("time".into(), time.into());
        object.insert("level".into(), level.to_lowercase().into());
        object.insert("logger".into(), log.name.as_str().into());
        object.insert("message".into(), message.text.as_str().into());
        object.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())));
        return format!("{}\n", serde_json::Value::Object(object));
    }
    let mut line = format!("{time} {level:<5} {}: {}", log.name, message.text);
    for (name, value) in fields {
        // Writing to a string cannot fail.
        let _ = write!(line, " {name}={value}");
    }
    line.push('\n');
    line
}

/// The time in the form of our lines.
pub fn time() -> String {
    timestamp(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// `2026-01-31T23:59:59.123456Z`, as the logs of Airflow have it.
fn timestamp(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (day, second) = (seconds / 86_400, seconds % 86_400);
    // Civil date from a number of days: years begin in March, so that the leap day is the last one.
    let shifted = day + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year_of_era + era * 400 + next;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let micros = since_epoch.subsec_micros();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// Standard error, written to only when it takes the line at once: a full pipe or a closed stream loses the line.
fn write(line: &[u8]) {
    let stderr = io::stderr();
    let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    // A pipe that is ready takes PIPE_BUF bytes in one piece; longer lines go in such pieces, each asked for.
    for piece in line.chunks(4096) {
        if poll(&mut fds, PollTimeout::ZERO) != Ok(1) || rustix::io::write(stderr.as_fd(), piece).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399, "2000-02-28T23:59:59.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (1_767_225_599, "2025-12-31T23:59:59.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(timestamp(Duration::from_secs(seconds)), expected);
        }
        assert_eq!(timestamp(Duration::from_micros(1_234_567)), "1970-01-01T00:00:01.234567Z");
    }

    #[test]
    fn a_line_is_text_or_one_json_object() {
        let message = Message { text: "a \"b\"\nc".into(), fields: vec![("n", "1".into())] };
        let mut log = Log { level: LevelFilter::INFO, json: false, name: "kube-airflow-init".into() };
        assert_eq!(line(&message, "WARN", "T", &log), "T WARN  kube-airflow-init: a \"b\"\nc n=1\n");
        log.json = true;
        let json: serde_json::Value = serde_json::from_str(&line(&message, "WARN", "T", &log)).unwrap();
        assert_eq!((&json["level"], &json["message"], &json["n"]), (&"warn".into(), &"a \"b\"\nc".into(), &"1".into()));
    }
}
