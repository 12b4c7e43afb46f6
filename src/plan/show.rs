//! A plan as a person or a program reads it. Secrets are redacted.

use super::{Endpoint, Goal, Plan, Resolved, Shared, Step, Users, Value};
use crate::migrate::Mode;
use crate::process::policy::{Policy, Scope};
use crate::process::signal;
use crate::service::Service;
use crate::text::{REDACTED, shown_words};
use serde_json::json;
use std::fmt::Write as _;
use std::time::Duration;

/// Lines for a person.
pub fn text(plan: &Plan) -> String {
    let resolved = &plan.resolved;
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{name:<10} {value}");
    };
    line("goal", &goal(plan));
    line("airflow", &format!("{} ({})", resolved.installed.version_text, resolved.installed.script.display()));
    for setting in &resolved.environment {
        line("set", &format!("{}={} ({})", setting.name, shown(&setting.value), setting.source));
    }
    for name in &resolved.removed {
        line("unset", &name.to_string_lossy());
    }
    for step in &plan.steps {
        for (name, value) in lines(step, resolved) {
            line(name, &value);
        }
    }
    for note in &plan.notes {
        line("note", note);
    }
    out
}

/// What a step does.
fn lines(step: &Step, resolved: &Resolved) -> Vec<(&'static str, String)> {
    let up_to = |what: &str, limit: &Duration| format!("{what}, up to {} s", limit.as_secs());
    match step {
        Step::Configure => {
            let rendered = resolved.rendered.as_ref();
            let line = rendered.map(|file| format!("{} -> {}", file.template.display(), file.output.display()));
            let user = match &resolved.users {
                Some(Users::Simple(user, _)) => Some(format!("{} in the password file", user.name)),
                _ => None,
            };
            line.map(|line| ("render", line)).into_iter().chain(user.map(|user| ("users", user))).collect()
        }
        Step::Packages { words, limit } => vec![("install", up_to(&shown_words(words).join(" "), limit))],
        Step::Wait { limit, may_be_created } => {
            let end = if *may_be_created { "" } else { "; one that does not exist ends it at once" };
            let line = |target: &String| ("wait for", format!("{}{end}", up_to(target, limit)));
            targets(resolved).iter().map(line).collect()
        }
        Step::Dags { what, limit } => vec![("dags", up_to(what, limit))],
        Step::Migrate { mode, limit, .. } => vec![("schema", up_to(migrate(*mode), limit))],
        Step::Keys { keys, accept } => vec![("keys", self::keys(keys, *accept))],
        Step::Objects { declared, limit, .. } => vec![("objects", up_to(&declared.summary, limit))],
        Step::Users { users, limit } => vec![("users", self::users(users, limit))],
        Step::Lease => vec![("lease", "held before the scheduler runs, and as long as it runs".to_owned())],
        Step::Execute { policy, .. } => {
            let execute = ("execute", step.shown_command().join(" "));
            std::iter::once(execute).chain(policy.as_ref().map(|policy| ("stop", stop(policy)))).collect()
        }
    }
}

fn keys(keys: &[Shared], accept: bool) -> String {
    let names = keys.iter().map(|key| key.name).collect::<Vec<_>>().join(", ");
    if accept {
        format!("from now on all pods must have this {names}")
    } else {
        format!("{names} like the pods before")
    }
}

fn users(users: &Users, limit: &Duration) -> String {
    let made = |name: &str| format!("{name} is made where there is none, up to {} s", limit.as_secs());
    match users {
        Users::Fab(user) => made(&user.name),
        Users::Kept(_) => made("admin"),
        Users::Simple(..) | Users::Unnamed | Users::Nobody | Users::Locked(_) => {
            "none is named; the log says so where there is none".to_owned()
        }
    }
}

fn stop(policy: &Policy) -> String {
    let who = if policy.stop == Scope::Leader { "the main process alone" } else { "the process group" };
    let step = |(signal, after): &(String, u64)| format!(", {signal} after {after} s");
    let steps = steps(policy).iter().map(step).collect::<Vec<_>>().concat();
    let grace = policy.grace.map(|grace| format!("KILL after {} s", grace.as_secs()));
    format!("SIGTERM to {who}{steps}, {}", grace.as_deref().unwrap_or("no KILL of ours"))
}

/// One JSON object; of several plans, which are the children of `standalone`, an object with all of them.
pub fn json(plans: &[Plan]) -> String {
    let value = match plans {
        [plan] => object(plan),
        plans => json!({ "goal": "standalone", "children": plans.iter().map(object).collect::<Vec<_>>() }),
    };
    format!("{value:#}\n")
}

fn object(plan: &Plan) -> serde_json::Value {
    let resolved = &plan.resolved;
    let environment: serde_json::Map<_, _> = resolved
        .environment
        .iter()
        .map(|s| (s.name.clone(), json!({ "value": shown(&s.value), "source": s.source.to_string() })))
        .collect();
    let mut value = json!({
        "goal": goal(plan),
        "airflow": {
            "version": resolved.installed.version_text,
            "script": resolved.installed.script.to_string_lossy(),
        },
        "config": resolved.config.to_string_lossy(),
        "template": resolved.rendered.as_ref().map(|rendered| rendered.template.to_string_lossy()),
        "environment": environment,
        "unset": resolved.removed.iter().map(|name| name.to_string_lossy()).collect::<Vec<_>>(),
        "notes": plan.notes,
    });
    let mut names = Vec::new();
    for step in &plan.steps {
        let (name, fields) = fields(step, resolved);
        names.push(name);
        for (key, field) in fields {
            value[key] = field;
        }
    }
    value["steps"] = json!(names);
    value
}

/// The name of a step, and what it adds to the object.
fn fields(step: &Step, resolved: &Resolved) -> (&'static str, Vec<(&'static str, serde_json::Value)>) {
    match step {
        Step::Configure => ("configure", Vec::new()),
        Step::Packages { words, limit } => (
            "packages",
            vec![("packages", json!(shown_words(words))), ("packages_timeout_seconds", json!(limit.as_secs()))],
        ),
        Step::Wait { limit, may_be_created } => {
            let wait = json!(targets(resolved));
            let missing = json!(if *may_be_created { "wait" } else { "fail" });
            let limit = json!(limit.as_secs());
            ("wait", vec![("wait_for", wait), ("wait_timeout_seconds", limit), ("missing_database", missing)])
        }
        Step::Dags { what, limit } => {
            ("dags", vec![("dags", json!(what)), ("dags_timeout_seconds", json!(limit.as_secs()))])
        }
        Step::Migrate { mode, limit, .. } => {
            let schema = json!(migrate(*mode));
            ("migrate", vec![("schema", schema), ("migrate_timeout_seconds", json!(limit.as_secs()))])
        }
        Step::Keys { keys, .. } => ("keys", vec![("keys", json!(keys.iter().map(|key| key.name).collect::<Vec<_>>()))]),
        Step::Objects { declared, limit, .. } => {
            let summary = json!(declared.summary);
            ("objects", vec![("objects", summary), ("objects_timeout_seconds", json!(limit.as_secs()))])
        }
        Step::Users { users, limit } => (
            "users",
            vec![("users", json!(self::users(users, limit))), ("users_timeout_seconds", json!(limit.as_secs()))],
        ),
        Step::Lease => ("lease", vec![("lease", json!(true))]),
        Step::Execute { policy, .. } => {
            let way = policy.as_ref().map(|policy| {
                let steps = steps(policy)
                    .iter()
                    .map(|(signal, after)| json!({ "signal": signal, "after_seconds": after }))
                    .collect::<Vec<_>>();
                json!({
                    "signal": if policy.stop == Scope::Leader { "main process" } else { "process group" },
                    "steps": steps,
                    "grace_seconds": policy.grace.map(|grace| grace.as_secs()),
                })
            });
            ("execute", vec![("execute", json!(step.shown_command())), ("stop", json!(way))])
        }
    }
}

/// What is sent between the stop signal and KILL, and after how many seconds.
fn steps(policy: &Policy) -> Vec<(String, u64)> {
    let due = policy.grace.map(|grace| policy.steps(grace).collect::<Vec<_>>()).unwrap_or_default();
    policy.escalation.iter().zip(due).map(|(step, after)| (signal::name(step.signal), after.as_secs())).collect()
}

fn goal(plan: &Plan) -> String {
    match &plan.goal {
        Goal::Role { role, standalone: true, .. } => format!("{role} of standalone"),
        Goal::Role { role, .. } => role.to_string(),
        Goal::Command(_) => "a command".to_owned(),
        Goal::Wait => "wait".to_owned(),
        Goal::Migrate => "migrate".to_owned(),
        Goal::Sync { dry_run: false } => "sync".to_owned(),
        Goal::Sync { dry_run: true } => "sync --dry-run".to_owned(),
        Goal::AcceptKeys => "keys --accept".to_owned(),
        Goal::Look => "doctor".to_owned(),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Public(text) => text.clone(),
        Value::Secret(_) => REDACTED.to_owned(),
        Value::Kept(_) => format!("{REDACTED} made once, kept in AIRFLOW_HOME"),
    }
}

fn migrate(mode: Mode) -> &'static str {
    match mode {
        Mode::Auto => "migrate when needed, one process at a time",
        Mode::Wait => "wait until it is migrated",
        Mode::Off => "not looked at",
    }
}

/// What is waited for, without user names and passwords.
fn targets(resolved: &Resolved) -> Vec<String> {
    let database = resolved.database.as_ref().map(|endpoint| match endpoint {
        Endpoint::Known(database) => format!("{} {}", database.kind(), database.name()),
        Endpoint::Asked(_, source) => format!("the database that {source} names"),
    });
    let broker = resolved.broker.as_ref().map(|endpoint| match endpoint {
        Endpoint::Known(brokers) => brokers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or "),
        Endpoint::Asked(_, source) => format!("the broker that {source} names"),
    });
    let api_server = resolved.api_server.clone().map(|server| Service::ApiServer(server).to_string());
    database.into_iter().chain(broker).chain(api_server).collect()
}
