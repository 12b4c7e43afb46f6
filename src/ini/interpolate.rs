//! `%%` and `%(name)s`, by the rules of `ConfigParser`'s `BasicInterpolation`.

use super::Ini;

/// References may be nested this deep.
const MAX_DEPTH: usize = 10;

/// A `%` in a value that `ConfigParser` refuses. Names only: the value may be a password.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InterpolationError {
    /// A `%` that is neither `%%` nor `%(name)s`.
    #[error("[{section}] {option}: a `%` must be written `%%`")]
    Syntax {
        /// The section asked for.
        section: String,
        /// The option asked for.
        option: String,
    },
    /// `%(name)s` of an option that neither the section nor `[DEFAULT]` has.
    #[error("[{section}] {option}: `%({reference})s` names no option of this section; a plain `%` is written `%%`")]
    Missing {
        /// The section asked for.
        section: String,
        /// The option asked for.
        option: String,
        /// The name between the parentheses.
        reference: String,
    },
    /// A reference that leads to itself, or ten references in a row.
    #[error("[{section}] {option}: `%(...)s` references are nested more than {MAX_DEPTH} deep")]
    Depth {
        /// The section asked for.
        section: String,
        /// The option asked for.
        option: String,
    },
}

pub(super) fn interpolate(ini: &Ini, section: &str, option: &str, raw: &str) -> Result<String, InterpolationError> {
    let mut out = String::with_capacity(raw.len());
    some(ini, section, option, raw, &mut out, 1)?;
    Ok(out)
}

fn some(
    ini: &Ini,
    section: &str,
    option: &str,
    mut rest: &str,
    out: &mut String,
    depth: usize,
) -> Result<(), InterpolationError> {
    let named = || (section.to_owned(), option.to_owned());
    if depth > MAX_DEPTH {
        let (section, option) = named();
        return Err(InterpolationError::Depth { section, option });
    }
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let reference = after
            .strip_prefix('(')
            .and_then(|after| after.split_once(')'))
            .filter(|(name, _)| !name.is_empty())
            .and_then(|(name, after)| Some((name, after.strip_prefix('s')?)));
        let Some((name, after)) = reference else {
            let (section, option) = named();
            return Err(InterpolationError::Syntax { section, option });
        };
        let Some(value) = ini.raw(section, name) else {
            let (section, option) = named();
            return Err(InterpolationError::Missing { section, option, reference: name.to_owned() });
        };
        some(ini, section, option, value, out, depth + 1)?;
        rest = after;
    }
    out.push_str(rest);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(value: &str) -> Result<String, String> {
        let text = format!("[core]\na = {value}\nb = <%(c)s>\nc = 5%%\nloop = %(loop)s\n");
        Ini::parse(&text).unwrap().get("core", "a").map(Option::unwrap).map_err(|error| error.to_string())
    }

    #[test]
    fn doubled_signs_and_references_are_replaced() {
        assert_eq!(get("p%%40w").unwrap(), "p%40w");
        assert_eq!(get("%(b)s%(c)s").unwrap(), "<5%>5%");
        assert_eq!(get("%%(c)s").unwrap(), "%(c)s");
    }

    #[test]
    fn what_config_parser_refuses_is_refused_by_name() {
        assert_eq!(get("hush%40").unwrap_err(), "[core] a: a `%` must be written `%%`");
        assert_eq!(get("hush%").unwrap_err(), "[core] a: a `%` must be written `%%`");
        assert_eq!(get("%(c)").unwrap_err(), "[core] a: a `%` must be written `%%`");
        assert!(get("%(D)s").unwrap_err().contains("`%(D)s` names no option"));
        assert!(get("%(loop)s").unwrap_err().contains("nested more than 10 deep"));
    }
}
