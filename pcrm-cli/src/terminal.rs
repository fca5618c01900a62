//! Standard output and standard error; no other code in this crate writes to them.
//!
//! Results go to standard output, and failing to write one is an error. Messages and bars go to standard
//! error, and failures there are ignored: a run outlives its terminal, its pipe and its log's disk.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::{LazyLock, Mutex, PoisonError};

use anyhow::{Context, Error, Result};
use indicatif::{MultiProgress, ProgressDrawTarget, TermLike};
use pcrm_core::text::visible;

use crate::page::Page;

/// Progress bars; messages are printed above them.
pub static BARS: LazyLock<MultiProgress> = LazyLock::new(|| {
    MultiProgress::with_draw_target(ProgressDrawTarget::term_like_with_hz(Box::<Screen>::default(), 20))
});

/// The reader of standard output has gone away, as `head` does. The command then ends without a message.
#[derive(Debug)]
pub struct ReaderGone;

impl std::fmt::Display for ReaderGone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the reader of standard output went away")
    }
}

impl std::error::Error for ReaderGone {}

/// Prints a result on standard output. Control sequences are removed, since results contain names and values
/// from files.
///
/// # Errors
/// Fails with [`ReaderGone`] if the reader has gone away, or if the disk is full.
pub fn result(text: &str) -> Result<()> {
    as_is(&visible(text))
}

/// Prints a page, whose own colours are kept, on standard output.
///
/// # Errors
/// Fails as [`result`] does.
pub fn page(page: &Page) -> Result<()> {
    as_is(&page.text())
}

fn as_is(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    checked(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Prints a message on lines of its own on standard error, with control sequences removed as in [`result`].
pub fn message(text: &str) {
    bytes(format!("{}\n", visible(text)).as_bytes());
}

/// Writes to standard error above any bar; failures are ignored.
pub fn bytes(bytes: &[u8]) {
    BARS.suspend(|| drop(io::stderr().write_all(bytes)));
}

/// Prints an answer of the command line parser: help and versions as results, errors as messages.
pub fn answer(answer: &clap::Error) -> ExitCode {
    if answer.use_stderr() {
        // The answer may contain values of a config file.
        message(answer.render().to_string().trim_end());
        return ExitCode::from(u8::try_from(answer.exit_code()).unwrap_or(1));
    }
    let printed = answer.print().and_then(|()| io::stdout().flush());
    match checked(printed) {
        Err(error) if !error.is::<ReaderGone>() => {
            message(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::from(u8::try_from(answer.exit_code()).unwrap_or(1)),
    }
}

/// Returns true if messages appear on a terminal.
pub fn shows_messages() -> bool {
    io::stderr().is_terminal()
}

/// Returns standard output, for detecting colour support.
pub fn output() -> io::Stdout {
    io::stdout()
}

fn checked(written: io::Result<()>) -> Result<()> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Error::new(ReaderGone)),
        written => written.context("standard output"),
    }
}

/// The terminal that bars are drawn on. indicatif panics if a terminal returns an error, so this one never
/// does.
#[derive(Debug, Default)]
struct Screen {
    /// The unfinished drawing.
    drawing: Mutex<Vec<u8>>,
}

impl Screen {
    fn add(&self, text: &str) -> io::Result<()> {
        let mut drawing = self.drawing.lock().unwrap_or_else(PoisonError::into_inner);
        drawing.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn step(&self, count: usize, direction: char) -> io::Result<()> {
        if count == 0 { Ok(()) } else { self.add(&format!("\x1b[{count}{direction}")) }
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        terminal_size::terminal_size().map_or(80, |(width, _)| width.0)
    }

    fn height(&self) -> u16 {
        terminal_size::terminal_size().map_or(24, |(_, height)| height.0)
    }

    fn move_cursor_up(&self, count: usize) -> io::Result<()> {
        self.step(count, 'A')
    }

    fn move_cursor_down(&self, count: usize) -> io::Result<()> {
        self.step(count, 'B')
    }

    fn move_cursor_right(&self, count: usize) -> io::Result<()> {
        self.step(count, 'C')
    }

    fn move_cursor_left(&self, count: usize) -> io::Result<()> {
        self.step(count, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.add(text)?;
        self.add("\n")
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.add(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.add("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        let drawing = std::mem::take(&mut *self.drawing.lock().unwrap_or_else(PoisonError::into_inner));
        let _ = io::stderr().write_all(&drawing);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: a reader that has gone away and a full disk are different errors.
    #[test]
    fn a_reader_that_went_away_is_no_error_of_the_disk() {
        let gone = checked(Err(ErrorKind::BrokenPipe.into())).unwrap_err();
        assert!(gone.is::<ReaderGone>());
        let full = checked(Err(ErrorKind::StorageFull.into())).unwrap_err();
        assert!(!full.is::<ReaderGone>() && format!("{full:#}").starts_with("standard output: "), "{full:#}");
    }
}
