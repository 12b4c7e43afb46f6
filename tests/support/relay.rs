//! A network between two programs that can be cut, frozen or slow.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What the network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// It works.
    Passes,
    /// Connections are refused, and those that exist are cut.
    Refuses,
    /// Connections are accepted and nothing moves; what was on its way arrives later.
    Hangs,
    /// Everything takes this long in each direction.
    Slow(Duration),
}

/// A port that leads to another one.
pub(crate) struct Relay {
    pub(crate) port: u16,
    network: Arc<Mutex<Network>>,
}

/// How often a frozen connection looks whether it may go on.
const TICK: Duration = Duration::from_millis(20);

impl Relay {
    pub(crate) fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let network = Arc::new(Mutex::new(Network::Passes));
        let shared = Arc::clone(&network);
        thread::spawn(move || serve(listener, port, target, &shared));
        Self { port, network }
    }

    pub(crate) fn set(&self, network: Network) {
        *self.network.lock().unwrap() = network;
        // The port opens and closes by itself.
        crate::common::eventually("the relay has changed", || {
            crate::common::listens(self.port) == (network != Network::Refuses)
        });
    }
}

fn serve(listener: TcpListener, port: u16, target: u16, network: &Arc<Mutex<Network>>) {
    let mut open = Some(listener);
    loop {
        if *network.lock().unwrap() == Network::Refuses {
            open = None;
        } else if open.is_none() {
            open = TcpListener::bind(("127.0.0.1", port)).ok();
        }
        let Some(listener) = &open else {
            thread::sleep(TICK);
            continue;
        };
        listener.set_nonblocking(true).unwrap();
        match listener.accept() {
            Ok((client, _)) => {
                client.set_nonblocking(false).unwrap();
                let network = Arc::clone(network);
                thread::spawn(move || join(&client, target, &network));
            }
            Err(_) => thread::sleep(Duration::from_millis(2)),
        }
    }
}

fn join(client: &TcpStream, target: u16, network: &Arc<Mutex<Network>>) {
    while *network.lock().unwrap() == Network::Hangs {
        thread::sleep(TICK);
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { return };
    let copies = [(client, &server), (&server, client)].map(|(from, to)| {
        let (from, to, network) = (from.try_clone().unwrap(), to.try_clone().unwrap(), Arc::clone(network));
        thread::spawn(move || copy(&from, &to, &network))
    });
    for copy in copies {
        copy.join().unwrap();
    }
}

/// Until one side ends, or the network does.
fn copy(mut from: &TcpStream, mut to: &TcpStream, network: &Mutex<Network>) {
    from.set_read_timeout(Some(TICK)).unwrap();
    let mut buffer = [0; 16 * 1024];
    loop {
        let now = *network.lock().unwrap();
        match now {
            Network::Refuses => break,
            Network::Hangs => {
                thread::sleep(TICK);
                continue;
            }
            Network::Passes | Network::Slow(_) => {}
        }
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                if let Network::Slow(delay) = now {
                    thread::sleep(delay);
                }
                if to.write_all(&buffer[..read]).is_err() {
                    break;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    // What the other direction has still to say gets its chance, unless the network is gone.
    if *network.lock().unwrap() == Network::Refuses {
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    } else {
        let _ = to.shutdown(Shutdown::Write);
    }
}
