//! Which schema revisions the installed Airflow knows, read from its migration files without Python.
//!
//! The head is what the database must be at; the known ones tell a database that is behind from one that a newer
//! Airflow has migrated. Since 3.0 others may bring tables with a history of their own (FAB, Edge), and all must be at
//! their head.

mod managers;
mod source;
#[cfg(test)]
mod tests;

use super::facts::{DB_MANAGERS, Managers};
use super::installed::Installed;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Bytes of a migration file that are read at first. In 1.10 to 3.3 the assignments end before byte 2300.
const HEAD: u64 = 4096;

/// One line of migrations and the table that says how far it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// The table with the column `version_num`: `alembic_version`, `alembic_version_fab`, …
    pub table: String,
    /// Revisions that nobody builds on, in alphabetical order; one, unless somebody forgot to merge.
    pub heads: Vec<String>,
    /// Every revision on disk.
    pub known: BTreeSet<String>,
}

/// The migrations of an installation cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder cannot be read.
    #[error("could not read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A folder without a single revision.
    #[error("{} has no migrations", .0.display())]
    Empty(PathBuf),
}

/// What `airflow db migrate` brings up to date.
#[derive(Debug)]
pub struct Required {
    /// Airflow's own schema first, then those of database managers.
    pub schemas: Vec<Schema>,
    /// Database managers that only Python finds, each with what was not found here: they may be on `PYTHONPATH`, in the
    /// folder of plugins, or an editable installation. Nothing is wrong with that, and nothing is known of their
    /// schema.
    pub unseen: Vec<String>,
}

/// What an installation was told about further schemas.
#[derive(Clone, Debug, Default)]
pub struct Named {
    /// The class paths in `[database] external_db_managers`.
    pub managers: Vec<String>,
    /// The class path in `[core] auth_manager`; the default one has no schema of its own.
    pub auth_manager: Option<String>,
}

/// Everything `airflow db migrate` brings up to date: Airflow's own schema first, then those that [`DB_MANAGERS`] says.
///
/// # Errors
/// Files of the installation cannot be read.
pub fn required(installed: &Installed, named: &Named) -> Result<Required, Error> {
    let mut unseen = Vec::new();
    let mut schemas = vec![schema("alembic_version".to_owned(), &installed.package.join("migrations/versions"))?];
    let asked = *DB_MANAGERS.at(installed.version);
    if asked == Managers::None {
        return Ok(Required { schemas, unseen });
    }
    let packages = &installed.site_packages;
    let mut classes = if asked == Managers::Declared { managers::of_providers(packages)? } else { Vec::new() };
    classes.extend(named.managers.iter().map(|class| class.trim().to_owned()).filter(|class| !class.is_empty()));
    classes.extend(named.auth_manager.as_ref().and_then(|class| managers::of_auth_manager(packages, class)));
    for (at, class) in classes.iter().enumerate() {
        if classes[..at].contains(class) {
            continue;
        }
        match managers::locate(&installed.site_packages, class) {
            Ok(manager) => schemas.push(schema(manager.table, &manager.versions)?),
            Err(reason) => unseen.push(format!("{class}: {reason}")),
        }
    }
    Ok(Required { schemas, unseen })
}

/// The migrations in one folder.
fn schema(table: String, folder: &Path) -> Result<Schema, Error> {
    let fail = |source| Error::Read { path: folder.to_owned(), source };
    let (mut known, mut parents) = (BTreeSet::new(), BTreeSet::new());
    for entry in fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.extension().is_none_or(|extension| extension != "py") {
            continue;
        }
        if let Some(migration) = migration(&path).map_err(|source| Error::Read { path: path.clone(), source })? {
            known.insert(migration.revision);
            parents.extend(migration.parents);
        }
    }
    if known.is_empty() {
        return Err(Error::Empty(folder.to_owned()));
    }
    Ok(Schema { table, heads: known.difference(&parents).cloned().collect(), known })
}

/// The revision of a file and what it builds on; nothing for a file that is no migration, such as `__init__.py`.
fn migration(path: &Path) -> io::Result<Option<source::Migration>> {
    let mut file = File::open(path)?;
    let mut bytes = Vec::with_capacity(usize::try_from(HEAD).unwrap_or_default());
    file.by_ref().take(HEAD).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == HEAD && !source::is_complete(&bytes) {
        file.read_to_end(&mut bytes)?;
    }
    Ok(source::migration(&bytes))
}
