//! What probes say of a Celery worker whose part the test plays, on a real `RabbitMQ`.

use crate::asleep::Fake;
use crate::common::{NASTY, eventually, postgres, rabbitmq};
use crate::{asleep, common};
use kube_airflow_init::service::broker::Amqp;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ConsumerDelegate, ExchangeKind};
use nix::sys::signal::Signal;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

fn hostname() -> String {
    nix::unistd::gethostname().unwrap().into_string().unwrap()
}

pub(crate) fn fake(broker: &Amqp) -> Fake {
    let mut fake = Fake::new("3.3.2");
    let database = postgres::server().database();
    fake.database(&database, NASTY);
    fake.set("POSTGRES_EXTRAS", "?sslmode=disable");
    fake.set("RABBITMQ_HOST", broker.host.raw());
    fake.set("RABBITMQ_PORT", &broker.port.to_string());
    fake.set("RABBITMQ_CREDS", &format!("{}:{NASTY}", broker.user));
    fake.set("RABBITMQ_VHOST", broker.vhost.raw());
    fake.set("KUBE_AIRFLOW_API_URL", "http://127.0.0.1:8080");
    fake
}

/// What the worker answers by method; nothing to a method that is not there.
type Script = Arc<Mutex<Value>>;

/// A worker as it looks from the broker.
pub(crate) struct Worker {
    runtime: tokio::runtime::Runtime,
    connection: Connection,
    channel: Channel,
    script: Script,
    /// The requests that it was sent.
    asked: Arc<Mutex<Vec<Value>>>,
}

#[derive(Clone)]
struct Answering {
    channel: Channel,
    node: String,
    script: Script,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl ConsumerDelegate for Answering {
    fn on_new_delivery(&self, delivery: lapin::message::DeliveryResult) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let me = self.clone();
        Box::pin(async move {
            let Ok(Some(delivery)) = delivery else { return };
            let request: Value = serde_json::from_slice(&delivery.data).unwrap();
            me.asked.lock().unwrap().push(request.clone());
            if !request["destination"].as_array().unwrap().contains(&json!(me.node)) {
                return;
            }
            let method = request["method"].as_str().unwrap();
            let Some(answer) = me.script.lock().unwrap().get(method).cloned() else { return };
            let mut headers = FieldTable::default();
            let ticket = request["ticket"].as_str().unwrap();
            headers.insert("ticket".into(), AMQPValue::LongString(ticket.into()));
            let properties = BasicProperties::default().with_headers(headers);
            let to = &request["reply_to"];
            let (exchange, key) = (to["exchange"].as_str().unwrap(), to["routing_key"].as_str().unwrap());
            let body = json!({ me.node.as_str(): answer }).to_string();
            let options = BasicPublishOptions::default();
            me.channel.basic_publish(exchange.into(), key.into(), options, body.as_bytes(), properties).await.unwrap();
        })
    }
}

impl Worker {
    pub(crate) fn start(broker: &Amqp, node: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let script: Script = Arc::new(Mutex::new(json!({
            "ping": { "ok": "pong" },
            "active_queues": [{ "name": "default" }, { "name": "no such queue" }],
            "active": [],
            "stats": { "total": { "execute_workload": 7 }, "pool": { "max-concurrency": 2 } },
        })));
        let asked = Arc::default();
        let url = broker.to_url();
        let (connection, channel) = runtime.block_on(async {
            let connection = Connection::connect(url.expose_secret(), ConnectionProperties::default()).await.unwrap();
            let channel = connection.create_channel().await.unwrap();
            let (empty, declare) = (FieldTable::default, ExchangeDeclareOptions::default());
            channel.exchange_declare("celery.pidbox".into(), ExchangeKind::Fanout, declare, empty()).await.unwrap();
            let queue = format!("{node}.celery.pidbox");
            let options = QueueDeclareOptions { auto_delete: true, ..QueueDeclareOptions::default() };
            channel.queue_declare(queue.as_str().into(), options, empty()).await.unwrap();
            let bind = QueueBindOptions::default();
            channel.queue_bind(queue.as_str().into(), "celery.pidbox".into(), "".into(), bind, empty()).await.unwrap();
            let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            channel.queue_declare("default".into(), options, empty()).await.unwrap();
            let consume = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
            let consumer = channel.basic_consume(queue.as_str().into(), "".into(), consume, empty()).await.unwrap();
            let (script, asked, node) = (Arc::clone(&script), Arc::clone(&asked), node.to_owned());
            consumer.set_delegate(Answering { channel: channel.clone(), node, script, asked });
            (connection, channel)
        });
        Self { runtime, connection, channel, script, asked }
    }

    fn answers(&self, method: &str, answer: &Value) {
        self.script.lock().unwrap()[method] = answer.clone();
    }

    fn is_silent_to(&self, method: &str) {
        self.script.lock().unwrap().as_object_mut().unwrap().remove(method);
    }

    /// Puts a task into the worker's queue.
    fn task(&self) {
        let options = BasicPublishOptions::default();
        let sent = self.channel.basic_publish("".into(), "default".into(), options, b"{}", BasicProperties::default());
        self.runtime.block_on(sent).unwrap();
    }

    fn methods(&self) -> Vec<String> {
        let asked = std::mem::take(&mut *self.asked.lock().unwrap());
        asked.iter().map(|request| request["method"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn end(self) {
        self.runtime.block_on(self.connection.close(200, "Goodbye".into())).unwrap();
    }
}

#[track_caller]
fn expect(fake: &Fake, verdicts: &str, reason: &str) {
    let (found, lines) = fake.all();
    assert!(found == verdicts && lines.contains(reason), "wanted {verdicts} and `{reason}`, found {found}:\n{lines}");
    assert!(!lines.contains(NASTY), "{lines}");
}

#[test]
fn a_worker_is_pinged_by_its_name_alone() {
    let broker = rabbitmq::server().vhost();
    let mut fake = fake(&broker);
    fake.start(&["worker"]);
    let node = format!("celery@{}", hostname());
    expect(&fake, "Udd", &format!("worker is starting: {node} is not connected"));
    let other = Worker::start(&broker, "celery@another");
    expect(&fake, "Udd", "is not connected");
    let worker = Worker::start(&broker, &node);
    expect(&fake, "UUU", &format!("{node} answered a ping in"));
    let mut methods = worker.methods();
    // Both are sent at once.
    methods[..2].sort();
    assert_eq!(methods, ["active_queues", "ping", "ping", "ping"]);
    assert_eq!(other.methods(), Vec::<String>::new(), "a thousand workers would wake up for each probe of one");

    // A user who may not write to the default exchange asks as Celery does; the destination is one, in a list.
    let write = "^(?!amq\\.default$).*";
    rabbitmq::server().control(&["set_permissions", "-p", broker.vhost.raw(), rabbitmq::LOGIN, ".*", write, ".*"]);
    expect(&fake, "UUU", &format!("{node} answered a ping in"));
    eventually("the other worker is sent the requests as well", || other.asked.lock().unwrap().len() >= 4);
    let seen = other.asked.lock().unwrap().clone();
    assert!(seen.iter().all(|request| request["destination"] == json!([node])), "{seen:?}");
    rabbitmq::server().control(&["set_permissions", "-p", broker.vhost.raw(), rabbitmq::LOGIN, ".*", ".*", ".*"]);

    worker.is_silent_to("ping");
    let (up, line) = fake.probe(&["liveness", "--timeout", "3s"]);
    assert!(!up && line.contains("is connected to the broker and does not answer"), "{line}");
    other.end();
    worker.end();
    expect(&fake, "ddd", "is not connected to the broker");
}

#[test]
fn a_name_from_the_command_line_is_used() {
    let broker = rabbitmq::server().vhost();
    let mut fake = fake(&broker);
    fake.start(&["airflow", "celery", "worker", "-q", "default", "-H", "gpu@%h"]);
    let worker = Worker::start(&broker, &format!("gpu@{}", hostname()));
    expect(&fake, "UUU", "gpu@");
    worker.end();
}

#[test]
fn a_worker_that_takes_nothing_from_a_queue_with_messages_is_catatonic() {
    let broker = rabbitmq::server().vhost();
    let mut fake = fake(&broker);
    fake.start(&["worker"]);
    let worker = Worker::start(&broker, &format!("celery@{}", hostname()));
    expect(&fake, "UUU", "");
    let stalled = |fake: &Fake| {
        let text = std::fs::read(fake.path("run/worker-probes.json")).unwrap();
        serde_json::from_slice::<Value>(&text).unwrap()["stalled"].clone()
    };
    let age = |fake: &Fake, seconds: f64| {
        fake.remember("worker", |file| {
            for field in [1, 2] {
                file["stalled"][field] = (file["stalled"][field].as_f64().unwrap() - seconds).into();
            }
        });
    };
    assert_eq!(stalled(&fake), Value::Null);
    worker.task();
    eventually("the message is seen", || {
        assert!(fake.probe(&["liveness"]).0);
        stalled(&fake).is_array()
    });
    // Probes every two minutes: after the third, more than five have gone by.
    for _ in 0..2 {
        age(&fake, 120.0);
        expect(&fake, "UUU", "");
    }
    age(&fake, 120.0);
    expect(&fake, "dUU", "has taken none of 1 waiting messages for 36");
    fake.set("KUBE_AIRFLOW_CATATONIC_AFTER", "10m");
    expect(&fake, "UUU", "");
    fake.set("KUBE_AIRFLOW_CATATONIC_AFTER", "5m");
    // Busy, or working: not catatonic.
    worker.answers("active", &json!([{}, {}]));
    expect(&fake, "UUU", "");
    assert_eq!(stalled(&fake), Value::Null);
    worker.answers("active", &json!([{}]));
    expect(&fake, "UUU", "");
    age(&fake, 170.0);
    worker.answers("stats", &json!({ "total": { "execute_workload": 8 }, "pool": { "max-concurrency": 2 } }));
    expect(&fake, "UUU", "");
    assert_eq!(stalled(&fake)[1], stalled(&fake)[2]);
    // Told to take nothing: that is not its fault.
    worker.answers("active_queues", &json!([]));
    expect(&fake, "UUU", "");
    assert_eq!(stalled(&fake), Value::Null);
    worker.end();
}

#[test]
fn an_outage_of_the_broker_restarts_no_worker() {
    let broker = rabbitmq::server().vhost();
    let mut fake = fake(&broker);
    fake.start(&["worker"]);
    let worker = Worker::start(&broker, &format!("celery@{}", hostname()));
    expect(&fake, "UUU", "");
    fake.set("RABBITMQ_PORT", &common::free_port().to_string());
    expect(&fake, "Udd", "connection refused");
    fake.set("RABBITMQ_PORT", &broker.port.to_string());
    fake.set("RABBITMQ_CREDS", "airflow:wrong");
    expect(&fake, "Udd", "refuses the password");
    // The broker is back, the worker not yet.
    fake.set("RABBITMQ_CREDS", &format!("{}:{NASTY}", broker.user));
    worker.end();
    expect(&fake, "Udd", "recovers from an outage: celery@");
}

#[test]
fn without_remote_control_and_while_draining_nothing_is_sent() {
    let broker = rabbitmq::server().vhost();
    let mut fake = fake(&broker);
    fake.set("AIRFLOW__CELERY__WORKER_ENABLE_REMOTE_CONTROL", "False");
    let script = "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1; done\n";
    std::fs::write(fake.path("bin/airflow"), script).unwrap();
    fake.start(&["worker"]);
    let worker = Worker::start(&broker, &format!("celery@{}", hostname()));
    expect(&fake, "UUU", "remote control is off");
    fake.signal(Signal::SIGTERM);
    eventually("it is stopping", || fake.status()["stopping"].is_number());
    fake.set("AIRFLOW__CELERY__WORKER_ENABLE_REMOTE_CONTROL", "True");
    expect(&fake, "Udd", "worker is stopping");
    assert_eq!(worker.methods(), Vec::<String>::new());
    fake.signal(Signal::SIGKILL);
    worker.end();
}

#[test]
fn flower_is_asked_under_its_prefix_and_is_ready_only_with_a_broker() {
    use std::io::{Read as _, Write as _};
    let broker = rabbitmq::server().vhost();
    let mut fake = fake(&broker);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    fake.set("AIRFLOW__CELERY__FLOWER_PORT", &listener.local_addr().unwrap().port().to_string());
    fake.set("FLOWER_URL_PREFIX", "/flw");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut request) = (stream.unwrap(), [0; 1024]);
            let read = stream.read(&mut request).unwrap();
            let right = request[..read].starts_with(b"GET /flw/healthcheck ");
            let status = if right { 200 } else { 404 };
            stream.write_all(format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n").as_bytes()).unwrap();
        }
    });
    fake.start(&["flower"]);
    expect(&fake, "UUU", "flower answers GET /flw/healthcheck");
    fake.set("RABBITMQ_PORT", &common::free_port().to_string());
    expect(&fake, "UdU", "connection refused");
}

#[test]
fn many_pings_leave_no_queue_and_no_connection() {
    let broker = rabbitmq::server().vhost();
    let mut fake = fake(&broker);
    fake.start(&["worker"]);
    let worker = Worker::start(&broker, &format!("celery@{}", hostname()));
    let processes = fake.processes();
    for _ in 0..1000 {
        let (up, line) = fake.probe(&["liveness"]);
        assert!(up, "{line}");
    }
    assert_eq!(fake.processes(), processes);
    let children: Vec<_> = (0..50).map(|_| fake.probe_later(&["readiness", "--timeout", "60s"])).collect();
    for child in children {
        let (up, line) = asleep::answer(&child.wait_with_output().unwrap());
        assert!(up, "{line}");
    }
    let list = |what: &[&str]| {
        let text = rabbitmq::server().control(&[&["-q", "--no-table-headers"], what].concat());
        text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    eventually("only the worker's queues are left", || {
        let queues = list(&["list_queues", "-p", broker.vhost.raw(), "name"]);
        queues.len() == 2 && queues.iter().all(|name| !name.contains("reply"))
    });
    let clients = list(&["list_connections", "vhost", "client_properties"]);
    let ours = clients
        .iter()
        .filter(|line| line.starts_with(&format!("{}\t", broker.vhost)) && line.contains("kube-airflow-init"));
    assert_eq!(ours.count(), 0, "{clients:?}");
    let log = rabbitmq::server().log();
    let ours = format!("vhost: '{}'", broker.vhost);
    let lines: Vec<&str> = log.lines().collect();
    let rude = lines.windows(2).filter(|pair| pair[1].contains("client unexpectedly closed"));
    let rude: Vec<_> = rude.filter(|pair| pair[0].contains("kube-airflow-init") && pair[0].contains(&ours)).collect();
    assert!(rude.is_empty(), "{rude:?}");
    worker.end();
}
