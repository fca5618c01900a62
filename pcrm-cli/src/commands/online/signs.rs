//! The answers that a run's page shows, and sentences about a run that learns little or goes astray.

use std::path::Path;

use pcrm_rl::metrics;
use pcrm_rl::online::{CHANGES, Change, SAMPLES};
use serde_json::Value;

use crate::report;
use crate::report::document::Table;

/// Nats per answer from which on a policy is far from its reference.
const FAR: f64 = 20.0;

/// Answers on the page.
const SHOWN: usize = 12;

/// The best and worst answers of the last rollouts, the newest first.
pub fn answers(dir: &Path) -> Option<Table> {
    let lines = metrics::read(&dir.join(SAMPLES)).ok()?;
    let caption = "Best and worst answers of the last rollouts, the newest first";
    let mut table = Table::of_text(caption, &["step", "which", "reward", "prompt", "answer"]);
    let shown = lines.iter().rev().filter(|line| line["what"] != "first").take(SHOWN);
    for line in shown {
        let text = |key: &str| match &line[key] {
            Value::String(text) => text.chars().take(400).collect(),
            Value::Number(number) => number.as_f64().map(report::number).unwrap_or_default(),
            other => other.to_string(),
        };
        table.rows.push(["step", "what", "reward", "prompt", "completion"].map(text).into());
    }
    (!table.rows.is_empty()).then_some(table)
}

/// The held-out prompts whose answers gained and lost most reward by training, side by side.
pub fn changes(dir: &Path) -> Option<Table> {
    let lines = metrics::read(&dir.join(CHANGES)).ok()?;
    let mut changes: Vec<Change> =
        lines.into_iter().map(serde_json::from_value).collect::<Result<_, _>>().ok()?;
    changes.retain(|change| change.before != change.after && change.rise().is_some());
    changes.sort_by(|a, b| b.rise().unwrap_or_default().total_cmp(&a.rise().unwrap_or_default()));
    let half = SHOWN / 2;
    let shown: Vec<&Change> = match changes.len() > SHOWN {
        true => changes[..half].iter().chain(&changes[changes.len() - half..]).collect(),
        false => changes.iter().collect(),
    };
    let caption = "Held-out prompts whose answers changed most in reward: the reference's answer and the policy's, with the same \
                   draws; the largest gains first, the largest losses last";
    let headings =
        ["reward before", "after", "nats from the reference", "prompt", "answer before", "answer after"];
    let mut table = Table::of_text(caption, &headings);
    for change in shown {
        let number =
            |reward: Option<f32>| reward.map(|reward| report::number(reward.into())).unwrap_or_default();
        let text = |text: &str| text.chars().take(400).collect();
        table.rows.push(vec![
            number(change.reward_before),
            number(change.reward_after),
            report::number(change.kl),
            text(&change.prompt),
            text(&change.before),
            text(&change.after),
        ]);
    }
    (!table.rows.is_empty()).then_some(table)
}

/// Sentences about a run that learns little, by the means of its steps.
pub fn findings(lines: &[Value]) -> Vec<String> {
    let mean = |name: &str| {
        let values: Vec<f64> = lines.iter().filter_map(|line| line[name].as_f64()).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let mut found = Vec::new();
    if let Some(share) = mean("frac_reward_zero_std").filter(|share| *share > 0.5) {
        found.push(format!(
            "in {:.0} % of the groups all answers had one reward, from which nothing is learned: a higher --temperature, \
             more --num-generations, or a reward with more grades helps",
            100.0 * share
        ));
    }
    if let Some(share) = mean("completions/clipped_ratio").filter(|share| *share > 0.2) {
        found.push(format!(
            "{:.0} % of the answers were cut off at --max-completion-length before their end: their rewards are those of \
             halves; a larger limit or --mask-truncated-completions helps",
            100.0 * share
        ));
    }
    let ends = |name: &str| {
        let values: Vec<f64> = lines.iter().filter_map(|line| line[name].as_f64()).collect();
        let part = values.len() / 4;
        let of = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        (part > 0).then(|| (of(&values[..part]), of(&values[values.len() - part..])))
    };
    if let (Some((early, late)), Some((_, kl))) = (ends("reward"), ends("objective/kl"))
        && late > early
        && kl > FAR
    {
        found.push(format!(
            "the reward rose from {early:.3} to {late:.3} while answers went {kl:.0} nats from the reference: read the \
             answers below before the reward is believed; a larger KL penalty, --stop-kl or a reward model with bounded \
             margins helps"
        ));
    }
    for name in names_ending(lines, "/beyond_range") {
        if let Some((_, share)) = ends(&name).filter(|(_, late)| *late > 0.1) {
            let source = name.trim_end_matches("/beyond_range");
            found.push(format!(
                "{:.0} % of the last scores of {source:?} are beyond all scores that it gives to its own data, of which \
                 nothing says what they are worth: --stop-kl, a larger KL penalty, or a reward model trained on such answers \
                 helps",
                100.0 * share
            ));
        }
    }
    if let Some(r) = mean("completions/reward_length_correlation").filter(|r| r.abs() > 0.7) {
        found.push(format!(
            "rewards go with the length of answers (r = {r:.2}): longer is not better by itself"
        ));
    }
    found
}

/// The names of metrics with this end, each once.
fn names_ending(lines: &[Value], end: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for line in lines.iter().filter_map(Value::as_object) {
        for name in line.keys().filter(|name| name.ends_with(end) && !name.starts_with("eval_")) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
    }
    names
}
