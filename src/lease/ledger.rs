//! The lease in Postgres: a table of ours with one row, and session locks whose first key is the number of that table.
//! The second key is 0 for the lease itself, and the epoch for the sessions of a role.

use super::Ticket;
use super::machine::{Holder, Look, Row};
use crate::exit::Code;
use crate::metadb::{Dialect, Refusal, Session};
use crate::service::Failure;
use crate::service::database::Database;
use std::time::Duration;
use tokio::time::Instant;

/// Ours alone: no Airflow has a table of this name.
pub const TABLE: &str = "kube_airflow_init_lease";
/// How long the barrier waits for sessions that were told to end, before they are told again.
const BARRIER: Duration = Duration::from_millis(500);

/// A session with the server, and the table there.
pub(super) struct Ledger {
    session: Session,
    space: u32,
    table: String,
    /// How long an answer may take.
    reply: Duration,
}

/// A text of the server as a number.
fn number<T: std::str::FromStr + Default>(text: Option<&String>) -> T {
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn text(text: Option<&String>) -> String {
    text.cloned().unwrap_or_default()
}

/// The columns of [`row`].
const ROW: &str = "epoch::text, token, taken::text, released::text, barred::text, hostname";

fn row(columns: &[String]) -> Row {
    Row {
        epoch: number(columns.first()),
        token: text(columns.get(1)),
        taken: number(columns.get(2)),
        released: columns.get(3).is_some_and(|text| text == "true"),
        barred: number(columns.get(4)),
        host: text(columns.get(5)),
    }
}

/// Only the row that was seen.
fn same(row: &Row) -> String {
    format!("epoch = {} AND token = {} AND taken = {}", row.epoch, Dialect::literal(&row.token), row.taken)
}

impl Ledger {
    /// Connects to the primary, and finds the table; makes it, where `make` says so.
    ///
    /// # Errors
    /// The server is not there, is a standby, has no table, or does not let us make one.
    pub(super) async fn open(to: &Database, until: Instant, reply: Duration, make: bool) -> Result<Self, Refusal> {
        let missing = || Failure::lasting(Code::Settings, format!("{}: a lease needs Postgres", to.name()));
        let mut session = Session::open(to, until).await?.ok_or_else(missing)?;
        if make {
            session.extend(Instant::now() + reply * 5);
            let sql = format!(
                "CREATE TABLE IF NOT EXISTS {TABLE} (single boolean PRIMARY KEY DEFAULT true CHECK (single), epoch \
                 integer NOT NULL, token text NOT NULL, taken integer NOT NULL, released boolean NOT NULL, barred \
                 integer NOT NULL, hostname text NOT NULL, since timestamptz NOT NULL DEFAULT clock_timestamp())"
            );
            match session.rows(&sql, "the lease").await {
                // `IF NOT EXISTS` does not cover two that do it at the same time.
                Err(refusal) if !refusal.has_sqlstate(&["42P07", "23505"]) => return Err(refusal),
                _ => {}
            }
            let sql = format!(
                "INSERT INTO {TABLE} (epoch, token, taken, released, barred, hostname) VALUES (0, '', 0, true, 0, '') \
                 ON CONFLICT (single) DO NOTHING"
            );
            session.rows(&sql, "the lease").await?;
        }
        session.extend(Instant::now() + reply);
        // An epoch must outlive a crash of the server, which may be told to write its log later.
        let sql = format!(
            "SELECT c.oid::text, format('%I.%I', n.nspname, c.relname), pg_is_in_recovery()::text, CASE WHEN \
             current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', false) END FROM \
             pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass('{TABLE}')"
        );
        let found = session.rows(&sql, "the lease").await?;
        let name = session.name();
        match found.first().map(Vec::as_slice) {
            Some([_, _, recovery, _]) if recovery == "true" => {
                session.close().await;
                let reason = format!("{name}: the server is a standby, whose locks hold nobody back on the primary");
                Err(Failure::passing(Code::Unavailable, reason).into())
            }
            Some([space, table, ..]) => Ok(Self { session, space: number(Some(space)), table: table.clone(), reply }),
            _ => {
                session.close().await;
                Err(Failure::passing(Code::Unavailable, format!("{name}: the table {TABLE} is not there")).into())
            }
        }
    }

    pub(super) async fn close(self) {
        self.session.close().await;
    }

    /// The first key as Postgres' functions take it.
    fn key(&self) -> i32 {
        self.space.cast_signed()
    }

    async fn ask(&mut self, sql: &str) -> Result<Vec<Vec<String>>, Refusal> {
        self.session.extend(Instant::now() + self.reply);
        self.session.rows(sql, "the lease").await
    }

    /// What is true of the rows of `pg_locks` that are locks of ours.
    fn ours(&self) -> String {
        format!(
            "l.locktype = 'advisory' AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
             AND l.classid = {} AND l.objsubid = 2",
            self.space
        )
    }

    /// The row, and who has the lock.
    pub(super) async fn look(&mut self) -> Result<Look, Refusal> {
        let sql = format!(
            "SELECT {ROW}, h.pid::text, h.silent::text, h.changed FROM {} LEFT JOIN LATERAL (SELECT l.pid, \
             (extract(epoch FROM clock_timestamp() - a.state_change) * 1000)::bigint AS silent, a.state_change::text \
             AS changed FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid WHERE {} AND l.objid = 0 AND \
             l.granted LIMIT 1) h ON true",
            self.table,
            self.ours()
        );
        let rows = self.ask(&sql).await?;
        let columns = rows.first().cloned().unwrap_or_default();
        let holder = columns.get(6).filter(|pid| !pid.is_empty()).map(|pid| Holder {
            backend: number(Some(pid)),
            silent: Duration::from_millis(number(columns.get(7))),
            changed: text(columns.get(8)),
        });
        Ok(Look { row: row(&columns), holder })
    }

    /// The row alone.
    pub(super) async fn read(&mut self) -> Result<Row, Refusal> {
        let sql = format!("SELECT {ROW} FROM {}", self.table);
        Ok(self.ask(&sql).await?.first().map(|columns| row(columns)).unwrap_or_default())
    }

    /// Asks for the lock once.
    pub(super) async fn take(&mut self) -> Result<bool, Refusal> {
        let sql = format!("SELECT pg_try_advisory_lock({}, 0)::text", self.key());
        Ok(self.ask(&sql).await?.first().and_then(|row| row.first()).is_some_and(|text| text == "true"))
    }

    /// Changes the row that was seen, and returns what it is then; `None`: it is another one by now.
    async fn change(&mut self, seen: &Row, set: &str) -> Result<Option<Row>, Refusal> {
        let sql = format!("UPDATE {} SET {set} WHERE {} RETURNING {ROW}", self.table, same(seen));
        Ok(self.ask(&sql).await?.first().map(|columns| row(columns)))
    }

    /// Makes the row of a silent holder void: no question of it has a good answer from now on.
    pub(super) async fn void(&mut self, seen: &Row) -> Result<Option<Row>, Refusal> {
        self.change(seen, "epoch = epoch + 1, token = '', taken = 0, released = false").await
    }

    /// Ends the session of a holder. Whether it has been silent since it was looked at.
    pub(super) async fn terminate(&mut self, holder: &Holder) -> Result<bool, Refusal> {
        let sql = format!(
            "SELECT a.state_change::text, pg_terminate_backend(a.pid)::text FROM pg_locks l JOIN pg_stat_activity a ON \
             a.pid = l.pid WHERE {} AND l.objid = 0 AND l.granted AND l.pid = {}",
            self.ours(),
            holder.backend
        );
        let rows = self.ask(&sql).await?;
        Ok(rows.first().and_then(|row| row.first()).is_some_and(|changed| *changed == holder.changed))
    }

    /// The row becomes that of a new holder, who has the lock.
    pub(super) async fn raise(&mut self, seen: &Row, token: &str, host: &str) -> Result<Option<Row>, Refusal> {
        let (token, host) = (Dialect::literal(token), Dialect::literal(host));
        let set = format!(
            "epoch = epoch + 1, token = {token}, taken = 1, released = false, hostname = {host}, since = \
             clock_timestamp()"
        );
        self.change(seen, &set).await
    }

    /// The holder has taken the lock once more.
    pub(super) async fn again(&mut self, own: &Row) -> Result<Option<Row>, Refusal> {
        self.change(own, "taken = taken + 1").await
    }

    /// Ends all sessions of earlier epochs, and waits until the last one is gone. `false`: some are left for now.
    pub(super) async fn barrier(&mut self, own: &Row) -> Result<bool, Refusal> {
        let sql = format!(
            "SELECT pg_terminate_backend(l.pid)::text FROM pg_locks l WHERE {} AND l.objid::bigint BETWEEN 1 AND {} \
             AND l.pid <> pg_backend_pid()",
            self.ours(),
            own.epoch.saturating_sub(1)
        );
        self.ask(&sql).await?;
        let limit = format!("SET lock_timeout = {}", BARRIER.as_millis());
        self.ask(&limit).await?;
        for epoch in own.barred + 1..own.epoch {
            let sql = format!("SELECT pg_advisory_lock({}, {epoch})::text", self.key());
            match self.ask(&sql).await {
                Err(refusal) if refusal.has_sqlstate(&["55P03"]) => return Ok(false),
                passed => _ = passed?,
            }
            let sql = format!("SELECT pg_advisory_unlock({}, {epoch})::text", self.key());
            self.ask(&sql).await?;
        }
        self.ask("SET lock_timeout = 0").await?;
        Ok(self.change(own, "barred = epoch - 1").await?.is_some())
    }

    /// Whether this session has the lock, and the row is still ours.
    pub(super) async fn confirm(&mut self, own: &Row) -> Result<bool, Refusal> {
        let sql = format!(
            "SELECT epoch::text FROM {} WHERE {} AND EXISTS (SELECT 1 FROM pg_locks l WHERE {} AND l.objid = 0 AND \
             l.granted AND l.pid = pg_backend_pid())",
            self.table,
            same(own),
            self.ours()
        );
        Ok(!self.ask(&sql).await?.is_empty())
    }

    /// The last process of the role is gone.
    pub(super) async fn release(&mut self, own: &Row) -> Result<bool, Refusal> {
        Ok(self.change(own, "released = true").await?.is_some())
    }

    pub(super) fn ticket(&self, own: &Row) -> Ticket {
        Ticket { space: self.space, epoch: own.epoch, token: own.token.clone(), table: self.table.clone() }
    }

    pub(super) fn name(&self) -> String {
        self.session.name()
    }
}
