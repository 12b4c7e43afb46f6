//! A plan as a person or a program reads it. Secrets are redacted.

use super::{Endpoint, Goal, Plan, Value};
use crate::airflow::table::Scope;
use crate::broker::Broker;
use crate::database::Database;
use crate::migrate::Mode;
use crate::process::signals;
use crate::supervisor::state::Policy;
use serde_json::json;
use std::fmt::Write as _;

/// What is shown in place of a secret.
const REDACTED: &str = "***";

/// Lines for a person.
pub fn text(plan: &Plan) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{name:<10} {value}");
    };
    line("goal", &goal(plan));
    line("airflow", &format!("{} ({})", plan.installed.version_text, plan.installed.script.display()));
    if let Some(rendered) = &plan.rendered {
        line("render", &format!("{} -> {}", rendered.template.display(), rendered.output.display()));
    }
    for setting in &plan.environment {
        line("set", &format!("{}={} ({})", setting.name, shown(&setting.value), setting.source));
    }
    for name in &plan.removed {
        line("unset", &name.to_string_lossy());
    }
    for target in targets(plan) {
        line("wait for", &format!("{target}, up to {} s", plan.wait_timeout.as_secs()));
    }
    if let Some(mode) = plan.migrate {
        line("schema", &format!("{}, up to {} s", migrate(mode), plan.migrate_timeout.as_secs()));
    }
    if let Some(objects) = &plan.objects {
        line("objects", &objects.summary);
    }
    if !plan.argv.is_empty() {
        line("execute", &command(plan).join(" "));
    }
    if let Some(policy) = &plan.policy {
        let who = if policy.stop == Scope::Leader { "the main process alone" } else { "the process group" };
        let step = |(signal, after): &(String, u64)| format!(", {signal} after {after} s");
        let steps = steps(policy).iter().map(step).collect::<Vec<_>>().concat();
        let grace = policy.grace.map(|grace| format!("KILL after {} s", grace.as_secs()));
        line("stop", &format!("SIGTERM to {who}{steps}, {}", grace.as_deref().unwrap_or("no KILL of ours")));
    }
    for note in &plan.notes {
        line("note", note);
    }
    out
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
    let environment: serde_json::Map<_, _> = plan
        .environment
        .iter()
        .map(|s| (s.name.clone(), json!({ "value": shown(&s.value), "source": s.source.to_string() })))
        .collect();
    json!({
        "goal": goal(plan),
        "airflow": { "version": plan.installed.version_text, "script": plan.installed.script.to_string_lossy() },
        "config": plan.config.to_string_lossy(),
        "template": plan.rendered.as_ref().map(|rendered| rendered.template.to_string_lossy()),
        "environment": environment,
        "unset": plan.removed.iter().map(|name| name.to_string_lossy()).collect::<Vec<_>>(),
        "wait_for": targets(plan),
        "wait_timeout_seconds": plan.wait_timeout.as_secs(),
        "schema": plan.migrate.map(migrate),
        "migrate_timeout_seconds": plan.migrate_timeout.as_secs(),
        "objects": plan.objects.as_ref().map(|objects| &objects.summary),
        "execute": command(plan),
        "stop": plan.policy.as_ref().map(|policy| json!({
            "signal": if policy.stop == Scope::Leader { "main process" } else { "process group" },
            "steps": steps(policy).iter().map(|(signal, after)| json!({ "signal": signal, "after_seconds": after }))
                .collect::<Vec<_>>(),
            "grace_seconds": policy.grace.map(|grace| grace.as_secs()),
        })),
        "notes": plan.notes,
    })
}

/// What is sent between the stop signal and KILL, and after how many seconds.
fn steps(policy: &Policy) -> Vec<(String, u64)> {
    let due = policy.grace.map(|grace| policy.steps(grace).collect::<Vec<_>>()).unwrap_or_default();
    policy.ladder.iter().zip(due).map(|(step, after)| (signals::name(step.signal), after.as_secs())).collect()
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

fn command(plan: &Plan) -> Vec<String> {
    plan.argv.iter().map(|word| word.to_string_lossy().into_owned()).collect()
}

/// What is waited for, without user names and passwords.
fn targets(plan: &Plan) -> Vec<String> {
    let database = plan.database.as_ref().map(|endpoint| match endpoint {
        Endpoint::Known(Database::Postgres(p)) => format!("postgres {}:{}/{}", p.host, p.port, p.name),
        Endpoint::Known(Database::Sqlite(path)) => format!("sqlite {}", path.display()),
        Endpoint::Asked(_, source) => format!("the database that {source} names"),
    });
    let one = |b: &Broker| format!("{}:{} vhost {}", b.host, b.port, b.vhost);
    let broker = plan.broker.as_ref().map(|endpoint| match endpoint {
        Endpoint::Known(brokers) => format!("rabbitmq {}", brokers.iter().map(one).collect::<Vec<_>>().join(" or ")),
        Endpoint::Asked(_, source) => format!("the broker that {source} names"),
    });
    database.into_iter().chain(broker).collect()
}
