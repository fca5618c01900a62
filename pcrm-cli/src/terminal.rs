//! Standard output and standard error; nothing else in this crate writes to them.
//!
//! Results go to standard output, and one that cannot be written is an error. Messages and bars go to standard error, and
//! one that nobody can read is dropped: a run outlives its terminal, its pipe and the disk of its log.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::{LazyLock, Mutex, PoisonError};

use anyhow::{Context, Error, Result};
use indicatif::{MultiProgress, ProgressDrawTarget, TermLike};
use pcrm_core::text::visible;

use crate::page::Page;

/// Bars, which messages are printed above.
pub static BARS: LazyLock<MultiProgress> = LazyLock::new(|| {
    MultiProgress::with_draw_target(ProgressDrawTarget::term_like_with_hz(Box::<Screen>::default(), 20))
});

/// The reader of standard output went away, as `head` does. The verb ends without a message.
#[derive(Debug)]
pub struct ReaderGone;

impl std::fmt::Display for ReaderGone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the reader of standard output went away")
    }
}

impl std::error::Error for ReaderGone {}

/// Prints a result on standard output. Nothing that a terminal obeys passes: names and values from files are part of it.
///
/// # Errors
/// [`ReaderGone`]; a disk that is full.
pub fn result(text: &str) -> Result<()> {
    as_is(&visible(text))
}

/// Prints a page, which has colours of its own, on standard output.
///
/// # Errors
/// As [`result`].
pub fn page(page: &Page) -> Result<()> {
    as_is(&page.text())
}

fn as_is(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    checked(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Prints a message on standard error, on lines of its own, as [`result`] does.
pub fn message(text: &str) {
    bytes(format!("{}\n", visible(text)).as_bytes());
}

/// Writes to standard error above any bar; what cannot be written is dropped.
pub fn bytes(bytes: &[u8]) {
    BARS.suspend(|| drop(io::stderr().write_all(bytes)));
}

/// Prints the answer of the parser of the command line: help and versions as results, mistakes as messages.
pub fn answer(answer: &clap::Error) -> ExitCode {
    if answer.use_stderr() {
        // Its values may be those of a config file.
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

/// Standard output, to ask it about colours.
pub fn output() -> io::Stdout {
    io::stdout()
}

fn checked(written: io::Result<()>) -> Result<()> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Error::new(ReaderGone)),
        written => written.context("standard output"),
    }
}

/// The terminal that bars are drawn on. indicatif panics where a terminal refuses what it draws: this one never does.
#[derive(Debug, Default)]
struct Screen {
    /// A drawing that is not complete.
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

    /// Protects: a reader that went away and a full disk are two errors.
    #[test]
    fn a_reader_that_went_away_is_no_error_of_the_disk() {
        let gone = checked(Err(ErrorKind::BrokenPipe.into())).unwrap_err();
        assert!(gone.is::<ReaderGone>());
        let full = checked(Err(ErrorKind::StorageFull.into())).unwrap_err();
        assert!(!full.is::<ReaderGone>() && format!("{full:#}").starts_with("standard output: "), "{full:#}");
    }
}
