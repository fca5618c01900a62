//! The progress of a training run: its bar, its lines and its evaluations.

use std::path::Path;
use std::time::Instant;

use indicatif::ProgressBar;
use pcrm_rl::metrics::{StepMetrics, Summary};
use pcrm_rl::offline::Observer;

use super::{PLAIN_EVERY, columns, quiet, say, styled};
use crate::terminal::shows_messages;
use crate::training::folder::Description;

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
/// across constraints, beside the loss of guessing.
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
