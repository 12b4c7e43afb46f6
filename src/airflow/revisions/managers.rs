//! Database managers of providers and auth managers: a class path, and from it the version table and the migrations.

use super::Error;
use super::source::{expression, strings, value};
use std::fs;
use std::path::{Path, PathBuf};

/// Where a manager keeps its migrations.
pub(super) struct Manager {
    pub table: String,
    pub versions: PathBuf,
}

/// The class paths that installed distributions declare. As Airflow does, every distribution with the entry point
/// `apache_airflow_provider` is asked, not only those of Apache.
pub(super) fn of_providers(site_packages: &Path) -> Result<Vec<String>, Error> {
    let fail = |source| Error::Read { path: site_packages.to_owned(), source };
    let mut modules = Vec::new();
    for entry in fs::read_dir(site_packages).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        if !name.as_encoded_bytes().ends_with(b"-info") {
            continue;
        }
        if let Ok(text) = fs::read_to_string(site_packages.join(&name).join("entry_points.txt")) {
            modules.extend(provider_modules(&text));
        }
    }
    modules.sort();
    let mut classes = Vec::new();
    for module in modules {
        // A module that is elsewhere (an editable installation) is Airflow's to find.
        if let Some((_, text)) = module_source(site_packages, &module) {
            classes.extend(declared(&text));
        }
    }
    Ok(classes)
}

/// `airflow.providers.fab.get_provider_info` of a line
/// `provider_info = airflow.providers.fab.get_provider_info:function`.
fn provider_modules(entry_points: &str) -> Vec<String> {
    let mut inside = false;
    let mut modules = Vec::new();
    for line in entry_points.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == "[apache_airflow_provider]";
        } else if let (true, Some((_, target))) = (inside, line.split_once('=')) {
            modules.push(target.split(':').next().unwrap_or_default().trim().to_owned());
        }
    }
    modules
}

/// The strings in the list after the key `"db-managers"`.
fn declared(source: &str) -> Vec<String> {
    let after = ["\"db-managers\"", "'db-managers'"].iter().find_map(|key| Some(source.split_once(key)?.1));
    let list = after.and_then(|after| after.trim_start().strip_prefix(':')).map(str::trim_start);
    list.filter(|list| list.starts_with('['))
        .and_then(|list| list.split_once(']'))
        .map(|(list, _)| strings(list))
        .unwrap_or_default()
}

/// The folder and the text of a module.
fn module_source(site_packages: &Path, module: &str) -> Option<(PathBuf, String)> {
    let path = site_packages.join(module.replace('.', "/"));
    [path.with_extension("py"), path.join("__init__.py")].into_iter().find_map(|file| {
        let text = fs::read_to_string(&file).ok()?;
        Some((file.parent()?.to_owned(), text))
    })
}

/// The version table and the migrations of a class.
///
/// # Errors
/// What was not found.
pub(super) fn locate(site_packages: &Path, class: &str) -> Result<Manager, &'static str> {
    let (module, name) = class.rsplit_once('.').ok_or("not a path of the form package.module.Class")?;
    let (folder, text) = module_source(site_packages, module).ok_or("no such module beside the installed Airflow")?;
    let table = version_table(&text, name).ok_or("its class sets no version_table_name")?;
    let versions = folder
        .ancestors()
        .take_while(|folder| *folder != site_packages)
        .map(|folder| folder.join("migrations/versions"))
        .find(|versions| versions.is_dir())
        .ok_or("no folder migrations/versions in its package")?;
    Ok(Manager { table, versions })
}

/// What `get_db_manager` of an auth manager returns: that of its class, or of the first base class that has one. A
/// class that is elsewhere is Airflow's to find.
pub(super) fn of_auth_manager(site_packages: &Path, class: &str) -> Option<String> {
    manager_of(site_packages, class, BASES)
}

/// How many classes of a family are looked at.
const BASES: usize = 8;

fn manager_of(site_packages: &Path, class: &str, left: usize) -> Option<String> {
    let (module, name) = class.trim().rsplit_once('.')?;
    let (_, text) = module_source(site_packages, module)?;
    let source = class_source(&text, name)?;
    if let Some((_, method)) = source.body.split_once("\ndef get_db_manager(") {
        let (_, returned) = method.split_once("\nreturn ")?;
        return strings(returned.lines().next()?).into_iter().next();
    }
    let bases = source.bases.split(',').map(|base| base.split('[').next().unwrap_or_default().trim());
    let homes = bases.filter(|base| !base.is_empty()).map(|base| {
        imported_from(&text, base).map_or_else(|| format!("{module}.{base}"), |from| format!("{from}.{base}"))
    });
    (left > 1).then(|| homes.into_iter().find_map(|home| manager_of(site_packages, &home, left - 1))).flatten()
}

/// The module of a line `from module import …, name, …`; the names may stand in brackets.
fn imported_from<'a>(source: &'a str, name: &str) -> Option<&'a str> {
    source.split("from ").skip(1).find_map(|line| {
        let (module, names) = line.split_once(" import ")?;
        let names = expression(names).unwrap_or(names);
        let found = names.split([',', '(', ')', '\n']).any(|one| one.trim() == name);
        (found && !module.contains(char::is_whitespace)).then_some(module)
    })
}

/// A class of a source.
struct Class<'a> {
    /// What stands in the brackets after its name.
    bases: &'a str,
    /// Its lines without their indentation, each after a line break.
    body: String,
}

fn class_source<'a>(source: &'a str, class: &str) -> Option<Class<'a>> {
    let begin = source.match_indices("class ").find_map(|(at, keyword)| {
        let after = source[at + keyword.len()..].strip_prefix(class)?;
        let whole = at == 0 || source[..at].ends_with('\n');
        (whole && after.starts_with(['(', ':', ' '])).then_some(after)
    })?;
    let bases = begin.trim_start().strip_prefix('(').and_then(|bases| Some(bases.split_once(')')?.0)).unwrap_or("");
    // The body ends at the next line that begins at the left edge with something else than a closing bracket.
    let lines = begin.lines().skip(1).take_while(|line| line.is_empty() || line.starts_with([' ', '\t', ')', '#']));
    let body = lines.flat_map(|line| ["\n", line.trim_start()]).collect::<String>() + "\n";
    Some(Class { bases, body })
}

/// `version_table_name = "…"` in the body of a class.
fn version_table(source: &str, class: &str) -> Option<String> {
    let class = class_source(source, class)?;
    strings(expression(value(&class.body, "version_table_name")?)?).into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_class_tells_the_table() {
        let source = "class A(Base):\n    version_table_name = 'a'\n\nclass AB(\n    Base,\n):\n    \
                      \"\"\"Doc.\"\"\"\n\n    version_table_name: str = \"ab\"\n\nversion_table_name = 'outside'\n\
                      class C:\n    pass\n";
        assert_eq!(version_table(source, "A").unwrap(), "a");
        assert_eq!(version_table(source, "AB").unwrap(), "ab");
        assert_eq!(version_table(source, "C"), None);
        assert_eq!(version_table(source, "B"), None);
    }

    #[test]
    fn an_auth_manager_inherits_its_database_manager() {
        let root = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| fs::write(root.path().join(name), text).unwrap();
        file(
            "fab.py",
            "class Base(Other[User]):\n    def get_db_manager() -> str | None:\n        return None\n\nclass \
             Fab(Base):\n    def other(self):\n        return 'no'\n\n    @staticmethod\n    def get_db_manager() -> \
             str | None:\n        # Why.\n        return \"fab.models.Manager\"\n",
        );
        file(
            "mine.py",
            "from fab import (\n    Base,\n    Fab,\n)\n\nclass Mine(Mixin, Fab):\n    pass\n\nclass Deep(Mine): ...\n",
        );
        file("round.py", "class A(B):\n    pass\nclass B(A):\n    pass\n");
        for (class, manager) in [
            ("fab.Fab", Some("fab.models.Manager")),
            ("mine.Mine", Some("fab.models.Manager")),
            (" mine.Deep ", Some("fab.models.Manager")),
            ("fab.Base", None),
            ("round.A", None),
            ("no.Such", None),
            ("Fab", None),
        ] {
            assert_eq!(of_auth_manager(root.path(), class).as_deref(), manager, "{class}");
        }
    }

    #[test]
    fn declared_managers_are_a_list_of_strings() {
        assert_eq!(declared("{\"x\": [\"no\"], \"db-managers\": [\n 'a.B',\n \"c.D\"], 'y': ['no']}"), ["a.B", "c.D"]);
        assert!(declared("{'db-managers': []}").is_empty());
        assert!(declared("{}").is_empty());
    }

    #[test]
    fn entry_points_of_other_groups_are_ignored() {
        let text = "[console_scripts]\nx = y:z\n\n[apache_airflow_provider]\nprovider_info=a.b:c\n[other]\nq = r:s\n";
        assert_eq!(provider_modules(text), ["a.b"]);
    }
}
