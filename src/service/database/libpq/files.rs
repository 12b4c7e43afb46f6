//! The files that libpq reads for itself: services and passwords.

use super::options::OPTIONS;
use super::{Around, Options, Postgres, Refusal, SOCKETS};
use crate::text::shown;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

/// Where a service is looked for at last (`SYSCONFDIR`): Debian's packages, and the drivers' wheels.
const SYSTEM: [&str; 3] = ["/etc/postgresql-common", "/usr/local/etc", "/etc"];

/// The options of the named service, where nobody wrote them.
pub(super) fn service(options: &mut Options, around: &Around) -> Result<(), Refusal> {
    let named = options.get("service").map(String::as_str).or_else(|| around.variable("PGSERVICE"));
    let Some(service) = named.map(str::to_owned) else { return Ok(()) };
    let folders: Vec<PathBuf> = match around.variable("PGSYSCONFDIR") {
        Some(folder) => vec![folder.into()],
        None => SYSTEM.iter().map(PathBuf::from).collect(),
    };
    let own = match around.variable("PGSERVICEFILE") {
        Some(file) => {
            let file = PathBuf::from(file);
            if !file.exists() {
                return Err(Refusal("the file of PGSERVICEFILE does not exist".to_owned()));
            }
            Some(file)
        }
        None => around.home().map(|home| home.join(".pg_service.conf")),
    };
    let files = own.into_iter().chain(folders.into_iter().map(|folder| folder.join("pg_service.conf")));
    for file in files.filter(|file| file.exists()) {
        let text = fs::read_to_string(&file)
            .map_err(|error| Refusal(format!("the service file cannot be read ({})", error.kind())))?;
        if read(&text, &service, options)? {
            return Ok(());
        }
    }
    Err(Refusal(format!("there is no service `{}` in the service files", shown(&service))))
}

/// Whether the file has the service.
fn read(text: &str, service: &str, options: &mut Options) -> Result<bool, Refusal> {
    let mut found = false;
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        let wrong = |what: &str| Refusal(format!("line {} of the service file {what}", at + 1));
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(group) = line.strip_prefix('[') {
            if found {
                break;
            }
            found = group.strip_prefix(service).is_some_and(|rest| rest.starts_with(']'));
            continue;
        }
        if !found {
            continue;
        }
        let (keyword, value) = line.split_once('=').ok_or_else(|| wrong("has no `=`"))?;
        if keyword == "service" {
            return Err(wrong("names another service"));
        }
        let option = OPTIONS.iter().find(|option| option.keyword == keyword);
        let option = option.ok_or_else(|| wrong("has a parameter that libpq does not know"))?;
        options.entry(option.keyword).or_insert_with(|| value.to_owned());
    }
    Ok(found)
}

/// The password for a server in `passfile` or `~/.pgpass`. A file that others may read is passed over, as libpq does.
pub(super) fn password(site: &Postgres, around: &Around) -> Option<String> {
    let named = site.parameter("passfile").map(PathBuf::from);
    let file = named.or_else(|| around.home().map(|home| home.join(".pgpass")))?;
    let about = fs::metadata(&file).ok()?;
    if !about.is_file() || about.permissions().mode() & 0o077 != 0 {
        return None;
    }
    let text = String::from_utf8_lossy(&fs::read(&file).ok()?).into_owned();
    let host = site.host.raw();
    let host = if host == SOCKETS { "localhost" } else { host };
    let port = site.port.to_string();
    let wanted = [host, port.as_str(), site.name.raw(), site.user.raw()];
    text.lines().find_map(|line| entry(line.trim_end_matches('\r'), &wanted)).filter(|found| !found.is_empty())
}

/// `host:port:database:user:password`, with `*` for any, and `\` before a `:` or `\` of a value.
fn entry(line: &str, wanted: &[&str; 4]) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let mut rest = line;
    for value in wanted {
        let (field, after) = split(rest)?;
        if field != "*" && unescaped(field) != *value {
            return None;
        }
        rest = after;
    }
    Some(unescaped(split(rest).map_or(rest, |(field, _)| field)))
}

fn split(text: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    let at = text.char_indices().find(|(_, c)| {
        let ends = *c == ':' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    at.map(|(at, _)| (&text[..at], &text[at + 1..]))
}

fn unescaped(field: &str) -> String {
    let mut out = String::with_capacity(field.len());
    let mut characters = field.chars();
    while let Some(c) = characters.next() {
        out.push(if c == '\\' { characters.next().unwrap_or('\\') } else { c });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_passwords_is_for_a_host_a_port_a_database_and_a_user() {
        let wanted = ["h", "5432", "d:1", "u"];
        for (line, password) in [
            ("h:5432:d\\:1:u:secret", Some("secret")),
            ("*:*:*:*:a\\:b\\\\c", Some("a:b\\c")),
            ("*:*:*:*:a:b", Some("a")),
            ("h:5433:*:*:secret", None),
            ("#*:*:*:*:secret", None),
            ("h:5432", None),
        ] {
            assert_eq!(entry(line, &wanted).as_deref(), password, "{line}");
        }
    }
}
