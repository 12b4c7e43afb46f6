//! One line of a template: values in, and the checks that the reader of the file gets them back.

use super::scan::{Piece, pieces};
use super::{Format, Problem, Value};
use crate::ini::is_space;
use crate::words::nearest;

/// The rendered line; `fail` is told the column, the name and the problem of each mistake.
pub(super) fn render(
    text: &str,
    format: Format,
    lookup: &dyn Fn(&str) -> Option<Value>,
    names: &[&str],
    fail: &mut dyn FnMut(usize, &str, Problem),
) -> String {
    let mut line = Line { out: String::with_capacity(text.len()), in_url: false, quote: None, trailing: None };
    for piece in pieces(text) {
        match piece {
            Piece::Literal(literal) => line.literal(literal),
            Piece::Placeholder { at, name } => {
                let column = text[..at].chars().count() + 1;
                let value = match lookup(name) {
                    Some(value) => value,
                    None if names.contains(&name) => {
                        fail(column, name, Problem::Unset);
                        continue;
                    }
                    None => {
                        fail(column, name, Problem::Unknown(nearest(name, names)));
                        continue;
                    }
                };
                if let Err(problem) = line.value(&value, format, (column, name)) {
                    fail(column, name, problem);
                }
            }
        }
    }
    if let Some((column, name)) = line.trailing.filter(|_| format == Format::Ini) {
        fail(column, name, Problem::WhiteSpace);
    }
    line.out
}

/// The line so far.
struct Line<'a> {
    out: String,
    /// A `://` stands before this place, with no blank or quote between.
    in_url: bool,
    /// The quote of the string that this place is in, for files that are not INI.
    quote: Option<char>,
    /// The last placeholder, when its value ended in white space and nothing but blanks came after.
    trailing: Option<(usize, &'a str)>,
}

impl<'a> Line<'a> {
    fn literal(&mut self, text: &str) {
        let ends_url = |c: char| is_space(c) || matches!(c, '"' | '\'');
        let word = text.rfind(ends_url).map_or(text, |at| {
            self.in_url = false;
            &text[at..]
        });
        self.in_url |= word.contains("://");
        for c in text.chars().filter(|c| matches!(c, '"' | '\'')) {
            match self.quote {
                None => self.quote = Some(c),
                Some(open) if open == c => self.quote = None,
                Some(_) => {}
            }
        }
        if !text.chars().all(is_space) {
            self.trailing = None;
        }
        self.out.push_str(text);
    }

    fn value(&mut self, value: &Value, format: Format, place: (usize, &'a str)) -> Result<(), Problem> {
        let text = value.written(self.in_url);
        self.in_url |= value.begins_url();
        if format == Format::Plain {
            if self.quote.is_some_and(|quote| text.contains([quote, '\\', '\n', '\r'])) {
                return Err(Problem::EndsString);
            }
            self.out.push_str(&text);
            return Ok(());
        }
        if text.contains(['\n', '\r']) {
            return Err(Problem::LineBreak);
        }
        if text.starts_with(is_space) && self.at_edge() {
            return Err(Problem::WhiteSpace);
        }
        if text.starts_with(['#', ';', '[']) && self.out.chars().all(is_space) {
            return Err(Problem::BeginsLine);
        }
        if !text.is_empty() {
            self.trailing = text.ends_with(is_space).then_some(place);
        }
        self.out.push_str(&text.replace('%', "%%"));
        Ok(())
    }

    /// Whether text at this place is the first of an option's value, or of the line.
    fn at_edge(&self) -> bool {
        let start = self.out.find(['=', ':']).map_or(0, |at| at + 1);
        self.out[start..].chars().all(is_space)
    }
}
