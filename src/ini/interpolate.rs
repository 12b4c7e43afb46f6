//! `%%` and `%(name)s`, by the rules of `ConfigParser`'s `BasicInterpolation`.

use super::Ini;

/// References may be nested this deep.
const MAX_DEPTH: usize = 10;

/// A `%` in a value that `ConfigParser` refuses. Nothing of the value is in the text: it may be a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InterpolationError {
    /// A `%` that is neither `%%` nor `%(name)s`.
    #[error("has a `%` that is neither `%%` nor `%(name)s`")]
    Syntax,
    /// `%(name)s` of an option that neither the section nor `[DEFAULT]` has.
    #[error("has a `%(name)s` that names no option of this section")]
    Missing,
    /// A reference that leads to itself, or ten references in a row.
    #[error("has `%(name)s` references that are nested more than {MAX_DEPTH} deep")]
    Depth,
}

pub(super) fn interpolate(ini: &Ini, section: &str, raw: &str) -> Result<String, InterpolationError> {
    let mut out = String::with_capacity(raw.len());
    some(ini, section, raw, &mut out, 1)?;
    Ok(out)
}

fn some(ini: &Ini, section: &str, mut rest: &str, out: &mut String, depth: usize) -> Result<(), InterpolationError> {
    if depth > MAX_DEPTH {
        return Err(InterpolationError::Depth);
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
        let (name, after) = reference.ok_or(InterpolationError::Syntax)?;
        let value = ini.raw(section, name).ok_or(InterpolationError::Missing)?;
        some(ini, section, value, out, depth + 1)?;
        rest = after;
    }
    out.push_str(rest);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(value: &str) -> Result<String, InterpolationError> {
        let text = format!("[core]\na = {value}\nb = <%(c)s>\nc = 5%%\nloop = %(loop)s\n");
        Ini::parse(&text).unwrap().get("core", "a").map(Option::unwrap)
    }

    #[test]
    fn doubled_signs_and_references_are_replaced() {
        assert_eq!(get("p%%40w").unwrap(), "p%40w");
        assert_eq!(get("%(b)s%(c)s").unwrap(), "<5%>5%");
        assert_eq!(get("%%(c)s").unwrap(), "%(c)s");
    }

    #[test]
    fn what_config_parser_refuses_is_refused() {
        for value in ["hush%40", "hush%", "%(c)", "%()s"] {
            assert_eq!(get(value), Err(InterpolationError::Syntax), "{value}");
        }
        assert_eq!(get("%(D)s"), Err(InterpolationError::Missing));
        assert_eq!(get("%(loop)s"), Err(InterpolationError::Depth));
    }
}
