//! What a source file names of its own crate: each path that begins with `crate`, `super` or `self`, nested groups
//! included.

/// A path from the root of the crate, such as `["airflow", "table", "Cell"]`, and the line that names it.
#[derive(Debug, PartialEq)]
pub(super) struct Use {
    pub(super) line: usize,
    pub(super) path: Vec<String>,
}

/// What `lines` of the file of `module` name.
pub(super) fn uses<'a>(module: &[&str], lines: impl Iterator<Item = (usize, &'a str)>) -> Vec<Use> {
    let tokens: Vec<Token> = lines.flat_map(|(line, text)| tokens(line, text)).collect();
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        let continues = at > 0 && tokens[at - 1].text == "::";
        let path = match tokens[at].text {
            _ if continues || tokens.get(at + 1).is_none_or(|next| next.text != "::") => continue,
            "crate" => Vec::new(),
            "self" | "super" => module.iter().map(ToString::to_string).collect(),
            _ => continue,
        };
        follow(&tokens, at, path, &mut found);
    }
    found
}

struct Token<'a> {
    line: usize,
    text: &'a str,
}

/// Words, `::`, and single signs; without a comment at the end.
fn tokens(line: usize, text: &str) -> Vec<Token<'_>> {
    let mut rest = text.split("//").next().unwrap();
    let mut found = Vec::new();
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let length = match first {
            _ if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            _ if rest.starts_with("::") => 2,
            _ => first.len_utf8(),
        };
        let (text, after) = rest.split_at(length);
        rest = after;
        if !text.trim().is_empty() {
            found.push(Token { line, text });
        }
    }
    found
}

/// Follows the path at `at`, into all members of its groups, and returns the place after it.
fn follow(tokens: &[Token], mut at: usize, mut path: Vec<String>, found: &mut Vec<Use>) -> usize {
    let line = tokens[at].line;
    loop {
        match tokens[at].text {
            "super" => drop(path.pop()),
            "crate" | "self" => {}
            name => path.push(name.to_owned()),
        }
        at += 1;
        if tokens.get(at).is_none_or(|token| token.text != "::") {
            found.push(Use { line, path });
            return at;
        }
        at += 1;
        match tokens.get(at).map(|token| token.text) {
            Some("{") => break,
            Some(name) if name.starts_with(|c: char| c.is_alphabetic() || c == '_') => {}
            // `*`, and the types of a generic function.
            other => {
                found.push(Use { line, path });
                return at + usize::from(other == Some("*"));
            }
        }
    }
    at += 1;
    while let Some(token) = tokens.get(at) {
        match token.text {
            "}" => return at + 1,
            "," => at += 1,
            "*" => {
                found.push(Use { line: token.line, path: path.clone() });
                at += 1;
            }
            "as" => at += 2,
            _ => at = follow(tokens, at, path.clone(), found),
        }
    }
    at
}

#[test]
fn paths_are_found_in_groups_and_above() {
    let text = "
use crate::airflow::{self, table::{Cell as C, Row}, version::*};
use super::{env, words::join};
pub(crate) use self::inner::Thing; // crate::comment::no
fn f(x: crate::exit::Code) -> super::super::files::Written {}
let y = self.crate_::<u8>(std::process::id());
";
    let found = uses(&["plan", "show"], text.lines().enumerate());
    let found: Vec<(usize, String)> = found.into_iter().map(|one| (one.line, one.path.join("::"))).collect();
    let wanted = [
        (1, "airflow"),
        (1, "airflow::table::Cell"),
        (1, "airflow::table::Row"),
        (1, "airflow::version"),
        (2, "plan::env"),
        (2, "plan::words::join"),
        (3, "plan::show::inner::Thing"),
        (4, "exit::Code"),
        (4, "files::Written"),
    ];
    assert_eq!(found, wanted.map(|(line, path)| (line, path.to_owned())));
}
