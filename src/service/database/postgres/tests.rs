//! How servers refuse, and what that means.

use super::*;

#[test]
fn tls_is_asked_for_in_libpqs_order() {
    for (mode, order) in [
        ("disable", &[false] as &[bool]),
        ("allow", &[false, true]),
        ("prefer", &[true, false]),
        ("require", &[true]),
        ("verify-full", &[true]),
    ] {
        let site = Postgres { parameters: vec![("sslmode".into(), mode.into())], ..to("db") };
        assert_eq!(ways(&site), order, "{mode}");
        // On the same machine there is none.
        assert_eq!(ways(&Postgres { host: "/run/postgresql".into(), ..site }), [false], "{mode}");
    }
}

#[test]
fn the_servers_own_words_are_kept_and_a_hint_follows_only_where_tls_was_not_tried() {
    let text = "no pg_hba.conf entry for host \"10.0.0.1\", user \"airflow\", database \"airflow\", no encryption";
    for (tried, hint) in [(false, true), (true, false)] {
        let failure = refused(&to("db"), "db:5432/airflow", "28000", text, tried);
        assert_eq!((failure.code, failure.heals), (Code::Denied, false), "{failure}");
        assert!(failure.reason.contains("no pg_hba.conf entry for host"), "{failure}");
        assert_eq!(failure.reason.contains("sslmode=require"), hint, "{failure}");
    }
}

fn to(host: &str) -> Postgres {
    Postgres {
        host: host.into(),
        port: 5432,
        user: "airflow".into(),
        password: None,
        name: "airflow".into(),
        parameters: Vec::new(),
        driver: Driver::default(),
        default_port: false,
    }
}

/// A server that says it has TLS and has not, and without TLS answers with an error of this state. Real servers do
/// not fail like that on demand.
async fn broken_tls(listener: tokio::net::TcpListener, state: &str) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut message = [0_u8; 1024];
        let read = stream.read(&mut message).await.unwrap();
        // The request for TLS is eight bytes long, a start-up message is longer.
        if read == 8 {
            stream.write_all(b"S").await.unwrap();
            let _ = stream.read(&mut message).await;
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        } else {
            let text = format!("SFATAL\0VFATAL\0C{state}\0Mno encryption\0\0");
            let length = u32::try_from(text.len() + 4).unwrap().to_be_bytes();
            stream.write_all(&[b"E", &length[..], text.as_bytes()].concat()).await.unwrap();
        }
        // Until the client goes.
        let _ = stream.read(&mut message).await;
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_handshake_that_fails_is_tried_again_without_tls_where_tls_is_only_preferred() {
    for (mode, state, code, words) in [
        ("prefer", "3D000", Code::NoDatabase, "does not exist"),
        ("allow", "3D000", Code::NoDatabase, "does not exist"),
        ("require", "3D000", Code::Tls, "does not speak TLS"),
        // What failed first is told where the server insists on TLS.
        ("prefer", "28000", Code::Tls, "does not speak TLS"),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let to = Postgres { port, parameters: vec![("sslmode".into(), mode.into())], ..to("127.0.0.1") };
        let server = tokio::spawn(broken_tls(listener, state));
        let failure = check(&to, std::time::Duration::from_secs(30)).await.unwrap_err();
        server.abort();
        assert_eq!(failure.code, code, "{mode} {state}: {failure}");
        assert!(failure.reason.contains(words), "{mode} {state}: {failure}");
    }
}

/// The states that a test cannot easily bring a real server into; `tests/services/wait.rs` has the others.
#[test]
fn a_server_that_starts_stops_or_is_full_may_heal() {
    let to = to("db");
    for (state, text) in [
        ("57P03", "the database system is starting up"),
        ("57P01", "terminating connection due to administrator command"),
        ("53300", "sorry, too many clients already"),
        ("08P01", "server login has been failing, try again later"),
    ] {
        let failure = refused(&to, "db:5432/airflow", state, text, true);
        assert_eq!((failure.code, failure.heals), (Code::Unavailable, true), "{state}");
        assert!(failure.reason.starts_with("db:5432/airflow: ") && failure.reason.contains(text), "{failure}");
    }
    let forbidden = refused(&to, "db:5432/airflow", "42501", "permission denied for database \"airflow\"", true);
    assert_eq!((forbidden.code, forbidden.heals), (Code::Denied, false));
}
