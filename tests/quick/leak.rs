//! Where a secret may have got to, and how it is recognised there.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use std::fs;
use std::path::{Path, PathBuf};

/// The marker as it is, which is also how percent-encoding and JSON leave it, and in base64 wherever it begins.
pub(crate) fn needles(marker: &str) -> Vec<String> {
    let mut needles = vec![marker.to_owned()];
    for shift in 0..3 {
        let text = format!("{}{marker}", "x".repeat(shift));
        for engine in [&STANDARD, &URL_SAFE] {
            let encoded = engine.encode(&text);
            // The ends depend on what stands around them.
            needles.push(encoded[4..encoded.len() - 4].to_owned());
        }
    }
    needles
}

pub(crate) fn holds(text: &[u8], needles: &[String]) -> bool {
    let text = String::from_utf8_lossy(text);
    needles.iter().any(|needle| text.contains(needle.as_str()))
}

/// The command lines of all processes.
pub(crate) fn command_lines() -> impl Iterator<Item = Vec<u8>> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok())
}

/// Every file below a folder but the inputs.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if entry.file_name() != "input" {
                found.extend(files(&entry.path()));
            }
        } else {
            found.push(entry.path());
        }
    }
    found
}

#[test]
fn the_needles_find_a_secret_in_every_form() {
    let needles = needles("abcdefghijkl0123456789XY");
    let text = "user:abcdefghijkl0123456789XY@host";
    assert!(holds(text.as_bytes(), &needles));
    for at in 0..4 {
        assert!(holds(STANDARD.encode(&text[at..]).as_bytes(), &needles), "{at}");
    }
    assert!(!holds(b"abcdefghijkl", &needles));
}
