//! Every exit status that this program itself can end with, one documented variant each.

/// An exit status of ours. A child's own status is passed on unchanged and does not appear here, except that a child
/// killed by signal n becomes 128+n.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Done, or a clean stop.
    Success = 0,
    /// A verb that answers a question answered "no".
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The role does not exist on the installed Airflow line.
    Unsupported = 64,
    /// The database is at a revision that the installed Airflow does not know.
    DatabaseNewer = 65,
    /// No complete Airflow installation was found.
    NoAirflow = 66,
    /// The configuration template has an error; nothing was written.
    Template = 67,
    /// A host name did not resolve before the deadline.
    NoHost = 68,
    /// A service was not reachable before the deadline.
    Unavailable = 69,
    /// A defect of ours: please report it.
    Internal = 70,
    /// The operating system refused something that is always needed (fork, pipe).
    Os = 71,
    /// The database named in the settings does not exist.
    NoDatabase = 72,
    /// The `RabbitMQ` virtual host does not exist, or the user may not enter it.
    NoVhost = 73,
    /// A file could not be read or written.
    Io = 74,
    /// A service accepted the connection and did not answer before the deadline.
    NoAnswer = 75,
    /// TLS could not be agreed on: certificate, host name, or one side without TLS.
    Tls = 76,
    /// A service refused the user name or password.
    Denied = 77,
    /// One or more settings are wrong or missing; all of them are listed.
    Settings = 78,
    /// `airflow db migrate` failed; the last lines of its output were logged.
    MigrationFailed = 79,
    /// The schema did not reach the needed revision before the deadline.
    MigrationTimeout = 80,
    /// A child of `standalone` ended too often in a short time.
    CrashLoop = 81,
    /// This program panicked: a defect of ours.
    Panic = 82,
    /// A key that all pods share is not the one of the pods before.
    KeyDiffers = 83,
    /// The user that the settings describe could not be made.
    NoUser = 84,
    /// The packages of `_PIP_ADDITIONAL_REQUIREMENTS` could not be installed.
    NoPackages = 85,
    /// The declared connections, variables and pools could not be set.
    NoObjects = 86,
    /// The kernel killed the role for want of memory; any other KILL is 137.
    OutOfMemory = 87,
    /// The command was found and could not be executed.
    NotExecutable = 126,
    /// The command was not found.
    NotFound = 127,
}

impl Code {
    /// All variants, in the order of their numbers, with what to look at first; the reference page is generated from
    /// it.
    pub const ALL: &[(Self, &str, &str)] = &[
        (Self::Success, "done, or a clean stop", ""),
        (Self::Failed, "a verb that answers a question answered \"no\"", ""),
        (Self::Usage, "the command line is wrong", "`--help` of the verb has the words it takes"),
        (
            Self::Unsupported,
            "the role does not exist on the installed Airflow line",
            "another role, or another image: [roles](roles.md) has those of each line",
        ),
        (
            Self::DatabaseNewer,
            "the database is at a revision that the installed Airflow does not know",
            "go back to the newer image, or restore the dump from before the upgrade",
        ),
        (
            Self::NoAirflow,
            "no complete Airflow installation was found",
            "name the installation in `KUBE_AIRFLOW_AIRFLOW`, or look at what the image has at that place",
        ),
        (
            Self::Template,
            "the configuration template has an error; nothing was written",
            "`kube-airflow-init render --output -` in the same container, until the list is empty",
        ),
        (
            Self::NoHost,
            "a host name did not resolve before the deadline",
            "the name in the settings (`plan ROLE` shows who gave it), the Service, the namespace",
        ),
        (
            Self::Unavailable,
            "a service was not reachable before the deadline",
            "is the server up; does a NetworkPolicy or a firewall forbid the way",
        ),
        (Self::Internal, "a defect of kube-airflow-init: please report it", "report it with the log"),
        (
            Self::Os,
            "the operating system refused something that is always needed (fork, pipe)",
            "limits of the container or node: processes (`pids`), open files",
        ),
        (Self::NoDatabase, "the database named in the settings does not exist", "create it, or correct the name"),
        (
            Self::NoVhost,
            "the RabbitMQ virtual host does not exist, or the user may not enter it",
            "create it, or give the user its permissions there",
        ),
        (Self::Io, "a file could not be read or written", "the named file: its owner, a read-only root, a full disk"),
        (
            Self::NoAnswer,
            "a service accepted the connection and did not answer before the deadline",
            "the load of the server; a proxy that waits for what is behind it",
        ),
        (
            Self::Tls,
            "TLS could not be agreed on: certificate, host name, or one side without TLS",
            "the log names which; the CA of the client, `sslmode`, the name in the certificate",
        ),
        (
            Self::Denied,
            "a service refused the user name or password",
            "compare the Secret with the server: a database that kept its volume has its old password",
        ),
        (
            Self::Settings,
            "one or more settings are wrong or missing; all of them are listed",
            "the log has the list, each with its fix; `plan ROLE` checks without starting",
        ),
        (
            Self::MigrationFailed,
            "the migration failed; the last lines of its output were logged",
            "Airflow's own lines are above it in the log; remove the cause, and start again: what was done is not \
             done twice",
        ),
        (
            Self::MigrationTimeout,
            "the schema did not reach the needed revision before the deadline",
            "[AirflowMigrationLong](runbooks/AirflowMigrationLong.md)",
        ),
        (
            Self::CrashLoop,
            "a child of `standalone` ended too often in a short time",
            "the lines of that child in the log",
        ),
        (
            Self::Panic,
            "kube-airflow-init itself failed (a panic): please report it",
            "report it with the log; the container is started again, and another version may not have the defect",
        ),
        (
            Self::KeyDiffers,
            "a key that all pods share is not the one of the pods before",
            "[keys](keys.md): find out whose key is right before anything is accepted",
        ),
        (
            Self::NoUser,
            "the user of `_AIRFLOW_WWW_USER_*` could not be made; the last lines of Airflow's output were logged",
            "the lines in the log; a password that Airflow's rules refuse, a role that does not exist",
        ),
        (
            Self::NoPackages,
            "the packages of `_PIP_ADDITIONAL_REQUIREMENTS` could not be installed",
            "build them into the image",
        ),
        (
            Self::NoObjects,
            "the connections, variables and pools of `KUBE_AIRFLOW_OBJECTS` could not be set, or not all of them; \
             the log says which, with the last lines of Airflow's output",
            "[objects](objects.md); the log names each",
        ),
        (
            Self::OutOfMemory,
            "the kernel killed the role, because the memory of the container was used up; any other KILL that is not \
             ours is 137, and so is the end of a container whose processes the kernel killed all at once",
            "[memory](memory.md): the log names the limit and the largest processes",
        ),
        (
            Self::NotExecutable,
            "the command was found and could not be executed",
            "its mode, its interpreter, its architecture",
        ),
        (Self::NotFound, "the command was not found", "its name; `PATH`"),
    ];

    /// The number that the kernel is given.
    pub const fn number(self) -> u8 {
        self as u8
    }
}

impl From<Code> for std::process::ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code.number())
    }
}
