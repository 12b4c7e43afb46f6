//! Who decides the value of an option, as data for the reference page.

/// In the order of precedence: who, and why there.
pub const PRECEDENCE: &[(&str, &str)] = &[
    (
        "Airflow's variable `AIRFLOW__SECTION__KEY`",
        "with its forms `…_CMD` and `…_SECRET`, which Airflow knows for some options, and `…_FILE`, which we add for \
         the same \
         ones; an option's old section counts as well, after the present one.",
    ),
    (
        "one of the variables above",
        "set under the name that the installed Airflow reads, so it is stronger than the file.",
    ),
    (
        "airflow.cfg",
        "rendered from the template or found. A value that the template builds from our variables is as good as the \
         variables, and stays as the template says.",
    ),
    (
        "our default for the situation",
        "the executor that fits the named services; SQLite and keys of its own where nothing distributed is named: no \
         database, no broker, and no executor but those of one machine; no example DAGs.",
    ),
    ("Airflow's default", "we do not touch the option."),
];
