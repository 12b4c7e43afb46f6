//! A line cut into literal text and placeholders.

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

/// The pieces of `line` from left to right; together they are the whole line.
pub(super) fn pieces(line: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut done, mut from) = (0, 0);
    while let Some(found) = line[from..].find('{') {
        let run_at = from + found;
        let run = line[run_at..].bytes().take_while(|byte| *byte == b'{').count();
        from = run_at + run;
        // Four braces and more are Airflow's own escape. Of three, the first belongs to the text: `{{{ PORT }}: 1}`.
        if !(2..=3).contains(&run) {
            continue;
        }
        let Some((name, length)) = name(&line[from..]) else { continue };
        let at = from - 2;
        if at > done {
            pieces.push(Piece::Literal(&line[done..at]));
        }
        pieces.push(Piece::Placeholder { at, name });
        from += length;
        done = from;
    }
    if done < line.len() {
        pieces.push(Piece::Literal(&line[done..]));
    }
    pieces
}

/// The name right after the opening braces, and the bytes up to and with the closing ones.
fn name(text: &str) -> Option<(&str, usize)> {
    let (inside, _) = text.split_once("}}")?;
    let name = inside.trim_matches([' ', '\t']);
    let mut bytes = name.bytes();
    let first = bytes.next()?;
    let valid = (first.is_ascii_uppercase() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    valid.then_some((name, inside.len() + 2))
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
