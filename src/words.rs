//! Small things said the same way everywhere: durations, the time, the system's errors.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `500ms`, `30s`, `10m`, `1h`, `2d` or plain seconds; at most a year.
pub fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let duration = match &text[digits..] {
        "ms" => Duration::from_millis(number),
        "" | "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.checked_mul(60)?),
        "h" => Duration::from_secs(number.checked_mul(3600)?),
        "d" => Duration::from_secs(number.checked_mul(86400)?),
        _ => return None,
    };
    (duration <= Duration::from_hours(366 * 24)).then_some(duration)
}

/// A size as Kubernetes writes it: `500Mi`, `6Gi`, `2G`, or plain bytes; a `B` behind the unit is let pass.
pub fn bytes(text: &str) -> Option<u64> {
    let text = text.strip_suffix('B').filter(|rest| rest.ends_with(|c: char| c.is_ascii_alphabetic())).unwrap_or(text);
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        "" => 1,
        "k" | "K" => 1000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1_u64 << 40,
        _ => return None,
    };
    number.checked_mul(unit)
}

/// Whether a Kubernetes object may have this name.
pub fn is_object_name(text: &str) -> bool {
    let end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let inner = |c: char| end(c) || "-.".contains(c);
    text.len() <= 253 && text.chars().all(inner) && text.starts_with(end) && text.ends_with(end)
}

/// Seconds since 1970, by the clock that Airflow writes its heartbeats with.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// The operating system's words without Rust's ` (os error 2)`.
pub fn reason(error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::InvalidData
        && error.get_ref().is_none_or(|inner| inner.to_string().contains("UTF-8"))
    {
        return "it is not valid UTF-8".to_owned();
    }
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// The name of `names` that differs least from `name`, when it differs little enough to be a slip.
pub fn nearest(name: &str, names: &[&str]) -> Option<String> {
    names
        .iter()
        .map(|known| (strsim::damerau_levenshtein(name, known), *known))
        .filter(|(distance, _)| *distance <= 1 + name.len() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_units_of_kubernetes() {
        for (text, size) in [("7", 7), ("500Mi", 500 << 20), ("6GiB", 6 << 30), ("2G", 2_000_000_000), ("1k", 1000)] {
            assert_eq!(bytes(text), Some(size), "{text}");
        }
        for wrong in ["", "B", "Mi", "1.5Gi", "-1", "6 Gi", "18446744073709551615Ki"] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn durations_have_units_and_a_limit() {
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("90"), Some(Duration::from_secs(90)));
        assert_eq!(duration("10m"), Some(Duration::from_mins(10)));
        assert_eq!(duration("0"), Some(Duration::ZERO));
        for bad in ["", "m", "-1s", "1.5s", "10 m", "18446744073709551615h", "99999999999", "1w"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }
}
