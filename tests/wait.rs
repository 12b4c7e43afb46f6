//! The checks and the wait against real servers: every reason has its message and its exit status.

mod common;

use common::{NASTY, block_on};

#[test]
fn smoke() {
    let p = common::postgres::server().database();
    println!("{:?}", block_on(kube_airflow_init::check::postgres::ready(&p)));
    let mut q = p.clone();
    q.name = "nope".into();
    println!("{:?}", block_on(kube_airflow_init::check::postgres::ready(&q)));
    q.password = Some("x".into());
    println!("{:?}", block_on(kube_airflow_init::check::postgres::ready(&q)));
    let node = common::rabbitmq::server();
    let b = node.vhost();
    println!("{:?}", block_on(kube_airflow_init::check::amqp::ready(&b)));
    println!("{:?}", block_on(kube_airflow_init::check::amqp::ready(&node.tls(&b))));
    let mut q = b.clone();
    q.vhost = "nope".into();
    println!("{:?}", block_on(kube_airflow_init::check::amqp::ready(&q)));
    q.vhost = "closed".into();
    println!("{:?}", block_on(kube_airflow_init::check::amqp::ready(&q)));
    q.password = "x".into();
    println!("{:?}", block_on(kube_airflow_init::check::amqp::ready(&q)));
    println!("{}", &node.log()[node.log().len() - 5000..]);
    println!("{}", common::postgres::server().log());
    println!("{NASTY}");
}
