//! What we read of the URL of a Redis is what kombu's transport gives to its client.

use crate::python;
use kube_airflow_init::service::broker::Broker;
use kube_airflow_init::service::broker::redis::Place;
use secrecy::ExposeSecret;
use serde_json::json;

#[test]
fn we_read_of_a_redis_what_kombu_gives_to_its_client() {
    let urls = [
        "redis://",
        "redis://h",
        "redis://H:6380/3",
        "redis://h//3",
        "redis://h/x",
        "redis://h:0/",
        "redis://:p%40%2Fss@h/",
        "redis://ann:p:w@[::1]:1/15",
        "redis://ann@h",
        "redis://ann:@h/%31",
        "rediss://h",
        "rediss://:p@h:1/2?ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs=/ca.pem",
        "rediss://h?ssl_cert_reqs=none",
        "rediss://h?ssl_cert_reqs=optional",
        "redis://h?ssl_ca_certs=/ca.pem",
        "redis+socket:///run/redis.sock",
        "redis+socket://:p%40@/run/r%20s.sock?virtual_host=4",
    ];
    let asked: Vec<_> = urls.iter().map(|url| json!(url)).collect();
    for (url, found) in urls.iter().zip(python::airflow3().ask("redis", &asked)) {
        let ours = match Broker::parse(url) {
            Ok(Broker::Redis(ours)) => ours,
            other => {
                assert_eq!(found, json!(null), "{url}: {other:?}");
                continue;
            }
        };
        let (host, port, path) = match &ours.place {
            Place::Socket(path) => (json!(null), json!(null), json!(path)),
            Place::Tcp { host, port } | Place::Sentinel { host, port } => (json!(host.raw()), json!(port), json!(null)),
        };
        let password = ours.password.as_ref().map(ExposeSecret::expose_secret);
        let checked = ours.tls.as_ref().is_some_and(|tls| tls.verify);
        let expected = json!([
            host,
            port,
            path,
            Some(ours.user.raw()).filter(|user| !user.is_empty()),
            password,
            ours.database,
            ours.tls.is_some(),
            checked
        ]);
        assert_eq!(found, expected, "{url}");
    }
}
