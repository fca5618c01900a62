//! The page of `pcrm judge`.

use pcrm_core::data::conversation::Content;
use pcrm_eval::judging::MatchOutcome;
use pcrm_eval::table::{percent, percents};

use super::answers::{Field, Policy};
use super::judges::Verdicts;
use super::result::{JudgeFigures, Judged, short};
use super::show;
use crate::report::document::{Block, Document, Fact, Section, Severity, Table};
use crate::report::plot::{Axis, Ink, Layer, Mark, Plot, Whisker};
use crate::report::{count, number};

/// The most matches of each outcome to show.
const SHOWN: usize = 4;
/// The most characters of a text to show.
const LENGTH: usize = 600;

/// Returns the page: win rates, caveats, agreement, and matches side by side.
pub fn document(judged: &Judged, policies: &[Policy], field: &Field, verdicts: &[Verdicts]) -> Document {
    let mut sections = Vec::new();
    let labels: Vec<&str> = policies.iter().map(|policy| policy.label.as_str()).collect();
    for judge in &judged.judges {
        sections.push(judged_by(judge, judged));
    }
    if !judged.agreement.is_empty() {
        let mut table = Table::of_numbers("", &show::AGREEMENT);
        table.rows = show::agreement_rows(judged);
        sections.push(Section::open("Agreement of judges", vec![Block::Table(table)]));
    }
    if let Some(first) = verdicts.first() {
        sections.push(matches(first, policies, field));
    }
    let mut facts = Table::of_numbers("", &["policy", "answers", "not compared", "mean length", "file"]);
    for policy in &judged.policies {
        facts.rows.push(vec![
            policy.label.clone(),
            count(policy.answers as u64),
            count(policy.left_out as u64),
            number(policy.mean_length),
            policy.file.clone(),
        ]);
    }
    sections.push(Section::closed("Policies", vec![Block::Table(facts)]));
    Document {
        title: format!("Judged: {}", labels.join(", ")),
        about: format!(
            "{} matches on {} prompts by {}. Intervals are 95 %, by the bootstrap over prompts.",
            count(judged.matches as u64),
            count(judged.prompts as u64),
            judged.judges.iter().map(|judge| judge.name.as_str()).collect::<Vec<_>>().join(", ")
        ),
        sections,
    }
}

fn judged_by(judge: &JudgeFigures, judged: &Judged) -> Section {
    let mut blocks = Vec::new();
    if let [pair] = judge.pairs.as_slice() {
        let against = format!("{} against {}", pair.first, pair.second);
        let mut figures = Vec::new();
        if let Some(rate) = &pair.win_rate {
            let interval = rate.rate.interval.map_or_else(String::new, |interval| percents(&interval));
            figures.push(
                Fact::new("win rate", percent(rate.rate.value)).with_note(format!("{against}, {interval}")),
            );
        }
        if let Some(one) = &pair.length_controlled {
            let interval = one.rate.interval.map_or_else(String::new, |interval| percents(&interval));
            let note = if one.warning.is_some() { "not identified".to_owned() } else { interval };
            figures.push(Fact::new("at equal length", percent(one.rate.value)).with_note(note));
        }
        if let Some(position) = &judge.position {
            let share = position.consistent as f64 / position.matches as f64;
            figures
                .push(Fact::new("same in both orders", percent(share)).with_note("of the judge's verdicts"));
        }
        blocks.push(Block::Figures(figures));
    }
    blocks.push(Block::Plots(vec![plot(judge)]));
    let mut table = Table::of_numbers("", &show::pair_columns());
    table.rows = show::pair_rows(judge);
    blocks.push(Block::Table(table));
    if let Some(league) = &judge.league {
        let mut table = Table::of_numbers("League: Bradley–Terry ratings of all matches", &show::LEAGUE);
        table.rows = show::league_rows(league, judged);
        blocks.push(Block::Table(table));
    }
    for said in show::sentences(judge, judged) {
        let warnings = ["not identified", "no verdict", "no ratings", "no intervals"];
        let warns = warnings.iter().any(|warning| said.contains(warning));
        blocks.push(match warns {
            true => Block::Note(Severity::Warning, said),
            false => Block::Text(said),
        });
    }
    if !judge.replies.examples.is_empty() {
        let has_words = judge.replies.examples.iter().any(|one| !one.reply.is_empty());
        let columns = ["prompt", "reason", "reply"];
        let shown = if has_words { &columns[..] } else { &columns[..2] };
        let mut table = Table::of_text("Replies without a verdict", shown);
        for one in &judge.replies.examples {
            let row = [&one.prompt, &one.reason, &one.reply].map(String::clone);
            table.rows.push(row[..shown.len()].to_vec());
        }
        blocks.push(Block::Table(table));
    }
    Section::open(format!("By {}", judge.name), blocks)
}

/// Returns the win rates in rows, plain and at equal length.
fn plot(judge: &JudgeFigures) -> Plot {
    let names = judge.pairs.iter().rev().map(|pair| format!("{} : {}", pair.first, pair.second)).collect();
    let pairs = || judge.pairs.iter().rev().enumerate();
    let plain = pairs().filter_map(|(place, pair)| {
        let rate = pair.win_rate.as_ref()?.rate;
        Some(Whisker::new((rate.value, place as f64 + ASIDE), rate.interval))
    });
    let equal = pairs().filter_map(|(place, pair)| {
        let rate = pair.length_controlled.as_ref().filter(|one| one.warning.is_none())?.rate;
        Some(Whisker::new((rate.value, place as f64 - ASIDE), rate.interval))
    });
    Plot {
        title: "Win rates".to_owned(),
        about: "How often the first policy wins, with ties counted as one half; the dashed line is chance."
            .to_owned(),
        x: Axis::shares("").within(0.0, 1.0),
        y: Axis::of_names(names),
        layers: vec![
            Layer::unnamed(Ink::Grey, Mark::Upright(0.5)),
            Layer::new("win rate", Ink::Blue, Mark::Lying(plain.collect())),
            Layer::new("at equal length", Ink::Orange, Mark::Lying(equal.collect())),
        ],
    }
}

/// The offset of a dot from its name's position.
const ASIDE: f64 = 0.12;

/// Returns matches of the first two policies side by side: some of every outcome.
fn matches(verdicts: &Verdicts, policies: &[Policy], field: &Field) -> Section {
    let outcomes = verdicts.matches(field);
    let [a, b] = [0, 1].map(|at| policies.get(at).map_or("", |policy| policy.label.as_str()));
    let mut table = Table::of_text("", &["better", "prompt", a, b]);
    for (outcome, name) in [(MatchOutcome::Win, a), (MatchOutcome::Tie, "neither"), (MatchOutcome::Loss, b)] {
        let these = field
            .pairings
            .iter()
            .zip(&outcomes)
            .filter(|(pairing, one)| (pairing.a, pairing.b) == (0, 1) && one.outcome() == Some(outcome));
        for (pairing, _) in these.take(SHOWN) {
            let question = field.question(pairing);
            let prompt = match &question.prompt.prompt {
                Content::Text(text) => text.clone(),
                Content::Messages(turns) => turns.last().map(|turn| turn.content.clone()).unwrap_or_default(),
            };
            let cells = [prompt.as_str(), question.first, question.second].map(|text| short(text, LENGTH));
            table.rows.push([&[name.to_owned()], &cells[..]].concat());
        }
    }
    Section::open(format!("Matches of {a} and {b}, judged by {}", verdicts.name), vec![Block::Table(table)])
}
