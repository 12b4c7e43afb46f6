//! The verb `doctor`: everything that we know how to ask, at once, without waiting and without changing anything. Who
//! asks is apart from who judges, so that each judgement can be read and tried without a server.

mod finding;
mod judge;
mod machine;
mod memory;
mod services;

pub use finding::{Finding, Level, Report, json, text};

use crate::airflow::installed::Installed;
use crate::airflow::role::Role;
use crate::airflow::table::{self, Need, Spec};
use crate::airflow::version::standing;
use crate::cgroup::Group;
use crate::env::{self, Kind, Vars};
use crate::git;
use crate::keys::fingerprint::Fingerprint;
use crate::keys::ledger::{Own, Pod};
use crate::load::answers::{self, Environment};
use crate::load::{self, services as load_services};
use crate::metadb::host;
use crate::migrate::{self, Mode};
use crate::plan::{self, Endpoint, Goal, Resolved};
use crate::service::broker::Broker;
use crate::service::database::Database;
use crate::settings::Settings;
use crate::status::{self, Memory};
use crate::text::userinfo;
use secrecy::{ExposeSecret, SecretString};
use services::Questions;

/// Looks at everything that `role` needs; without one at what the role needs that runs in this container, and without
/// that at all there is.
pub fn examine(role: Option<Role>, vars: &dyn Vars) -> Report {
    let role = role.or_else(|| status::read(vars).map(|status| status.role)).filter(|role| *role != Role::Standalone);
    let name = role.map_or_else(|| "everything".to_owned(), |role| role.to_string());
    let report = Report { role: name, findings: findings(role, vars) };
    let secrets = secrets(vars);
    let mut secrets: Vec<&str> = secrets.iter().map(ExposeSecret::expose_secret).collect();
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    report.cleaned(&secrets)
}

/// What no line may hold, whatever it comes from.
fn secrets(vars: &dyn Vars) -> Vec<SecretString> {
    let all = vars.all();
    let mut secrets = migrate::secrets(&all);
    let value = |name: &str| vars.get(name).and_then(|value| value.into_string().ok());
    let ours = env::ALL.iter().filter(|variable| variable.kind == Kind::Secret).filter_map(|one| value(one.name));
    for text in ours.chain(all.values().filter_map(|value| value.to_str().map(str::to_owned))) {
        secrets.extend(userinfo(&text).into_iter().map(SecretString::from));
    }
    secrets
}

fn findings(role: Option<Role>, vars: &dyn Vars) -> Vec<Finding> {
    let (settings, problems) = Settings::read(vars);
    let mut findings = Vec::new();
    let installed = match load::find(vars, settings.airflow.as_deref()) {
        Ok(installed) => installed,
        Err(error) => {
            findings.push(ours());
            findings.push(Finding::wrong("airflow", load::chain(&error), ""));
            findings.extend(problems.into_iter().map(|problem| problem_of(&problem)));
            findings.push(machine::user());
            return findings;
        }
    };
    findings.extend(versions(&installed));
    let goal = role.map_or(Goal::Look, |role| Goal::Role { role, words: Vec::new(), standalone: false });
    let spec = role.and_then(|role| table::spec(role, installed.version).ok());
    let examined = plan::examine(&goal, &settings, problems, vars, installed);
    let (resolved, problems, notes) = match examined {
        Ok(examined) => examined,
        Err(error) => {
            let lines = error.to_string();
            findings.extend(lines.lines().map(|line| Finding::wrong("settings", line, "")));
            findings.push(machine::user());
            return findings;
        }
    };
    findings.extend(problems.iter().map(problem_of));
    findings.extend(notes.into_iter().map(|note| Finding::warning("settings", note, "")));
    findings.extend(decisions(&resolved));
    findings.extend(answers(&resolved, &settings, role, spec, vars));
    findings.extend(machine::folders(&resolved, spec, git::role::is_wanted(vars), vars));
    findings.push(machine::user());
    findings.push(machine::memory(&resolved));
    findings.extend(Group::own().map(|group| memory::held(&group.usage())));
    let record = status::read(vars).and_then(|status| Memory::read(status.init, vars));
    findings.extend(record.as_ref().and_then(memory::killed));
    findings
}

fn problem_of(problem: &crate::settings::problem::Problem) -> Finding {
    Finding::wrong("settings", format!("{} {}", problem.subject, problem.wrong), problem.fix.clone())
}

fn ours() -> Finding {
    Finding::ok("version", format!("kube-airflow-init {}", env!("CARGO_PKG_VERSION")))
}

fn versions(installed: &Installed) -> Vec<Finding> {
    // `…/lib/python3.12/site-packages`.
    let python =
        installed.site_packages.parent().and_then(|folder| folder.file_name()?.to_str()?.strip_prefix("python"));
    let python = python.map_or_else(String::new, |version| format!(" on Python {version}"));
    let airflow = format!("Airflow {}{python}: {}", installed.version_text, standing(installed.version));
    vec![ours(), Finding::ok("airflow", airflow)]
}

/// Who decided what.
fn decisions(resolved: &Resolved) -> Vec<Finding> {
    let one = |(what, value, source): &(&str, Option<String>, _)| {
        let value = value.as_ref().map_or_else(String::new, |value| format!(" {value}"));
        Finding::ok("settings", format!("{what}{value} is told by {source}"))
    };
    resolved.decisions.iter().map(one).collect()
}

/// What the services say, and the name servers of this machine.
fn answers(
    resolved: &Resolved,
    settings: &Settings,
    role: Option<Role>,
    spec: Option<&'static Spec>,
    vars: &dyn Vars,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let environment = load_services::asked_with(resolved, vars).unwrap_or_default();
    let parse = |text: &str| Database::read(text, plan::reader(&resolved.installed)).map_err(|error| error.to_string());
    let database = known(resolved.database.as_ref(), &environment, parse, "database", &mut findings);
    let parse = |text: &str| Broker::parse_checked(text).map_err(|error| error.to_string());
    let brokers = known(resolved.broker.as_ref(), &environment, parse, "broker", &mut findings);
    let needs = |need: Need| spec.is_none_or(|spec| spec.needs.contains(&need));
    let needed = needs(Need::Schema).then(|| services::needed(resolved)).transpose();
    let needed = needed.map_err(|finding| findings.push(finding)).ok().flatten();
    let keys = own(resolved, &environment, &mut findings);
    let pod = Pod {
        host: host::names().into_iter().next().unwrap_or_default(),
        role: role.map_or_else(|| "doctor".to_owned(), |role| role.to_string()),
    };
    let mode = match settings.migrate {
        Mode::Auto if spec.is_some_and(|spec| !spec.migrates) => Mode::Wait,
        mode => mode,
    };
    let questions =
        database.map(|database| Questions { database: resolved.in_schema(database), needed, mode, keys, pod });
    let brokers = brokers.map(|brokers| resolved.secured(brokers));
    // A role that runs no tasks does not look for it, and a policy of the network may keep it away.
    let runs_tasks = |spec: &Spec| spec.tasks == table::Tasks::One || resolved.at_once.is_some();
    let api = resolved.api.clone().filter(|_| spec.is_none_or(runs_tasks));
    // Where nobody says which role this is, nothing says that it runs tasks.
    let api = api.map(|url| (url.raw().to_owned(), if spec.is_some() { Level::Wrong } else { Level::Warning }));
    let Ok(runtime) = load_services::runtime() else {
        findings.push(Finding::wrong("services", "the system gives no descriptors for a question", "raise the limits"));
        return findings;
    };
    findings.extend(runtime.block_on(async {
        let (mut answers, name) = tokio::join!(services::ask(questions, brokers, api), machine::own_name(spec));
        answers.push(name);
        answers
    }));
    // A name server that does not answer must not hold the end up.
    runtime.shutdown_background();
    findings
}

/// An endpoint; the command that names it is asked, and its answer is not kept.
fn known<T: Clone>(
    endpoint: Option<&Endpoint<T>>,
    environment: &Environment,
    parse: impl FnOnce(&str) -> Result<T, String>,
    about: &'static str,
    findings: &mut Vec<Finding>,
) -> Option<T> {
    let (command, source) = match endpoint? {
        Endpoint::Known(known) => return Some(known.clone()),
        Endpoint::Asked(command, source) => (command, source),
    };
    let fix = "run it by hand to see it";
    let answer = answers::once(command, environment).map_err(|why| format!("the command of {source} {why}"));
    let parsed = answer.and_then(|answer| {
        parse(answer.expose_secret())
            .map_err(|error| format!("the command of {source} prints no usable value: {error}"))
    });
    parsed.map_err(|text| findings.push(Finding::wrong(about, text, fix))).ok()
}

/// The keys that this role uses, as fingerprints.
fn own(resolved: &Resolved, environment: &Environment, findings: &mut Vec<Finding>) -> Vec<Own> {
    let mut own = Vec::new();
    for shared in &resolved.shared {
        let take = |text: &str| Ok(SecretString::from(text));
        let Some(key) = known(Some(&shared.key), environment, take, "keys", findings) else { continue };
        let fingerprint = Fingerprint::of(shared.name, &key, shared.list);
        own.push(Own { name: shared.name, source: shared.source.clone(), fingerprint });
    }
    own
}
