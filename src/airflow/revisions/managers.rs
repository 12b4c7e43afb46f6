//! Database managers of providers: a class path, and from it the version table and the folder of the migrations.

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

/// `airflow.providers.fab.get_provider_info` of a line `provider_info = airflow.providers.fab.get_provider_info:function`.
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
pub(super) fn locate(site_packages: &Path, class: &str) -> Result<Manager, Error> {
    let fail = |reason| Error::Manager { class: class.to_owned(), reason };
    let (module, name) = class.rsplit_once('.').ok_or_else(|| fail("not a path of the form package.module.Class"))?;
    let (folder, text) =
        module_source(site_packages, module).ok_or_else(|| fail("no such module beside the installed Airflow"))?;
    let table = version_table(&text, name).ok_or_else(|| fail("its class sets no version_table_name"))?;
    let versions = folder
        .ancestors()
        .take_while(|folder| *folder != site_packages)
        .map(|folder| folder.join("migrations/versions"))
        .find(|versions| versions.is_dir())
        .ok_or_else(|| fail("no folder migrations/versions in its package"))?;
    Ok(Manager { table, versions })
}

/// `version_table_name = "…"` in the body of a class.
fn version_table(source: &str, class: &str) -> Option<String> {
    let begin = source.match_indices("class ").find_map(|(at, keyword)| {
        let after = source[at + keyword.len()..].strip_prefix(class)?;
        let whole = at == 0 || source[..at].ends_with('\n');
        (whole && after.starts_with(['(', ':', ' '])).then_some(after)
    })?;
    // The body ends at the next line that begins at the left edge with something else than a closing bracket.
    let body: Vec<&str> = begin
        .lines()
        .skip(1)
        .take_while(|line| line.is_empty() || line.starts_with([' ', '\t', ')', '#']))
        .map(str::trim_start)
        .collect();
    let body = body.join("\n") + "\n";
    let assigned = value(&body, "version_table_name")?;
    strings(expression(assigned)?).into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_class_tells_the_table() {
        let source = "class A(Base):\n    version_table_name = 'a'\n\nclass AB(\n    Base,\n):\n    \"\"\"Doc.\"\"\"\n\n    \
                      version_table_name: str = \"ab\"\n\nversion_table_name = 'outside'\nclass C:\n    pass\n";
        assert_eq!(version_table(source, "A").unwrap(), "a");
        assert_eq!(version_table(source, "AB").unwrap(), "ab");
        assert_eq!(version_table(source, "C"), None);
        assert_eq!(version_table(source, "B"), None);
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
