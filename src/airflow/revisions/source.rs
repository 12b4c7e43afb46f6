//! Assignments of strings at the left edge of a Python source: as much Python as migration files need.
//!
//! The "Revision ID" in their docstrings is not used: in several files it is wrong.

/// `revision = …` and `down_revision = …` of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Migration {
    pub revision: String,
    /// None for the first, several for a merge.
    pub parents: Vec<String>,
}

/// Whether both assignments, to their last line, are within `bytes`.
pub(super) fn is_complete(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let ends = |name: &str| value(&text, name).is_some_and(|value| expression(value).is_some());
    ends("revision") && ends("down_revision")
}

/// Both assignments; nothing when the file assigns no revision.
pub(super) fn migration(bytes: &[u8]) -> Option<Migration> {
    let text = String::from_utf8_lossy(bytes);
    let strings_of = |name: &str| value(&text, name).map(|value| strings(expression(value).unwrap_or(value)));
    let revision = strings_of("revision")?.into_iter().next()?;
    Some(Migration { revision, parents: strings_of("down_revision").unwrap_or_default() })
}

/// The text after `name =` or `name: type =` of the line that begins with it, to the end of the source.
pub(super) fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.match_indices(name).find_map(|(at, _)| {
        let begins_line = at == 0 || text[..at].ends_with(['\n', '\r']);
        let after = text[at + name.len()..].trim_start_matches([' ', '\t']);
        if !begins_line {
            return None;
        }
        let after = match after.strip_prefix(':') {
            Some(annotated) => {
                let line = &annotated[..annotated.find('\n').unwrap_or(annotated.len())];
                &annotated[line.find('=')?..]
            }
            None => after,
        };
        after.strip_prefix('=').filter(|after| !after.starts_with('='))
    })
}

/// The expression at the start of `text`: to the end of its line, or to its closing bracket; nothing when that is
/// missing. A bracket in a string does not count, nor does a comment.
pub(super) fn expression(text: &str) -> Option<&str> {
    let (mut depth, mut quote, mut comment) = (0_u32, None, false);
    for (at, c) in text.char_indices() {
        if comment {
            comment = c != '\n';
        }
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, _) if comment => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '#') => comment = true,
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if c == '\n' && depth == 0 && quote.is_none() {
            return Some(&text[..at]);
        }
    }
    None
}

/// The strings in an expression, comments left out.
pub(super) fn strings(expression: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(at) = rest.find(['"', '\'', '#']) {
        let after = &rest[at + 1..];
        let end = if rest[at..].starts_with('#') {
            '\n'
        } else if rest[at..].starts_with('"') {
            '"'
        } else {
            '\''
        };
        let Some((inside, next)) = after.split_once(end) else { break };
        if end != '\n' {
            found.push(inside.to_owned());
        }
        rest = next;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, Vec<String>) {
        let migration = migration(text.as_bytes()).unwrap();
        (migration.revision, migration.parents)
    }

    #[test]
    fn assignments_are_read_in_every_spelling() {
        let merge = vec!["b".to_owned(), "c".to_owned()];
        for (text, parents) in [
            ("revision = 'a'\ndown_revision = None\n", vec![]),
            ("revision = \"a\"\ndown_revision = 'b'  # 'not this'\n", vec!["b".to_owned()]),
            ("revision: str = \"a\"\ndown_revision: str | None = ('b', \"c\")\n", merge.clone()),
            ("down_revision=(\n    'b',  # ) the first\n    'c',\n)\nrevision='a'\nx = 'y'\n", merge.clone()),
            ("revision = 'a'\r\ndown_revision = ['b', 'c']", merge),
            ("\"\"\"Doc\n\nRevision ID: x\n  revision = 'x'\n\"\"\"\n_revision = 'x'\nrevision = 'a'\n", vec![]),
        ] {
            assert_eq!(parsed(text), ("a".to_owned(), parents), "{text}");
        }
    }

    #[test]
    fn a_file_without_a_revision_is_no_migration() {
        assert_eq!(migration(b""), None);
        assert_eq!(migration(b"# revision = 'a'\nif revision == 'a': pass\n"), None);
        assert_eq!(migration(b"revision == 'a'\n"), None);
    }

    #[test]
    fn a_head_that_ends_inside_an_assignment_is_not_complete() {
        assert!(is_complete(b"revision = 'a'\ndown_revision = None\n"));
        for text in
            ["revision = 'a'\n", "revision = 'a'\ndown_revision = 'b", "revision = 'a'\ndown_revision = ('b',\n"]
        {
            assert!(!is_complete(text.as_bytes()), "{text}");
        }
    }
}
