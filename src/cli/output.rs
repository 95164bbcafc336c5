//! Standard output: the one place where anything is written to it.
//!
//! A reader that has seen enough (`| head`) closes the pipe, and the command goes on all the same. Any
//! other error, of a full disk say, is remembered: a command whose output is not whole fails in the end.

use crate::engine::text::escape_control;
use anyhow::{Context as _, Result};
use std::io::{Error, ErrorKind, Write, stdout};
use std::sync::{Mutex, PoisonError};

/// The first error in writing.
static ERROR: Mutex<Option<Error>> = Mutex::new(None);

/// Standard output. Its errors are for [`finish`].
pub(super) struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        remember(stdout().write_all(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        remember(stdout().flush());
        Ok(())
    }
}

/// Remembers an error in writing to standard output.
pub(super) fn remember(written: std::io::Result<()>) {
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        ERROR.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

/// Writes JSON, where every text is data, as it is; other text with what a terminal would act on
/// escaped.
pub(super) fn print(text: &str, json: bool) {
    let text = if json { text.into() } else { escape_control(text, &['\n', '\t']) };
    let _ = Stdout.write_all(text.as_bytes()).and_then(|()| Stdout.flush());
}

/// Fails if not all could be written.
pub(super) fn finish() -> Result<()> {
    let _ = Stdout.flush();
    let error = ERROR.lock().unwrap_or_else(PoisonError::into_inner).take();
    error.map_or(Ok(()), Err).context("cannot write to standard output")
}
