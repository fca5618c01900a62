//! Verdicts as text for an 80-column terminal.

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use pcrm_eval::bootstrap::Estimate;
use pcrm_eval::interval::{LEVEL, fewest_prompts};
use pcrm_eval::judging::league::ELO;
use pcrm_eval::judging::{League, PositionBias};
use pcrm_eval::table::{percent, percents};

use super::result::{JudgeFigures, Judged, Replies};
use crate::paragraph::paragraph;
use crate::report::count;

/// The width of tables, in characters.
const WIDTH: u16 = 80;

/// Formats all figures as tables and sentences.
pub fn text(judged: &Judged) -> String {
    let mut text = paragraph(
        "",
        &format!(
            "{} matches of {} policies on {} prompts. Intervals are 95 %, by the bootstrap over prompts.",
            count(judged.matches as u64),
            judged.policies.len(),
            count(judged.prompts as u64)
        ),
    );
    for judge in &judged.judges {
        text.push_str(&format!("\n{}\n", judge.name));
        text.push_str(&table(&pair_columns(), pair_rows(judge)));
        if let Some(league) = &judge.league {
            text.push_str(&table(&LEAGUE, league_rows(league, judged)));
        }
        sentences(judge, judged).iter().for_each(|said| text.push_str(&paragraph("* ", said)));
    }
    if !judged.agreement.is_empty() {
        text.push_str(&format!("\nagreement of judges\n{}", table(&AGREEMENT, agreement_rows(judged))));
    }
    text
}

/// Returns the columns of the table of pairs.
pub fn pair_columns() -> [&'static str; 6] {
    ["first : second", "win rate", "95 %", "won-tied-lost", "equal length", "95 % "]
}

/// The columns of a league.
pub const LEAGUE: [&str; 5] = ["policy", "Elo", "95 %", "score", "mean length"];

/// The columns of agreement.
pub const AGREEMENT: [&str; 5] = ["judges", "κ", "95 %", "agree", "without ties"];

/// Returns a row for every pair of policies.
pub fn pair_rows(judge: &JudgeFigures) -> Vec<Vec<String>> {
    let row = |pair: &super::result::Rates| {
        let rate = pair.win_rate.as_ref();
        let controlled = pair.length_controlled.as_ref();
        let mark = if controlled.is_some_and(|one| one.warning.is_some()) { " ?" } else { "" };
        vec![
            format!("{} : {}", pair.first, pair.second),
            rate.map_or(none(), |rate| percent(rate.rate.value)),
            rate.map_or(none(), |rate| ends(&rate.rate)),
            rate.map_or(none(), |rate| format!("{}-{}-{}", rate.wins, rate.ties, rate.losses)),
            controlled.map_or(none(), |one| format!("{}{mark}", percent(one.rate.value))),
            controlled.map_or(none(), |one| ends(&one.rate)),
        ]
    };
    judge.pairs.iter().map(row).collect()
}

/// Returns a row for every policy, the best first.
pub fn league_rows(league: &League, judged: &Judged) -> Vec<Vec<String>> {
    let mut standings: Vec<_> = league.standings.iter().collect();
    let rank = |standing: &&pcrm_eval::judging::Standing| {
        standing.rating.map(|rating| rating.value).or(standing.score).unwrap_or(f64::NEG_INFINITY)
    };
    standings.sort_by(|a, b| rank(b).total_cmp(&rank(a)));
    let elo = |value: f64| format!("{:+.0}", value * ELO).replace('-', "−");
    let row = |standing: &pcrm_eval::judging::Standing| {
        let facts = &judged.policies[standing.policy];
        let interval = standing.rating.and_then(|rating| rating.interval);
        vec![
            facts.label.clone(),
            standing.rating.map_or(none(), |rating| elo(rating.value)),
            interval
                .map_or(none(), |interval| format!("{} to {}", elo(interval.low()), elo(interval.high()))),
            standing.score.map_or(none(), percent),
            format!("{:.0}", facts.mean_length),
        ]
    };
    standings.into_iter().map(row).collect()
}

/// Returns a row for every pair of judges.
pub fn agreement_rows(judged: &Judged) -> Vec<Vec<String>> {
    let row = |pair: &super::result::Pair| {
        let found = pair.agreement.as_ref();
        let kappa = found.and_then(|found| found.kappa);
        let interval = kappa.and_then(|kappa| kappa.interval);
        let number = |value: f64| format!("{value:.2}").replace('-', "−");
        vec![
            format!("{} : {}", pair.first, pair.second),
            kappa.map_or(none(), |kappa| number(kappa.value)),
            interval.map_or(none(), |interval| {
                format!("{} to {}", number(interval.low()), number(interval.high()))
            }),
            found.map_or(none(), |found| percent(found.agreement)),
            found.and_then(|found| found.without_ties).map_or(none(), percent),
        ]
    };
    judged.agreement.iter().map(row).collect()
}

/// Returns the caveats about a judge's figures.
pub fn sentences(judge: &JudgeFigures, judged: &Judged) -> Vec<String> {
    let mut said = Vec::new();
    if let Some(position) = &judge.position {
        let interval = position.preference.interval;
        said.push(format!(
            "Position: the answer shown first wins {}{} ({}); {} of {} matches have the same verdict in \
             both orders; {} were won by the first position and {} by the second in both orders and count as \
             ties.",
            percent(position.preference.value),
            interval.map_or_else(String::new, |interval| format!(", {}", percents(&interval))),
            bias(position, judged.prompts),
            position.consistent,
            position.matches,
            position.first,
            position.second
        ));
    }
    for pair in &judge.pairs {
        if let Some(warning) = pair.length_controlled.as_ref().and_then(|one| one.warning.as_ref()) {
            said.push(format!("{} : {} at equal length (?): {warning}.", pair.first, pair.second));
        }
    }
    if let Some(warning) = judge.league.as_ref().and_then(|league| league.warning.as_ref()) {
        said.push(format!("League: {warning}."));
    }
    said.push(replies(&judge.replies));
    if judge.replies.without_verdict > 0 {
        let counted: usize =
            judge.pairs.iter().filter_map(|pair| pair.win_rate.as_ref()).map(|rate| rate.matches).sum();
        let left_out = judged.matches - counted;
        let first = judge.replies.examples.first();
        let example = first.map_or_else(String::new, |one| {
            let reply = if one.reply.is_empty() { String::new() } else { format!(": {:?}", one.reply) };
            format!(" The first, {}: {}{reply}.", one.prompt, one.reason)
        });
        said.push(format!(
            "{} of {} replies have no verdict; their {left_out} matches are not counted.{example}",
            judge.replies.without_verdict, judge.replies.asked
        ));
    }
    said
}

/// Describes a judge's position bias on so many prompts. Verdicts that are all equal have no interval.
fn bias(position: &PositionBias, prompts: usize) -> &'static str {
    let share = position.preference.value;
    match position.preference.interval {
        Some(interval) if interval.contains(0.5) => "no position bias beyond chance",
        Some(_) if share > 0.5 => "it favours the answer shown first",
        Some(_) => "it favours the answer shown second",
        None if prompts < fewest_prompts(LEVEL) => "too few prompts to detect a position bias",
        None if share == 1.0 => "it always favours the answer shown first",
        None if share == 0.0 => "it always favours the answer shown second",
        None if position.consistent == position.matches => "no position bias",
        None => "without an interval, this may be chance",
    }
}

fn replies(replies: &Replies) -> String {
    let mut parts = vec![format!("{} verdicts", count(replies.asked as u64))];
    if replies.kept > 0 {
        parts.push(format!("{} cached", count(replies.kept as u64)));
    }
    if replies.identical > 0 {
        parts.push(format!("{} ties of identical answers", count(replies.identical as u64)));
    }
    let usage = replies.usage;
    if usage.calls > 0 {
        parts.push(format!(
            "{} new calls, {} input and {} output tokens",
            count(usage.calls),
            count(usage.input),
            count(usage.output)
        ));
    }
    if let Some(cost) = replies.cost {
        parts.push(format!("cost {cost:.4}"));
    }
    format!("{}.", parts.join("; "))
}

fn ends(estimate: &Estimate) -> String {
    let share = |share: f64| format!("{:.1}", 100.0 * share);
    estimate
        .interval
        .map_or(none(), |interval| format!("{}–{}", share(interval.low()), share(interval.high())))
}

fn none() -> String {
    "–".to_owned()
}

fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.force_no_tty().load_style(UTF8_BORDERS_ONLY);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    table.set_header(header.to_vec());
    table.add_rows(rows);
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    format!("{table}\n")
}
