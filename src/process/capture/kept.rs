//! What is kept of a helper's output: bytes in, whole lines without secrets out.

use super::Error;
use crate::text::clean;
use secrecy::{ExposeSecret, SecretString};
use std::collections::VecDeque;
use std::fmt;

/// What is kept of a helper's output.
#[derive(Clone, Copy, Debug)]
pub enum Keep {
    /// The last lines of both outputs together, for a log. Of a longer line only the beginning is kept.
    Lines {
        /// How many lines.
        count: usize,
        /// How many bytes of each.
        bytes: usize,
    },
    /// The whole of standard output, for us to read; standard error is thrown away.
    Output {
        /// More bytes than this are an error.
        bytes: usize,
    },
}

/// What is kept of the output, without growing beyond its limits.
pub(super) struct Kept {
    keep: Keep,
    secrets: Vec<SecretString>,
    /// The longest secret, in bytes.
    longest: usize,
    pub(super) lines: VecDeque<String>,
    /// The line that has not ended yet; with [`Keep::Output`] everything.
    pub(super) part: Vec<u8>,
    /// More of that line came than is kept.
    cut: bool,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("keep", &self.keep).field("lines", &self.lines).finish_non_exhaustive()
    }
}

impl Kept {
    pub(super) fn new(keep: Keep, secrets: &[SecretString]) -> Self {
        // A secret of several lines never stands in one line of the output; its lines do.
        let lines = |secret: &SecretString| {
            let lines = secret.expose_secret().lines().filter(|line| line.trim().len() >= 6);
            lines.map(|line| SecretString::from(line.trim())).collect::<Vec<_>>()
        };
        let secrets: Vec<_> =
            secrets.iter().flat_map(|secret| [vec![secret.clone()], lines(secret)].concat()).collect();
        // Percent-encoded, each byte becomes three; a control character that is escaped, up to eight.
        let longest = secrets.iter().map(|secret| 8 * secret.expose_secret().len()).max().unwrap_or_default();
        Self { keep, secrets, longest, lines: VecDeque::new(), part: Vec::new(), cut: false }
    }

    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        let limit = match self.keep {
            Keep::Output { bytes: limit } => {
                if self.part.len() + bytes.len() > limit {
                    return Err(Error::TooMuch { limit });
                }
                self.part.extend_from_slice(bytes);
                return Ok(());
            }
            // A secret that begins in what is shown is read whole, so that it is known for one.
            Keep::Lines { bytes, .. } => bytes + self.longest,
        };
        // A progress bar is lines that end with a carriage return.
        while let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.extend(&bytes[..end], limit);
            self.end_of_line();
            bytes = &bytes[end + 1..];
        }
        self.extend(bytes, limit);
        Ok(())
    }

    fn extend(&mut self, bytes: &[u8], limit: usize) {
        let room = bytes.len().min(limit - self.part.len());
        self.part.extend_from_slice(&bytes[..room]);
        self.cut |= room < bytes.len();
    }

    pub(super) fn end_of_line(&mut self) {
        let Keep::Lines { count, bytes } = self.keep else { return };
        let part = std::mem::take(&mut self.part);
        let text = String::from_utf8_lossy(&part);
        let mut text = clean(&text, self.secrets.iter().map(ExposeSecret::expose_secret));
        // At the end of a cut line half a secret may stand, which was not known for one.
        let sure = if std::mem::take(&mut self.cut) { text.len().saturating_sub(self.longest) } else { text.len() };
        text.truncate(text.floor_char_boundary(sure.min(bytes)));
        if text.is_empty() {
            return;
        }
        if self.lines.len() == count {
            self.lines.pop_front();
        }
        self.lines.push_back(text);
    }
}
