//! The pipe in the root, through which other processes of the container ask the one that synchronises: for a commit
//! that is not here, or for a look now.

use super::settings::is_hash;
use super::wake::Wake;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Its name in the root.
const PIPE: &str = ".wanted";
/// The line that asks for a look.
const NOW: &[u8] = b"now";
/// Longer than any line that means something.
const LONGEST: u64 = 256;
/// When a commit that could not be fetched is tried again; it doubles from time to time.
const AGAIN: Duration = Duration::from_secs(5);
/// How often it doubles.
const DOUBLINGS: u32 = 4;
/// How many commits that could not be fetched are remembered.
const MANY: usize = 1000;

/// Makes the pipe in `root` and listens to it in a thread, whatever is written into it.
///
/// # Errors
/// It cannot be made: a file system without pipes.
pub(super) fn listen(root: &Path, wake: &Arc<Wake>) -> io::Result<()> {
    let path = root.join(PIPE);
    match mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
        Err(error) => return Err(error.into()),
    }
    // Open for writing, too, so that it never ends.
    let pipe = File::options().read(true).write(true).open(&path)?;
    let wake = Arc::clone(wake);
    let listen = move || {
        let mut pipe = BufReader::new(pipe);
        loop {
            let mut line = Vec::new();
            if (&mut pipe).take(LONGEST).read_until(b'\n', &mut line).is_err() {
                // It has no way to fail that would last.
                thread::sleep(Duration::from_secs(1));
                continue;
            }
            match line.trim_ascii() {
                NOW => wake.now(),
                line => {
                    if let Some(hash) = std::str::from_utf8(line).ok().filter(|text| is_hash(text)) {
                        wake.want(hash.to_owned());
                    }
                }
            }
        }
    };
    thread::Builder::new().name("wanted".to_owned()).spawn(listen).map(|_| ())
}

/// Asks the process that synchronises into `root` for a look now.
///
/// # Errors
/// Nobody listens.
pub fn look_now(root: &Path) -> io::Result<()> {
    let flags = OFlag::O_NONBLOCK.bits();
    let mut pipe = File::options().write(true).custom_flags(flags).open(root.join(PIPE))?;
    pipe.write_all(&[NOW, b"\n"].concat())
}

/// Commits that were wanted and could not be fetched: they are asked for again and again, by each task of a run.
#[derive(Debug, Default)]
pub(super) struct Refused(BTreeMap<String, (u32, Instant)>);

impl Refused {
    /// Whether a commit may be tried at `now`.
    pub(super) fn is_due(&self, hash: &str, now: Instant) -> bool {
        self.0.get(hash).is_none_or(|(_, due)| *due <= now)
    }

    /// A try failed at `now`.
    pub(super) fn failed(&mut self, hash: &str, now: Instant) {
        if self.0.len() >= MANY {
            self.0.clear();
        }
        let (tries, due) = self.0.entry(hash.to_owned()).or_insert((0, now));
        *due = now + AGAIN * (1 << (*tries).min(DOUBLINGS));
        *tries += 1;
    }

    /// It is here.
    pub(super) fn came(&mut self, hash: &str) {
        self.0.remove(hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::wake::Woken;

    #[test]
    fn what_is_no_line_of_ours_is_passed_over_and_the_next_one_is_heard() {
        let root = tempfile::tempdir().unwrap();
        let wake = Arc::<Wake>::default();
        assert!(look_now(root.path()).is_err());
        listen(root.path(), &wake).unwrap();
        let mut pipe = File::options().write(true).open(root.path().join(PIPE)).unwrap();
        let hash = "0123456789".repeat(4);
        pipe.write_all(b"\xff\xfe\r\n\0\n").unwrap();
        pipe.write_all(&[b'x'; 2000]).unwrap();
        pipe.write_all(format!("\n{hash}\r\n").as_bytes()).unwrap();
        assert_eq!(wake.pause(None), Woken::Wanted(vec![hash]));
        look_now(root.path()).unwrap();
        assert_eq!(wake.pause(None), Woken::Look);
    }

    #[test]
    fn a_commit_that_cannot_be_fetched_is_tried_again_with_growing_pauses() {
        let (mut refused, now) = (Refused::default(), Instant::now());
        assert!(refused.is_due("a", now));
        for pause in [5, 10, 20, 40, 80, 80] {
            refused.failed("a", now);
            assert!(!refused.is_due("a", now + Duration::from_secs(pause - 1)), "{pause}");
            assert!(refused.is_due("a", now + Duration::from_secs(pause)), "{pause}");
            assert!(refused.is_due("b", now));
        }
        refused.came("a");
        assert!(refused.is_due("a", now));
    }
}
