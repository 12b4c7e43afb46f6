//! Which DAGs a change of files is about. Pure.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// One file that differs between two commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its path in the repository.
    pub path: String,
    /// Whether it is a new file that Airflow takes for one with DAGs: nothing that runs can have read it.
    pub new_dag: bool,
}

/// Where a deployment has its DAGs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The link.
    pub link: PathBuf,
    /// The folder of the repository with the DAGs; empty: all of it.
    pub subpath: String,
}

/// The DAGs that a change is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Affected {
    /// All of the repository: this file may be read by any of them, or nobody knows what differs (no file).
    All(Option<String>),
    /// Those of these files, as Airflow names them.
    Files(BTreeSet<String>),
}

impl Place {
    /// The path in the repository of a file as Airflow names it. Other pods may have the link elsewhere, so its name
    /// and the folder of the repository count. `None`: it is not known to be of the repository.
    fn path<'a>(&self, file: &'a str) -> Option<&'a str> {
        let own = format!("{}/", self.link.display());
        if let Some(path) = file.strip_prefix(&own) {
            return Some(path);
        }
        let name = self.link.file_name()?.to_string_lossy().into_owned();
        let marker = format!("/{name}/");
        let path = &file[file.find(&marker)? + marker.len()..];
        Path::new(path).starts_with(&self.subpath).then_some(path)
    }
}

/// The DAGs that `changes` are about; `known`: the files of all DAGs that Airflow knows. `None`: what differs is not
/// known.
pub fn affected(changes: Option<&[Change]>, known: &[String], place: &Place) -> Affected {
    let Some(changes) = changes else { return Affected::All(None) };
    let mut files = BTreeSet::new();
    for change in changes.iter().filter(|change| !change.new_dag) {
        let before = files.len();
        files.extend(known.iter().filter(|file| place.path(file) == Some(&change.path)).cloned());
        if files.len() == before && !known.iter().any(|file| place.path(file) == Some(&change.path)) {
            return Affected::All(Some(change.path.clone()));
        }
    }
    Affected::Files(files)
}

impl Affected {
    /// Whether it is about the DAGs of a file.
    pub fn is_about(&self, file: &str) -> bool {
        match self {
            Self::All(_) => true,
            Self::Files(files) => files.contains(file),
        }
    }
}

/// Whether Airflow looks for DAGs in a file of this name and text: `might_contain_dag` in `airflow/utils/file.py`.
pub fn is_dag_file(path: &str, text: &[u8]) -> bool {
    let text = text.to_ascii_lowercase();
    let has = |word: &[u8]| text.windows(word.len()).any(|part| part == word);
    Path::new(path).extension().is_some_and(|extension| extension == "py") && has(b"dag") && has(b"airflow")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(link: &str, subpath: &str) -> Place {
        Place { link: link.into(), subpath: subpath.to_owned() }
    }

    fn about(place: &Place, known: &[&str], changes: &[&str]) -> Affected {
        let known: Vec<_> = known.iter().map(|file| (*file).to_owned()).collect();
        let change =
            |path: &&str| Change { path: path.trim_start_matches('+').to_owned(), new_dag: path.starts_with('+') };
        affected(Some(&changes.iter().map(change).collect::<Vec<_>>()), &known, place)
    }

    fn files(files: &[&str]) -> Affected {
        Affected::Files(files.iter().map(|file| (*file).to_owned()).collect())
    }

    #[test]
    fn the_file_of_a_dag_is_about_this_dag_and_any_other_file_about_all() {
        let place = place("/git/dags", "");
        let known = ["/git/dags/a.py", "/git/dags/sub/b.py", "/elsewhere/c.py"];
        assert_eq!(about(&place, &known, &["a.py"]), files(&["/git/dags/a.py"]));
        assert_eq!(about(&place, &known, &["a.py", "sub/b.py"]), files(&["/git/dags/a.py", "/git/dags/sub/b.py"]));
        for shared in ["b.py", "helper.py", ".airflowignore", "sql/a.sql", "c.py"] {
            assert_eq!(about(&place, &known, &["a.py", shared]), Affected::All(Some(shared.to_owned())), "{shared}");
        }
        // Twice the same file, a file that is new, and nothing at all.
        assert_eq!(about(&place, &known, &["a.py", "a.py"]), files(&["/git/dags/a.py"]));
        assert_eq!(about(&place, &known, &["+new.py"]), files(&[]));
        assert_eq!(about(&place, &known, &[]), files(&[]));
        assert_eq!(affected(None, &[], &place), Affected::All(None));
    }

    #[test]
    fn the_link_of_another_pod_may_be_elsewhere() {
        let place = place("/opt/airflow/git/dags", "team/dags");
        let known = ["/other/home/git/dags/team/dags/a.py"];
        assert_eq!(about(&place, &known, &["team/dags/a.py"]), files(&known));
        // Of a file that is not below the folder of the repository nobody knows where it is from.
        assert_eq!(about(&place, &["/usr/dags/a.py"], &["a.py"]), Affected::All(Some("a.py".to_owned())));
    }

    #[test]
    fn airflow_looks_for_dags_where_both_words_are() {
        assert!(is_dag_file("x/a.py", b"from airflow import DAG"));
        assert!(!is_dag_file("a.py", b"import airflow") && !is_dag_file("a.sql", b"airflow dag"));
    }
}
