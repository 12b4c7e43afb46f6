//! Odd layouts, built in temporary folders; `tests/quick/installed.rs` reads the real ones.

use super::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use tempfile::TempDir;

/// A root folder with an `airflow` somewhere in it.
struct Layout(TempDir);

impl Layout {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn file(&self, path: &str, text: &str) -> &Self {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text.replace("ROOT", self.0.path().to_str().unwrap())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    fn airflow(&self, site_packages: &str, metadata: &str) -> &Self {
        self.file(&format!("{site_packages}/airflow/__init__.py"), "")
            .file(&format!("{site_packages}/{metadata}/METADATA"), "")
    }

    fn find(&self, bin: &str) -> Result<Installed, Error> {
        find(self.at(bin).as_os_str(), None, Some(&self.at("home")), None)
    }
}

#[test]
fn the_environment_of_the_shebang_counts_wherever_the_script_is() {
    for shebang in [
        "#!ROOT/v/bin/python",
        "#!ROOT/v/bin/python3.11 -E",
        "#!/bin/sh\n'''exec' ROOT/v/bin/python \"$0\" \"$@\"\n' '''",
        "#!/bin/sh\n'''exec' \"ROOT/v/bin/python\" \"$0\" \"$@\"\n' '''",
    ] {
        let layout = Layout::new();
        layout
            .file("usr/bin/airflow", shebang)
            .file("v/pyvenv.cfg", "home = /usr/bin\nversion = 3.11.7\n")
            .airflow("v/lib/python3.11/site-packages", "apache_airflow-2.11.2.dist-info")
            .airflow("v/lib/python3.9/site-packages", "apache_airflow-2.0.0.dist-info")
            .airflow("usr/lib/python3.11/site-packages", "apache_airflow-1.10.0.dist-info")
            .airflow("home/.local/lib/python3.11/site-packages", "apache_airflow-1.10.1.dist-info");
        let found = layout.find("usr/bin").unwrap();
        assert_eq!(found.version, Version::new(2, 11, 2), "{shebang}");
        assert_eq!(found.script, layout.at("usr/bin/airflow"));
        assert_eq!(found.package, layout.at("v/lib/python3.11/site-packages/airflow"));
    }
}

#[test]
fn env_in_the_shebang_is_looked_up_in_path() {
    for shebang in ["#!/usr/bin/env python3", "#!/usr/bin/env -S python3 -E"] {
        let layout = Layout::new();
        layout
            .file("v/bin/airflow", shebang)
            .file("v/bin/python3", "")
            .airflow("v/lib/python3.12/site-packages", "apache_airflow-2.11.2.dist-info");
        assert_eq!(layout.find("v/bin").unwrap().version_text, "2.11.2");
    }
}

#[test]
fn the_code_of_version_3_is_in_the_core_package() {
    let layout = Layout::new();
    let site = "v/lib/python3.12/site-packages";
    layout
        .file("v/bin/airflow", "#!ROOT/v/bin/python")
        .airflow(site, "apache_airflow_core-3.4.0rc1.dist-info")
        .airflow(site, "apache_airflow-3.3.0.dist-info")
        .airflow(site, "apache_airflow_task_sdk-1.3.2.dist-info")
        .airflow(site, "apache_airflow_providers_celery-3.26.0.dist-info")
        .airflow(site, "apache_airflow_providers_common_sql-2.4.0.dist-info");
    let found = layout.find("v/bin").unwrap();
    assert_eq!((found.version, found.version_text.as_str()), (Version::new(3, 4, 0), "3.4.0rc1"));
    let providers: Vec<_> = found.providers.iter().map(|(name, version)| format!("{name} {version}")).collect();
    assert_eq!(providers, ["celery 3.26.0", "common-sql 2.4.0"]);
}

#[test]
fn a_user_installation_is_found_from_home_and_without_it() {
    let layout = Layout::new();
    let site = "home/.local/lib/python3.12/site-packages";
    layout.file("home/.local/bin/airflow", "#!/usr/no/bin/python3").airflow(site, "apache_airflow-2.9.0.dist-info");
    assert_eq!(layout.find("home/.local/bin").unwrap().version_text, "2.9.0");
    let bin = layout.at("home/.local/bin");
    assert_eq!(find(bin.as_os_str(), None, Some(Path::new("/root")), None).unwrap().version_text, "2.9.0");
}

#[test]
fn debian_folders_and_eggs_are_known() {
    let layout = Layout::new();
    layout
        .file("usr/local/bin/airflow", "#!ROOT/usr/bin/python3")
        .airflow("usr/local/lib/python3.8/dist-packages", "apache_airflow-1.10.15-py3.8.egg-info");
    assert_eq!(layout.find("usr/local/bin").unwrap().version_text, "1.10.15");
    let layout = Layout::new();
    layout
        .file("usr/bin/airflow", "#!ROOT/usr/bin/python3")
        .airflow("usr/lib/python3/dist-packages", "apache-airflow-2.8.0.egg-info");
    assert_eq!(layout.find("usr/bin").unwrap().version_text, "2.8.0");
}

#[test]
fn pythonpath_comes_first_as_in_python() {
    let layout = Layout::new();
    layout
        .file("v/bin/airflow", "#!ROOT/v/bin/python")
        .airflow("v/lib/python3.12/site-packages", "apache_airflow-2.9.0.dist-info")
        .airflow("extra", "apache_airflow-2.10.0.dist-info");
    let (bin, extra) = (layout.at("v/bin"), layout.at("extra"));
    assert_eq!(find(bin.as_os_str(), Some(extra.as_os_str()), None, None).unwrap().version_text, "2.10.0");
}

#[test]
fn an_environment_may_borrow_the_packages_of_its_base() {
    let layout = Layout::new();
    layout
        .file("v/bin/airflow", "#!ROOT/v/bin/python")
        .file("v/pyvenv.cfg", "home = ROOT/usr/bin\ninclude-system-site-packages = true\nversion = 3.12.1")
        .airflow("usr/lib/python3.12/site-packages", "apache_airflow-2.9.0.dist-info");
    assert_eq!(layout.find("v/bin").unwrap().version_text, "2.9.0");
}

#[test]
fn a_linked_script_leads_to_its_own_folder() {
    let layout = Layout::new();
    layout
        .file("v/bin/airflow", "")
        .file("bin/x", "")
        .airflow("v/lib/python3.12/site-packages", "apache_airflow-2.9.0.dist-info");
    symlink(layout.at("v/bin/airflow"), layout.at("bin/airflow")).unwrap();
    assert_eq!(layout.find("bin").unwrap().version_text, "2.9.0");
}

#[test]
fn without_usable_metadata_the_package_tells_its_version() {
    for (file, text) in [("__init__.py", "x = 1\n__version__ = \"2.9.3\"\n"), ("version.py", "version = '2.9.3'\n")] {
        let layout = Layout::new();
        let site = "v/lib/python3.12/site-packages";
        layout
            .file("v/bin/airflow", "#!ROOT/v/bin/python")
            .airflow(site, "apache_airflow-2.9.3.dist-info")
            .airflow(site, "apache_airflow-2.8.0.dist-info")
            .file(&format!("{site}/airflow/{file}"), text);
        assert_eq!(layout.find("v/bin").unwrap().version_text, "2.9.3");
    }
    let layout = Layout::new();
    layout.file("v/bin/airflow", "#!ROOT/v/bin/python").file("v/lib/python3.12/site-packages/airflow/__init__.py", "");
    assert!(matches!(layout.find("v/bin"), Err(Error::NoVersion(_))));
}

#[test]
fn a_shim_is_named_with_the_way_out() {
    let layout = Layout::new();
    layout.file("shims/airflow", "#!/usr/bin/env bash\nexec pyenv exec airflow \"$@\"\n");
    let text = layout.find("shims").unwrap_err().to_string();
    assert!(text.contains("shims/airflow, which is a shell script (a pyenv or asdf shim?)"), "{text}");
    assert!(text.contains("set KUBE_AIRFLOW_AIRFLOW=/path/to/bin/airflow"), "{text}");
}

#[test]
fn errors_list_where_was_looked() {
    let layout = Layout::new();
    layout
        .file("v/bin/airflow", "#!ROOT/v/bin/python")
        .file("v/lib/python3.12/site-packages/airflow/providers/x.py", "a provider alone is not Airflow");
    let text = layout.find("v/bin").unwrap_err().to_string();
    assert!(text.contains("v/lib/python3.12/site-packages"), "{text}");
    let text = layout.find("no/bin").unwrap_err().to_string();
    assert!(text.contains("no/bin") && text.contains("KUBE_AIRFLOW_AIRFLOW"), "{text}");
    let explicit = layout.at("nothing");
    let text = find(OsStr::new(""), None, None, Some(&explicit)).unwrap_err().to_string();
    assert!(text.contains("nothing: not an executable file"), "{text}");
}

/// Row 45 of the cases.
#[test]
fn an_editable_installation_is_found_behind_its_pth_file() {
    for (file, text) in [
        ("__editable__.apache_airflow-3.3.2.pth", "# a comment\nROOT/src\n"),
        ("easy-install.pth", "import sys\n./other\nROOT/src\n"),
        ("__editable___apache_airflow_core_3_3_2_finder.py", "MAPPING: dict = {'airflow': 'ROOT/src/airflow'}\n"),
    ] {
        let layout = Layout::new();
        layout
            .file("v/bin/python", "")
            .file("v/bin/airflow", "#!ROOT/v/bin/python\n")
            .file("v/pyvenv.cfg", "version = 3.12.1\n")
            .file(&format!("v/lib/python3.12/site-packages/{file}"), text)
            .file("v/lib/python3.12/site-packages/apache_airflow_core-3.3.2.dist-info/METADATA", "")
            .file("src/airflow/__init__.py", "");
        let found = layout.find("v/bin").unwrap();
        assert_eq!((found.version_text.as_str(), found.package), ("3.3.2", layout.at("src/airflow")), "{file}");
    }
}
