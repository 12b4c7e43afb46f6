//! Verbs that are done in this process: they read files, print and end.

use crate::airflow::role::Role;
use crate::airflow::table;
use crate::airflow::version::standing;
use crate::cli::{self, Cli, Format};
use crate::doctor;
use crate::env::{self, Vars};
use crate::exit::Code;
use crate::files;
use crate::keys::{create, fresh};
use crate::load;
use crate::plan::{self, Goal};
use crate::probe::{self, Verdict};
use crate::process::panic;
use crate::reference;
use crate::settings;
use clap::CommandFactory;
use secrecy::ExposeSecret;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::Path;
use std::time::Instant;
use tracing::{error, info};

/// Prints fresh keys, or makes a Secret of them.
pub(super) fn keys(keys: &cli::Keys, vars: &dyn Vars) -> Result<Code, Code> {
    if let Some(name) = &keys.create_secret {
        return create_secret(name, vars);
    }
    let text = fresh::fresh(keys.format, keys.passwords).map_err(|error| {
        error!("no random numbers: {error}");
        Code::Os
    })?;
    print(&text)
}

pub(super) fn completions(shell: clap_complete::Shell) -> Result<Code, Code> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "kube-airflow-init", &mut script);
    print(&String::from_utf8_lossy(&script))
}

pub(super) fn reference(page: &str) -> Result<Code, Code> {
    let Some((_, text)) = reference::pages().find(|(name, _)| *name == page) else {
        error!("there is no page {page}");
        return Err(Code::Usage);
    };
    print(&text)
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

pub(super) fn plan(plan: cli::Plan, vars: &dyn Vars) -> Result<Code, Code> {
    let cli::Plan { format, role, words } = plan;
    let plans = if role == Role::Standalone {
        if !words.is_empty() {
            error!("standalone takes no arguments");
            return Err(Code::Usage);
        }
        let version = load::installed(vars, None)?.version;
        let children = table::standalone(version).iter().copied();
        let goals = children.map(|role| Goal::Role { role, words: Vec::new(), standalone: true });
        let plans = goals.map(|goal| load::plan(goal, vars));
        plans.collect::<Result<Vec<_>, _>>()?
    } else {
        vec![load::plan(Goal::Role { role, words, standalone: false }, vars)?]
    };
    print(&match format {
        Format::Json => plan::json(&plans),
        Format::Text => plans.iter().map(plan::text).collect::<Vec<_>>().join("\n"),
    })
}

/// With colours only where somebody looks at a terminal; see no-color.org.
pub(super) fn doctor(doctor: &cli::Doctor, vars: &dyn Vars) -> Result<Code, Code> {
    let report = doctor::examine(doctor.role, vars);
    let is_set = |name: &str| vars.get(name).is_some_and(|value| !value.is_empty());
    let dumb = vars.get("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    let colours = std::io::stdout().is_terminal() && !is_set("NO_COLOR") && !dumb;
    print(&match doctor.format {
        Format::Json => doctor::json(&report),
        Format::Text => doctor::text(&report, colours),
    })?;
    Ok(if report.is_good() { Code::Success } else { Code::Failed })
}

pub(super) fn render(render: &cli::Render, vars: &dyn Vars) -> Result<Code, Code> {
    let settings = load::settings(vars)?;
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
        load::log_lines(&load::chain(&error));
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
        load::log_lines(&load::chain(&error));
        Code::Io
    })?;
    Ok(Code::Success)
}

/// The answer comes in time even where the file system or the processor does not: the kubelet would show no reason.
pub(super) fn probe(probe: &cli::Probe, vars: &dyn Vars) -> Result<Code, Code> {
    let (kind, role, timeout) = (probe.kind, probe.role, probe.timeout);
    // A defect of ours is no reason to restart a role, and none to send it traffic.
    let nothing = Verdict::unknown(kind);
    panic::answer_with(nothing.to_string(), if nothing.up { Code::Success } else { Code::Failed });
    let (tell, told) = std::sync::mpsc::channel();
    let (vars, begun) = (vars.all(), Instant::now());
    std::thread::spawn(move || {
        panic::on_demand("in a probe".as_ref());
        // Nobody listens any more when it is too late.
        let kept = if role.is_none() { probe::socket::ask(kind, timeout, &vars) } else { None };
        let rest = || timeout.saturating_sub(begun.elapsed());
        let _ = tell.send(kept.unwrap_or_else(|| probe::run(kind, role, rest(), &vars)));
    });
    let verdict = told.recv_timeout(timeout).unwrap_or_else(|_| Verdict::late(timeout));
    print(&format!("{verdict}\n"))?;
    if verdict.up { Ok(Code::Success) } else { Err(Code::Failed) }
}

pub(super) fn version(vars: &dyn Vars) -> Result<Code, Code> {
    let mut text = format!("kube-airflow-init {}", env!("CARGO_PKG_VERSION"));
    if let Some(id) = build_id() {
        let _ = write!(text, " (build {id})");
    }
    text.push('\n');
    match load::find(vars, None) {
        Ok(found) => {
            let _ = writeln!(text, "airflow {} ({})", found.version_text, found.package.display());
            let _ = writeln!(text, "  {}", standing(found.version));
            for (name, version) in &found.providers {
                let _ = writeln!(text, "provider {name} {version}");
            }
        }
        // An init container or a laptop may have none.
        Err(error) => {
            info!("{}", load::chain(&error));
            text += "no Airflow found\n";
        }
    }
    print(&text)
}

/// The build id of this program, which its symbols and a core dump of it have too; none if the linker wrote none. It is
/// the note `NT_GNU_BUILD_ID` of the ELF file, see elf(5).
fn build_id() -> Option<String> {
    const PT_NOTE: u32 = 4;
    const NT_GNU_BUILD_ID: u32 = 3;
    // Linkers put the note right behind the table of segments.
    let mut start = Vec::with_capacity(4096);
    std::fs::File::open("/proc/self/exe").ok()?.take(4096).read_to_end(&mut start).ok()?;
    let bytes = |at: usize, count: usize| start.get(at..at.checked_add(count)?);
    let word = |at| Some(u32::from_ne_bytes(bytes(at, 4)?.try_into().ok()?));
    let half = |at| Some(usize::from(u16::from_ne_bytes(bytes(at, 2)?.try_into().ok()?)));
    let long = |at| usize::try_from(u64::from_ne_bytes(bytes(at, 8)?.try_into().ok()?)).ok();
    let (table, size, count) = (long(32)?, half(54)?, half(56)?);
    for segment in (0..count).map(|number| table + number * size).filter(|at| word(*at) == Some(PT_NOTE)) {
        let mut at = long(segment + 8)?;
        let end = at.checked_add(long(segment + 32)?)?;
        while at < end {
            let [name, id] = [word(at)?, word(at + 4)?].map(|length| usize::try_from(length).unwrap_or(usize::MAX));
            let from = at.checked_add(12)?.checked_add(name.checked_next_multiple_of(4)?)?;
            if word(at + 8) == Some(NT_GNU_BUILD_ID) && bytes(at + 12, name) == Some(b"GNU\0") {
                let mut text = String::new();
                for byte in bytes(from, id)? {
                    let _ = write!(text, "{byte:02x}");
                }
                return Some(text);
            }
            at = from.checked_add(id.checked_next_multiple_of(4)?)?;
        }
    }
    None
}
