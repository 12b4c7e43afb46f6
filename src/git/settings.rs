//! What the options mean, checked: all problems at once, each with the name by which the option was given, and the fix.

mod policy;
mod sources;

use super::options::Options;
use super::secrets::Sources;
use crate::settings::problem::Problem;
use nix::sys::signal::Signal;
pub use policy::Policy;
use policy::policy;
use secrecy::SecretString;
use sources::{is_web, repository, sources};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// Which submodules are checked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submodules {
    /// All of them.
    Recursive,
    /// Those of the repository itself.
    Shallow,
    /// None.
    Off,
}

/// How git tidies up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gc {
    /// When git thinks that it is time.
    Auto,
    /// Whenever a tree was removed.
    Always,
    /// The same, and thoroughly.
    Aggressive,
    /// Never.
    Off,
}

/// A program that runs for each commit.
#[derive(Clone, Debug)]
pub struct Exechook {
    /// The program.
    pub command: String,
    /// How long it may take.
    pub timeout: Duration,
    /// When it is run again after a failure.
    pub backoff: Duration,
}

/// A URL that is called for each commit.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// The URL; it may hold a token, so it is never logged.
    pub url: SecretString,
    /// Its method.
    pub method: String,
    /// The status that counts as success; `None`: any.
    pub status: Option<u16>,
    /// How long a call may take.
    pub timeout: Duration,
    /// When it is made again after a failure.
    pub backoff: Duration,
}

/// What one synchronisation does.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct Settings {
    /// The repository, without a user and a password.
    pub repo: String,
    /// What is followed.
    pub reference: String,
    /// The working folder; it may not exist yet.
    pub root: PathBuf,
    /// The published link, from the root or absolute.
    pub link: PathBuf,
    /// Whether it is the process beside a role.
    pub role: bool,
    /// In a role: the folder of the repository with the DAGs.
    pub subpath: String,
    /// In a role: whether a revision waits for runs that it would change.
    pub policy: Policy,
    /// Time between two looks.
    pub period: Duration,
    /// The same until the first success.
    pub init_period: Duration,
    /// The limit of one synchronisation.
    pub sync_timeout: Duration,
    /// The failure in a row that ends the process after the first success; 0: the first; `None`: none does.
    pub max_failures: Option<u64>,
    /// The same before it.
    pub init_max_failures: Option<u64>,
    /// Whether the first success ends it.
    pub one_time: bool,
    /// Commits of history; 0: all.
    pub depth: u64,
    /// The partial clone.
    pub filter: Option<String>,
    /// Which submodules.
    pub submodules: Submodules,
    /// Patterns of the wanted files.
    pub sparse: Option<PathBuf>,
    /// Trees that stay whatever their age.
    pub keep: u64,
    /// How long the others stay.
    pub stale: Duration,
    /// How git tidies up.
    pub gc: Gc,
    /// The git program.
    pub git: String,
    /// Settings for git.
    pub git_config: Vec<(String, String)>,
    /// Whether the group may write.
    pub group_write: bool,
    /// Whether this user is added to /etc/passwd.
    pub add_user: bool,
    /// Touched after a change.
    pub touch_file: Option<PathBuf>,
    /// Holds the last failure.
    pub error_file: Option<PathBuf>,
    /// Looks at once.
    pub signal: Option<i32>,
    /// Where secrets come from.
    pub secrets: Sources,
    /// After publication.
    pub exechook: Option<Exechook>,
    /// Before publication.
    pub gate: Option<Exechook>,
    /// After publication.
    pub webhook: Option<Webhook>,
    /// Where HTTP is served.
    pub http: Option<SocketAddr>,
    /// Whether metrics are.
    pub metrics: bool,
    /// The file with the secret of incoming webhooks.
    pub hook_secret: Option<PathBuf>,
    /// How much is logged: 5 git commands, 6 their output.
    pub verbose: i64,
    /// What is only worth a line.
    pub notes: Vec<String>,
}

impl Settings {
    /// Reads the settings; `role`: for the container of a role, whose defaults keep more.
    ///
    /// # Errors
    /// Everything that is wrong with the options.
    pub fn of(mut options: Options, role: bool) -> Result<Self, Vec<Problem>> {
        let o = &mut options;
        let (repo, in_url) = repository(o);
        let (root, link) = places(o, &repo);
        let period = o.duration("period", Some("wait"));
        let init_period = o.duration("init-period", None);
        for (flag, period) in [("period", period), ("init-period", init_period)] {
            if period.is_some_and(|period| period < Duration::from_millis(10)) {
                let flag = if o.text(flag).is_some() { flag } else { "wait" };
                o.problem(flag, "is shorter than 10ms", "give the server a pause: `10s`");
            }
        }
        let period = period.unwrap_or(Duration::from_secs(if role { 60 } else { 10 }));
        let failures = o.number("max-failures", -1).or_else(|| o.number("max-sync-failures", -1));
        let init_failures = o.number("init-max-failures", -1).or(failures);
        let borne = |number: i64| u64::try_from(number).ok();
        let seconds = Duration::from_secs;
        let settings = Self {
            role,
            reference: reference(o),
            subpath: subpath(o),
            policy: policy(o, role),
            period,
            init_period: init_period.unwrap_or(if role { period.min(Duration::from_secs(2)) } else { period }),
            sync_timeout: o
                .duration("sync-timeout", Some("timeout"))
                .filter(|limit| !limit.is_zero())
                .unwrap_or(seconds(120)),
            max_failures: failures.and_then(borne),
            init_max_failures: borne(init_failures.unwrap_or(if role { -1 } else { 0 })),
            one_time: o.switch("one-time").or_else(|| o.switch("run-once")).unwrap_or(false),
            depth: o.number("depth", 0).and_then(borne).unwrap_or(1),
            filter: o.text("filter"),
            submodules: submodules(o),
            sparse: o.text("sparse-checkout-file").map(PathBuf::from),
            keep: o.number("keep-worktrees", 0).and_then(borne).unwrap_or(if role { 10 } else { 0 }),
            stale: o.duration("stale-worktree-timeout", None).unwrap_or(seconds(if role { 6 * 3600 } else { 0 })),
            gc: gc(o, role),
            git: o.text("git").unwrap_or_else(|| "git".to_owned()),
            git_config: git_config(o),
            group_write: o.switch("group-write").unwrap_or(false),
            add_user: o.switch("add-user").unwrap_or(false),
            touch_file: o.text("touch-file").map(|path| root.join(path)),
            error_file: o.text("error-file").map(|path| root.join(path)),
            signal: signal(o),
            secrets: sources(o, &repo, in_url),
            exechook: exechook(o, "exechook").or_else(|| {
                let command = o.text("sync-hook-command")?;
                Some(Exechook { command, timeout: seconds(30), backoff: seconds(3) })
            }),
            gate: exechook(o, "pre-publish-exechook"),
            webhook: webhook(o),
            http: o.text("http-bind").and_then(|text| listen(o, &text)),
            metrics: o.switch("http-metrics").unwrap_or(false),
            hook_secret: o.text("hook-secret-file").map(PathBuf::from),
            verbose: o.number("verbose", 0).unwrap_or(if o.switch("debug") == Some(true) { 6 } else { 0 }),
            notes: Vec::new(),
            repo,
            root,
            link,
        };
        if options.problems.is_empty() { Ok(Self { notes: options.notes, ..settings }) } else { Err(options.problems) }
    }

    /// Whether the reference is a full hash: it never changes.
    pub fn is_pinned(&self) -> bool {
        is_hash(&self.reference)
    }
}

/// Whether a text is a full hash, SHA-1 or SHA-256.
pub fn is_hash(text: &str) -> bool {
    [40, 64].contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The root and the link. The seed's single folder is a link with the root beside it.
fn places(o: &mut Options, repo: &str) -> (PathBuf, PathBuf) {
    let link = o.text("link").or_else(|| o.text("dest"));
    let flag = if o.text("link").is_some() { "link" } else { "dest" };
    let named = link
        .clone()
        .unwrap_or_else(|| repo.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or_default().to_owned());
    let link = PathBuf::from(&named);
    let is_name = matches!(link.components().next_back(), Some(Component::Normal(_)));
    if !repo.is_empty() && !is_name {
        o.problem(flag, "does not end with a name", "write the path of the link, like `dags` or `/dags/current`");
    }
    let root = match o.text("root") {
        Some(root) => std::path::absolute(root).unwrap_or_default(),
        None if link.is_absolute() && is_name => {
            let name = link.file_name().unwrap_or_default().to_string_lossy().into_owned();
            link.with_file_name(format!(".{name}.git-sync"))
        }
        None => {
            o.problem("root", "is not set", "name the working folder, for example an emptyDir at /git");
            PathBuf::new()
        }
    };
    if let Some(above) = root.ancestors().find(|folder| folder.exists())
        && !above.is_dir()
    {
        o.problem("root", format!("is {}, which is a file or lies below one", root.display()), "name a folder");
    }
    (root, link)
}

fn subpath(o: &mut Options) -> String {
    let text = o.text("subpath").unwrap_or_default();
    if !Path::new(&text).components().all(|part| matches!(part, Component::Normal(_))) {
        o.problem("subpath", "is not a path in the repository", "write it like `airflow/dags`");
    }
    text
}

fn reference(o: &mut Options) -> String {
    let branch = o.text("branch");
    let rev = o.text("rev").filter(|rev| rev != "HEAD");
    if o.text("ref").is_none() && branch.is_some() && rev.is_some() {
        let other = o.source("branch");
        o.problem("rev", format!("and {other} are both set"), "keep one of the two, or use --ref");
    }
    let reference = o.text("ref").or(rev).or(branch).unwrap_or_else(|| "HEAD".to_owned());
    let bad = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c);
    if reference.starts_with(['-', '+']) || reference.contains(bad) {
        let flag = ["ref", "rev", "branch"].into_iter().find(|flag| o.text(flag).is_some()).unwrap_or("ref");
        o.problem(
            flag,
            "is not the name of a branch or tag, nor a hash",
            "write it like `main`, `v1.2` or a full hash",
        );
    }
    reference
}

fn submodules(o: &mut Options) -> Submodules {
    use Submodules::{Off, Recursive, Shallow};
    o.choice("submodules", &[("recursive", Recursive), ("shallow", Shallow), ("off", Off)]).unwrap_or(Recursive)
}

fn gc(o: &mut Options, role: bool) -> Gc {
    let words = [("auto", Gc::Auto), ("always", Gc::Always), ("aggressive", Gc::Aggressive), ("off", Gc::Off)];
    o.choice("git-gc", &words).unwrap_or(if role { Gc::Auto } else { Gc::Always })
}

fn git_config(o: &mut Options) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for flag in ["git-config", "git-config-add"] {
        for given in o.list(flag) {
            match super::gitconfig::pairs(&given.text) {
                Ok(pairs) => found.extend(pairs),
                Err(wrong) => o.problem(
                    flag,
                    wrong,
                    "write `key:value`, with commas between pairs, and quotes where one holds a comma or a colon",
                ),
            }
        }
    }
    found
}

fn signal(o: &mut Options) -> Option<i32> {
    let text = o.text("sync-on-signal")?;
    let name = format!("SIG{}", text.to_ascii_uppercase().trim_start_matches("SIG"));
    let number = text.parse::<i32>().ok().filter(|number| (1..=64).contains(number));
    let number = number.or_else(|| name.parse::<Signal>().ok().map(|signal| signal as i32));
    let stops = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGKILL, Signal::SIGSTOP, Signal::SIGCHLD];
    let number = number.filter(|number| stops.iter().all(|stop| *stop as i32 != *number));
    if number.is_none() {
        o.problem("sync-on-signal", "is not a signal that can be caught for this", "write `HUP`, `USR1` or its number");
    }
    number
}

fn exechook(o: &mut Options, prefix: &str) -> Option<Exechook> {
    let timeout = o.duration(&format!("{prefix}-timeout"), None).unwrap_or(Duration::from_secs(30));
    let backoff = o.duration(&format!("{prefix}-backoff"), None).unwrap_or(Duration::from_secs(3));
    Some(Exechook { command: o.text(&format!("{prefix}-command"))?, timeout, backoff })
}

fn webhook(o: &mut Options) -> Option<Webhook> {
    // Version 3 wrote -1 for "any".
    let status = o.number("webhook-success-status", -1).unwrap_or(200).max(0);
    let status = u16::try_from(status).unwrap_or(1000);
    if status != 0 && !(100..600).contains(&status) {
        o.problem("webhook-success-status", "is no status of HTTP", "write one like `200`, or `0` for any");
    }
    let timeout = o.duration("webhook-timeout", None).unwrap_or(Duration::from_secs(1));
    let backoff = o.duration("webhook-backoff", None).unwrap_or(Duration::from_secs(3));
    let url = super::credential::lower(&o.text("webhook-url")?);
    if !is_web(&url) {
        o.problem(
            "webhook-url",
            "is not an http:// or https:// address",
            "write it like `http://127.0.0.1:8080/reload`",
        );
    }
    let method = o.text("webhook-method").unwrap_or_else(|| "POST".to_owned());
    if !method.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        o.problem("webhook-method", "is no method of HTTP", "write `POST` or `GET`");
    }
    let status = Some(status).filter(|status| *status != 0);
    Some(Webhook { url: url.into(), method: method.to_ascii_uppercase(), status, timeout, backoff })
}

fn listen(o: &mut Options, text: &str) -> Option<SocketAddr> {
    let text = text.trim();
    let whole = if text.starts_with(':') { format!("[::]{text}") } else { text.to_owned() };
    let named = || {
        let found: Vec<_> = whole.to_socket_addrs().ok()?.collect();
        found.iter().find(|address| address.is_ipv4()).or(found.first()).copied()
    };
    // A container may have no list of names.
    let local = whole.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let address = local.as_deref().unwrap_or(&whole).parse::<SocketAddr>().ok().or_else(named);
    let address = address.filter(|address| address.port() > 0);
    if address.is_none() {
        o.problem("http-bind", "is not an address to listen on", "write it like `:9376` or `127.0.0.1:9376`");
    }
    address
}
