//! Airflow's own variables, as far as they can be judged without knowing the option.

use super::problem::Problem;
use crate::env::Vars;
use crate::ini;

/// What to do about a value that leads to itself.
pub const NO_LOOP: &str = "write it without `$NAME`";

/// Variables of Airflow's own that neither Airflow nor this program can use.
pub fn unusable(vars: &dyn Vars) -> Vec<Problem> {
    let lookup = |name: &str| vars.get(name).and_then(|value| value.into_string().ok());
    let all = vars.all().into_iter().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    all.filter(|(name, _)| name.starts_with("AIRFLOW__"))
        .filter_map(|(name, value)| match value.into_string() {
            Err(_) => Some(Problem::new(name, "is not valid UTF-8", "write it in UTF-8")),
            Ok(text) => ini::expand(&text, &lookup).err().map(|error| Problem::new(name, endless(&error), NO_LOOP)),
        })
        .collect()
}

/// What is wrong with such a value.
pub fn endless(error: &ini::Endless) -> String {
    format!("cannot be read: {error}")
}
