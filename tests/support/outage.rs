//! What can happen to a real server: it is killed, it stands still, it hangs up on everybody, it forgets a consumer.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use crate::common::postgres::{self, program};
use crate::common::{Server, eventually, rabbitmq};
use crate::stack::process::{descendants, describe};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::{Child, Command, Stdio};

/// All processes of a server.
fn processes(server: &Server) -> Vec<i32> {
    descendants(server.watchdog(), &[]).into_iter().filter(|process| describe(*process).is_some()).collect()
}

/// Kills a server as the kernel does when memory runs out: it says goodbye to nobody. [`Server::again`] starts it anew.
pub(crate) fn killed(server: &Server) {
    eventually("the server has ended", || {
        let all = processes(server);
        for process in &all {
            let _ = kill(Pid::from_raw(*process), Signal::SIGKILL);
        }
        all.is_empty()
    });
}

/// A server whose processes are stopped until this value is dropped, or until the test process has ended.
pub(crate) struct Stopped(Child);

/// Stops a server: its port accepts connections, and nobody answers.
pub(crate) fn stopped(server: &Server) -> Stopped {
    let script = "kill -s STOP \"$@\"; cat >/dev/null; kill -s CONT \"$@\"";
    let mut helper = Command::new("setsid");
    helper.args(["sh", "-c", script, "sh"]).args(processes(server).iter().map(ToString::to_string));
    Stopped(helper.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
}

impl Drop for Stopped {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// A transaction whose locks keep everybody else waiting until it is dropped.
pub(crate) struct Locked(Child);

pub(crate) fn locked(database: &str, lock: &str) -> Locked {
    let server = postgres::server();
    let mut psql = Command::new(program("psql"));
    psql.args(["-X", "-q", "-U", "postgres", "-d", database, "-p", &server.port.to_string()]);
    psql.arg("-h").arg(&server.server.folder);
    psql.args(["-c", &format!("BEGIN; LOCK TABLE {lock}; SELECT pg_sleep(3600);")]);
    Locked(psql.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

impl Drop for Locked {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        hung_up("query LIKE '%pg_sleep(3600)%'");
    }
}

/// Postgres ends sessions, as a failover or an administrator does.
pub(crate) fn hung_up(sessions: &str) {
    let sql = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {sessions} AND pid <> pg_backend_pid();"
    );
    postgres::server().sql("postgres", &sql);
}

/// `RabbitMQ` ends every connection to a virtual host.
pub(crate) fn all_closed(vhost: &str) {
    rabbitmq::server().control(&["close_all_connections", "--vhost", vhost, "maintenance"]);
}

/// `RabbitMQ` forgets who consumes a queue, and tells nobody: the consumers believe that they are served. This is how a
/// worker looks that lost its consumer while the connections came back.
pub(crate) fn forgotten(vhost: &str, queue: &str) {
    let code = format!(
        "Name = rabbit_misc:r(<<\"{vhost}\">>, queue, <<\"{queue}\">>), {{ok, Queue}} = rabbit_amqqueue:lookup(Name), \
         Cancel = fun(One) -> {{_, Channel}} = lists:keyfind(channel_pid, 1, One), \
         {{_, Tag}} = lists:keyfind(consumer_tag, 1, One), ok = gen_server2:call(amqqueue:get_pid(Queue), \
         {{basic_cancel, Channel, Tag, undefined, <<\"test\">>}}) end, \
         [Cancel(One) || One <- rabbit_amqqueue:consumers_all(<<\"{vhost}\">>), \
         lists:keyfind(queue_name, 1, One) =:= {{queue_name, Name}}]."
    );
    eventually("a consumer is there, and forgotten", || rabbitmq::server().control(&["eval", &code]).contains("ok"));
}
