//! The names of the options: flags and variables of git-sync v4, of v3, of mumoshu/kube-airflow, and ours.

/// What an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Any text.
    Text,
    /// Any text that must never be printed.
    Secret,
    /// true or false; the flag alone is true.
    Switch,
    /// A whole number, which may be negative.
    Number,
    /// A duration as Go writes it: `10s`, `1h30m`.
    Duration,
    /// Seconds, perhaps with a fraction: the older form of a duration.
    Seconds,
    /// Text that may be given more than once.
    List,
    /// Accepted and told once: nothing here needs it. The text says why.
    Unused(&'static str),
    /// Refused: without it a user would get something else. The text says what to do.
    Refused(&'static str),
}

/// One option.
#[derive(Debug)]
pub struct Opt {
    /// The flag without its dashes; it names the option in this program.
    pub flag: &'static str,
    /// Variables that hold it, the newest first.
    pub env: &'static [&'static str],
    /// What it takes.
    pub form: Form,
    /// The value when nobody gives one, in words.
    pub default: &'static str,
    /// What it does.
    pub doc: &'static str,
}

macro_rules! options {
    ($($flag:literal, [$($env:literal),*], $form:expr, $default:literal, $doc:literal;)*) => {
        /// All options, in the order of the page about them.
        pub const ALL: &[Opt] = &[
            $(Opt { flag: $flag, env: &[$($env),*], form: $form, default: $default, doc: $doc }),*
        ];
    };
}

const ALWAYS: &str = "the working tree is always made what the commit says";
const PROFILES: &str = "this program has no profiles; `/debug/pprof/` says so";

options! {
    "repo", ["GITSYNC_REPO", "GIT_SYNC_REPO"], Form::Text, "required",
        "The repository: `https://`, `http://`, `ssh://`, `user@host:path` or `file://`. A user and a password in it \
         are taken out and kept as a credential.";
    "ref", ["GITSYNC_REF"], Form::Text, "HEAD",
        "Branch, tag or full hash to follow. A hash never changes, so its repository is asked once.";
    "branch", ["GIT_SYNC_BRANCH"], Form::Text, "see --ref", "The older name of a branch to follow.";
    "rev", ["GIT_SYNC_REV"], Form::Text, "see --ref", "The older name of a tag or hash to follow.";
    "root", ["GITSYNC_ROOT", "GIT_SYNC_ROOT"], Form::Text, "required",
        "Working folder of the synchronisation; it is made when it is absent. The trees are in `.worktrees` below it.";
    "link", ["GITSYNC_LINK", "GIT_SYNC_LINK"], Form::Text, "the last part of --repo",
        "The symbolic link to the published tree, absolute or from the root; the last part of its target is the \
         commit.";
    "subpath", ["KUBE_AIRFLOW_GIT_SUBPATH"], Form::Text, "none",
        "In a role: the folder of the repository with the DAGs. Ours.";
    "policy", ["GIT_SYNC_POLICY"], Form::Text, "immediate",
        "In a role of Airflow 1.10 or 2: `immediate`, or `hold` for one commit in all pods, and none while runs that \
         it would change are unfinished. Ours.";
    "max-hold", ["GIT_SYNC_MAX_HOLD"], Form::Duration, "1h",
        "How long a commit is held at most; 0: without a limit. Ours.";
    "dest", ["GIT_SYNC_DEST"], Form::Text, "see --link", "The older name of --link.";
    "period", ["GITSYNC_PERIOD", "GIT_SYNC_PERIOD"], Form::Duration, "10s",
        "Time between two looks at the repository, at least 10ms.";
    "wait", ["GIT_SYNC_WAIT"], Form::Seconds, "see --period", "The older name of --period, in seconds.";
    "init-period", ["GITSYNC_INIT_PERIOD"], Form::Duration, "--period", "The period until the first success. Pauses \
     after failures grow to one minute, or to this if it is longer.";
    "sync-timeout", ["GITSYNC_SYNC_TIMEOUT", "GIT_SYNC_SYNC_TIMEOUT"], Form::Duration, "120s",
        "How long one whole synchronisation may take.";
    "timeout", ["GIT_SYNC_TIMEOUT"], Form::Seconds, "see --sync-timeout", "The older name of --sync-timeout, in \
     seconds.";
    "max-failures", ["GITSYNC_MAX_FAILURES", "GIT_SYNC_MAX_FAILURES"], Form::Number, "0 until the first success, \
     then no limit",
        "The failure in a row that ends the process with 1, as v4 counts: with 0 and 1 the first one, with 2 the \
         second; -1: none does. When it is given, it holds after a success, too.";
    "max-sync-failures", ["GIT_SYNC_MAX_SYNC_FAILURES"], Form::Number, "see --max-failures", "The older name of \
     --max-failures.";
    "init-max-failures", ["GITSYNC_INIT_MAX_FAILURES"], Form::Number, "--max-failures",
        "The same until the first success.";
    "one-time", ["GITSYNC_ONE_TIME", "GIT_SYNC_ONE_TIME"], Form::Switch, "false",
        "Ends after the first synchronisation and its hooks: for an init container.";
    "run-once", ["GIT_SYNC_RUN_ONCE"], Form::Switch, "see --one-time", "The older name of --one-time.";
    "depth", ["GITSYNC_DEPTH", "GIT_SYNC_DEPTH"], Form::Number, "1", "How many commits of history are fetched; 0: all.";
    "filter", ["GITSYNC_FILTER"], Form::Text, "none", "A partial clone: `blob:none`, `tree:0`.";
    "submodules", ["GITSYNC_SUBMODULES", "GIT_SYNC_SUBMODULES"], Form::Text, "recursive",
        "`recursive`, `shallow` (the first level alone) or `off`.";
    "sparse-checkout-file", ["GITSYNC_SPARSE_CHECKOUT_FILE", "GIT_SYNC_SPARSE_CHECKOUT_FILE"], Form::Text, "none",
        "A file with the patterns of the files that are wanted.";
    "stale-worktree-timeout", ["GITSYNC_STALE_WORKTREE_TIMEOUT"], Form::Duration, "0s; 6h in a role",
        "How long a tree stays after another one took its place. One that a process has open stays in any case.";
    "keep-worktrees", ["GITSYNC_KEEP_WORKTREES"], Form::Number, "0; 10 in a role",
        "How many trees before the published one stay, whatever their age. Ours.";
    "git-gc", ["GITSYNC_GIT_GC", "GIT_SYNC_GIT_GC"], Form::Text, "always; auto in a role",
        "`auto`, `always`, `aggressive` or `off`: how git tidies up after a tree was removed.";
    "git", ["GITSYNC_GIT", "GIT_SYNC_GIT"], Form::Text, "git", "The git program.";
    "git-config", ["GITSYNC_GIT_CONFIG"], Form::Text, "none",
        "Settings for git: `key:value` pairs with commas between them, each side quoted where it needs to be.";
    "git-config-add", ["GITSYNC_GIT_CONFIG_ADD"], Form::List, "none", "One more pair, for keys that have several \
     values.";
    "group-write", ["GITSYNC_GROUP_WRITE", "GIT_SYNC_GROUP_WRITE"], Form::Switch, "false",
        "Whether the group may write what is made here (umask 0002).";
    "change-permissions", ["GIT_SYNC_PERMISSIONS"], Form::Refused("use --group-write, or fsGroup of the \
     pod"), "", "Refused, as by v4.";
    "add-user", ["GITSYNC_ADD_USER", "GIT_SYNC_ADD_USER"], Form::Switch, "false",
        "Adds this user to /etc/passwd when it is not there, which ssh wants.";
    "touch-file", ["GITSYNC_TOUCH_FILE", "GIT_SYNC_TOUCH_FILE"], Form::Text, "none",
        "A file that is touched after each synchronisation that changed something, and after the first.";
    "error-file", ["GITSYNC_ERROR_FILE", "GIT_SYNC_ERROR_FILE"], Form::Text, "none",
        "A file that holds the last failure as JSON; a success removes it.";
    "sync-on-signal", ["GITSYNC_SYNC_ON_SIGNAL"], Form::Text, "none", "A signal (`SIGHUP`, `HUP`, `1`) that looks at \
     the repository at once.";
    "username", ["GITSYNC_USERNAME", "GIT_SYNC_USERNAME"], Form::Text, "none", "User for http and https.";
    "password", ["GITSYNC_PASSWORD", "GIT_SYNC_PASSWORD"], Form::Secret, "none", "Its password or token; rather use \
     the file.";
    "password-file", ["GITSYNC_PASSWORD_FILE", "GIT_SYNC_PASSWORD_FILE"], Form::Text, "none",
        "A file with the password or token, read before each synchronisation.";
    "credential", ["GITSYNC_CREDENTIAL"], Form::List, "none",
        "A JSON object, or a list of them, with `url`, `username` and `password` or `password-file`: for submodules \
         elsewhere.";
    "askpass-url", ["GITSYNC_ASKPASS_URL", "GIT_SYNC_ASKPASS_URL", "GIT_ASKPASS_URL"], Form::Text, "none",
        "A URL that is asked before each synchronisation and answers with `username=` and `password=` lines.";
    "cookie-file", ["GITSYNC_COOKIE_FILE", "GIT_SYNC_COOKIE_FILE", "GIT_COOKIE_FILE"], Form::Switch, "false",
        "Whether `/etc/git-secret/cookie_file` is given to git.";
    "github-app-private-key-file", ["GITSYNC_GITHUB_APP_PRIVATE_KEY_FILE"], Form::Text, "none", "The private key of \
     a GitHub App, PEM.";
    "github-app-private-key", ["GITSYNC_GITHUB_APP_PRIVATE_KEY"], Form::Secret, "none", "The same in the variable \
     itself; rather use the file.";
    "github-app-application-id", ["GITSYNC_GITHUB_APP_APPLICATION_ID"], Form::Text, "none", "Its number.";
    "github-app-client-id", ["GITSYNC_GITHUB_APP_CLIENT_ID"], Form::Text, "none", "Its client ID, instead of its \
     number.";
    "github-app-installation-id", ["GITSYNC_GITHUB_APP_INSTALLATION_ID"], Form::Text, "none", "The number of its \
     installation.";
    "github-base-url", ["GITSYNC_GITHUB_BASE_URL"], Form::Text, "https://api.github.com/", "The API of a GitHub of \
     your own.";
    "ssh", ["GIT_SYNC_SSH"], Form::Unused("ssh is used when the URL says so"), "", "Of v3.";
    "ssh-key-file", ["GITSYNC_SSH_KEY_FILE", "GIT_SYNC_SSH_KEY_FILE", "GIT_SSH_KEY_FILE"], Form::List,
        "/etc/git-secret/ssh",
        "Private keys for ssh, each tried in turn; several are given by several flags, or with `:` between them.";
    "ssh-known-hosts", ["GITSYNC_SSH_KNOWN_HOSTS", "GIT_SYNC_KNOWN_HOSTS", "GIT_KNOWN_HOSTS"], Form::Switch, "true",
        "Whether the key of the server must be a known one. `false` trusts whoever answers.";
    "ssh-known-hosts-file",
        ["GITSYNC_SSH_KNOWN_HOSTS_FILE", "GIT_SYNC_SSH_KNOWN_HOSTS_FILE", "GIT_SSH_KNOWN_HOSTS_FILE"], Form::Text,
        "/etc/git-secret/known_hosts",
        "The file with the known keys of servers, as `ssh-keyscan` prints it.";
    "exechook-command", ["GITSYNC_EXECHOOK_COMMAND", "GIT_SYNC_EXECHOOK_COMMAND"], Form::Text, "none",
        "A program that runs in each tree after it was published, with its commit in GITSYNC_HASH.";
    "sync-hook-command", ["GIT_SYNC_HOOK_COMMAND"], Form::Text, "see --exechook-command", "The older name of \
     --exechook-command.";
    "exechook-timeout", ["GITSYNC_EXECHOOK_TIMEOUT", "GIT_SYNC_EXECHOOK_TIMEOUT"], Form::Duration, "30s", "How long \
     it may take.";
    "exechook-backoff", ["GITSYNC_EXECHOOK_BACKOFF", "GIT_SYNC_EXECHOOK_BACKOFF"], Form::Duration, "3s", "When it is \
     run again after it failed.";
    "pre-publish-exechook-command", ["GITSYNC_PRE_PUBLISH_EXECHOOK_COMMAND"], Form::Text, "none",
        "A program that runs in each tree before it is published. While it fails, the tree is not published: v4 \
         publishes it all the same.";
    "pre-publish-exechook-timeout", ["GITSYNC_PRE_PUBLISH_EXECHOOK_TIMEOUT"], Form::Duration, "30s", "How long it \
     may take.";
    "pre-publish-exechook-backoff", ["GITSYNC_PRE_PUBLISH_EXECHOOK_BACKOFF"], Form::Duration, "3s", "When it is run \
     again after it failed.";
    "webhook-url", ["GITSYNC_WEBHOOK_URL", "GIT_SYNC_WEBHOOK_URL"], Form::Text, "none",
        "A URL that is called after each publication, with the commit in the header `Gitsync-Hash`.";
    "webhook-method", ["GITSYNC_WEBHOOK_METHOD", "GIT_SYNC_WEBHOOK_METHOD"], Form::Text, "POST", "The method of that \
     call.";
    "webhook-success-status", ["GITSYNC_WEBHOOK_SUCCESS_STATUS", "GIT_SYNC_WEBHOOK_SUCCESS_STATUS"], Form::Number,
        "200",
        "The status that counts as success; 0 or -1: the answer is not looked at.";
    "webhook-timeout", ["GITSYNC_WEBHOOK_TIMEOUT", "GIT_SYNC_WEBHOOK_TIMEOUT"], Form::Duration, "1s", "How long that \
     call may take.";
    "webhook-backoff", ["GITSYNC_WEBHOOK_BACKOFF", "GIT_SYNC_WEBHOOK_BACKOFF"], Form::Duration, "3s", "When it is \
     made again after it failed.";
    "http-bind", ["GITSYNC_HTTP_BIND", "GIT_SYNC_HTTP_BIND"], Form::Text, "off",
        "Where `/metrics`, `/hooks/git` and, with 503 until the first success and then 200, each other path are \
         served: `:9376` or `localhost:9376`. A port that is taken ends the process with 1.";
    "http-metrics", ["GITSYNC_HTTP_METRICS", "GIT_SYNC_HTTP_METRICS"], Form::Switch, "false", "Whether `/metrics` is \
     served.";
    "http-pprof", ["GITSYNC_HTTP_PPROF", "GIT_SYNC_HTTP_PPROF"], Form::Unused(PROFILES), "", "Accepted; there are no \
     profiles.";
    "hook-secret-file", ["GITSYNC_HOOK_SECRET_FILE"], Form::Text, "off",
        "A file with the secret of incoming webhooks: `POST /hooks/git` then looks at the repository at once. Ours.";
    "verbose", ["GITSYNC_VERBOSE", "GIT_SYNC_VERBOSE"], Form::Number, "0", "From 5 on each git command is logged, \
     from 6 on with what it says. Short: -v.";
    "debug", ["GIT_SYNC_DEBUG"], Form::Switch, "false", "Of mumoshu/kube-airflow: the same as -v=6.";
    "force", ["GIT_SYNC_FORCE"], Form::Unused(ALWAYS), "", "Of mumoshu/kube-airflow; it has nothing to do here.";
}

/// The option of a flag.
pub fn named(flag: &str) -> Option<&'static Opt> {
    ALL.iter().find(|option| option.flag == flag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn flags_and_variables_are_unique() {
        let flags: BTreeSet<_> = ALL.iter().map(|option| option.flag).collect();
        assert_eq!(flags.len(), ALL.len());
        let variables: Vec<_> = ALL.iter().flat_map(|option| option.env).collect();
        assert_eq!(variables.iter().collect::<BTreeSet<_>>().len(), variables.len());
    }
}
