//! Airflow versions and the three lines that behave alike.

use std::fmt;
use std::str::FromStr;

/// The leading numeric triple of a version; suffixes such as `rc1`, `.post1` or `+local` are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Decides the line.
    pub major: u16,
    /// Feature release.
    pub minor: u16,
    /// Patch release, 0 when absent.
    pub patch: u16,
}

/// A family of Airflow releases that behave alike; rows of the role table name a range of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Line {
    /// 1.10.x
    V1,
    /// 2.x
    V2,
    /// 3.x
    V3,
}

impl Version {
    /// A version from its numbers.
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch }
    }

    /// The line whose rows serve this version: anything before 2 is 1.10, anything from 3 on is 3.
    pub const fn line(self) -> Line {
        match self.major {
            0 | 1 => Line::V1,
            2 => Line::V2,
            _ => Line::V3,
        }
    }
}

impl Line {
    /// All lines, oldest first.
    pub const ALL: [Self; 3] = [Self::V1, Self::V2, Self::V3];

    /// The release of this line that the tests run against.
    pub const fn tested(self) -> Version {
        match self {
            Self::V1 => Version::new(1, 10, 15),
            Self::V2 => Version::new(2, 11, 2),
            Self::V3 => Version::new(3, 3, 2),
        }
    }
}

/// Releases that went through a whole deployment: those of the lines, and the rows of docs/versions.md. Oldest first.
pub const RUN: &[Version] = &[
    Version::new(1, 10, 12),
    Version::new(1, 10, 15),
    Version::new(2, 0, 2),
    Version::new(2, 1, 4),
    Version::new(2, 2, 5),
    Version::new(2, 3, 4),
    Version::new(2, 4, 3),
    Version::new(2, 6, 3),
    Version::new(2, 8, 4),
    Version::new(2, 10, 5),
    Version::new(2, 11, 2),
    Version::new(3, 0, 6),
    Version::new(3, 1, 8),
    Version::new(3, 2, 2),
    Version::new(3, 3, 2),
    Version::new(3, 4, 0),
];

/// Where a release stands among those of [`RUN`], in words.
pub fn standing(version: Version) -> String {
    let (older, newer) = (RUN.iter().rfind(|run| **run < version), RUN.iter().find(|run| **run > version));
    match (older, newer) {
        _ if RUN.contains(&version) => "this release was run as a whole, see docs/versions.md".to_owned(),
        (Some(older), Some(newer)) => format!("not run itself; {older} and {newer} on either side of it were"),
        (Some(newest), None) => format!("newer than any release that was run; the newest one is {newest}"),
        _ => format!("older than any release that was run; the oldest one is {}", RUN[0]),
    }
}

/// The text does not begin with a number.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a version number")]
pub struct NotAVersion(String);

impl FromStr for Version {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let mut numbers = text.splitn(3, '.').map(|part| {
            let digits: &str = part.split(|c: char| !c.is_ascii_digit()).next().unwrap_or("");
            digits.parse::<u16>().ok()
        });
        let major = numbers.next().flatten().ok_or_else(|| NotAVersion(text.to_owned()))?;
        let minor = numbers.next().flatten().unwrap_or(0);
        let patch = numbers.next().flatten().unwrap_or(0);
        Ok(Self { major, minor, patch })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "1.10",
            Self::V2 => "2",
            Self::V3 => "3",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_ignored() {
        for (text, version) in [
            ("1.10.15", Version::new(1, 10, 15)),
            ("2.11.2rc1", Version::new(2, 11, 2)),
            ("3.3.2.post1", Version::new(3, 3, 2)),
            ("3.3.2+local.5", Version::new(3, 3, 2)),
            ("3.4.0.dev0", Version::new(3, 4, 0)),
            ("3.4", Version::new(3, 4, 0)),
            ("4", Version::new(4, 0, 0)),
        ] {
            assert_eq!(text.parse::<Version>().unwrap(), version, "{text}");
        }
        assert!("airflow".parse::<Version>().is_err());
        assert!("".parse::<Version>().is_err());
    }

    #[test]
    fn a_release_is_told_where_it_stands_among_those_that_were_run() {
        for (text, words) in [
            ("2.6.3", "this release was run"),
            ("2.7.0", "2.6.3 and 2.8.4 on either side"),
            ("3.4.0b2", "this release was run"),
            ("3.5.0", "newer than any"),
            ("1.10.10", "older than any"),
        ] {
            let said = standing(text.parse().unwrap());
            assert!(said.contains(words), "{text}: {said}");
        }
        assert!(RUN.is_sorted() && Line::ALL.iter().all(|line| RUN.contains(&line.tested())));
    }

    #[test]
    fn the_page_of_releases_has_a_row_for_each_that_was_run() {
        let page = include_str!("../../docs/versions.md");
        for run in RUN {
            assert!(page.contains(&format!("\n| {run}")), "{run}");
        }
    }

    #[test]
    fn every_version_has_a_line() {
        assert_eq!(Version::new(1, 10, 15).line(), Line::V1);
        assert_eq!(Version::new(2, 4, 0).line(), Line::V2);
        assert_eq!(Version::new(4, 0, 0).line(), Line::V3);
    }
}
