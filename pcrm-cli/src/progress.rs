//! Progress and messages on standard error: a bar with the remaining time on a terminal, plain lines
//! elsewhere, nothing with `--quiet`.

mod watch;

use std::cell::Cell;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use pcrm_core::text::visible;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

pub use self::watch::Watch;
use crate::chain::in_full;
use crate::paragraph::wrapped;
use crate::processes;
use crate::terminal::{self, BARS, shows_messages};

static QUIET: AtomicBool = AtomicBool::new(false);

/// Silences everything except errors.
pub fn set_quiet(quiet: bool) {
    QUIET.store(quiet, Ordering::Relaxed);
}

/// Returns true if `--quiet` was given.
pub fn quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Prints a message on standard error, unless `--quiet` is set.
pub fn say(text: &str) {
    if !quiet() {
        print(text);
    }
}

/// Prints an error on standard error.
pub fn fail(error: &anyhow::Error) {
    print(&format!("{}error: {}", processes::speaker(), in_full(error)));
}

/// Prints text on standard error, wrapped between words if it is wider than the terminal. Control sequences
/// are removed, since messages contain names and values from files.
fn print(text: &str) {
    let text = &visible(text);
    let width = shows_messages().then(columns);
    let lines = text.lines().map(|line| match width {
        Some(width) if line.chars().count() > width => wrapped("", line, width).trim_end().to_owned(),
        _ => line.to_owned(),
    });
    terminal::message(&lines.collect::<Vec<_>>().join("\n"));
}

/// Returns the width of the terminal, in columns.
fn columns() -> usize {
    terminal_size::terminal_size().map_or(80, |(width, _)| usize::from(width.0).max(20))
}

/// Sends logs to standard error, above any bar; `RUST_LOG` selects them (default: warnings and errors).
pub fn start_logging() {
    let default = if quiet() { "error" } else { "warn" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let format = tracing_subscriber::fmt().with_env_filter(filter).with_writer(AboveBars).without_time();
    // An existing logger stays.
    let _ = format.with_target(false).with_ansi(shows_messages()).try_init();
}

/// Writes logs above bars. Reports no errors, since a logger would report them on standard error.
struct AboveBars;

impl<'a> MakeWriter<'a> for AboveBars {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

impl Write for AboveBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The escapes of the log's own colours stay; those in messages have already been removed.
        let text = String::from_utf8_lossy(bytes);
        let shown: Vec<_> = text.split('\u{1b}').map(visible).collect();
        terminal::bytes(shown.join("\u{1b}").as_bytes());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns a bar over `total` items; without a terminal, a line from time to time.
pub fn bar(total: u64, what: &str) -> Bar {
    Bar {
        bar: styled(total, what, "{prefix} [{bar:8}] {pos}/{len} {elapsed}<{eta} {wide_msg}"),
        plain: !quiet() && !shows_messages(),
        due: Cell::new(Instant::now() + PLAIN_AFTER),
    }
}

/// Progress over a known number of items.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
    plain: bool,
    due: Cell<Instant>,
}

/// The delay before a task's first line in a plain log.
const PLAIN_AFTER: Duration = Duration::from_secs(2);

/// The shortest interval between lines of a plain log.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

impl Bar {
    /// Advances by `by` items.
    pub fn inc(&self, by: u64) {
        self.set_position(self.bar.position() + by);
    }

    /// Moves to `done` items.
    pub fn set_position(&self, done: u64) {
        self.bar.set_position(done);
        if self.plain && Instant::now() >= self.due.get() {
            say(&format!("{} {done}/{}", self.bar.prefix(), self.bar.length().unwrap_or_default()));
            self.due.set(Instant::now() + PLAIN_EVERY);
        }
    }

    /// Shows a note at the end of the bar.
    pub fn note(&self, text: &str) {
        self.bar.set_message(visible(text).into_owned());
    }

    /// Removes the bar.
    pub fn finish_and_clear(&self) {
        self.bar.finish_and_clear();
    }
}

fn styled(total: u64, what: &str, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template);
    let bar = ProgressBar::new(total).with_prefix(visible(what).into_owned());
    if quiet() || !shows_messages() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
        return bar;
    }
    let bar = BARS.add(bar);
    if let Ok(style) = style {
        bar.set_style(style.progress_chars("━╸ "));
    }
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

/// Returns a bar for a terminal, to be styled by the caller.
pub fn plain_bar(total: u64) -> ProgressBar {
    BARS.add(ProgressBar::new(total))
}

/// The progress of a file's transfer from or to the Hub.
pub struct Download {
    name: String,
    bar: Option<ProgressBar>,
}

impl Download {
    /// Returns a download of this name that has not started.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), bar: None }
    }

    /// Starts a download of `size` bytes; `done` of them have arrived before.
    pub fn begin(&mut self, size: u64, done: u64) {
        self.show("fetching", size, done);
    }

    /// Starts an upload of `size` bytes.
    pub fn begin_sending(&mut self, size: u64) {
        self.show("uploading", size, 0);
    }

    fn show(&mut self, verb: &str, size: u64, done: u64) {
        if !shows_messages() {
            say(&format!("{verb} {} ({})", self.name, HumanBytes(size)));
        }
        let template = "{prefix} [{bar:16}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        let bar = styled(size, &self.name, template);
        bar.set_position(done);
        self.bar = Some(bar);
    }

    /// Advances by `bytes` received bytes.
    pub fn advance(&self, bytes: u64) {
        self.bar.iter().for_each(|bar| bar.inc(bytes));
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }
}
