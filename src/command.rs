//! One function for each verb.

mod direct;

use crate::airflow::role::Role;
use crate::airflow::table;
use crate::cli::{self, Cli, Target, Verb};
use crate::env::{self, Vars};
use crate::exit::Code;
use crate::git;
use crate::load;
use crate::process::policy::{Policy, Restart, Scope};
use crate::process::signals::Signals;
use crate::process::stage::ROLES;
use crate::settings;
use crate::supervisor::state::{Again, OnEnd, Sidecar, When};
use crate::supervisor::{self, Child, Job, Mode, Start};
use clap::Parser;
use std::ffi::OsString;
use std::time::Duration;

/// The exit code of a process that TERM ended: one that came before the synchronisation listens.
const BY_TERM: u8 = 143;
/// How long a stopped synchronisation may take before it is killed: it only has to end its git.
const GIT_GRACE: Duration = Duration::from_secs(10);

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
    let words = cli::normalize(words, is_task_pod(vars));
    if words.first().is_some_and(|word| word == Role::Task.name()) {
        return role(Role::Task, words, vars, signals);
    }
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
    match verb {
        Verb::Webserver(_) => role(Role::Web, words, vars, signals),
        Verb::Scheduler(_) => role(Role::Scheduler, words, vars, signals),
        Verb::Worker(_) => role(Role::Worker, words, vars, signals),
        Verb::Flower(_) => role(Role::Flower, words, vars, signals),
        Verb::Triggerer(_) => role(Role::Triggerer, words, vars, signals),
        Verb::DagProcessor(_) => role(Role::DagProcessor, words, vars, signals),
        Verb::Task(_) => role(Role::Task, words, vars, signals),
        Verb::Standalone => role(Role::Standalone, words, vars, signals),
        Verb::Exec(exec) => self::exec(exec, words, vars, signals),
        Verb::Wait | Verb::Migrate | Verb::Sync(_) => prepared(words, vars, signals),
        Verb::Keys(keys) if keys.accept => prepared(words, vars, signals),
        Verb::Keys(keys) => directly(signals, || direct::keys(&keys, vars)),
        Verb::GitSync(cli::Words { words }) => git_sync(&words, signals),
        Verb::Render(render) => directly(signals, || direct::render(&render, vars)),
        Verb::Plan(plan) => directly(signals, || direct::plan(plan, vars)),
        Verb::Doctor(doctor) => directly(signals, || direct::doctor(&doctor, vars)),
        Verb::Probe(probe) => directly(signals, || direct::probe(&probe, vars)),
        Verb::Version => directly(signals, || direct::version(vars)),
        Verb::Completions { shell } => directly(signals, || direct::completions(shell)),
        Verb::Reference { page } => directly(signals, || direct::reference(&page)),
    }
}

/// Whether an executor made this pod for one task, as Airflow itself tells (`airflow/settings.py`).
fn is_task_pod(vars: &dyn Vars) -> bool {
    vars.get(env::AIRFLOW_IS_K8S_EXECUTOR_POD.name).is_some_and(|value| !value.is_empty())
}

/// A verb that is done in this process, which a signal ends as it ends any program.
fn directly(signals: &Signals, verb: impl FnOnce() -> Result<Code, Code>) -> u8 {
    signals.release();
    verb().unwrap_or_else(|code| code).number()
}

/// A verb that the prepare stage carries out, as a child.
fn prepared(words: Vec<OsString>, vars: &dyn Vars, signals: &Signals) -> u8 {
    let job = single("preparation", Start::Prepare(words), preparation(vars));
    supervisor::run(&Job { mode: Mode::Command, ..job }, signals).code
}

fn role(role: Role, words: Vec<OsString>, vars: &dyn Vars, signals: &Signals) -> u8 {
    // Airflow expects the signals of a fresh login, whatever started us.
    signals.catch_ignored();
    match role {
        Role::Standalone => standalone(vars, signals),
        role => {
            let question = cli::asks_for_help(&words);
            let job = single(role.name(), Start::Prepare(words), preparation(vars));
            // A question such as `scheduler --help` has an answer, and needs no service; a task is tried again by
            // Airflow alone.
            let once = question || table::is_one_task(role);
            let restart = if once { Restart::Never } else { Restart::AfterOutage };
            // What runs beside a role has nothing to do for a question.
            let sidecars = if question { Vec::new() } else { sidecars(role, vars) };
            supervisor::run(&Job { sidecars, restart, ..job }, signals).code
        }
    }
}

/// What runs beside a role: one row each.
fn sidecars(role: Role, vars: &dyn Vars) -> Vec<Sidecar> {
    let row = |name, when| Sidecar {
        name,
        words: Vec::new(),
        when,
        restart: Again::Never,
        on_end: OnEnd::Ignore,
        gates: false,
        reads_status: false,
    };
    let told = |variable: &env::Variable| vars.get(variable.name).is_some_and(|value| !value.is_empty());
    // Before the first success there are no DAGs.
    let git = Sidecar { restart: Again::Backoff, gates: true, ..row("git", When::Always) };
    // No role waits for its port; the tests of the gate do.
    let gates = cfg!(debug_assertions) && vars.get("KUBE_AIRFLOW_TEST_GATE").is_some();
    let served = told(&env::KUBE_AIRFLOW_HTTP);
    let http = Sidecar { restart: Again::Backoff, reads_status: served, gates, ..row("http", When::Always) };
    // Done where there is no heartbeat or no server to lose.
    let heartbeat = Sidecar { restart: Again::Backoff, ..row("heartbeat", When::UntilDone) };
    // What the prepare stage says of it decides.
    let lease = Sidecar { restart: Again::Backoff, on_end: OnEnd::Fence, gates: true, ..row("lease", When::Asked) };
    let off = vars.get(env::KUBE_AIRFLOW_LEASE.name).is_some_and(|value| value.eq_ignore_ascii_case("off"));
    // Done where there is no memory cgroup. A role that is killed takes its reason from this one.
    let memory = Sidecar { restart: Again::Backoff, ..row("memory", When::UntilDone) };
    let groom = Sidecar { restart: Again::Backoff, ..row("groom", When::Always) };
    let grooms = told(&env::KUBE_AIRFLOW_LOGS_KEEP) || told(&env::KUBE_AIRFLOW_LOGS_MAX);
    // Done where there is no limit, or no database to take turns with.
    let restart = Sidecar { restart: Again::Backoff, ..row("restart", When::UntilDone) };
    let rows = [
        (table::may_be_single(role) && !off, lease),
        (git::role::is_wanted(vars) && table::has_dags(role), git),
        // What the variable says is the sidecar's business, and a mistake the settings'.
        // Who probes ask keeps its connections, also where no port is served.
        (served || table::keeps(role), http),
        (table::drains(role), row("drain", When::WhileStopping)),
        (table::beats(role), heartbeat),
        (true, memory),
        (told(&env::KUBE_AIRFLOW_RESTART_ABOVE) && !table::is_one_task(role), restart),
        // A task is over before there is something to groom.
        (grooms && !table::is_one_task(role), groom),
        (role == Role::Standalone, row("announcement", When::UntilDone)),
    ];
    rows.into_iter().filter_map(|(wanted, row)| wanted.then_some(row)).collect()
}

/// The policy until the prepare stage tells the role's.
fn preparation(vars: &dyn Vars) -> Policy {
    let policy = table::policy_of_preparation();
    Policy { grace: settings::grace(vars).unwrap_or_default().or(policy.grace), ..policy }
}

fn single(name: &str, start: Start, policy: Policy) -> Job {
    Job {
        children: vec![Child { name: name.to_owned(), start }],
        sidecars: Vec::new(),
        mode: Mode::Role,
        policy,
        restart: Restart::Never,
        success: Vec::new(),
    }
}

fn exec(exec: cli::Exec, words: Vec<OsString>, vars: &dyn Vars, signals: &Signals) -> u8 {
    match settings::grace(vars) {
        // Nobody comes after us who would tell it.
        Err(problems) if exec.bare => {
            load::log_lines(&problems.to_string());
            Code::Settings.number()
        }
        grace => supervisor::run(&command(exec, words, grace.unwrap_or_default()), signals).code,
    }
}

/// A process of its own below PID 1. A stop is its normal end; what it runs, it ends by itself.
fn git_sync(words: &[OsString], signals: &Signals) -> u8 {
    let program = ["/proc/self/exe", git::STAGE].map(OsString::from);
    let start = Start::Bare(program.into_iter().chain(words.iter().cloned()).collect());
    let job = single("git-sync", start, Policy::plain(Scope::Leader, Some(GIT_GRACE)));
    supervisor::run(&Job { mode: Mode::Command, success: vec![BY_TERM], ..job }, signals).code
}

fn command(exec: cli::Exec, words: Vec<OsString>, grace: Option<Duration>) -> Job {
    let scope = if exec.signal_target == Target::Child { Scope::Leader } else { Scope::Group };
    let policy = Policy { rewrite: exec.rewrite, ..Policy::plain(scope, grace) };
    let name = exec.command.first().map_or_else(String::new, |word| word.to_string_lossy().into_owned());
    let start = if exec.bare { Start::Bare(exec.command) } else { Start::Prepare(words) };
    Job { success: exec.success_exit_code, mode: Mode::Command, ..single(&name, start, policy) }
}

/// Several children of one init. Which ones, the installed version decides: a stage of its own finds out, so that
/// nothing that it reads can hold up a signal.
fn standalone(vars: &dyn Vars, signals: &Signals) -> u8 {
    let question = single("standalone", Start::Prepare(vec![ROLES.into()]), preparation(vars));
    let answer = supervisor::run(&Job { mode: Mode::Question, ..question.clone() }, signals);
    if answer.stopped || answer.code != 0 {
        return answer.code;
    }
    let child =
        |role: &String| Child { name: role.clone(), start: Start::Prepare(vec!["standalone".into(), role.into()]) };
    let children = answer.roles.iter().map(child).collect();
    let sidecars = sidecars(Role::Standalone, vars);
    let job = Job { children, sidecars, restart: Restart::Always, ..question };
    supervisor::run(&job, signals).code
}
