//! Puts the figures of a bench between its marks in the pages: whoever quotes a figure quotes the last run.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "the figures are the result")]

#[path = "plot.rs"]
pub(crate) mod plot;

use std::fs;
use std::path::{Path, PathBuf};

/// The end of every place for figures.
const END: &str = "<!-- end of figures -->";

/// Prints the figures called `name`, and writes them into every page that has a place for them.
pub(crate) fn write(name: &str, figures: &str) {
    println!("{figures}");
    let begin = format!("<!-- figures: {name} -->\n");
    let figures = figures.trim_end().split("\n\n").map(wrapped).collect::<Vec<_>>().join("\n\n");
    let mut places = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        if let Some((before, rest)) = text.split_once(&begin) {
            let (_, after) = rest.split_once(END).unwrap();
            fs::write(&page, format!("{before}{begin}\n{figures}\n\n{END}{after}")).unwrap();
            places += 1;
        }
    }
    assert!(places > 0, "no page has a place for the figures {name}");
    for (file, picture) in plot::pictures(block) {
        fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(file), picture).unwrap();
    }
}

/// The figures of a name, from the first page that has them.
pub(crate) fn block(name: &str) -> String {
    let begin = format!("<!-- figures: {name} -->\n");
    let text =
        |page: PathBuf| Some(fs::read_to_string(page).unwrap().split_once(&begin)?.1.split_once(END)?.0.to_owned());
    pages().into_iter().find_map(text).unwrap()
}

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<_> = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect();
    pages.push(root.join("README.md"));
    pages
}

/// A paragraph in lines of at most 120 characters; tables and titles as they are.
pub(crate) fn wrapped(paragraph: &str) -> String {
    if paragraph.starts_with(['|', '#']) {
        return paragraph.to_owned();
    }
    let (mut out, mut length) = (String::new(), 0);
    for word in paragraph.split_whitespace() {
        let more = word.chars().count();
        if length > 0 {
            let fits = length + 1 + more <= 120;
            out.push(if fits { ' ' } else { '\n' });
            length = if fits { length + 1 } else { 0 };
        }
        out.push_str(word);
        length += more;
    }
    out
}
