//! The documentation says what the program does.

#[path = "../support/page.rs"]
mod page;

use std::path::PathBuf;
use std::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_kube-airflow-init");
const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// The chapters of the site that `make site` builds.
const CHAPTERS: &str = "docs/SUMMARY.md";

#[test]
fn reference_pages_are_current() {
    for (name, text) in kube_airflow_init::reference::pages() {
        let path = format!("{ROOT}/docs/{name}.md");
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == text, "{path} is not what the tables say: run `make docs`");
    }
}

/// Every page that is read on its own.
fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<_> = Vec::new();
    for folder in ["", "docs", "docs/monitoring", "docs/runbooks", "k8s/chart"] {
        pages.extend(std::fs::read_dir(format!("{ROOT}/{folder}")).unwrap().map(|entry| entry.unwrap().path()));
    }
    pages.retain(|path| path.extension().is_some_and(|ending| ending == "md"));
    assert!(pages.len() > 40, "{pages:?}");
    pages
}

/// The name that GitHub and mdBook give to a heading.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    heading
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn every_link_between_pages_leads_to_a_file_and_a_heading_that_are_there() {
    let link = regex::Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let mut broken = Vec::new();
    let mut linked = std::collections::BTreeSet::new();
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        // Every second piece is code.
        let prose: String = text.split("```").step_by(2).collect();
        for target in link.captures_iter(&prose).map(|found| found.get(1).unwrap().as_str()) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            if file.contains(':') {
                continue;
            }
            let path = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let there = path.exists();
            let has = |name: &str| {
                let text = std::fs::read_to_string(&path).unwrap();
                text.lines().any(|line| line.starts_with('#') && anchor(line) == name)
            };
            if !there || !heading.is_empty() && path.extension().is_some_and(|e| e == "md") && !has(heading) {
                broken.push(format!("{}: {target}", page.display()));
            }
            if !page.ends_with(CHAPTERS) {
                linked.extend(path.canonicalize());
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    // Every page is found from another one, and not only in the list of all.
    let docs = PathBuf::from(format!("{ROOT}/docs")).canonicalize().unwrap();
    let mut lost: Vec<_> = pages().into_iter().filter_map(|page| page.canonicalize().ok()).collect();
    lost.retain(|page| page.starts_with(&docs) && !page.ends_with(CHAPTERS) && !linked.contains(page));
    assert!(lost.is_empty(), "no page leads to {lost:#?}");
}

#[test]
fn every_page_is_one_chapter_of_the_site_under_its_own_title() {
    let docs = PathBuf::from(format!("{ROOT}/docs"));
    let chapter = regex::Regex::new(r"(?m)^ *- \[(.+)\]\((.+)\)$").unwrap();
    let text = std::fs::read_to_string(format!("{ROOT}/{CHAPTERS}")).unwrap();
    let mut chapters = std::collections::BTreeMap::new();
    for (_, [title, file]) in chapter.captures_iter(&text).map(|found| found.extract()) {
        let page = docs.join(file).canonicalize().unwrap();
        assert!(chapters.insert(page, title.to_owned()).is_none(), "{CHAPTERS} has {file} twice");
    }
    for page in pages().iter().filter(|page| !page.ends_with(CHAPTERS)) {
        let text = std::fs::read_to_string(page).unwrap();
        let heading = text.lines().find_map(|line| line.strip_prefix("# ")).unwrap();
        let title = chapters.get(&page.canonicalize().unwrap());
        let title = title.unwrap_or_else(|| panic!("{} is in no chapter of {CHAPTERS}", page.display()));
        // The first page has the name of the site for its title.
        assert!(title == heading || heading == "kube-airflow-init", "{CHAPTERS}: `{title}` is titled `{heading}`");
    }
}

/// What cannot be broken is a row of a table, and what a user types or reads on a terminal.
#[test]
fn no_line_of_a_page_is_wider_than_120_characters() {
    for page in pages() {
        let mut typed = false;
        for (number, line) in std::fs::read_to_string(&page).unwrap().lines().enumerate() {
            typed ^= line.trim_start().starts_with("```");
            let fits = line.chars().count() <= 120 || typed || line.starts_with('|');
            assert!(fits, "{}:{}: {line}", page.display(), number + 1);
        }
    }
}

#[test]
fn every_exit_code_is_explained_once() {
    use kube_airflow_init::exit::Code;
    let numbers: std::collections::BTreeSet<_> = Code::ALL.iter().map(|(code, ..)| code.number()).collect();
    assert_eq!(numbers.len(), Code::ALL.len());
}

#[test]
fn the_help_of_every_verb_has_exit_codes_and_an_example() {
    let help = |verb: &str| {
        let output = Command::new(PROGRAM).args([verb, "--help"]).env_clear().output().unwrap();
        assert!(output.status.success(), "{verb}");
        String::from_utf8(output.stdout).unwrap()
    };
    for verb in [
        "standalone",
        "exec",
        "render",
        "wait",
        "migrate",
        "sync",
        "keys",
        "plan",
        "doctor",
        "probe",
        "version",
        "completions",
    ] {
        let text = help(verb);
        assert!(text.contains("xit code") && text.contains("xample"), "{verb}:\n{text}");
    }
}

#[test]
fn files_that_the_readme_names_exist() {
    for page in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = std::fs::read_to_string(format!("{ROOT}/{page}")).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap();
            if !file.is_empty() && !file.contains("://") {
                assert!(std::path::Path::new(ROOT).join(file).exists(), "{page} links to {file}");
            }
        }
    }
}

#[test]
fn figures_that_pages_quote_are_there_and_of_one_run() {
    let place = regex::Regex::new(r"(?s)<!-- figures: (\w+) -->\n(.*?)<!-- end of figures -->").unwrap();
    let mut found = std::collections::BTreeMap::new();
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        assert_eq!(text.matches("<!-- figures: ").count(), place.find_iter(&text).count(), "{}", page.display());
        for one in place.captures_iter(&text) {
            let figures = one[2].to_owned();
            assert!(figures.contains(|c: char| c.is_ascii_digit()), "{}: no figures of {}", page.display(), &one[1]);
            let other = found.insert(one[1].to_owned(), figures.clone());
            assert!(other.is_none_or(|other| other == figures), "{}: {} is of another run", page.display(), &one[1]);
        }
    }
    // And so are the pictures. `KUBE_AIRFLOW_TEST_DRAW` draws them anew.
    for (file, picture) in page::plot::pictures(|name| found[name].clone()) {
        let path = format!("{ROOT}/docs/{file}");
        if std::env::var_os("KUBE_AIRFLOW_TEST_DRAW").is_some() {
            std::fs::write(&path, &picture).unwrap();
        }
        assert!(std::fs::read_to_string(&path).is_ok_and(|text| text == picture), "{file} is not what its page says");
    }
    let names: Vec<_> = found.keys().map(String::as_str).collect();
    assert_eq!(names, ["git", "groom", "init", "lease", "probe", "start", "task"]);
}
