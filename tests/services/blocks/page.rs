//! The pages, and what is in their fences: commands, each with the output that is printed below it.

use std::path::{Path, PathBuf};

/// The repository.
pub(crate) const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What is in a fence that has no commands; a fence of another language is a mistake.
const OTHERS: [&str; 5] = ["dockerfile", "ini", "sql", "text", "yaml"];

/// What is written for something that the reader knows, and what it is here. Names of pods stay.
const FILLED: [(&str, &str); 4] = [
    (" plan ROLE", " plan scheduler"),
    (" 12345:0 … ", " 12345:0 --env POSTGRES_HOST=postgres "),
    // Each command of the tutorial's table goes there; `tests/airflow/fullstack.rs` runs them all.
    (" airflow …", " airflow version"),
    // A repository of this machine, and one pass.
    (
        " --repo=https://git.example.com/team/dags.git --ref=main --root=/git",
        " --one-time --repo=file://$PWD/../dags.git --ref=main --root=$PWD/../git",
    ),
];

/// A fence with commands.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) commands: Vec<Command>,
}

/// One line for a shell.
#[derive(Debug)]
pub(crate) struct Command {
    /// `page:line`
    pub(crate) place: String,
    pub(crate) text: String,
    /// What the page shows as its output.
    pub(crate) output: Option<String>,
}

/// Every page of the repository, from its root.
pub(crate) fn pages() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    let root = Path::new(ROOT);
    let mut found: Vec<_> =
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md"].map(|name| root.join(name)).into();
    walk(&root.join("docs"), &mut found);
    found.sort();
    let name = |path: &Path| path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
    found.iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap())).collect()
}

/// Every fence with commands, and complaints about fences of which nobody knows whether they have some.
pub(crate) fn blocks() -> (Vec<Block>, Vec<String>) {
    let (mut blocks, mut mistakes) = (Vec::new(), Vec::new());
    for (page, text) in pages() {
        let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
        while let Some((number, line)) = lines.next() {
            let Some(language) = line.trim_start().strip_prefix("```") else { continue };
            let inside: Vec<_> = lines.by_ref().take_while(|(_, line)| line.trim() != "```").collect();
            match language {
                "sh" | "console" => blocks.push(Block { commands: commands(&page, &inside, language == "console") }),
                _ if OTHERS.contains(&language) => {}
                _ => {
                    mistakes
                        .push(format!("{page}:{number}: a fence of `{language}`: write `sh` where it has commands"));
                }
            }
        }
    }
    (blocks, mistakes)
}

fn commands(page: &str, lines: &[(usize, &str)], console: bool) -> Vec<Command> {
    let mut found: Vec<Command> = Vec::new();
    for (number, line) in lines.iter().filter(|(_, line)| !line.trim().is_empty()) {
        let text = if console { line.strip_prefix("$ ") } else { Some(*line) };
        match (text, found.last_mut()) {
            (Some(text), _) => {
                let text = FILLED.iter().fold(text.to_owned(), |text, (printed, here)| text.replace(printed, here));
                found.push(Command { place: format!("{page}:{number}"), text, output: None });
            }
            (None, Some(command)) => command.output.get_or_insert_default().extend([line, "\n"]),
            (None, None) => panic!("{page}:{number}: output of no command"),
        }
    }
    found
}
