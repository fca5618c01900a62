//! Progress and messages on standard error: a bar with the remaining time on a terminal, plain lines
//! elsewhere, nothing with `--quiet`.

use std::cell::Cell;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use pcrm_core::text::visible;
use pcrm_rl::metrics::{StepMetrics, Summary};
use pcrm_rl::offline::Observer;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::chain::in_full;
use crate::paragraph::wrapped;
use crate::processes;
use crate::terminal::{self, BARS, shows_messages};
use crate::training::folder::Description;

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

    /// Starts a download of `size` bytes, of which `done` have arrived before.
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

/// Shows the progress of a training run.
pub struct Watch {
    bar: ProgressBar,
    plain: bool,
    shown: Option<Instant>,
    /// The line of the latest step, until it is printed.
    unprinted: Option<String>,
    /// True if an evaluation was made earlier.
    evaluated: bool,
    total: u64,
    /// Called once when the run is accepted, before its first step.
    accepted: Option<Description>,
}

impl Watch {
    /// Writes the run's description to its folder once the run is accepted.
    pub fn describing(&mut self, description: Description) {
        self.accepted = Some(description);
    }
}

impl Default for Watch {
    fn default() -> Self {
        let plain = !quiet() && !shows_messages();
        let bar = ProgressBar::hidden();
        Self { bar, plain, shown: None, unprinted: None, evaluated: false, total: 0, accepted: None }
    }
}

/// Formats an evaluation as a line. For a reward model it starts with the ranking loss, which is comparable
/// across constraints, beside that of guessing.
fn evaluation_line(step: u64, metrics: &Summary, is_best: bool) -> String {
    let beside =
        |coin: &str| metrics.get(coin).map_or(String::new(), |coin| format!(" (guessing {coin:.4})"));
    let value = |name| metrics.get(name).unwrap_or(f64::NAN);
    let mut line = format!("evaluation after step {step}: ");
    match metrics.get("ranking_loss").filter(|_| metrics.get("min_reward").is_some()) {
        Some(ranking) => {
            line.push_str(&format!(
                "ranking loss {ranking:.4}{}, accuracy {:.3}, margin {:.3}, scores {:.2} to {:.2}",
                beside("coin_ranking_loss"),
                value("accuracy"),
                value("margin"),
                value("min_reward"),
                value("max_reward")
            ));
            if (metrics.loss() - ranking).abs() > 1e-9 {
                line.push_str(&format!("; total loss {:.4}{}", metrics.loss(), beside("coin_loss")));
            }
        }
        None => line.push_str(&figures(metrics).join(", ")),
    }
    if is_best {
        line.push_str(" (best so far)");
    }
    line
}

/// The shortest interval between lines of a plain log.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

impl Observer for Watch {
    fn accepted(&mut self) -> pcrm_rl::Result<()> {
        self.accepted.take().map_or(Ok(()), |describe| describe())
    }

    fn begin(&mut self, done: u64, total: u64) {
        self.total = total;
        self.evaluated = done > 0;
        match done {
            0 => {}
            done if done == total => say(&format!("all {total} steps are already done")),
            done => say(&format!("resuming after step {done} of {total}")),
        }
        self.bar = styled(total, "training", "{prefix} [{bar:8}] {pos}/{len} {elapsed}<{eta} {wide_msg}");
        self.bar.set_position(done);
        self.bar.reset_eta();
    }

    fn step(&mut self, metrics: &StepMetrics) {
        let (step, total, parts) = (metrics.step, self.total, parts(metrics));
        let saved = 100.0 * metrics.padding_avoided;
        let line = format!(
            "step {step}/{total} epoch {:.2} {}, {saved:.0} % of the padded batch saved",
            metrics.epoch,
            parts.join(" ")
        );
        let due = self.shown.is_none_or(|shown| shown.elapsed() >= PLAIN_EVERY) || step == total;
        if self.plain && due {
            say(&line);
            (self.shown, self.unprinted) = (Some(Instant::now()), None);
        } else {
            self.unprinted = Some(line);
        }
        self.bar.set_message(fitting(&parts, columns().saturating_sub(BESIDE)));
        self.bar.set_position(step);
    }

    fn note(&mut self, line: &str) {
        say(line);
    }

    fn evaluated(&mut self, step: u64, metrics: &Summary, is_best: bool) {
        // The first evaluation is always the best, so it is not worth saying.
        say(&evaluation_line(step, metrics, is_best && self.evaluated));
        self.evaluated = true;
    }

    fn saved(&mut self, path: &Path) {
        tracing::info!("saved {}", path.display());
    }

    fn end(&mut self) {
        self.bar.finish_and_clear();
        // The figures of the last step remain after the bar is removed.
        self.unprinted.take().iter().for_each(|line| say(line));
    }
}

/// Columns of a training bar besides its message.
const BESIDE: usize = 40;

/// The metrics of a line with their labels and decimals, most important first.
const SHOWN: [(&str, &str, usize); 12] = [
    ("reward", "reward", 3),
    ("loss", "loss", 4),
    ("kl", "kl", 4),
    ("completions/mean_length", "length", 1),
    ("accuracy", "acc", 2),
    ("rewards/accuracies", "acc", 2),
    ("mean_token_accuracy", "token acc", 3),
    ("margin", "margin", 3),
    ("rewards/margins", "margin", 3),
    ("rewards/chosen", "chosen", 3),
    ("entropy", "entropy", 3),
    ("beyond_bound", "beyond", 2),
];

/// Returns the available metrics with their labels.
fn figures(metrics: &Summary) -> Vec<String> {
    let figure = |(name, label, digits): &(&str, &str, usize)| {
        metrics.get(name).map(|value| format!("{label} {value:.digits$}"))
    };
    SHOWN.iter().filter_map(figure).collect()
}

/// Returns the figures of a step: loss and accuracy, the speed, and any further metrics.
fn parts(metrics: &StepMetrics) -> Vec<String> {
    let mut parts = figures(&metrics.metrics);
    parts.insert(parts.len().min(2), format!("{:.0} tok/s", metrics.tokens_per_second));
    parts
}

/// Joins as many parts as fit into `width` columns.
fn fitting(parts: &[String], width: usize) -> String {
    let mut text = String::new();
    for part in parts {
        if !text.is_empty() && text.chars().count() + 1 + part.chars().count() > width {
            break;
        }
        text.push_str(if text.is_empty() { "" } else { " " });
        text.push_str(part);
    }
    text
}

#[cfg(test)]
mod tests;
