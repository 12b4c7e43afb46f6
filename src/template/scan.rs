//! A line cut into literal text and placeholders.

use regex::Regex;
use std::sync::LazyLock;

/// A stretch of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// Copied as it is.
    Literal(&'a str),
    /// `{{ NAME }}`.
    Placeholder {
        /// Byte offset of the first brace.
        at: usize,
        /// The name between the braces.
        name: &'a str,
    },
}

/// A run of opening braces, and a name with its closing braces when one follows.
static BRACES: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(\{\{+)(?:[ \t]*([A-Z_][A-Z0-9_]*)[ \t]*\}\})?").ok());

/// The pieces of `line` from left to right; together they are the whole line.
pub(super) fn pieces(line: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut done = 0;
    for found in BRACES.iter().flat_map(|braces| braces.captures_iter(line)) {
        let (Some(whole), Some(run), Some(name)) = (found.get(0), found.get(1), found.get(2)) else { continue };
        // Four braces and more are Airflow's own escape. Of three, the first belongs to the text: `{{{ PORT }}: 1}`.
        if run.len() > 3 {
            continue;
        }
        let at = run.end() - 2;
        if at > done {
            pieces.push(Piece::Literal(&line[done..at]));
        }
        pieces.push(Piece::Placeholder { at, name: name.as_str() });
        done = whole.end();
    }
    if done < line.len() {
        pieces.push(Piece::Literal(&line[done..]));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(line: &str) -> Vec<&str> {
        let pieces = pieces(line);
        pieces
            .into_iter()
            .filter_map(|p| if let Piece::Placeholder { name, .. } = p { Some(name) } else { None })
            .collect()
    }

    #[test]
    fn upper_case_names_in_two_braces_are_placeholders() {
        assert_eq!(names("{{ A }}{{B_1}}:{{\t_C  }}"), ["A", "B_1", "_C"]);
        assert_eq!(names(r#"{"port":{{ PORT }}}"#), ["PORT"]);
        assert_eq!(names("{{{ PORT }}: 1}"), ["PORT"]);
    }

    #[test]
    fn everything_else_is_literal() {
        for line in [
            "{{ ti.dag_id }}/{{ ts }}",
            "{{{{ ti.dag_id }}}}/{{{{ NAME }}}}",
            "{{{{{ NAME }}}}}",
            "{% if A %}",
            "{ A }",
            "{{ A",
            "{{ A }",
            "{{}}",
            "{{ }}",
            "{{ 1A }}",
            "{{ A.B }}",
            "{{ A | lower }}",
            "{{ Ä }}",
        ] {
            assert_eq!(pieces(line), [Piece::Literal(line)], "{line}");
        }
    }
}
