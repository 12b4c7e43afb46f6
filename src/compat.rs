//! Every variable and first argument that the entrypoints of the official image and of puckel/docker-airflow know, with
//! what happens to it here. `docs/compatibility.md` is generated from it.

/// A variable of another entrypoint.
#[derive(Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// Whose it is.
    pub from: &'static str,
    /// What happens to it here.
    pub here: &'static str,
}

/// What may be typed after another entrypoint.
#[derive(Debug)]
pub struct Argument {
    /// What is typed.
    pub typed: &'static str,
    /// Whose it is.
    pub from: &'static str,
    /// What it is here.
    pub becomes: &'static str,
    /// The difference, if there is one.
    pub here: &'static str,
}

const OFFICIAL: &str = "official";
const PUCKEL: &str = "puckel";

const fn official(name: &'static str, here: &'static str) -> Variable {
    Variable { name, from: OFFICIAL, here }
}

const fn puckel(name: &'static str, here: &'static str) -> Variable {
    Variable { name, from: PUCKEL, here }
}

const fn typed(typed: &'static str, from: &'static str, becomes: &'static str, here: &'static str) -> Argument {
    Argument { typed, from, becomes, here }
}

const SAME: &str = "same";
const NO_NEED: &str = "no need: hosts and ports are taken from the URLs themselves";

/// All variables.
pub const VARIABLES: &[Variable] = &[
    official("CONNECTION_CHECK_MAX_COUNT", "times the next one: how long to wait; 0 starts Airflow at once, unchecked"),
    official("CONNECTION_CHECK_SLEEP_TIME", "seconds for each try; the pauses themselves grow from milliseconds"),
    official(
        "_AIRFLOW_DB_MIGRATE",
        "`true`: one process migrates; `false` means false; a failed migration ends the pod",
    ),
    official("_AIRFLOW_DB_UPGRADE", "the same under its older name"),
    official("_AIRFLOW_WWW_USER_CREATE", "same, for the web role; not needed when a name or password is given"),
    official("_AIRFLOW_WWW_USER_USERNAME", SAME),
    official(
        "_AIRFLOW_WWW_USER_PASSWORD",
        "same, or `…_FILE`; never in a command line; tutorial passwords are refused",
    ),
    official("_AIRFLOW_WWW_USER_PASSWORD_CMD", "refused: no shell is run; use `_AIRFLOW_WWW_USER_PASSWORD_FILE`"),
    official("_AIRFLOW_WWW_USER_FIRSTNAME", SAME),
    official("_AIRFLOW_WWW_USER_LASTNAME", SAME),
    official("_AIRFLOW_WWW_USER_EMAIL", SAME),
    official("_AIRFLOW_WWW_USER_ROLE", "same; on the simple auth manager of Airflow 3 its name in lower case"),
    official("_PIP_ADDITIONAL_REQUIREMENTS", "same, with a warning; `standalone` leaves it out"),
    official("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD", "run as Airflow does, without a shell"),
    official("AIRFLOW__CELERY__BROKER_URL_CMD", "run as Airflow does, without a shell"),
    official("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_SECRET", "Airflow's; what only its backend knows is not waited for"),
    official("BACKEND", NO_NEED),
    official("DB_HOST", NO_NEED),
    official("DB_PORT", NO_NEED),
    official("DUMB_INIT_SETSID", "no need: a worker's main process gets the signal alone, every other role its group"),
    official("USER_NAME", "ignored: an unknown user id gets `USER` and `LOGNAME`, /etc/passwd is not written"),
    official("AIRFLOW_HOME", SAME),
    official("AIRFLOW_CONFIG", SAME),
    official("LD_PRELOAD", "passed on; not set"),
    official("GUNICORN_CMD_ARGS", "passed on"),
    puckel("AIRFLOW_HOME", SAME),
    puckel("EXECUTOR", SAME),
    puckel("LOAD_EX", "same; the default is no examples, as there"),
    puckel("FERNET_KEY", "same, but never invented for a deployment"),
    puckel("POSTGRES_HOST", "same, without a default"),
    puckel("POSTGRES_PORT", SAME),
    puckel("POSTGRES_USER", "same, without a default"),
    puckel("POSTGRES_PASSWORD", "same, without a default; or `…_FILE`"),
    puckel("POSTGRES_DB", SAME),
    puckel("POSTGRES_EXTRAS", SAME),
    puckel("REDIS_HOST", "same, without a default"),
    puckel("REDIS_PORT", SAME),
    puckel("REDIS_PASSWORD", "same; or `…_FILE`"),
    puckel("REDIS_PROTO", "same; with TLS the certificate is checked"),
    puckel("REDIS_DBNUM", SAME),
    puckel("TRY_LOOP", "same: tries of five seconds each"),
];

/// All first arguments.
pub const ARGUMENTS: &[Argument] = &[
    typed("", OFFICIAL, "", "this program's help; there `airflow` without words"),
    typed("airflow scheduler", OFFICIAL, "scheduler", SAME),
    typed("api-server", OFFICIAL, "api-server", SAME),
    typed("webserver", OFFICIAL, "webserver", "on Airflow 3 the api-server"),
    typed("scheduler", OFFICIAL, "scheduler", SAME),
    typed("triggerer", OFFICIAL, "triggerer", SAME),
    typed("dag-processor", OFFICIAL, "dag-processor", SAME),
    typed("celery worker -q a", OFFICIAL, "worker -q a", SAME),
    typed("celery flower", OFFICIAL, "flower", SAME),
    typed("standalone", OFFICIAL, "standalone", "ours: one init, restarts, a kept password"),
    typed(
        "db migrate",
        OFFICIAL,
        "exec -- airflow db migrate",
        "after the one migration of the deployment, so nothing is left to do",
    ),
    typed(
        "tasks run d t r",
        OFFICIAL,
        "task airflow tasks run d t r",
        "a task of an executor that makes pods: no migration, no users; its arguments are in no log",
    ),
    typed("bash -c 'exec airflow scheduler'", OFFICIAL, "scheduler", "as the official chart starts its roles"),
    typed("bash -c date", OFFICIAL, "exec -- bash -c date", SAME),
    typed("python -V", OFFICIAL, "exec -- python -V", SAME),
    typed("dags list", OFFICIAL, "exec -- airflow dags list", SAME),
    typed("worker", PUCKEL, "worker", "without its ten seconds of sleep"),
    typed("flower", PUCKEL, "flower", SAME),
    typed("version", PUCKEL, "version", "both versions, without starting Python"),
    typed("ls", PUCKEL, "exec -- airflow ls", "there any other word is a command; here `exec -- ls` is"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::normalize;
    use crate::env::{self, Origin};
    use std::collections::BTreeSet;
    use std::ffi::OsString;

    #[test]
    fn every_argument_becomes_what_the_page_says() {
        for row in ARGUMENTS {
            let words = |text: &str| {
                let (plain, quoted) = text.split_once('\'').unwrap_or((text, ""));
                let last = Some(quoted.trim_end_matches('\'')).filter(|text| !text.is_empty());
                plain.split_whitespace().chain(last).map(OsString::from).collect::<Vec<_>>()
            };
            assert_eq!(normalize(&words(row.typed), false), words(row.becomes), "{}", row.typed);
        }
    }

    #[test]
    fn every_variable_is_there_once_and_what_we_read_of_theirs_is_on_the_page() {
        let names: BTreeSet<_> = VARIABLES.iter().map(|row| (row.name, row.from)).collect();
        assert_eq!(names.len(), VARIABLES.len());
        for variable in env::ALL.iter().filter(|v| [Origin::Official, Origin::Puckel].contains(&v.origin)) {
            assert!(VARIABLES.iter().any(|row| row.name == variable.name), "{}", variable.name);
        }
        // What the page calls the same is read by us.
        for row in VARIABLES.iter().filter(|row| row.here.starts_with(SAME)) {
            assert!(env::ALL.iter().any(|variable| variable.name == row.name), "{}", row.name);
        }
    }
}
