//! The figures, notes and facts of a training run.

use pcrm_eval::quantiles::QuantileSummary;
use pcrm_eval::table::percents;
use serde_json::Value;

use super::settings::constraint;
use super::{Ending, RewardPage};
use crate::report::document::{Block, Fact, Severity};
use crate::report::number::{count, duration, number, percent};

/// With fewer held-out pairs, the report warns that there are few.
const FEW: usize = 30;

pub(super) fn figures(run: &RewardPage<'_>) -> Vec<Fact> {
    let mut figures = Vec::new();
    let of = |line: Option<&Value>, name: &str| line.and_then(|line| line[name].as_f64());
    let held_out = |name: &str| of(run.evaluation(), name);
    if let (Some(accuracy), Some(pairs)) = (run.accuracy(), run.held_out) {
        let interval = format!("95 %: {}, {}", percents(&accuracy.interval), pairs.text());
        figures.push(Fact::new("Accuracy, held out", percent(accuracy.value)).with_note(interval));
    }
    if let Some(loss) = held_out("eval_ranking_loss") {
        let note = beside_guessing("nats per pair", held_out("eval_coin_ranking_loss"));
        figures.push(Fact::new("Ranking loss, held out", number(loss)).with_note(note));
    }
    if let Some(loss) = held_out("eval_loss").filter(|_| bounds(run).is_some()) {
        let note = beside_guessing("all parts", held_out("eval_coin_loss"));
        figures.push(Fact::new("Loss with bounds, held out", number(loss)).with_note(note));
    }
    if let Some(margin) = held_out("eval_margin") {
        let std = held_out("eval_margin_std").map(|std| format!("± {} (std)", number(std)));
        figures.push(Fact::new("Mean margin, held out", number(margin)).with_note(std.unwrap_or_default()));
    }
    if let Some(beyond) = held_out("eval_beyond_bound") {
        figures.push(Fact::new("Beyond the bound", percent(beyond)).with_note("of the held-out margins"));
    }
    if let Some(last) = run.curves.last() {
        let step = last["step"].as_u64().unwrap_or(0);
        let epochs = format!("{:.2} epochs", last["epoch"].as_f64().unwrap_or(0.0));
        figures.push(Fact::new("Steps", count(step)).with_note(epochs));
        let tokens = last["num_tokens"].as_u64().unwrap_or(0);
        let time = format!("{} in steps", duration(run.curves.seconds()));
        figures.push(Fact::new("Tokens", count(tokens)).with_note(time));
    }
    if let Some(speed) = run.curves.median("tokens_per_second") {
        let saved = run.curves.median("padding_avoided").unwrap_or(0.0);
        let note = format!("tokens per second; {:.0} % of padded batches not computed", 100.0 * saved);
        figures.push(Fact::new("Speed, median", count(speed.round() as u64)).with_note(note));
    }
    figures
}

/// Returns a note with the loss of guessing under the same bounds.
pub(super) fn beside_guessing(unit: &str, coin: Option<f64>) -> String {
    coin.map_or(unit.to_owned(), |coin| format!("{unit}; guessing has {}", number(coin)))
}

pub(super) fn notes(run: &RewardPage<'_>) -> Vec<Block> {
    let mut notes = Vec::new();
    let mut note = |severity, text: String| notes.push(Block::Note(severity, text));
    match &run.ending {
        Ending::Finished => {}
        Ending::Early => {
            note(Severity::Info, "Stopped early: evaluations stopped improving (--patience).".into())
        }
        Ending::Interrupted => {
            note(Severity::Warning, "Interrupted: rerun the same command with --resume to continue.".into())
        }
        Ending::Failed(why) => note(Severity::Error, format!("Failed: {why}")),
    }
    if let Some(score) = collapsed(run) {
        note(
            Severity::Error,
            format!("All scores are equal ({}): the model distinguishes nothing.", number(score)),
        );
    } else if let Some(share) = run.accuracy()
        && share.interval.contains(0.5)
    {
        let interval = percents(&share.interval);
        note(
            Severity::Warning,
            format!(
                "The 95 % interval of the held-out accuracy ({interval}) includes 50 %: no evidence that the \
                 model beats guessing on these pairs."
            ),
        );
    }
    if let Some(held_out) = run.held_out.filter(|held_out| held_out.pairs < FEW) {
        note(Severity::Warning, format!("Only {} held out: the figures are rough.", held_out.text()));
    }
    let last = run.curves.eval("loss").last().copied();
    if let (Some((step, least)), Some((last, loss))) = (run.best(), last)
        && loss > least * 1.02
        && run.kept.is_none_or(|kept| kept > step)
    {
        note(
            Severity::Warning,
            format!(
                "The held-out loss was lowest after step {step} ({}) and is {} after step {last}: the model \
                 overfits. --final best keeps the weights with the lowest loss.",
                number(least),
                number(loss)
            ),
        );
    }
    if run.held_out.is_none() {
        note(
            Severity::Info,
            "Nothing was held out: use --eval-split 0.1 or --eval-data to measure the model on other pairs."
                .into(),
        );
    }
    notes
}

/// Returns the common score of all held-out answers, or of the last batch, if there is only one value.
pub(super) fn collapsed(run: &RewardPage<'_>) -> Option<f64> {
    let (line, prefix) = match run.evaluation() {
        Some(line) => (line, "eval_"),
        None => (run.curves.last()?, ""),
    };
    let of = |name: &str| line[format!("{prefix}{name}")].as_f64();
    of("min_reward").filter(|least| of("max_reward") == Some(*least))
}

pub(super) fn facts(run: &RewardPage<'_>) -> Vec<Fact> {
    let mut facts = vec![
        Fact::new("Base model", run.base.clone()),
        Fact::new("Parameters", count(run.parameters as u64)),
        Fact::new("Constraint", constraint(run.constraint)),
        Fact::new("Training pairs", count(run.pairs as u64)),
    ];
    if run.fitted.is_some() {
        facts[2].note = format!("fitted by {}", constraint(run.asked()));
    }
    if let Some(held_out) = run.held_out {
        facts.push(Fact::new("Held-out pairs", held_out.text()));
    }
    if let Some(bounds) = bounds(run) {
        let spread = match bounds.min == bounds.max {
            true => "the same for all".to_owned(),
            false => format!("5–95 %: {} to {}", number(bounds.p5), number(bounds.p95)),
        };
        facts.push(
            Fact::new("Bounds Δ* of the pairs", format!("median {}", number(bounds.p50))).with_note(spread),
        );
    }
    if let Some(step) = run.kept {
        let best =
            run.best().filter(|_| run.curves.eval("loss").len() > 1).map(|(best, _)| match best == step {
                true => "the lowest held-out loss".to_owned(),
                false => format!("the held-out loss was lowest after step {}", count(best)),
            });
        facts.push(
            Fact::new("Saved weights", format!("step {}", count(step))).with_note(best.unwrap_or_default()),
        );
    }
    facts
}

pub(super) fn bounds(run: &RewardPage<'_>) -> Option<QuantileSummary> {
    let finite: Vec<f64> =
        run.bounds.iter().filter(|bound| bound.is_finite()).map(|bound| f64::from(*bound)).collect();
    QuantileSummary::of("bound of pair", &finite).ok()
}
