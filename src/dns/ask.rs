//! Asking name servers: each for both families, the next one when one is silent or cannot say.

use super::conf::{Conf, Families};
use super::message::{self, Kind, Said};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

/// What was found out about one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has these addresses.
    Found(Vec<IpAddr>),
    /// It has none. Each server that was asked with its words, and whether the next domain is worth a question.
    Missing(Vec<(IpAddr, String)>, bool),
}

/// What came of one question to one server.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reply {
    Said(Said),
    /// Nobody could be asked, or the answer broke off.
    Broken(String),
    Silent,
}

impl Reply {
    /// In a few words.
    fn words(&self) -> String {
        match self {
            Self::Said(Said::Addresses(_)) => "addresses".to_owned(),
            Self::Said(Said::NoAddress) => "that it has no address".to_owned(),
            Self::Said(Said::NoName) => "NXDOMAIN".to_owned(),
            Self::Said(Said::Unable(word)) => (*word).to_owned(),
            Self::Said(Said::Fault(1)) => "FORMERR".to_owned(),
            Self::Said(Said::Fault(code)) => format!("code {code}"),
            Self::Said(Said::Truncated) => "half".to_owned(),
            Self::Broken(why) => why.clone(),
            Self::Silent => "nothing".to_owned(),
        }
    }

    /// Whether another server would not be asked after this.
    const fn is_final(&self) -> bool {
        matches!(self, Self::Said(Said::Addresses(_) | Said::NoAddress | Said::NoName | Said::Fault(_)))
    }

    const fn is_said(&self, said: &Said) -> bool {
        matches!(
            (self, said),
            (Self::Said(Said::NoName), Said::NoName) | (Self::Said(Said::NoAddress), Said::NoAddress)
        )
    }
}

/// Asks the servers of `conf` for `name` until one of them knows, and no longer than `until`. A server that is silent
/// holds up the next one for its time, or for its share of what there is, and may still answer then.
pub(super) async fn ask(conf: &Arc<Conf>, name: &str, until: Instant) -> Verdict {
    let mut servers = conf.servers.clone();
    let count = servers.len();
    if conf.rotate && count > 1 {
        servers.rotate_left(usize::try_from(getrandom::u32().unwrap_or_default()).unwrap_or_default() % count);
    }
    let mut asked: JoinSet<(usize, [Reply; 2])> = JoinSet::new();
    let mut said: Vec<Option<[Reply; 2]>> = vec![None; count];
    let mut next = 0;
    let mut turn = Instant::now();
    loop {
        let now = Instant::now();
        if next < count && now >= turn {
            let (own, name, server, at) = (Arc::clone(conf), name.to_owned(), servers[next], next);
            asked.spawn(async move { (at, both(&own, server, &name, until).await) });
            next += 1;
            let share = until.saturating_duration_since(now) / u32::try_from(count - at + 1).unwrap_or(u32::MAX);
            turn = now + conf.timeout.min(share);
        }
        let ended = tokio::select! {
            ended = asked.join_next() => ended,
            () = sleep_until(turn), if next < count => continue,
        };
        match ended {
            Some(Ok((at, pair))) => {
                if pair[0] != Reply::Silent && pair.iter().any(Reply::is_final) {
                    return verdict(servers[at].ip(), &pair);
                }
                said[at] = Some(pair);
                turn = Instant::now();
            }
            // Nobody ends these tasks.
            Some(Err(_)) => {}
            None if next < count => {}
            None => break,
        }
    }
    let servfail = Reply::Said(Said::Unable("SERVFAIL"));
    let goes_on = said.iter().flatten().flatten().any(|reply| *reply == servfail);
    let words = servers
        .iter()
        .zip(&said)
        .map(|(server, pair)| (server.ip(), pair.as_ref().map_or_else(|| "nothing".to_owned(), words)));
    Verdict::Missing(words.collect(), goes_on)
}

/// What one server's answer means, which the others are not asked about.
fn verdict(server: IpAddr, pair: &[Reply; 2]) -> Verdict {
    let mut found = Vec::new();
    for reply in pair {
        if let Reply::Said(Said::Addresses(addresses)) = reply {
            found.extend(addresses);
        }
    }
    if !found.is_empty() {
        return Verdict::Found(found);
    }
    let goes_on = pair.iter().any(|reply| reply.is_said(&Said::NoName) || reply.is_said(&Said::NoAddress));
    Verdict::Missing(vec![(server, words(pair))], goes_on)
}

fn words(pair: &[Reply; 2]) -> String {
    let [a, aaaa] = pair.each_ref().map(Reply::words);
    if a == aaaa { a } else { format!("{a} for A and {aaaa} for AAAA") }
}

/// Both families, at once unless told otherwise. What is known of IPv4 is not lost by silence about IPv6, which gets as
/// long as a server may take, and no more than half of what is left. It is not so the other way round: glibc takes a
/// server that is silent about IPv4 for a silent one.
async fn both(conf: &Conf, server: SocketAddr, name: &str, until: Instant) -> [Reply; 2] {
    let a = exchange(conf, server, name, Kind::A, until);
    if conf.families == Families::Four {
        return [a.await, Reply::Said(Said::NoAddress)];
    }
    let aaaa = exchange(conf, server, name, Kind::Aaaa, until);
    tokio::pin!(a, aaaa);
    let patience = || {
        let now = Instant::now();
        now + conf.timeout.min(until.saturating_duration_since(now) / 2)
    };
    if conf.families == Families::OneByOne {
        let a = a.await;
        let aaaa = timeout_at(patience(), aaaa).await;
        return [a, aaaa.unwrap_or(Reply::Silent)];
    }
    tokio::select! {
        a = &mut a => [a, timeout_at(patience(), aaaa).await.unwrap_or(Reply::Silent)],
        aaaa = &mut aaaa => [a.await, aaaa],
    }
}

/// One question. Each has a socket of its own: some servers and firewalls lose the second of two questions that come
/// from the same one.
async fn exchange(conf: &Conf, server: SocketAddr, name: &str, kind: Kind, until: Instant) -> Reply {
    // Whoever would forge an answer has to guess it; without random numbers (no kernel says so) it is still checked.
    let id = getrandom::u32().unwrap_or_default().to_be_bytes();
    let Some(question) = message::question(u16::from_be_bytes([id[0], id[1]]), name, kind) else {
        return Reply::Broken("nothing, because no message can carry this name".to_owned());
    };
    let said = async {
        if !conf.tcp {
            match by_datagram(conf, server, &question, until).await {
                Ok(Said::Truncated) => {}
                said => return said,
            }
        }
        by_stream(server, &question).await
    };
    match timeout_at(until, said).await {
        Ok(Ok(said)) => Reply::Said(said),
        Ok(Err(error)) => Reply::Broken(broken(&error)),
        Err(_) => Reply::Silent,
    }
}

fn broken(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "nothing (no name server listens there)".to_owned(),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "nothing (no route to it)".to_owned(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => "nothing (it hung up)".to_owned(),
        _ => format!("nothing ({error})"),
    }
}

async fn by_datagram(conf: &Conf, server: SocketAddr, question: &[u8], until: Instant) -> io::Result<Said> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    let left = until.saturating_duration_since(Instant::now());
    let pause = conf.timeout.min(left / conf.attempts.max(1)).max(Duration::from_millis(100));
    let mut buffer = [0; 4096];
    loop {
        socket.send(question).await?;
        let again = Instant::now() + pause;
        while let Ok(read) = timeout_at(again, socket.recv(&mut buffer)).await {
            if let Some(said) = message::answer(question, &buffer[..read?]) {
                return Ok(said);
            }
        }
    }
}

async fn by_stream(server: SocketAddr, question: &[u8]) -> io::Result<Said> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).await?;
    let mut bytes = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut bytes).await?;
    message::answer(question, &bytes).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
