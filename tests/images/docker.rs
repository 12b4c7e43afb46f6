//! A docker engine, the images of this tree on it, and compose: what the tests of `docker/` stand on.

use crate::skip;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// The version that the images of the tests are tagged with.
pub(crate) const VERSION: &str = "1.2.3";
/// A package that Airflow does not need.
pub(crate) const REQUIREMENT: &str = "cowsay==6.1\n";

static ENGINE: LazyLock<Option<Engine>> = LazyLock::new(Engine::find);
static IMAGES: LazyLock<Mutex<Option<Images>>> = LazyLock::new(Mutex::default);

/// A client and the engine that it speaks to.
#[derive(Clone)]
pub(crate) struct Engine {
    client: PathBuf,
    host: String,
}

/// The images, made once for a test program, and the folders that they were made of.
pub(crate) struct Images {
    pub(crate) engine: Engine,
    /// Has a folder of DAGs, which is outside the repository and has a space in its name.
    folder: tempfile::TempDir,
}

/// The images, for one test at a time, or `None` after saying that the test is skipped.
pub(crate) fn images(test: &str) -> Option<ImagesGuard> {
    let mut images = IMAGES.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(engine) = ENGINE.as_ref() else {
        skip::skipped(&format!("{test}: there is no docker engine, and none could be started (see above)"));
        return None;
    };
    if images.is_none() {
        *images = Some(Images::make(engine));
    }
    Some(ImagesGuard(images))
}

/// [`Images`] that no other test uses meanwhile.
pub(crate) struct ImagesGuard(MutexGuard<'static, Option<Images>>);

impl std::ops::Deref for ImagesGuard {
    type Target = Images;

    fn deref(&self) -> &Images {
        self.0.as_ref().unwrap()
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What a program printed. Fails the test, with all that it said, when the program failed.
pub(crate) fn done(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = said(&output);
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Both streams.
pub(crate) fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

impl Engine {
    /// Starts one when none answers; it ends with this process.
    fn find() -> Option<Self> {
        let mut command = Command::new(root().join("scripts/docker-engine"));
        let output = command.arg(std::process::id().to_string()).stdin(Stdio::null()).output().unwrap();
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        if output.status.code() == Some(3) {
            return None;
        }
        assert!(output.status.success(), "scripts/docker-engine: {}", output.status);
        let text = String::from_utf8(output.stdout).unwrap();
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
        Some(Self { client: value("DOCKER=").into(), host: value("DOCKER_HOST=") })
    }

    /// A program that finds this engine.
    pub(crate) fn program(&self, path: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(path);
        command.env("DOCKER", &self.client).env("DOCKER_HOST", &self.host).current_dir(root());
        command
    }

    /// The path of the client.
    pub(crate) fn client(&self) -> &Path {
        &self.client
    }

    /// What `docker ARGUMENTS` printed.
    pub(crate) fn docker(&self, arguments: &[&str]) -> String {
        done(self.program(&self.client).args(arguments))
    }

    /// Runs a shell line in a container that may do as little as possible, and returns what it printed.
    pub(crate) fn shell(&self, image: &str, line: &str) -> String {
        let hard = ["run", "--rm", "--network=none", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--user=54321:0"];
        let arguments = [&hard[..], &["--entrypoint=sh", image, "-euc", line]].concat();
        self.docker(&arguments)
    }

    /// `docker inspect` of an image or a container.
    pub(crate) fn inspect(&self, name: &str) -> Value {
        let text = self.docker(&["inspect", name]);
        serde_json::from_str::<Value>(&text).unwrap()[0].take()
    }

    /// The digests of an image's layers, from the base up.
    pub(crate) fn layers(&self, image: &str) -> Vec<String> {
        let layers = self.inspect(image)["RootFS"]["Layers"].take();
        serde_json::from_value(layers).unwrap()
    }
}

impl Images {
    fn make(engine: &Engine) -> Self {
        done(&mut engine.program("docker/base/make"));
        let images = Self { engine: engine.clone(), folder: tempfile::tempdir().unwrap() };
        fs::create_dir(images.dags()).unwrap();
        for name in ["three_tasks.py", "one_week.py"] {
            fs::copy(root().join("examples/dags").join(name), images.dags().join(name)).unwrap();
        }
        fs::copy(root().join("tests/images/nap.py"), images.dags().join("nap.py")).unwrap();
        fs::write(images.requirements(), REQUIREMENT).unwrap();
        images.build(&[]);
        images
    }

    /// The embedded DAGs.
    pub(crate) fn dags(&self) -> PathBuf {
        self.folder.path().join("our dags")
    }

    /// The requirements of the DAGs.
    pub(crate) fn requirements(&self) -> PathBuf {
        self.folder.path().join("our requirements.txt")
    }

    /// Makes the images as a user does, with more variables; returns what was said.
    pub(crate) fn build(&self, variables: &[(&str, &str)]) -> String {
        let mut command = self.make_command("build");
        command.arg(format!("EMBEDDED_DAGS_LOCATION={}", self.dags().display()));
        command.args(variables.iter().map(|(name, value)| format!("{name}={value}")));
        let output = command.output().unwrap();
        let text = said(&output);
        assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
        text
    }

    /// `make VERB` with what this machine needs.
    pub(crate) fn make_command(&self, verb: &str) -> Command {
        let mut command = self.engine.program("make");
        command.arg(verb).arg(format!("REPOSITORY={}", repository())).arg(format!("VERSION={VERSION}"));
        command.arg("PYTHON_IMAGE=kube-airflow-base/python:bookworm");
        command.arg(format!("REQUIREMENTS_TXT_LOCATION={}", self.requirements().display()));
        let authorities = "/etc/ssl/certs/ca-certificates.crt";
        if Path::new(authorities).exists() {
            command.arg(format!("CA_CERTIFICATES={authorities}"));
        }
        command.stdin(Stdio::null());
        command
    }
}

/// The image with DAGs and requirements.
pub(crate) fn image() -> String {
    format!("{}:{VERSION}", repository())
}

/// The image that it is a layer over.
pub(crate) fn base() -> String {
    format!("{}-base", image())
}

/// One name for each tree, so that trees do not disturb each other and their layers are found again.
pub(crate) fn repository() -> String {
    let sum =
        root().display().to_string().bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    format!("kube-airflow-test/{sum:08x}")
}

/// A project of docker/compose.yaml. Its containers, volumes and networks go when it goes out of scope.
pub(crate) struct Compose<'a> {
    engine: &'a Engine,
    program: PathBuf,
    project: String,
    variables: Vec<(&'static str, String)>,
}

impl<'a> Compose<'a> {
    /// `None` after saying that the test is skipped: compose is built from its Go modules.
    pub(crate) fn new(engine: &'a Engine, variables: Vec<(&'static str, String)>) -> Option<Self> {
        if Command::new("go").arg("version").output().is_err() {
            skip::skipped("the compose stack: docker compose is built from source, and there is no go in PATH");
            return None;
        }
        let program = done(Command::new(root().join("scripts/tool")).arg("docker-compose")).into();
        Some(Self { engine, program, project: format!("kube-airflow-test-{}", std::process::id()), variables })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.engine.program(&self.program);
        command.args(["--project-name", &self.project, "--file", "docker/compose.yaml"]).args(arguments);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// What `docker compose ARGUMENTS` printed.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        done(&mut self.command(arguments))
    }

    /// The name of the container of a service.
    pub(crate) fn container(&self, service: &str) -> String {
        format!("{}-{service}-1", self.project)
    }

    /// All that a service has said.
    pub(crate) fn log(&self, service: &str) -> String {
        let mut command = self.engine.program(&self.engine.client);
        said(&command.args(["logs", &self.container(service)]).output().unwrap())
    }
}

impl Drop for Compose<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.command(&["ps", "--all"]).status();
            let _ = self.command(&["logs", "--tail=30", "--no-color"]).status();
        }
        let output = self.command(&["down", "--volumes", "--timeout=1"]).output().unwrap();
        if !output.status.success() {
            eprintln!("{}", said(&output));
        }
    }
}

/// A container that goes when it goes out of scope.
pub(crate) struct Container<'a> {
    engine: &'a Engine,
    id: String,
}

impl<'a> Container<'a> {
    /// `docker run --detach ARGUMENTS`.
    pub(crate) fn run(engine: &'a Engine, arguments: &[&str]) -> Self {
        let id = engine.docker(&[&["run", "--detach"], arguments].concat());
        Self { engine, id }
    }

    /// The port of this machine that `port` is published at.
    pub(crate) fn port(&self, port: u16) -> u16 {
        let address = self.engine.docker(&["port", &self.id, &port.to_string()]);
        address.lines().next().unwrap().rsplit_once(':').unwrap().1.parse().unwrap()
    }

    /// Fails the test when it has ended.
    pub(crate) fn is_running(&self) {
        let state = self.engine.inspect(&self.id)["State"].take();
        assert_eq!(state["Status"], "running", "{state}");
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.engine.program(&self.engine.client).args(["logs", "--tail=40", &self.id]).status();
        }
        let _ = self.engine.program(&self.engine.client).args(["rm", "--force", "--volumes", &self.id]).output();
    }
}
