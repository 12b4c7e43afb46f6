//! Percent-encoding as the URL readers of Airflow undo it: Python's `urllib.parse.quote` and `unquote`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Everything but letters, digits, `-`, `.` and `_`. `~` and `$` are encoded too, because Airflow expands `~` and
/// `$NAME` in every value that it reads.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');

/// `text` as a user name, password, virtual host or query value: nothing but `A-Za-z0-9-._%` comes out.
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, COMPONENT).to_string()
}

/// `text` as the database part of a `SQLAlchemy` URL.
///
/// `SQLAlchemy` decodes this part only since 2.1; with 1.3 (Airflow 1.10), 1.4 (2.x) and 2.0 a `my%20db` is a database
/// of exactly that name. So what all of them take literally stays literal, and only what would break the URL (`?`, `@`,
/// a `%` before two hexadecimal digits, `$`, control characters, white space at the ends) is encoded.
pub fn encode_database(text: &str) -> String {
    let bytes = text.as_bytes();
    let hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    let inner = text.len() - text.trim_start().len()..text.trim_end().len();
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        let literal = match c {
            '?' | '@' | '#' | '$' => false,
            '%' => !(hex(at + 1) && hex(at + 2)),
            c if c.is_control() => false,
            c if c.is_whitespace() => inner.contains(&at),
            _ => true,
        };
        if literal {
            out.push(c);
        } else {
            out.push_str(&encode(c.encode_utf8(&mut [0; 4])));
        }
    }
    out
}

/// `text` with every `%XX` undone; bytes that are not UTF-8 become U+FFFD and a stray `%` stays, as in Python.
pub fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// The pairs of a query string as Python's `parse_qsl` gives them: `+` is a space, pairs without a value are dropped.
pub fn decode_query(query: &str) -> Vec<(String, String)> {
    let undo = |text: &str| decode(&text.replace('+', " "));
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (undo(name), undo(value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_hold_nothing_that_any_reader_interprets() {
        assert_eq!(encode("a-b.c_d"), "a-b.c_d");
        assert_eq!(encode("p@ss:w/o?r#d%20;~$X +"), "p%40ss%3Aw%2Fo%3Fr%23d%2520%3B%7E%24X%20%2B");
        assert_eq!(encode("ü\n"), "%C3%BC%0A");
    }

    #[test]
    fn ordinary_database_names_stay_literal_for_old_sqlalchemy() {
        for name in ["airflow", "my db", "airflow-2.x", "a/b", "50%", "größe", "a:b;c"] {
            assert_eq!(encode_database(name), name);
        }
        for (name, encoded) in [("a?b", "a%3Fb"), ("a%20b", "a%2520b"), (" a ", "%20a%20"), ("$HOME", "%24HOME")] {
            assert_eq!(encode_database(name), encoded);
        }
    }

    #[test]
    fn stray_percent_signs_survive_decoding() {
        assert_eq!(decode("100%"), "100%");
        assert_eq!(decode("%zz%41"), "%zzA");
        assert_eq!(decode("%ff"), "\u{fffd}");
    }

    #[test]
    fn query_pairs_follow_python() {
        let pairs = decode_query("sslmode=require&empty=&bare&options=-c%20a%3Db+c");
        assert_eq!(
            pairs,
            [("sslmode".to_owned(), "require".to_owned()), ("options".to_owned(), "-c a=b c".to_owned())]
        );
    }
}
