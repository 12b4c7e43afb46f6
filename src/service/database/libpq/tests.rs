//! Claims about libpq's options that need no server; `tests/services/differential.rs` asks the real one.

use super::super::Database;
use super::*;

fn of(url: &str, variables: &[(&str, &str)]) -> Result<Vec<Postgres>, Refusal> {
    let Database::Postgres(server) = Database::parse(url).unwrap() else { panic!("a file") };
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    sites(&server, &Around { variables, user: Some("me".to_owned()), home: None })
}

fn places(url: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let sites = of(url, variables).unwrap();
    sites.iter().map(|site| format!("{}@{}:{}/{}", site.user, site.host, site.port, site.name)).collect()
}

#[test]
fn what_the_url_does_not_say_the_environment_says() {
    let all = [("PGHOST", "a,b"), ("PGPORT", "1,2"), ("PGUSER", "u"), ("PGDATABASE", "d")];
    assert_eq!(places("postgresql://", &all), ["u@a:1/d", "u@b:2/d"]);
    assert_eq!(places("postgresql://x@h:3/e", &all), ["x@h:3/e"]);
    assert_eq!(places("postgresql://", &[]), ["me@/var/run/postgresql:5432/me"]);
    assert_eq!(places("postgresql://h/d?user=u&port=7", &[]), ["u@h:7/d"]);
}

#[test]
fn libpq_refuses_what_it_does_not_know() {
    for query in ["ssl=true", "sslmode=on", "target_session_attrs=writable", "connect_timeout=soon", "database=x"] {
        assert!(of(&format!("postgresql://u@h/d?{query}"), &[]).is_err(), "{query}");
    }
    assert!(of("postgresql://u@h/d", &[("PGSSLMODE", "")]).is_err());
    assert!(of("postgresql://u@h/d?sslrootcert=system&sslmode=require", &[]).is_err());
    let system = of("postgresql://u@h/d?sslrootcert=system", &[]).unwrap();
    assert_eq!(system[0].parameter("sslmode"), Some("verify-full"));
}

#[test]
fn methods_are_named_or_excluded() {
    assert_eq!(options::methods("md5,none"), Some(vec!["md5", "none"]));
    assert_eq!(options::methods("!md5,!none").map(|left| left.len()), Some(5));
    for wrong in ["md5,!none", "md5,md5", "telepathy"] {
        assert_eq!(options::methods(wrong), None, "{wrong}");
    }
}
