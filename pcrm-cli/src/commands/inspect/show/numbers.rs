//! The numeric sections of a page: lengths, bounds, cost.

use anstyle::AnsiColor;
use pcrm_core::data::encode::TooLong;

use super::{INDENT, percent};
use crate::bound_summary::BoundSummary;
use crate::commands::inspect::bars::Bar;
use crate::commands::inspect::cost::Cost;
use crate::commands::inspect::report::{Inspection, PairFacts};
use crate::commands::inspect::summaries::Quantiles;
use crate::page::{Page, coloured};

/// Writes quantiles and a histogram of lengths, saved tokens, and the pairs kept by limits.
pub fn lengths(inspection: &Inspection, pairs: &PairFacts, page: &mut Page) {
    page.heading("lengths in tokens");
    let lengths = &pairs.lengths;
    let mut rows = vec![
        ["", "shortest", "5 %", "25 %", "median", "75 %", "95 %", "longest", "mean"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let row = |name: &str, of: &Quantiles| {
        let mut row = vec![name.to_owned()];
        row.extend(of.quantiles.iter().map(|quantile| format!("{quantile:.0}")));
        row.push(format!("{:.1}", of.mean));
        row
    };
    rows.push(row("prompt", &lengths.prompt));
    rows.push(row("chosen", &lengths.chosen));
    rows.push(row("rejected", &lengths.rejected));
    rows.push(row("sequence", &lengths.sequence));
    page.columns(&rows);
    page.line("");
    histogram(&lengths.histogram, page);
    page.line("");
    let saved = pairs.saved.map(|saved| {
        let share = |tokens: usize, of: usize| percent(1.0 - tokens as f64 / of.max(1) as f64);
        format!(
            "an epoch has {} tokens as separate sequences; {} are computed, since the shared part of answers \
             is computed once ({} saved); batches of {} padded to the longest would have {} ({} saved)",
            saved.separate,
            saved.computed,
            share(saved.computed, saved.separate),
            saved.batch,
            saved.padded,
            share(saved.computed, saved.padded)
        )
    });
    if let Some(saved) = saved {
        page.labelled("computed", INDENT, &saved);
    }
    let rule = match pairs.limit.too_long {
        TooLong::Drop => "longer pairs are left out",
        TooLong::CutPrompt => "longer prompts are cut from the left",
    };
    let limits: Vec<String> = kept_by_limit(inspection, pairs);
    page.labelled(
        "limit",
        INDENT,
        &format!(
            "--max-length {}, {rule}: {} of {} pairs are trained on. Within {}",
            pairs.limit.max_length,
            pairs.kept,
            pairs.read,
            limits.join(", ")
        ),
    );
}

/// Formats the pairs kept by each limit, up to the first that keeps all, with the time of an epoch if known.
fn kept_by_limit(inspection: &Inspection, pairs: &PairFacts) -> Vec<String> {
    let all = pairs.lengths.pairs;
    let times = inspection.cost.as_ref().map(|cost| cost.by_length.as_slice()).unwrap_or_default();
    let limits = &pairs.lengths.kept_by_limit;
    let shown = limits.iter().position(|(_, kept)| *kept == all).map_or(limits.len(), |at| at + 1);
    limits[..shown]
        .iter()
        .map(|(limit, kept)| {
            let share = percent(*kept as f64 / all.max(1) as f64);
            let time = times.iter().find(|at| at.max_length == *limit).and_then(|at| at.seconds_per_epoch);
            let time = time.map_or(String::new(), |seconds| format!(", {} per epoch", duration(seconds)));
            format!("{limit}: {share}{}", if time.is_empty() { time } else { format!(" ({})", &time[2..]) })
        })
        .collect()
}

fn histogram(bars: &[Bar], page: &mut Page) {
    let fullest = bars.iter().map(|bar| bar.count).max().unwrap_or(0);
    let all: usize = bars.iter().map(|bar| bar.count).sum();
    let name = |bar: &Bar| match bar.from == bar.to {
        true => bar.from.to_string(),
        false => format!("{}–{}", bar.from, bar.to),
    };
    let labels: Vec<String> = bars.iter().map(name).collect();
    let label = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    let room = page.width.saturating_sub(label + 12).min(60);
    for (bar, name) in bars.iter().zip(labels) {
        let share = percent(bar.count as f64 / all.max(1) as f64);
        let drawn = page.paint.styled(&bar.drawn(fullest, room), coloured(AnsiColor::Cyan));
        page.line(&format!("{name:>label$} {drawn} {share}"));
    }
}

/// Writes the deciles of a constraint's bounds.
pub fn constraint(summary: &BoundSummary, page: &mut Page) {
    page.heading("constraint");
    page.labelled(
        "",
        0,
        &format!(
            "{} on {} pairs, {} of them without a bound",
            summary.constraint, summary.pairs, summary.unbounded
        ),
    );
    let Some(bounds) = &summary.bound_deciles else {
        page.line("no margin is bounded: Bradley-Terry");
        return;
    };
    let mut rows = vec![vec![String::new()]];
    rows[0].extend((0..=10).map(|tenth| format!("{} %", 10 * tenth)));
    let mut row = |name: &str, deciles: &[f64], shown: fn(f64) -> String| {
        let mut row = vec![name.to_owned()];
        row.extend(deciles.iter().map(|decile| shown(*decile)));
        rows.push(row);
    };
    if let Some(similarities) = &summary.similarity_deciles {
        row("s", similarities, |s| format!("{s:.2}"));
    }
    row("Δ*", bounds, number);
    if let Some(sureness) = &summary.sureness_deciles {
        row("σ(Δ*/2)", sureness, |sure| if sure > 0.9995 { "≈1".to_owned() } else { format!("{sure:.3}") });
    }
    // Eleven columns of numbers are too wide for narrow pages.
    let wide = rows.iter().flatten().map(|cell| cell.chars().count()).max().unwrap_or(0) + 2;
    let rows: Vec<Vec<String>> = match 8 + 11 * wide > page.width {
        true => rows
            .into_iter()
            .map(|row| {
                row.into_iter()
                    .enumerate()
                    .filter(|(at, _)| at % 2 == 1 || *at == 0 || *at == 6)
                    .map(|(_, cell)| cell)
                    .collect()
            })
            .collect(),
        false => rows,
    };
    page.columns(&rows);
    page.labelled(
        "",
        0,
        "(deciles; the loss of a pair is smallest at the margin Δ*/2, where the confidence is σ(Δ*/2))",
    );
    page.labelled(
        "acts",
        INDENT,
        &format!(
            "{} of {} bounds are so loose that they rarely act, {} so tight that little is learned",
            summary.loose.count,
            summary.pairs - summary.unbounded,
            summary.tight.count
        ),
    );
}

/// Writes the time and memory of training.
pub fn cost(cost: &Cost, page: &mut Page) {
    page.heading("cost of pcrm reward");
    page.labelled("measured", INDENT, &format!("{} steps of {} on {}", cost.steps, cost.batch, cost.on));
    page.labelled(
        "time",
        INDENT,
        &format!(
            "{} per epoch: {} steps of {:.2} s, {:.0} tokens computed per second (without evaluations and \
             checkpoints)",
            duration(cost.seconds_per_epoch),
            cost.steps_per_epoch,
            cost.seconds_per_step,
            cost.tokens_per_second
        ),
    );
    let mut memory = match cost.peak_mib {
        Some(peak) => {
            format!("peak of {peak:.0} MiB, including the largest batch of the first epoch; ")
        }
        None => String::new(),
    };
    memory.push_str(&format!(
        "{:.0} MiB for weights, gradients and moments of {} parameters",
        cost.state_mib, cost.parameters
    ));
    if let Some(available) = cost.available_mib {
        memory.push_str(&format!("; the machine has {available:.0} MiB"));
    }
    page.labelled("memory", INDENT, &memory);
    let by: Vec<String> = cost
        .states
        .iter()
        .map(|state| {
            format!("{} {}: {:.1} B, {:.0} MiB", state.optimizer, state.weights, state.bytes, state.mib)
        })
        .collect();
    page.labelled(
        "",
        INDENT,
        &format!("by --optimizer and --weights, a parameter and all: {}", by.join("; ")),
    );
    let mut moved: Vec<(&str, f64)> =
        cost.states.iter().map(|at| (at.optimizer.as_str(), at.moments)).collect();
    moved.dedup();
    let moved: Vec<String> = moved
        .into_iter()
        .filter(|(_, moments)| *moments > 0.0)
        .map(|(optimizer, moments)| format!("{optimizer}: {moments:.1} B"))
        .collect();
    page.labelled(
        "",
        INDENT,
        &format!("in host memory instead with --optimizer-states host, a parameter: {}", moved.join("; ")),
    );
    let bases: Vec<String> =
        cost.bases.iter().map(|at| format!("{}: {:.2} B, {:.0} MiB", at.storage, at.bytes, at.mib)).collect();
    if !bases.is_empty() {
        let text = format!(
            "the frozen base of --lora-r by --dtype or --quantize, a parameter and all: {}",
            bases.join("; ")
        );
        page.labelled("", INDENT, &text);
    }
    if !cost.by_micro_tokens.is_empty() {
        let by: Vec<String> = cost
            .by_micro_tokens
            .iter()
            .map(|at| format!("{}: {:.0} MiB", at.micro_tokens, at.peak_mib))
            .collect();
        page.labelled("", INDENT, &format!("by --micro-tokens (approximate): {}", by.join(", ")));
    }
}

/// Formats a number with about three significant digits.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn duration(seconds: f64) -> String {
    match seconds {
        few if few < 99.5 => format!("{few:.0} s"),
        some if some < 5970.0 => format!("{:.0} min", some / 60.0),
        many if many < 48.0 * 3600.0 => format!("{:.1} h", many / 3600.0),
        more => format!("{:.1} days", more / 86400.0),
    }
}
