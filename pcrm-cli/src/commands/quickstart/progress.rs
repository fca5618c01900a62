//! The progress of a model's training: a bar on a terminal, a line per tenth elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use pcrm_rl::metrics::StepMetrics;
use pcrm_rl::offline::Observer;

use crate::progress::plain_bar;
use crate::terminal;

/// The weight of a step in the displayed running means, since single batches vary a lot.
const SMOOTHING: f64 = 0.05;

/// Shows the training of one model.
#[derive(Debug)]
pub struct ModelProgress {
    name: String,
    bar: Option<ProgressBar>,
    total: u64,
    shown: u64,
    means: Option<(f64, f64)>,
}

impl ModelProgress {
    /// Shows the model of this name; shows nothing if `quiet`.
    pub fn new(name: &str, quiet: bool) -> Self {
        let bar = (!quiet && terminal::shows_messages()).then(|| plain_bar(0));
        Self { name: name.to_owned(), bar, total: 0, shown: if quiet { u64::MAX } else { 0 }, means: None }
    }

    fn says(&self) -> String {
        let (loss, accuracy) = self.means.unwrap_or_default();
        format!("loss {loss:.3}  right {:.0} %", 100.0 * accuracy)
    }
}

impl Observer for ModelProgress {
    fn begin(&mut self, done: u64, total: u64) {
        self.total = total;
        if let Some(bar) = &self.bar {
            let template = "{prefix:<14} {bar:24} {pos:>4}/{len:<4} {msg:<24} {eta:>4}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_prefix(self.name.clone());
            bar.set_length(total);
            bar.set_position(done);
        }
    }

    fn step(&mut self, metrics: &StepMetrics) {
        let value = |name| metrics.metrics.get(name).unwrap_or_default();
        let (loss, accuracy) = (value("ranking_loss"), value("accuracy"));
        let (old_loss, old_accuracy) = self.means.unwrap_or((loss, accuracy));
        let mix = |old: f64, new: f64| old + SMOOTHING * (new - old);
        self.means = Some((mix(old_loss, loss), mix(old_accuracy, accuracy)));
        let tenth = (10 * metrics.step).checked_div(self.total).unwrap_or(0);
        match &self.bar {
            Some(bar) => {
                bar.set_message(self.says());
                bar.set_position(metrics.step);
            }
            None if tenth > self.shown => {
                self.shown = tenth;
                let (step, total) = (metrics.step, self.total);
                terminal::message(&format!("{:<14} {step:>4}/{total:<4} {}", self.name, self.says()));
            }
            None => {}
        }
    }

    fn end(&mut self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}
