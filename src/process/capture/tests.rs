//! Each limit of a helper, with real processes.

use super::*;
use std::fs;
use std::path::Path;

const LINES: Keep = Keep::Lines { count: 3, bytes: 40 };
const SOON: Duration = Duration::from_mins(1);

fn shell(script: &str) -> Command {
    Command {
        program: "sh".into(),
        arguments: vec!["-c".into(), script.into()],
        environment: BTreeMap::from([("PATH".into(), std::env::var_os("PATH").unwrap())]),
        ..Command::default()
    }
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn run(command: &Command) -> Ended {
    wait(command.run(LINES, SOON)).unwrap()
}

/// Whether a process runs, by the number in a file that it wrote.
fn runs(file: &Path) -> bool {
    let pid: i32 = fs::read_to_string(file).unwrap().trim().parse().unwrap();
    super::super::tree::Stat::of(pid).is_some_and(|stat| stat.state != 'Z')
}

/// Waits until it does not, without a limit of its own: the test program has one.
fn is_gone(file: &Path) {
    while runs(file) {
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_last_lines_of_both_outputs_are_kept_and_the_status_is_told() {
    let ended = run(&shell("echo one; echo two >&2; echo three; echo four; exit 7"));
    assert_eq!((ended.status.code(), ended.left_open), (Some(7), false));
    assert_eq!(ended.lines, ["two", "three", "four"]);
    // Without an end of line, and with those of a progress bar.
    assert_eq!(run(&shell("printf '10 %%\\r20 %%\\r\\n\\nend'")).lines, ["10 %", "20 %", "end"]);
}

#[test]
fn a_secret_is_struck_out_of_every_line_also_across_a_cut_and_in_parts() {
    let secrets = ["0123456789abcdef0123456789abcdef", "p@ss word", "first line of it\nsecond line of it"];
    let secrets: Vec<_> = secrets.into_iter().map(SecretString::from).collect();
    // Wherever the cut falls, not even six characters of a secret are left.
    for before in 0..60 {
        let filler = "x".repeat(before);
        let long = secrets[0].expose_secret();
        let script = format!("echo '{filler}{long} {long} {long} {long} {long} {long} {long} {long} {long} {long}'");
        let shown = run(&Command { secrets: secrets.clone(), ..shell(&script) }).lines.concat();
        let parts: Vec<_> = (0..long.len() - 5).map(|at| &long[at..at + 6]).collect();
        assert!(!parts.iter().any(|part| shown.contains(part)), "{before}: {shown}");
    }
    let script = "echo 'p%40ss%20word p@ss  word'; echo '  second line of it'; echo 'first line of it'";
    assert_eq!(run(&Command { secrets, ..shell(script) }).lines, ["*** ***", "***", "***"]);
}

#[test]
fn an_endless_line_is_not_kept() {
    let command = shell("yes 0123456789 | tr -d '\\n' | head -c 50000000; echo; echo end");
    wait(async {
        let mut running = command.start(LINES).unwrap();
        let mut largest = 0;
        let ended = loop {
            tokio::select! {
                biased;
                () = sleep(Duration::from_millis(1)) => largest = largest.max(running.kept.part.capacity()),
                ended = running.ended() => break ended.unwrap(),
            }
        };
        assert!(largest < 64 * 1024, "{largest} bytes");
        assert_eq!(ended.lines, ["0123456789012345678901234567890123456789", "end"]);
    });
}

#[test]
fn one_that_takes_too_long_gets_term_with_its_group() {
    let folder = tempfile::tempdir().unwrap();
    let (termed, helper) = (folder.path().join("termed"), folder.path().join("helper"));
    let script = format!(
        "sleep 1000 & echo $! >{}; trap 'echo yes >{}; exit 3' TERM; echo before; while :; do sleep 0.05; done",
        helper.display(),
        termed.display()
    );
    let error = wait(shell(&script).run(LINES, Duration::from_millis(500))).unwrap_err();
    assert!(matches!(&error, Error::TimedOut { lines, .. } if lines[0] == "before"), "{error:?}");
    assert_eq!(error.to_string(), "has not ended within 0.5 s");
    assert!(termed.exists(), "it was not asked");
    is_gone(&helper);
}

#[test]
fn one_that_does_not_heed_term_is_killed_with_its_group() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("helper");
    let script = format!("trap '' TERM; sh -c 'echo $$ >{}; exec sleep 1000' & wait; sleep 1000", file.display());
    let error = wait(shell(&script).run(LINES, Duration::from_millis(500))).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    is_gone(&file);
}

#[test]
fn what_it_leaves_behind_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("daemon");
    let script = format!("setsid sh -c 'echo $$ >{}; exec sleep 20' & sleep 0.1; echo done", file.display());
    let ended = run(&shell(&script));
    assert_eq!((ended.lines.as_slice(), ended.left_open), (["done".to_owned()].as_slice(), true));
    let answer = wait(shell(&script).answer(100, SOON)).unwrap();
    assert_eq!((answer.text.expose_secret(), answer.left_open), ("done\n", true));
    // Beyond the limit, too: it is in a session of its own, and keeps the output.
    let error = wait(shell(&format!("{script}; sleep 1000")).answer(100, Duration::from_millis(500))).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
}

#[test]
fn an_answer_is_the_whole_standard_output_alone() {
    let answer = |script: &str, bytes| wait(shell(script).answer(bytes, SOON)).map(|answer| answer.text);
    assert_eq!(answer("echo told; echo else >&2", 100).unwrap().expose_secret(), "told\n");
    // More than a pipe holds.
    let long = answer("yes 0123456789 | head -c 300000", 300_000).unwrap();
    assert_eq!(long.expose_secret().len(), 300_000);
    let error = answer("yes; exit 0", 300_000).unwrap_err();
    assert_eq!(error.to_string(), "prints more than 300000 bytes");
    assert!(matches!(answer("printf '\\377'", 100), Err(Error::NotUtf8)));
    assert_eq!(answer("echo secret; exit 3", 100).unwrap_err().to_string(), "failed (exit status: 3)");
}

#[test]
fn standard_input_is_given_whole_and_need_not_be_read() {
    let long = "x".repeat(300_000);
    let input = Some(SecretString::from(long.clone()));
    let ended = run(&Command { input: input.clone(), ..shell("wc -c; read -r more || echo end") });
    assert_eq!(ended.lines.iter().map(|line| line.trim()).collect::<Vec<_>>(), ["300000", "end"]);
    assert_eq!(run(&Command { input, ..shell("echo 'I do not care'") }).lines, ["I do not care"]);
    assert_eq!(run(&shell("wc -c")).lines, ["0"]);
}

#[test]
fn nothing_is_inherited_and_the_name_is_chosen() {
    let script = "env | grep -v -e ^PWD= -e ^SHLVL= -e ^_= -e ^PATH=; echo $0";
    let mut command = shell(script);
    command.environment.insert("A".into(), "1".into());
    assert_eq!(run(&command).lines, ["A=1", "sh"]);
    let renamed = Command {
        arg0: Some("chosen".into()),
        arguments: vec!["-c".into(), "cat /proc/$$/cmdline".into()],
        ..shell("")
    };
    assert!(run(&renamed).lines.concat().starts_with("chosen"), "{:?}", run(&renamed).lines);
}

#[test]
fn to_start_what_cannot_be_started_says_why() {
    let error = wait(Command { program: "/nowhere/at all".into(), ..shell("") }.run(LINES, SOON)).unwrap_err();
    assert_eq!(error.to_string(), "cannot be run: no such file or directory");
}

#[test]
fn one_that_nobody_waits_for_any_more_is_killed_with_its_group() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("helper");
    let script = format!("sh -c 'echo $$ >{0}.part; mv {0}.part {0}; exec sleep 1000' & wait", file.display());
    wait(async {
        let mut running = shell(&script).start(LINES).unwrap();
        while !file.exists() {
            // A watcher that looks away again and again loses nothing.
            assert!(timeout(Duration::from_millis(3), running.ended()).await.is_err());
        }
    });
    is_gone(&file);
}
