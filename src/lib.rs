//! kube-airflow-init: a PID-1 entrypoint supervisor for Apache Airflow containers.

pub mod airflow;
pub mod broker;
pub mod check;
pub mod cli;
pub mod config;
pub mod database;
pub mod env;
pub mod exit;
pub mod files;
pub mod ini;
pub mod keys;
pub mod migrate;
pub mod percent;
pub mod plan;
pub mod process;
pub mod report;
pub mod settings;
pub mod supervisor;
pub mod telemetry;
pub mod template;
pub mod wait;
