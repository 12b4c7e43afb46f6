//! Claims about `render` that need no Python.

use super::*;

const NAMES: &[&str] = &["POSTGRES_HOST", "POSTGRES_CREDS", "PASSWORD", "FERNET_KEY", "UNSET"];

fn rendered(source: &str, values: &[(&str, Value)]) -> Result<String, Errors> {
    let lookup = |name: &str| values.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
    render(source, "airflow.cfg", Format::Ini, &lookup, NAMES)
}

fn one(source: &str, value: Value) -> String {
    rendered(source, &[("PASSWORD", value)]).unwrap()
}

fn problems(source: &str, value: Value) -> Vec<Problem> {
    let errors = rendered(source, &[("PASSWORD", value)]).unwrap_err();
    errors.iter().map(|error| error.problem.clone()).collect()
}

#[test]
fn parts_are_encoded_inside_a_url_only() {
    let source = "a = amqp://u:{{ PASSWORD }}@h\nb = {{ PASSWORD }}\nc = {\"u\": \"x://h\", \"p\": \"{{ PASSWORD }}\"}";
    assert_eq!(
        one(source, Value::part("p@s%")),
        "a = amqp://u:p%%40s%%25@h\nb = p@s%%\nc = {\"u\": \"x://h\", \"p\": \"p@s%%\"}"
    );
}

#[test]
fn a_pair_keeps_its_first_colon() {
    assert_eq!(one("a = x://{{ PASSWORD }}@h", Value::pair("a/b:c:d")), "a = x://a%%2Fb:c%%3Ad@h");
    assert_eq!(one("a = x://{{ PASSWORD }}@h", Value::pair("a/b")), "a = x://a%%2Fb@h");
    assert_eq!(one("a = {{ PASSWORD }}", Value::pair("a/b:c")), "a = a/b:c");
    assert_eq!(one("a = x://{{ PASSWORD }}@h", Value::credentials("a:b", ":c")), "a = x://a%%3Ab:%%3Ac@h");
}

#[test]
fn text_and_urls_are_never_encoded() {
    assert_eq!(one("a = http://h{{ PASSWORD }}", Value::text("/airflow")), "a = http://h/airflow");
    assert_eq!(one("a = {{ PASSWORD }}", Value::url("x://u:p%40@h/v")), "a = x://u:p%%40@h/v");
}

#[test]
fn what_follows_a_whole_url_is_inside_it() {
    let values = [("POSTGRES_HOST", Value::url("amqp://h")), ("PASSWORD", Value::part("a/b"))];
    assert_eq!(rendered("a = {{ POSTGRES_HOST }}/{{ PASSWORD }}", &values).unwrap(), "a = amqp://h/a%%2Fb");
}

#[test]
fn the_output_is_not_scanned_again() {
    let values = [("PASSWORD", Value::text("{{ FERNET_KEY }}")), ("FERNET_KEY", Value::text("hush"))];
    assert_eq!(rendered("a = {{ PASSWORD }}", &values).unwrap(), "a = {{ FERNET_KEY }}");
}

#[test]
fn comments_pass_untouched() {
    let source = "# {{ NO_SUCH }}\n  ; {{ PASSWORD }}\na = 1 # {{ PASSWORD }}\n";
    assert_eq!(
        one(source, Value::text("x")),
        "# {{ NO_SUCH }}\n  ; {{ PASSWORD }}\na = 1 # x\n",
        "a `#` after a value is part of the value"
    );
}

#[test]
fn line_ends_are_kept() {
    assert_eq!(one("a = {{ PASSWORD }}\r\nb\rc\n\n", Value::text("x")), "a = x\r\nb\rc\n\n");
}

#[test]
fn all_mistakes_come_at_once_with_their_places() {
    let source = "[core]\nä = {{ POSTGRES_HSOT }} {{ UNSET }}\n\nb = {{ SOMETHING_ELSE }}\n";
    let errors = rendered(source, &[]).unwrap_err();
    assert_eq!(
        errors.to_string().lines().collect::<Vec<_>>(),
        [
            "airflow.cfg:2:5: {{ POSTGRES_HSOT }} is unknown; did you mean POSTGRES_HOST?",
            "airflow.cfg:2:25: {{ UNSET }} has no value: set the variable of that name, in UTF-8",
            "airflow.cfg:4:5: {{ SOMETHING_ELSE }} is unknown; Airflow's own braces are lower-case or doubled: \
             `{{{{ }}}}`",
        ]
    );
}

#[test]
fn what_the_file_cannot_hold_is_an_error_without_the_value() {
    assert_eq!(problems("a = {{ PASSWORD }}", Value::text("hush\nb = 1")), [Problem::LineBreak]);
    assert_eq!(problems("a = {{ PASSWORD }}", Value::part("hush\r")), [Problem::LineBreak]);
    assert_eq!(problems("a = {{ PASSWORD }}x", Value::text(" hush")), [Problem::WhiteSpace]);
    assert_eq!(problems("a = x{{ PASSWORD }} ", Value::text("hush\u{a0}")), [Problem::WhiteSpace]);
    assert_eq!(problems("a =\n  {{ PASSWORD }}", Value::text("#hush")), [Problem::BeginsLine]);
    let shown = rendered("a = {{ PASSWORD }}", &[("PASSWORD", Value::text("hush\n"))]).unwrap_err();
    assert!(!format!("{shown} {shown:?}").contains("hush"));
}

#[test]
fn the_same_values_are_fine_where_they_survive() {
    assert_eq!(one("a = x://{{ PASSWORD }}@h", Value::part("hush\nb")), "a = x://hush%%0Ab@h");
    assert_eq!(one("a = x{{ PASSWORD }}x", Value::text(" y ")), "a = x y x");
    assert_eq!(one("a = {{ PASSWORD }}", Value::text("#7;[x]")), "a = #7;[x]");
}

#[test]
fn files_that_are_not_ini_get_values_as_they_are() {
    let lookup = |_: &str| Some(Value::text("100%"));
    let source = "x = '{{ A }}'; # {{ B }}\n# {{ C }}\n";
    assert_eq!(render(source, "w.py", Format::Plain, &lookup, &[]).unwrap(), "x = '100%'; # 100%\n# {{ C }}\n");
}

#[test]
fn a_value_does_not_end_the_string_that_it_stands_in() {
    for (value, fits) in [("it's", [false, true, true]), ("a\"b", [true, false, true]), ("a\\", [false, false, true])] {
        let lookup = |_: &str| Some(Value::text(value));
        for (source, fits) in ["x = f('{{ A }}')", "x = [\"it's\", \"{{ A }}\"]", "x = {{ A }}"].into_iter().zip(fits) {
            let rendered = render(source, "w.py", Format::Plain, &lookup, &[]);
            assert_eq!(rendered.is_ok(), fits, "{source} {value}");
        }
    }
}

#[test]
fn debug_of_a_value_shows_no_text() {
    assert!(!format!("{:?}", Value::part("hush")).contains("hush"));
}

#[test]
fn placeholders_are_listed_in_order() {
    assert_eq!(placeholders("a = {{ B }}{{ A }}\n# {{ C }}\nb={{ B }}", Format::Ini), ["B", "A", "B"]);
}
