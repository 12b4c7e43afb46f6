//! Puts the figures of a bench between its marks in the pages: whoever quotes a figure quotes the last run.

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
