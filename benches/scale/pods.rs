//! Pods: each a real init with a role that sleeps, and real probes at the periods of the manifests.

use crate::asleep::{Fake, answer};
use crate::cgroup::Cgroup;
use crate::common::NASTY;
use kube_airflow_init::service::broker::Amqp;
use kube_airflow_init::service::database::Postgres;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Seconds between two probes, of docs/probes.md for roles without pages.
pub(crate) const LIVENESS: f64 = 20.0;
pub(crate) const READINESS: f64 = 30.0;

/// Where pods find their services.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) database: Postgres,
    pub(crate) rabbitmq: Amqp,
    pub(crate) redis: u16,
}

/// A number of pods that are alike.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) role: &'static str,
    /// Whether somebody keeps connections for probes, as by default.
    pub(crate) kept: bool,
    /// Whether the broker is a Redis.
    pub(crate) redis: bool,
}

pub(crate) const PREFIX: &str = "pod-";

impl Shape {
    fn pod(self, number: usize, place: &Place) -> Fake {
        let mut fake = Fake::new("3.3.2");
        if self.kept {
            fake.kept();
        }
        fake.database(&place.database, NASTY);
        fake.set("POSTGRES_EXTRAS", "?sslmode=disable");
        fake.set("EXECUTOR", "Celery");
        fake.set("KUBE_AIRFLOW_API_URL", "http://127.0.0.1:8080");
        fake.set("KUBE_AIRFLOW_HOSTNAME", &format!("{PREFIX}{number}"));
        fake.set("KUBE_AIRFLOW_WAIT_TIMEOUT", "10m");
        if self.redis {
            speaks(&fake, place.redis);
            fake.set("AIRFLOW__CELERY__BROKER_URL", &format!("redis://127.0.0.1:{}/0", place.redis));
        } else {
            fake.set("RABBITMQ_HOST", place.rabbitmq.host.raw());
            fake.set("RABBITMQ_PORT", &place.rabbitmq.port.to_string());
            fake.set("RABBITMQ_CREDS", &format!("{}:{NASTY}", place.rabbitmq.user));
            fake.set("RABBITMQ_VHOST", place.rabbitmq.vhost.raw());
        }
        fake
    }

    /// Begins all of them at once, each in a memory cgroup of its own, as containers are: who watches the memory looks
    /// at the processes of the pod alone.
    pub(crate) fn begin(self, count: usize, place: &Place) -> Vec<Pod> {
        let begin = |number| {
            let mut fake = self.pod(number, place);
            let name = format!("{PREFIX}{number}");
            let worker = ["airflow", "celery", "worker", "-H", &name];
            let words = if self.role == "worker" { &worker[..] } else { &[self.role] };
            let group = Cgroup::new(256);
            match &group {
                Some(group) => fake.begin_in(&group.procs(), words),
                None => fake.begin(words),
            }
            Pod { fake, _group: group }
        };
        (0..count).map(begin).collect()
    }
}

/// Gives a pod a main process that asks its Redis for messages as often as a Celery worker does: a probe looks at its
/// connection.
fn speaks(fake: &Fake, port: u16) {
    let asks = r"*3\r\n$5\r\nBRPOP\r\n$6\r\nnobody\r\n$1\r\n1\r\n";
    let lines = [
        "#!/bin/bash".to_owned(),
        format!("# {}/python", fake.path("bin").display()),
        format!("exec 3<>/dev/tcp/127.0.0.1/{port}"),
        format!("while printf '{asks}' >&3; do read -r -u 3 _; done"),
    ];
    std::fs::write(fake.path("bin/airflow"), lines.join("\n") + "\n").unwrap();
}

/// One of them. Its group ends after it.
pub(crate) struct Pod {
    pub(crate) fake: Fake,
    _group: Option<Cgroup>,
}

/// Waits until every pod runs, and, where somebody is to keep connections, does so.
pub(crate) fn until_running(pods: &[Pod], shape: Shape) {
    for pod in pods {
        pod.fake.until("running");
    }
    for pod in pods.iter().filter(|_| shape.kept) {
        pod.fake.until_kept();
    }
}

/// Probes all pods until `stop`, each at times of its own. Seconds that each probe took, and how many were down.
pub(crate) fn probe(pods: &[Pod], stop: &AtomicBool) -> (Vec<f64>, usize) {
    let begun = Instant::now();
    let one = |pod: &Fake, kind: &str, period: f64, first: f64| {
        let (mut walls, mut down, mut due) = (Vec::new(), 0, first);
        loop {
            while begun.elapsed().as_secs_f64() < due {
                if stop.load(Ordering::Relaxed) {
                    return (walls, down);
                }
                thread::sleep(Duration::from_millis(100));
            }
            let asked = Instant::now();
            let output = pod.probe_later(&[kind]).wait_with_output().unwrap();
            walls.push(asked.elapsed().as_secs_f64());
            let (up, line) = answer(&output);
            if !up {
                down += 1;
                if down == 1 {
                    eprintln!("{kind}: {line}");
                }
            }
            due += period;
        }
    };
    thread::scope(|scope| {
        let mut asking = Vec::new();
        for (number, pod) in pods.iter().enumerate() {
            for (at, (kind, period)) in [("liveness", LIVENESS), ("readiness", READINESS)].into_iter().enumerate() {
                // Spread evenly, and the two kinds of one pod without a fixed distance.
                #[allow(clippy::cast_precision_loss, reason = "hundreds")]
                let share = ((number * (7 + 4 * at)) % pods.len()) as f64 / pods.len() as f64;
                asking.push(scope.spawn(move || one(&pod.fake, kind, period, share * period)));
            }
        }
        let (mut walls, mut down) = (Vec::new(), 0);
        for asking in asking {
            let (more, failed) = asking.join().unwrap();
            walls.extend(more);
            down += failed;
        }
        (walls, down)
    })
}
