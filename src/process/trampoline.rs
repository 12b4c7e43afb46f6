//! The last step before a command that must find a terminal, a mask or ignored signals as we were given them. It runs
//! in a process of its own because all of them have to be settled between fork and exec, where the standard library
//! takes no orders.

use super::exec::{by_shell, refusal};
use super::signals::Inherited;
use super::terminal;
use crate::exit::Code;
use nix::unistd::execvp;
use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use tracing::error;

/// Becomes the command. The first word is what [`Inherited::to_word`] made, the others are the command.
pub fn main(words: &[OsString]) -> u8 {
    let Some((inherited, argv)) = words.split_first() else { return Code::Usage.number() };
    let Some(program) = argv.first() else { return Code::Usage.number() };
    terminal::take_from_parent();
    if inherited.to_str().and_then(Inherited::restore).is_none() {
        return Code::Usage.number();
    }
    let mut error = execute(argv);
    if let Some(argv) = by_shell(argv, &error) {
        error = execute(&argv);
    }
    let (code, text) = refusal(program, &error);
    error!("{text}");
    code.number()
}

fn execute(argv: &[OsString]) -> io::Error {
    let words: Result<Vec<CString>, _> = argv.iter().map(|word| CString::new(word.as_bytes())).collect();
    match words.as_deref() {
        Ok(words @ [program, ..]) => execvp(program, words).map_or_else(io::Error::from, |never| match never {}),
        _ => io::ErrorKind::InvalidInput.into(),
    }
}
