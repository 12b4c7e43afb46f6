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
    /// A key that all pods share is not the one of the pods before.
    KeyDiffers = 83,
    /// The user that the settings describe could not be made.
    NoUser = 84,
    /// The packages of `_PIP_ADDITIONAL_REQUIREMENTS` could not be installed.
    NoPackages = 85,
    /// The declared connections, variables and pools could not be set.
    NoObjects = 86,
    /// The command was found and could not be executed.
    NotExecutable = 126,
    /// The command was not found.
    NotFound = 127,
}

impl Code {
    /// All variants, in the order of their numbers; the reference page is generated from it.
    pub const ALL: &[(Self, &str)] = &[
        (Self::Success, "done, or a clean stop"),
        (Self::Failed, "a verb that answers a question answered \"no\""),
        (Self::Usage, "the command line is wrong"),
        (Self::Unsupported, "the role does not exist on the installed Airflow line"),
        (Self::DatabaseNewer, "the database is at a revision that the installed Airflow does not know"),
        (Self::NoAirflow, "no complete Airflow installation was found"),
        (Self::Template, "the configuration template has an error; nothing was written"),
        (Self::NoHost, "a host name did not resolve before the deadline"),
        (Self::Unavailable, "a service was not reachable before the deadline"),
        (Self::Internal, "a defect of kube-airflow-init: please report it"),
        (Self::Os, "the operating system refused something that is always needed (fork, pipe)"),
        (Self::NoDatabase, "the database named in the settings does not exist"),
        (Self::NoVhost, "the RabbitMQ virtual host does not exist, or the user may not enter it"),
        (Self::Io, "a file could not be read or written"),
        (Self::NoAnswer, "a service accepted the connection and did not answer before the deadline"),
        (Self::Tls, "TLS could not be agreed on: certificate, host name, or one side without TLS"),
        (Self::Denied, "a service refused the user name or password"),
        (Self::Settings, "one or more settings are wrong or missing; all of them are listed"),
        (Self::MigrationFailed, "the migration failed; the last lines of its output were logged"),
        (Self::MigrationTimeout, "the schema did not reach the needed revision before the deadline"),
        (Self::CrashLoop, "a child of `standalone` ended too often in a short time"),
        (Self::KeyDiffers, "a key that all pods share is not the one of the pods before"),
        (
            Self::NoUser,
            "the user of `_AIRFLOW_WWW_USER_*` could not be made; the last lines of Airflow's output were logged",
        ),
        (Self::NoPackages, "the packages of `_PIP_ADDITIONAL_REQUIREMENTS` could not be installed"),
        (
            Self::NoObjects,
            "the connections, variables and pools of `KUBE_AIRFLOW_OBJECTS` could not be set, or not all \
             of them; the log says which, with the last lines of Airflow's output",
        ),
        (Self::NotExecutable, "the command was found and could not be executed"),
        (Self::NotFound, "the command was not found"),
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
