//! Random forms, from pieces of forms: a seed gives the same ones again.

use super::databases::{Place, ours};
use super::{Readers, Table, outcome, question, replaced};
use std::collections::BTreeMap;

/// How many are asked about.
const FORMS: usize = 150;

/// A small generator (xorshift): the forms must be the same for both sides and for the next run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(end).unwrap()).unwrap()
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn some(&mut self, of: &[&str], most: usize, between: &str) -> String {
        (0..self.below(most + 1)).map(|_| self.one(of)).collect::<Vec<_>>().join(between)
    }
}

const LOGINS: &[&str] = &["diff:pw@", "diff:pw@", "diff:pw@", "trusted@", "diff:wrong@", "", "di%66f:pw@", "diff@"];
const HOSTS: &[&str] = &[
    "127.0.0.1:{T}",
    "127.0.0.1:{T}",
    "127.0.0.1:{P}",
    "127.0.0.1:{D}",
    "127.0.0.1",
    "",
    "127.0.0.1,127.0.0.1:{T}",
    "nowhere.invalid,127.0.0.1:{P}",
];
const NAMES: &[&str] = &["/diff", "/diff", "/", "", "/nowhere", "/trusted"];
const QUERY: &[&str] = &[
    "host=127.0.0.1",
    "host=127.0.0.1:{T}",
    "host=127.0.0.1:{D}",
    "host=127.0.0.1,127.0.0.1",
    "host={S}",
    "port={T}",
    "port={P}",
    "port={D},{T}",
    "hostaddr=127.0.0.1",
    "user=diff",
    "user=trusted",
    "password=pw",
    "dbname=diff",
    "sslmode=require",
    "sslmode=disable",
    "sslmode=allow",
    "sslmode=verify-ca",
    "sslrootcert={home}/known.pem",
    "sslrootcert={home}/strange.pem",
    "channel_binding=require",
    "require_auth=scram-sha-256",
    "target_session_attrs=read-write",
    "target_session_attrs=standby",
    "passfile={home}/.pgpass",
    "service=good",
    "options=-c%20search_path%3Da",
    "connect_timeout=4",
    "application_name=x+y",
    "nonsense=1",
    "empty=",
];
const ENVIRONMENT: &[&str] = &[
    "PGHOST=127.0.0.1",
    "PGPORT={T}",
    "PGPORT={P}",
    "PGUSER=diff",
    "PGUSER=trusted",
    "PGPASSWORD=pw",
    "PGPASSWORD=wrong",
    "PGDATABASE=diff",
    "PGSSLMODE=require",
    "PGSSLMODE=disable",
    "PGSSLROOTCERT={home}/known.pem",
    "PGSERVICE=good",
    "HOME={home}",
    "HOME={home}",
];

#[test]
fn random_forms_of_a_database_lead_to_where_the_clients_connect() {
    let place = Place::start();
    let empty = tempfile::tempdir().unwrap();
    let mut readers = Readers::newest(empty.path());
    let alchemy = readers.alchemy();
    let mut random = Random(0x005e_ed0f_f0a7_1234);
    let mut table = Table::default();
    for at in 0..FORMS {
        let driver = if at % 2 == 0 { "psycopg2" } else { "psycopg" };
        let names = place.names(driver);
        let (login, host, name) = (random.one(LOGINS), random.one(HOSTS), random.one(NAMES));
        let (query, rest) = (random.some(QUERY, 3, "&"), random.some(ENVIRONMENT, 3, " "));
        let sign = if query.is_empty() { "" } else { "?" };
        let url = replaced(&format!("postgresql+{{driver}}://{login}{host}{name}{sign}{query}"), &names);
        let form = format!("x | {}", replaced(&rest, &names));
        let (_, mut environment) = super::split(&form);
        environment.entry("HOME".to_owned()).or_insert_with(|| empty.path().display().to_string());
        let theirs = outcome(&readers.ask(&question("sqlalchemy", &url, &environment)));
        let shown: BTreeMap<_, _> = environment.iter().filter(|(name, _)| *name != "HOME").collect();
        table.row(driver, &format!("{url} {shown:?}"), &theirs, &ours(&url, alchemy, &environment, empty.path()));
    }
    table.print("random databases");
}
