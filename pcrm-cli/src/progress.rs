//! What a run shows: a bar with the time left when someone watches, plain lines when not, nothing with `--quiet`.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use pcrm_rl::metrics::{Measures, StepMetrics};
use pcrm_rl::trainer::Observer;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

static QUIET: AtomicBool = AtomicBool::new(false);
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Silences everything but errors.
pub fn set_quiet(quiet: bool) {
    QUIET.store(quiet, Ordering::Relaxed);
}

/// Whether `--quiet` was given.
pub fn quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// A line for people, on standard error; nothing with `--quiet`.
pub fn say(text: &str) {
    if !quiet() {
        BARS.suspend(|| eprintln!("{text}"));
    }
}

/// Sends logs to standard error, above any bar; `RUST_LOG` chooses which (warnings and errors unless it does).
pub fn start_logging() {
    let default = if quiet() { "error" } else { "warn" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let format = tracing_subscriber::fmt().with_env_filter(filter).with_writer(AboveBars).without_time();
    // A logger that is there already stays.
    let _ = format.with_target(false).with_ansi(io::stderr().is_terminal()).try_init();
}

/// Writes above bars without tearing them.
struct AboveBars;

impl<'a> MakeWriter<'a> for AboveBars {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

impl Write for AboveBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        BARS.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// A bar over `total` things, hidden where nobody watches.
pub fn bar(total: u64, what: &str) -> ProgressBar {
    styled(total, what, "{prefix} [{bar:16}] {pos}/{len} {elapsed}<{eta} {wide_msg}")
}

fn styled(total: u64, what: &str, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template);
    let bar = ProgressBar::new(total).with_prefix(what.to_owned());
    if quiet() || !io::stderr().is_terminal() {
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

/// Shows a file on its way from the Hub.
pub struct Download {
    name: String,
    bar: Option<ProgressBar>,
}

impl Download {
    /// A download of this name that has not begun.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), bar: None }
    }
}

impl hf_hub::api::Progress for Download {
    fn init(&mut self, size: usize, _: &str) {
        let bar = self.bar.get_or_insert_with(|| {
            if !io::stderr().is_terminal() {
                say(&format!("fetching {} ({})", self.name, HumanBytes(size as u64)));
            }
            let template = "{prefix} [{bar:16}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
            styled(size as u64, &self.name, template)
        });
        bar.set_position(0);
    }

    fn update(&mut self, size: usize) {
        self.bar.iter().for_each(|bar| bar.inc(size as u64));
    }

    fn finish(&mut self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }
}

/// Shows a training run.
pub struct Watch {
    bar: ProgressBar,
    plain: bool,
    shown: Option<Instant>,
    last_shown: u64,
    total: u64,
}

impl Default for Watch {
    fn default() -> Self {
        let plain = !quiet() && !io::stderr().is_terminal();
        Self { bar: ProgressBar::hidden(), plain, shown: None, last_shown: 0, total: 0 }
    }
}

/// An evaluation in a line: the ranking loss first, which can be compared across constraints, with a guessing model's.
fn evaluation_line(step: u64, m: &Measures, is_best: bool) -> String {
    let beside = |coin: Option<f64>| coin.map_or(String::new(), |coin| format!(" (a coin {coin:.4})"));
    let mut line = format!("evaluation after step {step}: ranking loss {:.4}", m.ranking_loss);
    line.push_str(&beside(m.coin_ranking_loss));
    line.push_str(&format!(
        ", accuracy {:.3}, margin {:.3}, scores {:.2} to {:.2}",
        m.accuracy, m.margin, m.min_reward, m.max_reward
    ));
    if (m.loss - m.ranking_loss).abs() > 1e-9 {
        line.push_str(&format!("; loss with its bounds {:.4}{}", m.loss, beside(m.coin_loss)));
    }
    if is_best {
        line.push_str(" (best so far)");
    }
    line
}

/// Lines of a plain log are at least so far apart.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

impl Observer for Watch {
    fn begin(&mut self, done: u64, total: u64) {
        self.total = total;
        if done > 0 {
            say(&format!("going on after step {done} of {total}"));
        }
        self.bar = bar(total, "training");
        self.bar.set_position(done);
        self.bar.reset_eta();
    }

    fn step(&mut self, metrics: &StepMetrics) {
        let m = &metrics.measures;
        let mut text = format!("loss {:.4} acc {:.2} margin {:.3}", m.loss, m.accuracy, m.margin);
        if let Some(beyond) = m.beyond_bound {
            text.push_str(&format!(" beyond {beyond:.2}"));
        }
        text.push_str(&format!(" {:.0} tok/s", metrics.tokens_per_second));
        let due = self.shown.is_none_or(|shown| shown.elapsed() >= PLAIN_EVERY) || metrics.step == self.total;
        if self.plain && due {
            let saved = 100.0 * metrics.padding_avoided;
            let (step, total, epoch) = (metrics.step, self.total, metrics.epoch);
            say(&format!(
                "step {step}/{total} epoch {epoch:.2} {text}, {saved:.0} % of the padded batch avoided"
            ));
            self.shown = Some(Instant::now());
            self.last_shown = metrics.step;
        }
        self.bar.set_message(text);
        self.bar.set_position(metrics.step);
    }

    fn evaluated(&mut self, step: u64, m: &Measures, is_best: bool) {
        say(&evaluation_line(step, m, is_best));
    }

    fn saved(&mut self, path: &Path) {
        tracing::info!("saved {}", path.display());
    }

    fn end(&mut self) {
        self.bar.finish_and_clear();
    }
}
