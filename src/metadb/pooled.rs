//! Whether a server hands our session to others as well, as a pooler in transaction mode does: then no lock of a
//! session holds anybody back.

use super::Session;
use crate::exit::Code;
use crate::service::database::Database;
use crate::service::{ATTEMPT, Failure, Limit};
use tokio::time::Instant;

/// How often it is checked whether two connections share a session. A busy pooler may hide it once.
const LOOKS: u32 = 3;

/// Whether another client connection may land in the session of `first`, as behind pgbouncer in transaction mode. Told
/// by a mark on the session, not by a lock: what leaks into a pool has to be harmless, and a leaked lock would stop
/// everybody who comes later.
pub(crate) async fn shares_sessions(first: &mut Session, database: &Database, limit: Limit) -> Result<bool, Failure> {
    let unique = getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()));
    let mark = format!("{unique:016x}");
    // pgbouncer hands out the session that became free last: first ours, then to the second connection.
    let set = format!("SELECT set_config('kube_airflow_init.session', '{mark}', false)");
    let get = "SELECT coalesce(current_setting('kube_airflow_init.session', true), '')";
    ask(first, &set).await?;
    for _ in 0..LOOKS {
        let missing = || Failure::lasting(Code::Io, format!("{}: there is no database yet", database.name()));
        let mut second = Session::open(database, limit).await?.ok_or_else(missing)?;
        let seen = ask(&mut second, get).await;
        second.close().await;
        if seen? == mark || ask(first, get).await? != mark {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn ask(session: &mut Session, sql: &str) -> Result<String, Failure> {
    session.extend(Instant::now() + ATTEMPT);
    Ok(session.value(sql, "its sessions").await?)
}
