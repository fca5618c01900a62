//! The report of a policy's training on preferences.

use pcrm_eval::quantiles::QuantileSummary;
use pcrm_eval::table::percents;
use pcrm_rl::offline::Outcome;
use pcrm_rl::pairs::Pairs;
use serde_json::Value;

use super::plots::{BALANCE, Course, ROUTERS, steps};
use super::{FittedTo, HeldOut, calibrated, options};
use crate::report::curves::{Curves, smooth};
use crate::report::data::{self, Source};
use crate::report::document::{Block, Document, Fact, Section, Severity};
use crate::report::number::{count, duration, number, percent};
use crate::report::plot::{Axis, Ink, Layer, Mark, Plot};

/// The drop of preferred answers, in nats per answer, above which a warning is given.
const FALLEN: f64 = 1.0;

/// The content of the page of a DPO run.
pub struct PreferencePage<'a> {
    /// The name of the run.
    pub name: String,
    /// The model it started from.
    pub base: String,
    /// The losses with their weights.
    pub losses: String,
    /// A description of the reference.
    pub reference: String,
    /// The constraint with the settings used for the pairs.
    pub constraint: &'a Value,
    /// The unfitted constraint and its evidence, if the run fitted it.
    pub fitted: Option<FittedTo<'a>>,
    /// The metrics of all steps.
    pub curves: Curves,
    /// The outcome.
    pub ending: Result<&'a Outcome, &'a pcrm_rl::Error>,
    /// The warnings it printed.
    pub warnings: &'a [String],
    /// The data it read.
    pub sources: &'a [Source],
    /// The training pairs with their bounds.
    pub pairs: &'a Pairs,
    /// The held-out pairs.
    pub held_out: Option<HeldOut>,
    /// The number of parameters.
    pub parameters: usize,
    /// The threshold for clipping the gradient norm.
    pub max_grad_norm: Option<f64>,
    /// All options, as TOML.
    pub options: &'a str,
}

impl PreferencePage<'_> {
    /// Returns the evaluation of the saved weights.
    fn evaluation(&self) -> Option<&Value> {
        match self.ending {
            Ok(Outcome::Finished { saved, .. }) => self.curves.evaluation(*saved),
            _ => self.curves.last_evaluation(),
        }
    }

    fn held_out(&self, name: &str) -> Option<f64> {
        self.evaluation()?[format!("eval_{name}")].as_f64()
    }

    fn bounds(&self) -> Option<QuantileSummary> {
        let finite = self.pairs.bounds.iter().filter(|bound| bound.is_finite());
        QuantileSummary::of("bound of pair", &finite.map(|bound| f64::from(*bound)).collect::<Vec<_>>()).ok()
    }
}

/// Returns a warning if preferred answers became less likely in training while margins grew. The loss does
/// not prevent this, since it sees only differences. `beta` converts rewards to nats; without a reference
/// (`None`) evaluations are compared.
pub fn falling(curves: &Curves, beta: Option<f64>) -> Option<String> {
    let mean = |points: &[(f64, f64)]| points.iter().map(|(_, y)| y).sum::<f64>() / points.len() as f64;
    let ends = |points: Vec<(f64, f64)>| {
        let part = (points.len() / 10).max(1);
        (points.len() > 1).then(|| mean(&points[points.len() - part..]) - mean(&points[..part]))
    };
    let (change, grown) = match beta {
        Some(beta) => {
            let rewards = ends(curves.train("rewards/chosen"))?;
            (rewards / beta, ends(curves.train("rewards/margins"))?)
        }
        // Batches differ in length, so evaluations on the same pairs are more precise.
        None => (ends(curves.eval("logps/chosen"))?, ends(curves.eval("rewards/margins"))?),
    };
    (change < -FALLEN && grown > 0.0).then(|| {
        format!(
            "preferred answers became less likely: their mean log-probability fell by {} nats per answer \
             while margins grew. The loss depends only on the difference of two answers, so both may lose \
             probability to texts in no pair. To prevent this, add a term that raises them (--loss sigmoid \
             sft), or use a larger --beta, a smaller --learning-rate, fewer steps (--patience), or a \
             --constraint, which stops margins from growing",
            number(-change)
        )
    })
}

/// Returns the report of a run.
pub fn document(run: &PreferencePage<'_>) -> Document {
    let mut summary = vec![Block::Figures(figures(run))];
    summary.extend(run.warnings.iter().map(|text| Block::Note(Severity::Warning, text.clone())));
    summary.extend(notes(run));
    let mut sections = vec![Section::open("", summary)];
    if run.curves.last().is_some() {
        let plots = plots(run).into_iter().filter(|plot| plot.layers.iter().any(|layer| !layer.is_empty()));
        sections.push(Section::open("Course of training", vec![Block::Plots(plots.collect())]));
    }
    sections.push(Section::open("Model", vec![Block::Facts(facts(run))]));
    sections.extend(run.fitted.map(|fitted| calibrated(run.constraint, fitted)));
    sections.push(Section::open("Data", data::blocks(run.sources)));
    sections.push(Section::closed("All options", vec![Block::Table(options(run.options))]));
    Document {
        title: format!("Policy {}", run.name),
        about: format!(
            "Trained on preferences from {} with the loss {} and the constraint {}.",
            run.base,
            run.losses,
            run.constraint["kind"].as_str().unwrap_or("none")
        ),
        sections,
    }
}

fn figures(run: &PreferencePage<'_>) -> Vec<Fact> {
    let mut figures = measures(run);
    if let Some(last) = run.curves.last() {
        let of = |name: &str| last[name].as_f64().unwrap_or(0.0);
        let epochs = format!("{:.2} epochs", of("epoch"));
        figures.push(Fact::new("Steps", count(of("step") as u64)).with_note(epochs));
        let time = format!("{} in steps", duration(run.curves.seconds()));
        figures.push(Fact::new("Tokens", count(of("num_tokens") as u64)).with_note(time));
    }
    if let Some(speed) = run.curves.median("tokens_per_second") {
        let saved = run.curves.median("padding_avoided").unwrap_or(0.0);
        let note = format!("tokens per second; {:.0} % of padded batches not computed", 100.0 * saved);
        figures.push(Fact::new("Speed, median", count(speed.round() as u64)).with_note(note));
    }
    figures
}

/// Returns the figures of the held-out pairs.
pub fn measures(run: &PreferencePage<'_>) -> Vec<Fact> {
    let mut found = Vec::new();
    if let (Some(share), Some(held_out)) = (run.held_out("rewards/accuracies"), run.held_out) {
        let interval = held_out.share(share).map(|share| percents(&share.interval)).unwrap_or_default();
        let note = format!("95 %: {interval}, {}", held_out.text());
        found.push(Fact::new("Accuracy of the implicit reward, held out", percent(share)).with_note(note));
    }
    if let Some(loss) = run.held_out("ranking_loss") {
        found.push(Fact::new("Loss, held out", number(loss)).with_note("without bounds, per pair"));
    }
    if let Some(loss) = run.held_out("loss").filter(|_| run.bounds().is_some()) {
        found.push(Fact::new("Loss with bounds, held out", number(loss)).with_note("per pair"));
    }
    if let Some(margin) = run.held_out("rewards/margins") {
        let std = run.held_out("rewards/margins_std").map(|std| format!("± {} (std)", number(std)));
        found.push(Fact::new("Mean margin, held out", number(margin)).with_note(std.unwrap_or_default()));
    }
    if let (Some(chosen), Some(rejected)) = (run.held_out("rewards/chosen"), run.held_out("rewards/rejected"))
    {
        let value = format!("{} / {}", number(chosen), number(rejected));
        found.push(Fact::new("Rewards, held out", value).with_note("of preferred and of other answers"));
    }
    if let Some(beyond) = run.held_out("beyond_bound") {
        found.push(Fact::new("Beyond the bound", percent(beyond)).with_note("of the held-out margins"));
    }
    found
}

fn notes(run: &PreferencePage<'_>) -> Vec<Block> {
    let mut notes = Vec::new();
    let mut note = |severity, text: String| notes.push(Block::Note(severity, text));
    match run.ending {
        Ok(Outcome::Finished { early: false, .. }) => {}
        Ok(Outcome::Finished { early: true, .. }) => {
            note(Severity::Info, "Stopped early: evaluations stopped improving (--patience).".into())
        }
        Ok(Outcome::Interrupted { .. }) => {
            note(Severity::Warning, "Interrupted: rerun the same command with --resume to continue.".into());
        }
        Err(error) => note(Severity::Error, format!("Failed: {error}")),
    }
    if run.held_out.is_none() {
        note(
            Severity::Info,
            "Nothing was held out: use --eval-split 0.1 or --eval-data to measure the policy on other pairs."
                .into(),
        );
    }
    notes
}

fn facts(run: &PreferencePage<'_>) -> Vec<Fact> {
    let mut facts = vec![
        Fact::new("Started from", run.base.clone()),
        Fact::new("Parameters", count(run.parameters as u64)),
        Fact::new("Loss", run.losses.clone()),
        Fact::new("Reference", run.reference.clone()),
        Fact::new("Constraint", super::constraint(run.constraint)),
        Fact::new("Training pairs", count(run.pairs.count() as u64)),
    ];
    if let Some(held_out) = run.held_out {
        facts.push(Fact::new("Held-out pairs", held_out.text()));
    }
    if let Some(bounds) = run.bounds() {
        let spread = match bounds.min == bounds.max {
            true => "the same for all".to_owned(),
            false => format!("5–95 %: {} to {}", number(bounds.p5), number(bounds.p95)),
        };
        let median = format!("median {}", number(bounds.p50));
        facts.push(Fact::new("Bounds Δ* of the pairs", median).with_note(spread));
    }
    if let Ok(Outcome::Finished { saved, .. }) = run.ending {
        facts.push(Fact::new("Saved weights", format!("step {}", count(*saved))));
    }
    facts
}

fn plots(run: &PreferencePage<'_>) -> Vec<Plot> {
    let course = Course { curves: &run.curves, max_grad_norm: run.max_grad_norm };
    let metric = |title: &str, name: &str, y: Axis| Plot {
        title: title.into(),
        about: course.smoothing(),
        x: steps(),
        y,
        layers: course.both(name),
    };
    // A metric of preferred answers and the same metric of the others.
    let two = |title: &str, names: [&str; 2], y: Axis| {
        let of = |name: &str, label: &str, ink: Ink| {
            let line =
                Layer::new(format!("{label}, training"), ink, Mark::Line(smooth(&run.curves.train(name))));
            let dots = Layer::new(format!("{label}, held out"), ink, Mark::Dots(run.curves.eval(name)));
            [line, dots]
        };
        let preferred = of(names[0], "preferred", Ink::Blue);
        let layers = preferred.into_iter().chain(of(names[1], "other", Ink::Red)).collect();
        Plot { title: title.into(), about: course.smoothing(), x: steps(), y, layers }
    };
    let mut margins = metric("Margin against its bound", "rewards/margins", Axis::new("mean of Δ"));
    if let Some(bounds) = run.bounds() {
        let label = format!("median bound Δ* ({})", number(bounds.p50));
        margins.layers.push(Layer::new(label, Ink::Red, Mark::Across(bounds.p50)));
    }
    vec![
        metric("Loss without bounds", "ranking_loss", Axis::new("per pair")),
        metric("Loss with bounds", "loss", Axis::new("all terms, per pair")),
        metric(ROUTERS, "aux_loss", Axis::new(BALANCE)),
        metric(
            "Accuracy of the implicit reward",
            "rewards/accuracies",
            Axis::shares("share of pairs ordered as labelled").within(0.0, 1.0),
        ),
        margins,
        two("Rewards", ["rewards/chosen", "rewards/rejected"], Axis::new("β·(ln π − ln π_ref)")),
        two("Log-probabilities", ["logps/chosen", "logps/rejected"], Axis::new("ln π of an answer, nats")),
        metric("Beyond the bound", "beyond_bound", Axis::shares("share of pairs with Δ > Δ*")),
        metric("Entropy", "entropy", Axis::new("nats per token")),
        course.gradient(),
        course.learning_rate(),
        course.speed(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Protects: a warning with numbers is given if preferred answers fall, but not if they rise or fall only
    /// a little.
    #[test]
    fn falling_preferred_answers_are_said() {
        let curves = |to: f64| {
            let line = |step: u32| {
                let part = f64::from(step) / 40.0;
                json!({"step": step, "rewards/chosen": to * part, "rewards/margins": 2.0 * part})
            };
            Curves::new((1..=40).map(line).collect())
        };
        let said = falling(&curves(-0.5), Some(0.1)).unwrap();
        assert!(said.contains("less likely") && said.contains("--loss sigmoid sft"), "{said}");
        assert_eq!(falling(&curves(0.5), Some(0.1)), None);
        assert_eq!(falling(&curves(-0.05), Some(0.1)), None);
        assert_eq!(falling(&Curves::default(), Some(0.1)), None);
    }
}
