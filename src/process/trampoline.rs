//! The last step before a command that must find a terminal or ignored signals as we were given them. It runs in a
//! process of its own because both have to be settled between fork and exec, where the standard library takes no orders.

use super::signals::Inherited;
use super::terminal;
use crate::exit::Code;
use crate::words::reason;
use nix::unistd::execvp;
use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use tracing::error;

/// The first word of its command line.
pub const EXEC: &str = "_exec";

/// Becomes the command. The first word is what [`Inherited::to_word`] made, the others are the command.
pub fn main(words: &[OsString]) -> u8 {
    let Some((inherited, argv)) = words.split_first() else { return Code::Usage.number() };
    let argv: Result<Vec<CString>, _> = argv.iter().map(|word| CString::new(word.as_bytes())).collect();
    let Ok(argv) = argv else { return Code::Usage.number() };
    let Some(program) = argv.first() else { return Code::Usage.number() };
    terminal::take_from_parent();
    if inherited.to_str().and_then(Inherited::restore).is_none() {
        return Code::Usage.number();
    }
    let Err(errno) = execvp(program, &argv);
    let error = io::Error::from(errno);
    error!("cannot start {}: {}", program.to_string_lossy(), reason(&error));
    if error.kind() == io::ErrorKind::NotFound { Code::NotFound.number() } else { Code::NotExecutable.number() }
}
