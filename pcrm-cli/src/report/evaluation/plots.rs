//! The plots of an evaluation: reliability, margins, scores, score against length.

use anyhow::Result;
use pcrm_eval::accuracy::{LEVEL, Share};
use pcrm_eval::histogram::Histogram;
use pcrm_eval::scatter::Bins;
use pcrm_eval::{Interval, PairScore, RewardReport};

use super::values::unit;
use crate::report::number::number;
use crate::report::plot::{Axis, Ink, Layer, Mark, Plot, SERIES, Whisker};

/// The most answers that a plot shows individually.
const CROWD: usize = 1500;
/// With fewer answers on a side, their scores are drawn with fewer points.
const SPARSE: usize = 1000;
/// The number of equally large groups of answers of similar length.
const LENGTHS: usize = 10;

/// Returns the plot of accuracy against confidence, bin by bin, of one or several models.
///
/// # Errors
/// Fails if an interval cannot be computed.
pub fn reliability(models: &[(&str, &RewardReport)]) -> Result<Plot> {
    let mut layers = Vec::new();
    if let [(_, only)] = models {
        let share = |count: usize| 0.5 + 0.5 * count as f64 / only.pairs as f64;
        let bar = |bin: &pcrm_eval::calibration::Bin| (bin.low.max(0.5), bin.high, share(bin.count));
        // The plot starts at ½, so bars are drawn as an area, which has no baseline of its own.
        let area =
            only.reliability.iter().map(bar).flat_map(|(low, high, top)| [(low, 0.5, top), (high, 0.5, top)]);
        layers.push(Layer::new(
            "share of the pairs (full height: all)",
            Ink::Grey,
            Mark::Band(area.collect()),
        ));
    }
    layers.push(Layer::new("calibrated", Ink::Grey, Mark::Dashes(vec![(0.5, 0.5), (1.0, 1.0)])));
    let mut lowest = 0.5_f64;
    for ((name, report), ink) in models.iter().zip(SERIES) {
        let mut points = Vec::new();
        for bin in &report.reliability {
            let right = (2.0 * bin.accuracy * bin.count as f64).round() / 2.0;
            let share = Share::wilson(right, bin.count, LEVEL)?;
            lowest = lowest.min(share.low());
            points.push(Whisker::new((bin.confidence, share.value), Some(share.interval)));
        }
        layers.push(Layer::unnamed(ink, Mark::Line(points.iter().map(|point| point.at).collect())));
        let mark = match models.len() {
            1 => Mark::Intervals(points),
            _ => Mark::Dots(points.into_iter().map(|point| point.at).collect()),
        };
        layers.push(Layer::new(*name, ink, mark));
    }
    let about = match models.len() {
        1 => "Below the dashes: overconfident. Whiskers are 95 % Wilson intervals.",
        _ => "Below the dashes: overconfident.",
    };
    Ok(Plot {
        title: "Reliability".into(),
        about: about.into(),
        x: Axis::shares("confidence max(σ(Δ), σ(−Δ))").within(0.5, 1.0),
        y: Axis::shares("share of pairs ordered as labelled").within((10.0 * lowest).floor() / 10.0, 1.0),
        layers,
    })
}

/// Returns the plot of margins, right and wrong, with their mean and the mean bound.
pub fn margins(report: &RewardReport) -> Plot {
    let width = (Histogram::HIGH - Histogram::LOW) / Histogram::BINS as f64;
    let bars = report.histogram.counts.iter().enumerate().map(|(at, count)| {
        let left = Histogram::LOW + at as f64 * width;
        (left, left + width, *count as f64 / report.pairs as f64)
    });
    let bars: Vec<_> = bars.collect();
    let (wrong, right) = bars.iter().copied().partition(|(left, ..)| *left < 0.0);
    let mut layers = vec![
        Layer::new("ordered as labelled", Ink::Blue, Mark::Bars(right)),
        Layer::new("ordered against the label", Ink::Orange, Mark::Bars(wrong)),
        Layer::new(
            format!("mean {}", number(report.margins.mean)),
            Ink::Green,
            Mark::Upright(report.margins.mean.clamp(Histogram::LOW, Histogram::HIGH)),
        ),
    ];
    if let Some(bounds) = report.bounds.filter(|bounds| bounds.mean <= Histogram::HIGH) {
        layers.push(Layer::new(
            format!("mean bound Δ* {}", number(bounds.mean)),
            Ink::Red,
            Mark::Upright(bounds.mean),
        ));
    }
    Plot {
        title: "Margins".into(),
        about: beyond(models_beyond(&[report]), "bars"),
        x: Axis::new("Δ = score(chosen) − score(rejected)").within(Histogram::LOW, Histogram::HIGH),
        y: Axis::shares("share of pairs"),
        layers,
    }
}

/// Returns true if any model has margins outside the histogram's range.
fn models_beyond(reports: &[&RewardReport]) -> bool {
    reports.iter().any(|report| report.margins.min < Histogram::LOW || report.margins.max > Histogram::HIGH)
}

/// Returns a note about values outside the histogram's range, if there are any.
fn beyond(any: bool, places: &str) -> String {
    match any {
        true => format!("The outer {places} include the margins beyond ±{}.", Histogram::HIGH),
        false => String::new(),
    }
}

/// Returns the plot of several models' margins, a line each.
pub fn margins_beside(models: &[(&str, &RewardReport)]) -> Plot {
    let width = (Histogram::HIGH - Histogram::LOW) / Histogram::BINS as f64;
    let middle = |at: usize| Histogram::LOW + (at as f64 + 0.5) * width;
    let layer = |((name, report), ink): (&(&str, &RewardReport), _)| {
        let share = |(at, count): (usize, &usize)| (middle(at), *count as f64 / report.pairs as f64);
        Layer::new(*name, ink, Mark::Line(report.histogram.counts.iter().enumerate().map(share).collect()))
    };
    Plot {
        title: "Margins".into(),
        about: beyond(models_beyond(&models.iter().map(|(_, report)| *report).collect::<Vec<_>>()), "points"),
        x: Axis::new("Δ = score(chosen) − score(rejected)").within(Histogram::LOW, Histogram::HIGH),
        y: Axis::shares(format!("share of pairs, by {width}")),
        layers: models.iter().zip(SERIES).map(layer).collect(),
    }
}

/// Returns the plot of the scores of preferred and dispreferred answers, or `None` if all scores on a side
/// are equal.
pub fn scores(report: &RewardReport) -> Option<Plot> {
    let line = |bins: &Bins| {
        let all: usize = bins.counts.iter().sum();
        // Few answers give a jagged line, so neighbouring bins are merged.
        let together = if all < SPARSE { 4 } else { 2 };
        let places: Vec<usize> = bins.counts.chunks(together).map(|part| part.iter().sum()).collect();
        let width = (bins.high - bins.low) * together as f64 / bins.counts.len() as f64;
        let density = |(at, count): (usize, &usize)| {
            (bins.low + (at as f64 + 0.5) * width, *count as f64 / (all as f64 * width))
        };
        // The line starts and ends at zero, half a bin outside the values.
        let ends = [(bins.low - 0.5 * width, 0.0), (bins.high + 0.5 * width, 0.0)];
        let inside = places.iter().enumerate().map(density);
        (width > 0.0 && all > 0)
            .then(|| [ends[0]].into_iter().chain(inside).chain([ends[1]]).collect::<Vec<_>>())
    };
    let area = |points: &[(f64, f64)]| Mark::Band(points.iter().map(|(x, y)| (*x, 0.0, *y)).collect());
    let (chosen, rejected) = (line(&report.plots.chosen)?, line(&report.plots.rejected)?);
    Some(Plot {
        title: "Scores".into(),
        about:
            "The less the curves overlap, the better a score alone separates good from bad answers across \
             prompts."
                .into(),
        x: Axis::new("score"),
        y: Axis::new("density of answers"),
        layers: vec![
            Layer::unnamed(Ink::Blue, area(&chosen)),
            Layer::unnamed(Ink::Orange, area(&rejected)),
            Layer::new("preferred", Ink::Blue, Mark::Line(chosen)),
            Layer::new("dispreferred", Ink::Orange, Mark::Line(rejected)),
        ],
    })
}

/// Returns the plot of score against length, or `None` if all lengths are equal or unknown.
///
/// # Errors
/// Fails if a mean cannot be computed.
pub fn score_and_length(report: &RewardReport, pairs: &[PairScore]) -> Result<Option<Plot>> {
    let lengths = |pair: &PairScore| [pair.chosen_tokens, pair.rejected_tokens];
    let Some(first) = pairs.first() else { return Ok(None) };
    if pairs.iter().flat_map(lengths).all(|length| length == first.chosen_tokens) {
        return Ok(None);
    }
    let chosen = pairs.iter().map(|pair| (pair.chosen_tokens.max(1) as f64, pair.chosen));
    let rejected = pairs.iter().map(|pair| (pair.rejected_tokens.max(1) as f64, pair.rejected));
    let mut all: Vec<_> = chosen.chain(rejected).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut means = Vec::new();
    for group in all.chunks(all.len().div_ceil(LENGTHS).max(1)) {
        let scores: Vec<f64> = group.iter().map(|(_, score)| *score).collect();
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        let length = group.iter().map(|(length, _)| length.ln()).sum::<f64>() / group.len() as f64;
        means.push(Whisker::new((length.exp(), mean), Interval::student_t(&scores, LEVEL)?));
    }
    let scatter = &report.plots.scatter;
    let every = scatter.len().div_ceil(CROWD).max(1);
    let crowd = |chosen: bool| {
        let side = scatter.iter().filter(|point| point.chosen == chosen).step_by(every);
        Mark::Crowd(side.map(|point| (point.length.max(1) as f64, point.score)).collect())
    };
    let drawn = scatter.len() / every;
    let shown = match (all.len() as f64 / drawn.max(1) as f64).round() {
        every if every > 1.0 => format!(" One answer in {every} is drawn."),
        _ => String::new(),
    };
    Ok(Some(Plot {
        title: "Score against length".into(),
        about: format!("Means of {LENGTHS} groups of similar length with 95 % intervals.{shown}"),
        x: Axis::counts(format!("answer length, {} (log scale)", unit(report))).logarithmic(),
        y: Axis::new("score"),
        layers: vec![
            Layer::new("preferred", Ink::Blue, crowd(true)),
            Layer::new("dispreferred", Ink::Orange, crowd(false)),
            Layer::unnamed(Ink::Red, Mark::Line(means.iter().map(|point| point.at).collect())),
            Layer::new("mean", Ink::Red, Mark::Intervals(means)),
        ],
    }))
}
