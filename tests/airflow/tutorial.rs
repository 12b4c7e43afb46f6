//! docs/tutorial.md as its reader has it: the commands of the table in the frame above it, and a `kubectl` that runs
//! them in the place of the scheduler.

use crate::stack::line::Line;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

const PAGE: &str = include_str!("../../docs/tutorial.md");

/// `kubectl exec` runs a command with the environment of the container; whoever calls this one has that already.
const KUBECTL: &str = "#!/bin/sh
[ \"$1 $2 $3\" = 'exec deploy/scheduler --' ] || { echo \"no words for kubectl: $*\" >&2; exit 2; }
shift 3
exec \"$@\"
";

/// The rows of the table for one line of Airflow, each as it is typed into a shell.
pub(crate) struct Tutorial {
    pub(crate) list: String,
    pub(crate) trigger: String,
    pub(crate) test: String,
    pub(crate) backfill: String,
}

impl Tutorial {
    pub(crate) fn of(line: &Line) -> Self {
        let blocks: Vec<_> = PAGE.split("```sh\n").skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect();
        let [frame] = blocks[..] else { panic!("one frame, and not {blocks:?}") };
        let frame = frame.strip_suffix("airflow …").expect("the frame has a place for the command of the table");

        let rows: Vec<Vec<&str>> = PAGE
            .lines()
            .filter_map(|row| row.strip_prefix('|')?.strip_suffix('|'))
            .map(|row| row.split('|').map(str::trim).collect())
            .collect();
        let [head, rule, commands @ ..] = &rows[..] else { panic!("no table: {rows:?}") };
        assert!(rule.iter().all(|cell| *cell == "---"), "{rule:?}");
        let column = head.iter().position(|name| *name == line.column).expect(line.column);
        let typed = |row: &Vec<&str>| {
            let command = row[column].strip_prefix('`').and_then(|cell| cell.strip_suffix('`')).unwrap();
            assert!(command.starts_with("airflow "), "{command}");
            format!("{frame}{command}")
        };
        let typed: Vec<_> = commands.iter().map(typed).collect();
        let [list, trigger, test, backfill] = typed.try_into().expect("a row that no test runs");
        Self { list, trigger, test, backfill }
    }
}

/// A folder for PATH with that `kubectl`, and our program under its name.
pub(crate) fn programs(folder: &Path) -> PathBuf {
    let bin = folder.join("programs");
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("kubectl"), KUBECTL).unwrap();
    fs::set_permissions(bin.join("kubectl"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink(env!("CARGO_BIN_EXE_kube-airflow-init"), bin.join("kube-airflow-init")).unwrap();
    bin
}
