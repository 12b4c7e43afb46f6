//! kube-airflow-init: a PID-1 entrypoint supervisor for Apache Airflow containers.

pub mod airflow;
pub mod broker;
pub mod check;
pub mod database;
pub mod env;
pub mod exit;
pub mod settings;
