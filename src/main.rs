//! The binary: everything is in the library.

fn main() -> std::process::ExitCode {
    kube_airflow_init::main().into()
}
