//! The manifests, rendered for every example and a mix of all switches: what must hold whatever the values are, and
//! that each of these checks can fail. No cluster is needed; `make e2e` has one.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]
#![allow(clippy::print_stderr, reason = "the count of changes is a result")]

#[path = "../support/fake.rs"]
mod fake;
#[path = "../support/skip.rs"]
mod skip;

mod applied;
mod capabilities;
mod deprecated;
mod every_key;
mod examples;
mod facts;
mod git;
mod metrics;
mod mixes;
mod mutation;
mod names;
mod pods;
mod policies;
mod redis;
mod released;
mod render;
mod reviewed;
mod security;
mod services;
mod settings;
mod situations;
mod tables;
mod task_pods;
mod values;
mod variables;
mod verbs;
mod volumes;

use render::Render;

/// Looks for mistakes in one render.
type Check = fn(&Render, &mut Vec<String>);

/// What holds for every render.
const CHECKS: &[(&str, Check)] = &[
    ("every role of the line is there, and no other", pods::roles_are_those_of_the_line),
    ("a role is started by our init, with the role as argument", pods::the_init_is_the_entrypoint),
    ("probes are ours, with the numbers of docs/probes.md", pods::probes_have_our_numbers),
    ("servers have probes that restart nothing that recovers", pods::servers_are_probed),
    ("the grace period is one number", pods::grace_is_one_number),
    ("a scheduler of 1.10 is never there twice", pods::strategies_fit),
    ("every container has requests and limits", pods::resources_are_said),
    ("what is mounted is there, and what is there is mounted", volumes::volumes_fit),
    ("claims ask for what the values say, and outlive their pods", volumes::claims_fit),
    ("nobody is beside a role by itself", volumes::roles_are_alone),
    ("Airflow pods get what the program reads", variables::roles_are_told),
    ("what all of them get is what the values say", variables::settings_are_these),
    ("the servers get what their images document", volumes::servers_are_told),
    ("Jobs are ordered by waiting, and their names follow their pods", pods::jobs_wait),
    ("selectors match exactly the pods that are meant", services::services_fit),
    ("disruption budgets and autoscalers", services::budgets_and_autoscalers_fit),
    ("pages have one path", services::paths_agree),
    ("Pod Security restricted", security::pods_are_restricted),
    ("tokens only where they are used", security::tokens_are_rare),
    ("rights are the least", security::rights_are_the_least),
    ("secrets are referenced, never written", security::secrets_are_referenced),
    ("images are pinned", security::images_are_pinned),
    ("pushes to the repository come to who reads DAG files", git::hooks_fit),
    ("task pods are what a task needs", task_pods::they_fit),
    ("every connection has its two rules, and nothing else has one", policies::rules_are_the_connections),
    ("Prometheus and Grafana get all roles, all rules and the dashboard", metrics::objects_fit),
    ("the API server takes every pod as it is", applied::the_server_takes_it),
    ("labels and names", names::labels_and_names),
    ("a connection is possible exactly when it is needed", policies::closure),
];

/// All mistakes in a render.
fn mistakes(render: &Render) -> Vec<String> {
    let mut found = Vec::new();
    for (name, check) in CHECKS {
        let mut mistakes = Vec::new();
        check(render, &mut mistakes);
        found.extend(mistakes.into_iter().map(|mistake| format!("{}: {name}: {mistake}", render.name)));
    }
    found
}

/// Whether any check notices something; it stops at the first one.
fn is_noticed(render: &Render) -> bool {
    CHECKS.iter().any(|(_, check)| {
        let mut mistakes = Vec::new();
        check(render, &mut mistakes);
        !mistakes.is_empty()
    })
}

#[test]
fn every_render_keeps_every_rule() {
    let Some(renders) = mixes::all() else { return };
    let found: Vec<_> = renders.iter().flat_map(mistakes).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}
