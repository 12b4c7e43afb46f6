//! The options of libpq: their names, environment variables, defaults, and what may be written
//! (`PQconninfoOptions`, `pqConnectOptions2`).

/// What values an option takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Whatever the server or the system makes of it.
    Text,
    /// One of these words.
    Word(&'static str),
    /// One of these words, in capitals or not, or nothing.
    WordOrNone(&'static str),
    /// A whole number.
    Number,
    /// Methods of authentication.
    Methods,
}

/// One option.
#[derive(Debug)]
pub(crate) struct PqOption {
    /// Its keyword.
    pub(crate) keyword: &'static str,
    /// The variable that counts where nothing is written; empty without one.
    pub(crate) variable: &'static str,
    /// What counts without both.
    pub(crate) default: Option<&'static str>,
    /// What values it takes.
    pub(crate) kind: Kind,
}

const fn option(keyword: &'static str, variable: &'static str, default: &'static str, kind: Kind) -> PqOption {
    PqOption { keyword, variable, default: if default.is_empty() { None } else { Some(default) }, kind }
}

const VERSIONS: &str = "TLSv1 TLSv1.1 TLSv1.2 TLSv1.3";

/// All of them, with those of PostgreSQL 18; `sslmode` has its default elsewhere, because it depends.
pub(crate) const OPTIONS: &[PqOption] = &[
    option("service", "PGSERVICE", "", Kind::Text),
    option("user", "PGUSER", "", Kind::Text),
    option("password", "PGPASSWORD", "", Kind::Text),
    option("passfile", "PGPASSFILE", "", Kind::Text),
    option("channel_binding", "PGCHANNELBINDING", "prefer", Kind::Word("disable prefer require")),
    option("connect_timeout", "PGCONNECT_TIMEOUT", "", Kind::Number),
    option("dbname", "PGDATABASE", "", Kind::Text),
    option("host", "PGHOST", "", Kind::Text),
    option("hostaddr", "PGHOSTADDR", "", Kind::Text),
    option("port", "PGPORT", "", Kind::Text),
    option("client_encoding", "PGCLIENTENCODING", "", Kind::Text),
    option("options", "PGOPTIONS", "", Kind::Text),
    option("application_name", "PGAPPNAME", "", Kind::Text),
    option("fallback_application_name", "", "", Kind::Text),
    option("keepalives", "", "", Kind::Number),
    option("keepalives_idle", "", "", Kind::Number),
    option("keepalives_interval", "", "", Kind::Number),
    option("keepalives_count", "", "", Kind::Number),
    option("tcp_user_timeout", "", "", Kind::Number),
    option("sslmode", "PGSSLMODE", "", Kind::Word("disable allow prefer require verify-ca verify-full")),
    option("sslnegotiation", "PGSSLNEGOTIATION", "postgres", Kind::Word("postgres direct")),
    option("sslcompression", "PGSSLCOMPRESSION", "", Kind::Text),
    option("sslcert", "PGSSLCERT", "", Kind::Text),
    option("sslkey", "PGSSLKEY", "", Kind::Text),
    option("sslcertmode", "PGSSLCERTMODE", "allow", Kind::Word("disable allow require")),
    option("sslpassword", "", "", Kind::Text),
    option("sslrootcert", "PGSSLROOTCERT", "", Kind::Text),
    option("sslcrl", "PGSSLCRL", "", Kind::Text),
    option("sslcrldir", "PGSSLCRLDIR", "", Kind::Text),
    option("sslsni", "PGSSLSNI", "1", Kind::Text),
    option("requirepeer", "PGREQUIREPEER", "", Kind::Text),
    option("require_auth", "PGREQUIREAUTH", "", Kind::Methods),
    option("min_protocol_version", "PGMINPROTOCOLVERSION", "", Kind::WordOrNone("3.0 3.2 latest")),
    option("max_protocol_version", "PGMAXPROTOCOLVERSION", "", Kind::WordOrNone("3.0 3.2 latest")),
    option("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION", "TLSv1.2", Kind::WordOrNone(VERSIONS)),
    option("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION", "", Kind::WordOrNone(VERSIONS)),
    option("gssencmode", "PGGSSENCMODE", "disable", Kind::Word("disable prefer require")),
    option("krbsrvname", "PGKRBSRVNAME", "", Kind::Text),
    option("gsslib", "PGGSSLIB", "", Kind::Text),
    option("gssdelegation", "PGGSSDELEGATION", "", Kind::Text),
    option("replication", "", "", Kind::Text),
    option(
        "target_session_attrs",
        "PGTARGETSESSIONATTRS",
        "any",
        Kind::Word("any read-write read-only primary standby prefer-standby"),
    ),
    option("load_balance_hosts", "PGLOADBALANCEHOSTS", "disable", Kind::Word("disable random")),
    option("scram_client_key", "", "", Kind::Text),
    option("scram_server_key", "", "", Kind::Text),
    option("oauth_issuer", "", "", Kind::Text),
    option("oauth_client_id", "", "", Kind::Text),
    option("oauth_client_secret", "", "", Kind::Text),
    option("oauth_scope", "", "", Kind::Text),
    option("sslkeylogfile", "", "", Kind::Text),
];

/// What psycopg 3 takes for itself.
pub(crate) const OF_PSYCOPG: &[&str] = &["autocommit", "prepare_threshold"];

/// The methods that `require_auth` admits. All are written with `!`, or none is.
pub(crate) fn methods(list: &str) -> Option<Vec<&str>> {
    const KNOWN: [&str; 7] = ["password", "md5", "gss", "sspi", "scram-sha-256", "none", "oauth"];
    let words: Vec<&str> = list.split(',').collect();
    let denied: Vec<&str> = words.iter().filter_map(|word| word.strip_prefix('!')).collect();
    let named = if denied.is_empty() { &words } else { &denied };
    let unique = named.iter().enumerate().all(|(at, word)| KNOWN.contains(word) && !named[..at].contains(word));
    if !unique || !denied.is_empty() && denied.len() != words.len() {
        return None;
    }
    Some(if denied.is_empty() { words } else { KNOWN.into_iter().filter(|word| !denied.contains(word)).collect() })
}
