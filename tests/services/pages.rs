//! A web server whose pages a test writes.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// A server that answers every path with what the test says: a status and a body, or nothing for ever.
pub(crate) struct Pages {
    pub(crate) port: u16,
    pub(crate) answer: Arc<Mutex<Option<(u16, String)>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Pages {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer: Arc<Mutex<Option<(u16, String)>>> = Arc::default();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (answers, paths) = (Arc::clone(&answer), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (answers, paths) = (Arc::clone(&answers), Arc::clone(&paths));
                std::thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    let mut request = [0; 1024];
                    let read = stream.read(&mut request).unwrap_or(0);
                    let request = String::from_utf8_lossy(&request[..read]).into_owned();
                    paths.lock().unwrap().push(request.split(' ').nth(1).unwrap_or_default().to_owned());
                    let answer = answers.lock().unwrap().clone();
                    match answer {
                        Some((status, body)) => {
                            let length = body.len();
                            let text = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{body}");
                            let _ = stream.write_all(text.as_bytes());
                        }
                        None => {
                            // Until the client gives up.
                            let _ = stream.read(&mut [0; 1]);
                        }
                    }
                });
            }
        });
        Self { port, answer, asked }
    }

    pub(crate) fn say(&self, status: u16, body: &str) {
        *self.answer.lock().unwrap() = Some((status, body.to_owned()));
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}
