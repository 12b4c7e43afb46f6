//! `{{ NAME }}` in a configuration template, replaced in one pass over the source; what comes out is never scanned
//! again.
//!
//! A placeholder is a name of `A-Z`, `0-9` and `_` in two braces. Everything else with braces belongs to Airflow and
//! its Jinja and passes untouched: `{{ ti.dag_id }}`, `{% if … %}`, and whatever stands in four braces or more. Comment
//! lines pass untouched as well, so that an example in a comment is no error and a secret never lands in one.
//!
//! A value is written so that the reader of the file gets exactly it back: percent-encoded inside a URL, `%` doubled
//! for `ConfigParser`. What `airflow.cfg` cannot hold at all is an error.

mod error;
mod line;
mod scan;
mod value;

pub use error::{Error, Errors, Problem};
pub use value::{Kind, Value};

/// Who reads the rendered file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `airflow.cfg`: `%` is doubled; comment lines begin with `#` or `;`.
    Ini,
    /// Anything else, such as `webserver_config.py`: no doubling; comment lines begin with `#`.
    Plain,
}

/// Replaces every placeholder of `source`.
///
/// `source_name` is the file's name in messages. `names` are all the names that exist: a placeholder that is not among
/// them is unknown and gets the nearest one as a suggestion; one that is, but for which `lookup` knows no value, is
/// unset. All mistakes of the file come at once, none of them with a value in its text.
pub fn render(
    source: &str,
    source_name: &str,
    format: Format,
    lookup: &dyn Fn(&str) -> Option<Value>,
    names: &[&str],
) -> Result<String, Errors> {
    let mut out = String::with_capacity(source.len() + source.len() / 8);
    let mut errors = Vec::new();
    for (number, (text, end)) in crate::ini::lines(source).enumerate() {
        if is_comment(text, format) {
            out.push_str(text);
        } else {
            let mut fail = |column: usize, name: &str, problem: Problem| {
                errors.push(Error::new(source_name, number + 1, column, name, problem));
            };
            out.push_str(&line::render(text, format, lookup, names, &mut fail));
        }
        out.push_str(end);
    }
    Errors::check(errors).map(|()| out)
}

/// The names of the placeholders in `source`, in their order and as often as they occur, comments left out.
pub fn placeholders(source: &str, format: Format) -> Vec<&str> {
    crate::ini::lines(source)
        .filter(|(text, _)| !is_comment(text, format))
        .flat_map(|(text, _)| scan::pieces(text))
        .filter_map(|piece| match piece {
            scan::Piece::Placeholder { name, .. } => Some(name),
            scan::Piece::Literal(_) => None,
        })
        .collect()
}

fn is_comment(line: &str, format: Format) -> bool {
    let text = line.trim_start_matches(crate::ini::is_space);
    text.starts_with('#') || (format == Format::Ini && text.starts_with(';'))
}

#[cfg(test)]
mod tests;
