//! Verbs that are done in this process: they read files, print and end.

use crate::airflow::role::Role;
use crate::airflow::table;
use crate::cli::{self, Cli, Format, Verb};
use crate::env::{self, Vars};
use crate::exit::Code;
use crate::files;
use crate::keys::{create, fresh};
use crate::plan::{self, Goal, Purpose};
use crate::prepare;
use crate::probe::{self, Verdict};
use crate::reference;
use crate::settings;
use clap::CommandFactory;
use secrecy::ExposeSecret;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use tracing::{error, info};

pub(super) fn run(verb: Verb, vars: &dyn Vars) -> Result<Code, Code> {
    match verb {
        Verb::Render(render) => self::render(&render, vars),
        Verb::Plan(plan) => self::plan(plan, vars),
        Verb::Probe(probe) => self::probe(&probe, vars),
        Verb::Version => version(vars),
        Verb::Keys(cli::Keys { create_secret: Some(name), .. }) => create_secret(&name, vars),
        Verb::Keys(keys) => {
            let text = fresh::fresh(keys.format, keys.passwords).map_err(|error| {
                error!("no random numbers: {error}");
                Code::Os
            })?;
            print(&text)
        }
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "kube-airflow-init", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
        Verb::Reference { page } => {
            let Some((_, write)) = reference::PAGES.iter().find(|(name, _)| *name == page) else {
                error!("there is no page {page}");
                return Err(Code::Usage);
            };
            print(&write())
        }
        _ => Err(Code::Internal),
    }
}

fn create_secret(name: &str, vars: &dyn Vars) -> Result<Code, Code> {
    match create::secret(name, vars) {
        Ok(said) => {
            info!("{said}");
            Ok(Code::Success)
        }
        Err(error) => {
            error!("{error}");
            Err(error.code())
        }
    }
}

/// Standard output, where a reader that went away is no error.
fn print(text: &str) -> Result<Code, Code> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            error!("standard output: {error}");
            Err(Code::Io)
        }
        _ => Ok(Code::Success),
    }
}

fn plan(plan: cli::Plan, vars: &dyn Vars) -> Result<Code, Code> {
    let cli::Plan { format, role, words } = plan;
    let plans = if role == Role::Standalone {
        if !words.is_empty() {
            error!("standalone takes no arguments");
            return Err(Code::Usage);
        }
        let version = prepare::installed(vars, None)?.version;
        let children = table::standalone(version).iter().copied();
        let goals = children.map(|role| Goal::Role { role, words: Vec::new(), standalone: true });
        let plans = goals.map(|goal| prepare::plan(goal, Purpose::Start, vars));
        plans.collect::<Result<Vec<_>, _>>()?
    } else {
        vec![prepare::plan(Goal::Role { role, words, standalone: false }, Purpose::Start, vars)?]
    };
    print(&match format {
        Format::Json => plan::json(&plans),
        Format::Text => plans.iter().map(plan::text).collect::<Vec<_>>().join("\n"),
    })
}

fn render(render: &cli::Render, vars: &dyn Vars) -> Result<Code, Code> {
    let settings = prepare::settings(vars)?;
    let Some(template) = render.template.as_ref().or(settings.template.as_ref()) else {
        error!("there is no template; name it with --template or {}", env::KUBE_AIRFLOW_TEMPLATE.name);
        return Err(Code::Usage);
    };
    let output = render.output.as_deref().unwrap_or(&settings.config);
    if settings::is_same_file(template, output) {
        error!("{} is the template and the output; name another file with --output", output.display());
        return Err(Code::Usage);
    }
    let rendered = plan::render(template, output, &settings, vars).map_err(|error| {
        prepare::log_lines(&prepare::chain(&error));
        if matches!(error, plan::RenderError::Read(..)) { Code::Io } else { Code::Template }
    })?;
    if output == Path::new("-") {
        return print(rendered.text.expose_secret());
    }
    if render.output.is_none() {
        // As a role does before it renders. What goes wrong here is told by the next step.
        let _ = files::private_folder(&settings.home);
    }
    files::write_private(output, rendered.text.expose_secret().as_bytes()).map_err(|error| {
        prepare::log_lines(&prepare::chain(&error));
        Code::Io
    })?;
    Ok(Code::Success)
}

/// The answer comes in time even where the file system or the processor does not: the kubelet would show no reason.
fn probe(probe: &cli::Probe, vars: &dyn Vars) -> Result<Code, Code> {
    let (kind, role, timeout) = (probe.kind, probe.role, probe.timeout);
    let (tell, told) = std::sync::mpsc::channel();
    let vars = vars.all();
    std::thread::spawn(move || {
        // Nobody listens any more when it is too late.
        let _ = tell.send(probe::run(kind, role, timeout, &vars));
    });
    let verdict = told.recv_timeout(timeout).unwrap_or_else(|_| Verdict::late(timeout));
    print(&format!("{verdict}\n"))?;
    if verdict.up { Ok(Code::Success) } else { Err(Code::Failed) }
}

fn version(vars: &dyn Vars) -> Result<Code, Code> {
    let mut text = format!("kube-airflow-init {}\n", env!("CARGO_PKG_VERSION"));
    match prepare::installed(vars, None) {
        Ok(found) => {
            let _ = writeln!(text, "airflow {} ({})", found.version_text, found.package.display());
            for (name, version) in &found.providers {
                let _ = writeln!(text, "provider {name} {version}");
            }
        }
        Err(_) => text += "airflow not found\n",
    }
    print(&text)
}
