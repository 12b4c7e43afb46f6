//! What was typed. Nothing here knows what it means.

mod keys;
mod normalize;
mod sync;
mod task;

pub use keys::Keys;
pub use normalize::normalize;
pub use sync::Sync;
pub use task::TASK_MODULE;

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use crate::airflow::role::Role;
use crate::words;
use std::time::Duration;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "kube-airflow-init", version, about = "PID-1 entrypoint supervisor for Apache Airflow \
containers", long_about = LONG, disable_help_subcommand = true, arg_required_else_help = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

const LONG: &str = "\
Prepares the container (airflow.cfg from the environment, waits for the database and the broker, brings the schema to \
the installed Airflow's revision), starts the role named by its argument, forwards signals, reaps orphans and ends \
with the role's exit code.

Anything that is neither a role nor a verb goes to `airflow`; `bash …` and `python …` run as commands.";

/// A role to supervise, or one of the verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// The UI: `airflow webserver`, from Airflow 3 on `airflow api-server`
    #[command(alias = "api-server", disable_help_flag = true, after_help = ROLE)]
    Webserver(Words),
    /// `airflow scheduler`
    #[command(disable_help_flag = true, after_help = ROLE)]
    Scheduler(Words),
    /// The Celery worker; a stop lets its tasks end
    #[command(disable_help_flag = true, after_help = ROLE)]
    Worker(Words),
    /// The Celery monitor
    #[command(disable_help_flag = true, after_help = ROLE)]
    Flower(Words),
    /// `airflow triggerer` (Airflow 2.2 and later)
    #[command(disable_help_flag = true, after_help = ROLE)]
    Triggerer(Words),
    /// `airflow dag-processor` (Airflow 2.3 and later)
    #[command(disable_help_flag = true, after_help = ROLE)]
    DagProcessor(Words),
    /// One task, in a pod that an executor made for it: the command line that it gave the pod
    #[command(hide = true, disable_help_flag = true)]
    Task(Words),
    /// Everything on this machine, as children of one init; SQLite when no Postgres is named
    #[command(after_help = STANDALONE)]
    Standalone,
    /// Run a command with the rendered configuration and environment
    #[command(after_help = EXEC)]
    Exec(Exec),
    /// Render the configuration template, and nothing else
    #[command(after_help = RENDER)]
    Render(Render),
    /// Wait until the database and the broker answer
    #[command(after_help = WAIT)]
    Wait,
    /// Wait for the database, then bring it to the installed Airflow's revision
    #[command(after_help = MIGRATE)]
    Migrate,
    /// Wait, then make connections, variables and pools what the files of `KUBE_AIRFLOW_OBJECTS` say
    #[command(after_help = sync::HELP)]
    Sync(Sync),
    /// Print fresh keys for the Secret that all pods share, or accept changed ones
    #[command(after_help = keys::HELP)]
    Keys(Keys),
    /// Follow a git repository: the container of git-sync, with its flags and variables
    #[command(disable_help_flag = true)]
    GitSync(Words),
    /// Show what would be done for a role, secrets redacted
    #[command(after_help = PLAN)]
    Plan(Plan),
    /// Look at everything that a role needs, at once, and change nothing
    #[command(after_help = DOCTOR)]
    Doctor(Doctor),
    /// Answer a probe of the kubelet for the role that runs here
    #[command(after_help = PROBE)]
    Probe(Probe),
    /// Show the version of this program and of the installed Airflow
    #[command(after_help = VERSION)]
    Version,
    /// Print a completion script for a shell
    #[command(after_help = COMPLETIONS)]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print a generated page of the documentation
    #[command(hide = true)]
    Reference {
        /// Name of the page.
        page: String,
    },
}

const ROLE: &str = "\
All words after the role go to Airflow unchanged. The exit code is the role's own, 128+n when signal n killed it, or \
one \
of docs/exit-codes.md when the preparation failed: 78 settings, 67 template, 68/69/75 a service that did not answer in \
time, 77 wrong password, 79 a failed migration.

Example: kube-airflow-init worker --queues default,gpu --concurrency 8";
const STANDALONE: &str = "\
Exit codes: 0 after a stop, 81 when a child ended five times in a row, otherwise those of a role.

Example: AIRFLOW_HOME=/tmp/airflow kube-airflow-init standalone";
const EXEC: &str = "\
Exit codes: the command's own, 128+n when signal n killed it, 126 not executable, 127 not found, otherwise those of a \
failed preparation (docs/exit-codes.md).

Examples:
  kube-airflow-init exec -- airflow dags list
  kubectl exec deploy/scheduler -- kube-airflow-init exec -- airflow tasks test three_tasks extract 2026-01-01
  kube-airflow-init exec --bare -- sleep 60";
const RENDER: &str = "\
Exit codes: 0 rendered, 67 the template has an error (all are listed, nothing is written), 74 a file cannot be read or \
written, 78 settings.

Example: kube-airflow-init render --template airflow.cfg.tmpl --output -";
const WAIT: &str = "\
In the container of a role only what that role needs is asked. Exit codes: 0 all answer; 68 a name does not resolve, \
69 not reachable, 75 no answer, 76 TLS, 72 no such database, 73 no such virtual host, 77 wrong password; 78 settings.

Example: KUBE_AIRFLOW_WAIT_TIMEOUT=90s kube-airflow-init wait";
const MIGRATE: &str = "\
One process migrates under a lock in the database, all others wait for it. This verb is one of them whatever \
KUBE_AIRFLOW_MIGRATE says of roles. Exit codes: 0 the schema is complete, \
65 the database is newer than the installed Airflow, 79 the migration failed, 80 not done in time, and those of `wait`.

Example: kube-airflow-init migrate";
const PLAN: &str = "\
Exit codes: 0 shown, 64 the installed Airflow has no such role, 66 no Airflow found, 67 template, 78 settings.

Example: kube-airflow-init plan --format json scheduler";
const DOCTOR: &str = "\
Settings and who decided them, each service, schema, keys, folders, user, clock, memory: one line each, ok, warning or \
wrong, with what to do. Without a role: what the role needs that runs in this container, else everything. No secret is \
in it. Exit codes: 0 nothing is wrong, 1 something is.

Example: kube-airflow-init doctor
Example: kube-airflow-init doctor --format json worker";
const PROBE: &str = "\
Exit codes: 0 up, 1 down; one line on standard output says why. See docs/probes.md.

Example: kube-airflow-init probe liveness
Example: kube-airflow-init probe readiness worker --timeout 4s";
const VERSION: &str = "\
Reads files only, no Python is started. Exit code 0, also when no Airflow is found.

Example: kube-airflow-init version";
const COMPLETIONS: &str = "\
Exit code 0.

Example: kube-airflow-init completions bash > /etc/bash_completion.d/kube-airflow-init";

/// Words that are passed on.
#[derive(Debug, Args)]
pub struct Words {
    /// Arguments for Airflow, unchanged
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    pub words: Vec<OsString>,
}

/// `exec`.
#[derive(Debug, Default, Args)]
pub struct Exec {
    /// Execute at once: no settings, no template, no waiting
    #[arg(long)]
    pub bare: bool,
    /// Who gets the signals
    #[arg(long, value_name = "WHO", value_enum, default_value_t = Target::Group)]
    pub signal_target: Target,
    /// Send signal TO in place of FROM (numbers or names; TO 0 drops it); may be repeated
    #[arg(long, value_name = "FROM:TO", value_parser = rewrite)]
    pub rewrite: Vec<(i32, i32)>,
    /// Exit code of the command that counts as success (143 after a stop, say); may be repeated
    #[arg(long, value_name = "N")]
    pub success_exit_code: Vec<u8>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Who gets the signals of `exec`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// The command alone
    Child,
    /// The command and its process group
    #[default]
    Group,
}

/// `render`.
#[derive(Debug, Args)]
pub struct Render {
    /// The template; `KUBE_AIRFLOW_TEMPLATE` when absent
    #[arg(long, value_name = "FILE")]
    pub template: Option<PathBuf>,
    /// Where to write, `-` for standard output; Airflow's configuration file when absent
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `plan`.
#[derive(Debug, Args)]
pub struct Plan {
    /// How to show it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// The role
    #[arg(value_parser = role)]
    pub role: Role,
    /// Arguments for Airflow
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    pub words: Vec<OsString>,
}

/// `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// How to show it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// The role; what this container was started as when absent
    #[arg(value_parser = role)]
    pub role: Option<Role>,
}

/// `probe`.
#[derive(Debug, Args)]
pub struct Probe {
    /// What is asked
    #[arg(value_enum)]
    pub kind: Kind,
    /// The role; what this container was started as when absent
    #[arg(value_parser = role)]
    pub role: Option<Role>,
    /// When to answer at the latest; keep it below the kubelet's timeoutSeconds
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "8s")]
    pub timeout: Duration,
}

/// A question of the kubelet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Down: restarting the container helps
    Liveness,
    /// Down: the role cannot do its work now
    Readiness,
    /// Down: the role has not been healthy yet
    Startup,
}

/// Form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Lines for a person
    Text,
    /// One JSON object
    Json,
}

fn role(name: &str) -> Result<Role, String> {
    Role::named(name).ok_or_else(|| {
        let names: Vec<_> = Role::named_ones().map(Role::name).collect();
        format!("not a role; the roles are {}", names.join(", "))
    })
}

fn duration(text: &str) -> Result<Duration, String> {
    words::duration(text).filter(|time| !time.is_zero()).ok_or_else(|| "write it like `500ms` or `8s`".to_owned())
}

fn rewrite(text: &str) -> Result<(i32, i32), String> {
    let wrong = || "write it as FROM:TO with signal numbers 1 to 64 or names, for example 15:3 or TERM:QUIT".to_owned();
    let (from, to) = text.split_once(':').ok_or_else(wrong)?;
    match (signal(from), signal(to)) {
        (Some(from @ 1..), Some(to)) => Ok((from, to)),
        _ => Err(wrong()),
    }
}

fn signal(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (0..=64).contains(&number).then_some(number);
    }
    let name = format!("SIG{}", text.to_ascii_uppercase().trim_start_matches("SIG"));
    name.parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
}

impl Verb {
    /// The role and its arguments, if this is a role.
    pub fn role(&self) -> Option<(Role, &[OsString])> {
        match self {
            Self::Webserver(words) => Some((Role::Web, &words.words)),
            Self::Scheduler(words) => Some((Role::Scheduler, &words.words)),
            Self::Worker(words) => Some((Role::Worker, &words.words)),
            Self::Flower(words) => Some((Role::Flower, &words.words)),
            Self::Triggerer(words) => Some((Role::Triggerer, &words.words)),
            Self::DagProcessor(words) => Some((Role::DagProcessor, &words.words)),
            Self::Task(words) => Some((Role::Task, &words.words)),
            Self::Standalone => Some((Role::Standalone, &[])),
            _ => None,
        }
    }
}

/// Whether the arguments of a role only ask Airflow for its help, for which nothing needs to be waited for.
pub fn asks_for_help(words: &[OsString]) -> bool {
    words.iter().any(|word| word == OsStr::new("-h") || word == OsStr::new("--help"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_argument_of_a_role_is_passed_on() {
        let cli = Cli::parse_from(words("kube-airflow-init worker -q a,b --help -- x -D"));
        let (role, rest) = cli.verb.role().unwrap();
        assert_eq!((role, rest), (Role::Worker, &words("-q a,b --help -- x -D")[..]));
    }

    #[test]
    fn rewrites_are_numbers_or_names() {
        assert_eq!(rewrite("15:3"), Ok((15, 3)));
        assert_eq!(rewrite("TERM:SIGQUIT"), Ok((15, 3)));
        assert_eq!(rewrite("1:0"), Ok((1, 0)));
        for bad in ["", "15", "0:3", "15:65", "x:y", "15:3:2"] {
            assert!(rewrite(bad).is_err(), "{bad}");
        }
    }
}
