//! The answers shown on a run's page, and warnings about a run that learns little or drifts.

use std::path::Path;

use pcrm_rl::metrics;
use pcrm_rl::online::{CHANGES, Change, SAMPLES};
use serde_json::Value;

use crate::report;
use crate::report::document::Table;

/// The nats per answer beyond which a policy is far from its reference.
const FAR: f64 = 20.0;

/// The number of answers on the page.
const SHOWN: usize = 12;

/// Returns the best and worst answers of the last rollouts, newest first.
pub fn answers(dir: &Path) -> Option<Table> {
    let lines = metrics::read(&dir.join(SAMPLES)).ok()?;
    let caption = "Best and worst answers of the last rollouts, newest first";
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

/// Returns the held-out prompts whose answers gained and lost most reward in training, side by side.
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
    let caption = "Held-out prompts whose answers changed most in reward: the answers of the reference and \
                   the policy, sampled with the same seed; largest gains first, largest losses last";
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

/// Returns warnings about a run that learns little, based on the means of its steps.
pub fn findings(lines: &[Value]) -> Vec<String> {
    let mean = |name: &str| {
        let values: Vec<f64> = lines.iter().filter_map(|line| line[name].as_f64()).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let mut found = Vec::new();
    if let Some(share) = mean("frac_reward_zero_std").filter(|share| *share > 0.5) {
        found.push(format!(
            "in {:.0} % of the groups all answers had the same reward, which teaches nothing: use a higher \
             --temperature, more --num-generations, or a finer-grained reward",
            100.0 * share
        ));
    }
    if let Some(share) = mean("completions/clipped_ratio").filter(|share| *share > 0.2) {
        found.push(format!(
            "{:.0} % of the answers were cut off at --max-completion-length, so their rewards are those of \
             incomplete answers: use a larger limit or --mask-truncated-completions",
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
            "the reward rose from {early:.3} to {late:.3} while answers moved {kl:.0} nats from the \
             reference: read the answers below before trusting the reward; use a larger KL penalty, \
             --stop-kl or a reward model with bounded margins"
        ));
    }
    for name in names_ending(lines, "/beyond_range") {
        if let Some((_, share)) = ends(&name).filter(|(_, late)| *late > 0.1) {
            let source = name.trim_end_matches("/beyond_range");
            found.push(format!(
                "{:.0} % of the last scores of {source:?} are outside the range of its scores on its own data, \
                 where they are unreliable: use --stop-kl, a larger KL penalty, or a reward model trained \
                 on such answers",
                100.0 * share
            ));
        }
    }
    if let Some(r) = mean("completions/reward_length_correlation").filter(|r| r.abs() > 0.7) {
        found.push(format!(
            "rewards correlate with the length of answers (r = {r:.2}): longer is not better by itself"
        ));
    }
    found
}

/// Returns the distinct names of metrics with this suffix.
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
