//! One function for each verb.

mod direct;

use crate::airflow::role::Role;
use crate::airflow::table;
use crate::airflow::table::Scope;
use crate::cli::{self, Cli, Target, Verb};
use crate::env::{self, Vars};
use crate::exit::Code;
use crate::plan;
use crate::prepare;
use crate::process::signals::{self, Signals};
use crate::settings;
use crate::supervisor::state::{Policy, Restart};
use crate::supervisor::{self, Job, Kind, Manner};
use clap::Parser;
use std::ffi::OsString;
use std::time::Duration;

/// Parses the words and does what they say.
pub fn run(words: &[OsString], vars: &dyn Vars, signals: &Signals) -> u8 {
    // The two forms that containers start with need no parser: it would build the commands and help of all verbs first.
    if let [exec, bare, end, command @ ..] = words
        && exec == "exec"
        && bare == "--bare"
        && end == "--"
        && !command.is_empty()
    {
        let exec = cli::Exec { bare: true, command: command.to_vec(), ..cli::Exec::default() };
        return self::exec(exec, Vec::new(), vars, signals);
    }
    if let Some(role) = words.first().and_then(|word| word.to_str()).and_then(Role::named)
        && role != Role::Standalone
    {
        return self::role(role, words.to_vec(), vars, signals);
    }
    let words = cli::normalize(words);
    let typed = std::iter::once(OsString::from("kube-airflow-init")).chain(words.iter().cloned());
    let verb = match Cli::try_parse_from(typed) {
        Ok(cli) => cli.verb,
        Err(error) => {
            signals.release();
            // Nobody reading is no reason to fail.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(Code::Usage.number());
        }
    };
    if let Some((role, _)) = verb.role() {
        return self::role(role, words, vars, signals);
    }
    match verb {
        Verb::Exec(exec) => self::exec(exec, words, vars, signals),
        Verb::Wait | Verb::Migrate | Verb::Sync(_) | Verb::Keys(cli::Keys { accept: true, .. }) => {
            let job = single("preparation", Kind::Prepare(words), preparation(vars));
            supervisor::run(&Job { manner: Manner::Command, ..job }, signals)
        }
        verb => {
            signals.release();
            direct::run(verb, vars).unwrap_or_else(|code| code).number()
        }
    }
}

fn role(role: Role, words: Vec<OsString>, vars: &dyn Vars, signals: &Signals) -> u8 {
    // Airflow expects the signals of a fresh login, whatever started us.
    signals.catch_ignored();
    signals::unblock_all();
    match role {
        Role::Standalone => standalone(vars, signals),
        role => {
            let question = cli::asks_for_help(&words);
            let job = single(role.name(), Kind::Prepare(words), preparation(vars));
            // A question such as `scheduler --help` has an answer, and needs no service.
            let restart = if question { Restart::Never } else { Restart::AfterOutage };
            supervisor::run(&Job { serve: serve(vars), restart, ..job }, signals)
        }
    }
}

/// Whether the HTTP port is wanted. What the variable says is the helper's business, and a mistake the settings'.
fn serve(vars: &dyn Vars) -> bool {
    vars.get(env::KUBE_AIRFLOW_HTTP.name).is_some_and(|value| !value.is_empty())
}

/// The policy until the prepare stage tells the role's.
fn preparation(vars: &dyn Vars) -> Policy {
    let policy = plan::policy_of_preparation();
    Policy { grace: settings::grace(vars).unwrap_or_default().or(policy.grace), ..policy }
}

fn single(name: &str, kind: Kind, policy: Policy) -> Job {
    Job {
        children: vec![(name.to_owned(), kind)],
        helper: vec!["drain".into()],
        serve: false,
        manner: Manner::Role,
        policy,
        restart: Restart::Never,
        success: Vec::new(),
    }
}

fn exec(exec: cli::Exec, words: Vec<OsString>, vars: &dyn Vars, signals: &Signals) -> u8 {
    match settings::grace(vars) {
        // Nobody comes after us who would tell it.
        Err(problems) if exec.bare => {
            prepare::log_lines(&problems.to_string());
            Code::Settings.number()
        }
        grace => supervisor::run(&command(exec, words, grace.unwrap_or_default()), signals),
    }
}

fn command(exec: cli::Exec, words: Vec<OsString>, grace: Option<Duration>) -> Job {
    let scope = if exec.signal_target == Target::Child { Scope::Leader } else { Scope::Group };
    let policy = Policy { rewrite: exec.rewrite, ..Policy::plain(scope, grace) };
    let name = exec.command.first().map_or_else(String::new, |word| word.to_string_lossy().into_owned());
    let kind = if exec.bare { Kind::Bare(exec.command) } else { Kind::Prepare(words) };
    Job { success: exec.success_exit_code, manner: Manner::Command, ..single(&name, kind, policy) }
}

/// Several children of one init. Which ones, the installed version decides.
fn standalone(vars: &dyn Vars, signals: &Signals) -> u8 {
    // Once, where each child would say the same.
    let installed = match prepare::settings(vars).and_then(|_| prepare::installed(vars, None)) {
        Ok(installed) => installed,
        Err(code) => return code.number(),
    };
    let roles = table::standalone(installed.version);
    let prepare = |words: &[&str]| Kind::Prepare(words.iter().map(OsString::from).collect());
    let mut children: Vec<_> =
        roles.iter().map(|role| (role.name().to_owned(), prepare(&["standalone", role.name()]))).collect();
    children.push(("announcement".to_owned(), prepare(&["announce"])));
    let job = Job {
        children,
        helper: Vec::new(),
        serve: serve(vars),
        manner: Manner::Role,
        policy: preparation(vars),
        restart: Restart::First(roles.len()),
        success: Vec::new(),
    };
    supervisor::run(&job, signals)
}
