//! What files mean, without a database.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use super::*;
use crate::airflow::version::Version;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

const THREE: Version = Version::new(3, 3, 2);

/// What a file declares: `kind name fields`, and what is wrong, without the folder.
fn read_file(name: &str, text: &str, version: Version) -> (Vec<String>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap().to_owned();
    fs::write(folder.path().join("secret"), "hush\n").unwrap();
    fs::write(folder.path().join("secret.txt"), r#"{"token": "hush"}"#).unwrap();
    fs::write(folder.path().join(name), text.replace("ROOT", &root)).unwrap();
    let vars = BTreeMap::from([(OsString::from("TOKEN"), OsString::from("hush"))]);
    let mut problems = Vec::new();
    let declared = read(&[folder.path().join(name)], &vars, version, &mut problems);
    let one = |object: &Object| format!("{} {} {}", object.kind.name(), object.name, object.fields.expose_secret());
    let said = problems.iter().map(|problem| problem.to_string().replace(&format!("{root}/"), ""));
    (declared.objects.iter().map(one).collect(), said.collect())
}

fn good(text: &str) -> Vec<String> {
    let (objects, problems) = read_file("o.yaml", text, THREE);
    assert_eq!(problems, Vec::<String>::new());
    objects
}

#[test]
fn every_key_becomes_what_airflow_calls_it() {
    let text = "\
connections:
  mysql_default:
    type: mysql
    host: mysql
    port: 3306
    login: etl
    password_file: ROOT/secret
    schema: 007
    description: The shop's database
    extra: {charset: utf8mb4, timeout: 1.5, ssl: true, mode: '0755', none: ~, list: [1, two]}
    extra_file: ROOT/secret.txt
  by_uri: {uri: 'mysql://etl@mysql:3306/shop'}
variables:
  batch: {value_env: TOKEN, description: of the shop}
  version: 1.10
pools: {etl: {slots: 8}, default_pool: {slots: -1, include_deferred: true}}
";
    assert_eq!(
        good(text),
        [
            r#"connection by_uri {"description":null,"uri":"mysql://etl@mysql:3306/shop"}"#,
            concat!(
                r#"connection mysql_default {"conn_type":"mysql","description":"The shop's database","#,
                r#""extra":"{\"charset\":\"utf8mb4\",\"list\":[1,\"two\"],\"mode\":\"0755\",\"none\":null,"#,
                r#"\"ssl\":true,\"timeout\":1.5,\"token\":\"hush\"}","#,
                r#""host":"mysql","login":"etl","password":"hush","port":3306,"schema":"007"}"#
            ),
            r#"variable batch {"description":"of the shop","val":"hush"}"#,
            r#"variable version {"description":null,"val":"1.10"}"#,
            r#"pool default_pool {"include_deferred":true,"slots":-1}"#,
            r#"pool etl {"description":null,"include_deferred":false,"slots":8}"#,
        ]
    );
}

#[test]
fn a_variable_is_kept_as_it_was_written_and_json_is_told_apart() {
    let text = "\
variables:
  a: 'true'
  b: yes
  c: ''
  d: |
    two
    lines
  e: {json: {x: 1e3, y: [], z: 12:30}}
  f: {value: ''}
";
    let values: Vec<_> = good(text)
        .iter()
        .map(|line| {
            let fields: serde_json::Value = serde_json::from_str(line.splitn(3, ' ').nth(2).unwrap()).unwrap();
            fields["val"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(values, ["true", "yes", "", "two\nlines\n", r#"{"x":1000.0,"y":[],"z":"12:30"}"#, ""]);
}

#[test]
fn json_is_read_with_tabs_and_escapes_and_several_documents_are_one() {
    let json = "{\n\t\"variables\": {\n\t\t\"a\": \"\\u00df\\\"\\/\",\n\t\t\"b\": 1\n\t}\n}\n";
    let (objects, problems) = read_file("o.json", json, THREE);
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(objects[0], r#"variable a {"description":null,"val":"ß\"/"}"#);
    let objects = good("---\nvariables: {a: 1}\n---\n# nothing\n---\nvariables: {b: 2}\npools:\n");
    assert_eq!(objects.len(), 2);
    assert_eq!(good(""), Vec::<String>::new());
}

#[test]
fn all_problems_are_told_at_once_with_their_lines() {
    let text = "\
connections:
  a:
    type: mysql
    prot: 3306
    port: 99999
  b: {type: x, password: hush}
  'c d': {type: x}
variables:
  d:
  e: [1]
pool: {}
";
    let (objects, problems) = read_file("o.yaml", text, THREE);
    assert_eq!(objects, Vec::<String>::new());
    assert_eq!(
        problems,
        [
            "o.yaml:5: connections.a.port is not a whole number from 1 to 65535; correct it",
            "o.yaml:4: connections.a.prot is not known; did you mean `port`?",
            "o.yaml:6: connections.b.password stands in the file, where everybody can read it; put it into a Secret \
             and name its file in `password_file`, or its variable in `password_env`",
            "o.yaml:7: connections.c d is not a name that Airflow takes; use 1 to 250 letters, digits and _#!()-.:/\\",
            "o.yaml:9: variables.d has no value; add one of value, value_file, value_env and json",
            "o.yaml:10: variables.e is not a mapping; write keys below it: value, value_file, value_env, json, \
             description",
            "o.yaml:11: pool is not known; did you mean `pools`?",
        ]
    );
}

#[test]
fn a_line_is_asked_for_what_it_has() {
    let text = "pools: {etl: {slots: 8, include_deferred: true}}";
    let (_, problems) = read_file("o.yaml", text, Version::new(2, 6, 3));
    assert_eq!(
        problems,
        ["o.yaml:1: pools.etl.include_deferred is not known to Airflow 2.6.3; take it out; it came with Airflow 2.7"]
    );
    let (objects, problems) = read_file("o.yaml", "pools: {etl: {slots: 8}}", Version::new(1, 10, 15));
    assert_eq!((objects.join(""), problems.len()), (r#"pool etl {"description":null,"slots":8}"#.to_owned(), 0));
}

#[test]
fn a_mounted_config_map_is_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::create_dir(root.join("..2026")).unwrap();
    for (name, text) in
        [("b.yaml", "variables: {b: 1}"), ("a.json", "{\"pools\": {\"a\": {\"slots\": 1}}}"), ("password", "x")]
    {
        fs::write(root.join("..2026").join(name), text).unwrap();
        std::os::unix::fs::symlink(PathBuf::from("..data").join(name), root.join(name)).unwrap();
    }
    std::os::unix::fs::symlink("..2026", root.join("..data")).unwrap();
    let mut problems = Vec::new();
    let declared = read(&[root.to_owned()], &BTreeMap::new(), THREE, &mut problems);
    assert_eq!((declared.summary.as_str(), problems.len()), ("1 variable, 1 pool", 0));
}

/// Pieces that mean something in YAML or JSON, in any order.
const ODD: &str = "(connections|a|:|- |\\[|\\]|\\{|\\}|,|\n|  |\t|'|\"|#|&x|\\*x|!|\\||>|%|\\?|---|~|é|\0){0,40}";

proptest::proptest! {
    #[test]
    fn no_text_is_too_odd_for_the_parser(text in ODD) {
        let vars: BTreeMap<OsString, OsString> = BTreeMap::new();
        let mut declaring = declare::Declaring::new(&vars, THREE);
        for document in yaml::parse(&text).iter().flatten() {
            declaring.document(std::path::Path::new("o.yaml"), document);
        }
        declaring.finish();
    }
}

#[test]
fn the_parts_of_a_secret_are_secrets_too() {
    let all = |text: &str| parts(&text.into()).iter().map(|part| part.expose_secret().to_owned()).collect::<Vec<_>>();
    assert!(all("mysql://u:p%40ss@h/d").contains(&"p@ss".to_owned()));
    assert!(all("gcp://?__extra__=%7B%22token%22%3A%22deep%22%7D").contains(&"deep".to_owned()));
    assert!(all("{\"a\": {\"b\": [\"deep\"]}}").contains(&"deep".to_owned()));
    assert!(all("-----BEGIN\nMIIE1234\n").contains(&"MIIE1234".to_owned()));
}
