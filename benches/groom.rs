//! Grooming ten thousand log files beside `find -delete`, and beside `find`, `sort` and `awk` where there is too much,
//! in one run on one machine: CPU, wall time and memory of each.
//!
//! `cargo bench --bench groom -- [FILES]` writes the figures into docs/benchmarks.md.

#![allow(clippy::unwrap_used, reason = "a helper that fails ends the benchmark")]
#![allow(clippy::print_stdout, reason = "the figures are the result")]

#[path = "../tests/support/page.rs"]
mod page;

use kube_airflow_init::groom::{Most, Rules, groom};
use nix::sys::resource::{UsageWho, getrusage};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

/// How many files without a word about it.
const FILES: u32 = 10_000;
/// What a file takes, in KiB.
const KIBIBYTES: u64 = 4;

/// Half of the files are older than fifteen days.
fn fill(root: &Path, files: u32) {
    for number in 0..files {
        let folder = root.join(format!("dag_id=d{}/run_id=r{}/task_id=t", number % 50, number % 500));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("attempt={number}.log"));
        std::fs::write(&path, vec![b'x'; 1024 * usize::try_from(KIBIBYTES).unwrap()]).unwrap();
        let hours = if number % 2 == 0 { 20 * 24 } else { 2 + number % 300 };
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_hours(u64::from(hours))).unwrap();
    }
}

fn count(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { count(&path) } else { 1 }).sum()
}

/// Runs a command and prints `WALL CPU RSS`: seconds, seconds, KiB.
fn measure(words: &[String]) {
    let start = Instant::now();
    assert!(Command::new(&words[0]).args(&words[1..]).status().unwrap().success(), "{words:?}");
    let wall = start.elapsed().as_secs_f64();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let seconds = |time: nix::sys::time::TimeVal| {
        Duration::new(time.tv_sec().unsigned_abs(), 0).as_secs_f64()
            + f64::from(i32::try_from(time.tv_usec()).unwrap()) / 1e6
    };
    println!("{wall} {} {}", seconds(usage.user_time()) + seconds(usage.system_time()), usage.max_rss());
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match words.first().map(String::as_str) {
        Some("measure") => return measure(&words[1..]),
        Some("groom") => {
            let most = words[3].parse().ok().filter(|most| *most > 0).map(Most::Bytes);
            let rules = Rules { keep: Some(Duration::from_hours(24 * words[2].parse::<u64>().unwrap())), most };
            groom(Path::new(&words[1]), &rules, SystemTime::now());
            return;
        }
        _ => {}
    }
    let files: u32 = words.first().and_then(|word| word.parse().ok()).unwrap_or(FILES);
    let own = std::env::current_exe().unwrap().display().to_string();
    let limit = u64::from(files) * KIBIBYTES * 1024 / 4;
    let script = format!(
        "find \"$0\" -type f -mtime +15 -delete; find \"$0\" -type f -printf '%T@ %s %p\\0' | sort -zrn | awk -v limit={limit} \
         -v RS='\\0' '{{ sum += $2; sub(/^[^ ]* [^ ]* /, \"\"); if (sum > limit) printf \"%s%c\", $0, 0 }}' | xargs -0 -r rm -f --"
    );
    let mut table = format!(
        "{files} files of {KIBIBYTES} KiB, half of them older than 15 days:\n\n\
         | | wall | CPU | memory | files left |\n| --- | --- | --- | --- | --- |\n"
    );
    for (name, command) in [
        ("ours, by age", vec![own.as_str(), "groom", "ROOT", "15", "0"]),
        ("`find -delete`", vec!["find", "ROOT", "-type", "f", "-mtime", "+15", "-delete"]),
        ("ours, by age and size", vec![&own, "groom", "ROOT", "15", &limit.to_string()]),
        ("`find`, `sort`, `awk`, `rm`", vec!["sh", "-c", &script, "ROOT"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path(), files);
        let root = folder.path().to_str().unwrap();
        let command = command.into_iter().map(|word| if word == "ROOT" { root } else { word });
        let output = Command::new(&own).arg("measure").args(command).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let figures = String::from_utf8(output.stdout).unwrap();
        let figures: Vec<f64> = figures.split_whitespace().map(|figure| figure.parse().unwrap()).collect();
        let (wall, cpu) = (figures[0] * 1e3, figures[1] * 1e3);
        let (memory, left) = (figures[2] / 1024.0, count(folder.path()));
        let _ = writeln!(table, "| {name} | {wall:.0} ms | {cpu:.0} ms | {memory:.1} MiB | {left} |");
    }
    page::write("groom", &table);
}
