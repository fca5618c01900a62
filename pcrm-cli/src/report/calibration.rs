//! The evidence for a calibrated constraint: how often preferred answers win by similarity, and the resulting
//! bounds.

use pcrm_eval::accuracy::{LEVEL, Share};
use pcrm_eval::table::percents;
use serde_json::Value;

use super::document::{Block, Fact, Severity, Table};
use super::number::{number, percent};
use super::plot::{Axis, Ink, Layer, Mark, Plot, Whisker};
use super::run::constraint;
use crate::plugins::calibrated::Calibration;
use crate::plugins::calibration::bins::Bin;
use crate::plugins::calibration::draws::Interval;
use crate::plugins::calibration::{Conclusion, bound_probability};

/// The headings of [`cells`].
pub const COLUMNS: [&str; 6] =
    ["similarity", "pairs", "chosen wins", "95 %, Wilson", "fitted bound says", "given bound says"];

/// Reads the calibration from a constraint's evidence; returns `None` for other kinds of evidence.
pub fn read(evidence: &Value) -> Option<Calibration> {
    serde_json::from_value(evidence.clone()).ok()
}

/// Returns the blocks of one calibration: its verdict, plots, figures and tables. `asked` is the requested
/// constraint and `fitted` the result.
pub fn blocks(asked: &Value, fitted: &Value, calibration: &Calibration) -> Vec<Block> {
    let severity = if is_curve(calibration) { Severity::Info } else { Severity::Warning };
    let mut deciles = Table::of_numbers("Pairs by similarity", &COLUMNS);
    deciles.rows = cells(&calibration.bins);
    let caption = "Log-likelihood of wins on prompts not used for fitting, nats per pair; higher is better";
    let mut likelihoods = Table::of_numbers(caption, &["P(chosen wins) from", "log-likelihood"]);
    likelihoods.rows = held_out(calibration)
        .map(|(name, value)| vec![name.to_owned(), format!("{value:.4}").replace('-', "−")])
        .into();
    vec![
        Block::Note(severity, capitalised(&calibration.sentence()) + "."),
        Block::Plots(vec![probability(asked, calibration), bounds(asked, calibration)]),
        Block::Facts(facts(asked, fitted, calibration)),
        Block::Table(deciles),
        Block::Table(likelihoods),
    ]
}

/// Returns true if similarity carries enough information for a curve.
pub fn is_curve(calibration: &Calibration) -> bool {
    calibration.verdict == Conclusion::Informative
}

/// Returns the cells of the table of deciles, a row per bin.
pub fn cells(bins: &[Bin]) -> Vec<Vec<String>> {
    let row = |bin: &Bin| {
        let share = Share::wilson(bin.win * bin.pairs as f64, bin.pairs, LEVEL);
        vec![
            format!("{:.3} to {:.3}", bin.low, bin.high),
            bin.pairs.to_string(),
            percent(bin.win),
            share.map_or_else(|_| "–".to_owned(), |share| percents(&share.interval)),
            percent(bin.fitted),
            percent(bin.given),
        ]
    };
    bins.iter().map(row).collect()
}

/// Returns held-out log-likelihoods by the source of P.
pub fn held_out(calibration: &Calibration) -> [(&'static str, f64); 4] {
    let held_out = &calibration.held_out;
    [
        ("fitted curve", held_out.curve),
        ("fitted constant", held_out.constant),
        ("the bounds as given", held_out.given),
        ("guessing", held_out.coin),
    ]
}

fn facts(asked: &Value, fitted: &Value, calibration: &Calibration) -> Vec<Fact> {
    let level = 100.0 * calibration.level;
    let draws = "bootstrap over prompts";
    let between = |of: &Interval| match of.ends {
        Some(ends) => format!("{level} %: {} to {}, {draws}", number(ends.low), number(ends.high)),
        None => "no interval".to_owned(),
    };
    let (slope, gain) = (&calibration.slope, &calibration.held_out.gain);
    vec![
        Fact::new("As given", constraint(asked)),
        Fact::new("Fitted", constraint(fitted)),
        Fact::new("beta1, unconstrained", number(slope.value)).with_note(between(slope)),
        Fact::new("Gain of the curve over a constant, nats per pair", number(gain.value))
            .with_note(between(gain)),
        Fact::new("Best constant bound", number(calibration.constant))
            .with_note(format!("P = {}", percent(bound_probability(calibration.constant)))),
    ]
}

/// Returns the plot of how often chosen answers win by similarity, beside the probabilities implied by the
/// bounds.
fn probability(asked: &Value, calibration: &Calibration) -> Plot {
    let wins = calibration.bins.iter().filter_map(|bin| {
        let share = Share::wilson(bin.win * bin.pairs as f64, bin.pairs, LEVEL).ok()?;
        Some(Whisker::new((bin.s, share.value), Some(share.interval)))
    });
    let used = is_curve(calibration);
    let band: Vec<_> =
        calibration.band.iter().filter_map(|at| Some((at.s, at.p.ends?.low, at.p.ends?.high))).collect();
    let curve: Vec<(f64, f64)> = calibration.band.iter().map(|at| (at.s, at.p.value)).collect();
    let level = 100.0 * calibration.level;
    let mut layers = vec![
        Layer::new("guessing", Ink::Grey, Mark::Across(0.5)),
        Layer::new(format!("curve, {level} % band"), Ink::Blue, Mark::Band(band)),
    ];
    match used {
        true => layers.push(Layer::new("fitted curve", Ink::Blue, Mark::Line(curve))),
        false => {
            layers.push(Layer::new("curve, not used", Ink::Blue, Mark::Dashes(curve)));
            let p = bound_probability(calibration.constant);
            layers.push(Layer::new("fitted constant", Ink::Green, Mark::Line(vec![(0.0, p), (1.0, p)])));
        }
    }
    let given: Vec<(f64, f64)> =
        given(asked).into_iter().map(|(s, bound)| (s, bound_probability(bound))).collect();
    if !given.is_empty() {
        layers.push(Layer::new("bounds as given", Ink::Red, Mark::Line(given)));
    }
    layers.push(Layer::new("pairs, in tenths", Ink::Orange, Mark::Intervals(wins.collect())));
    Plot {
        title: "How often the chosen answer wins".into(),
        about: "A bound Δ* corresponds to P = σ(Δ*/2). Band: bootstrap over prompts; whiskers: Wilson, 95 %."
            .into(),
        x: Axis::new("similarity s of the two answers").within(0.0, 1.0),
        y: Axis::shares("P(chosen wins)").within(0.4, 1.0),
        layers,
    }
}

/// Returns the plot of the bounds; values far above all fitted ones are left out.
fn bounds(asked: &Value, calibration: &Calibration) -> Plot {
    let bound_of = |p: f64| 2.0 * (p / (1.0 - p)).ln();
    let fitted: Vec<(f64, f64)> = calibration
        .band
        .iter()
        .map(|at| (at.s, if is_curve(calibration) { bound_of(at.p.value) } else { calibration.constant }))
        .collect();
    // Near s = 0 the curve may reach thousands, so the plot shows the range of most pairs.
    let tenth = calibration.bins.first().map_or(0.0, |bin| bin.s);
    let highest = fitted.iter().filter(|(s, _)| *s >= tenth).map(|(_, bound)| *bound).fold(4.0, f64::max);
    let within = |points: Vec<(f64, f64)>| {
        points.into_iter().filter(|(_, bound)| *bound <= 1.5 * highest).collect::<Vec<_>>()
    };
    let given = given(asked);
    let above = given.iter().filter(|(_, bound)| *bound > 1.5 * highest).count();
    let about = match (given.len(), above) {
        (_, 0) => "A pair's loss is smallest at the margin Δ*/2.".to_owned(),
        (all, above) if above == all => {
            "A pair's loss is smallest at the margin Δ*/2. The given bound is entirely above the plot."
                .to_owned()
        }
        _ => "A pair's loss is smallest at the margin Δ*/2. Where the given bound is not drawn, it is above \
              the plot."
            .to_owned(),
    };
    let layers = vec![
        Layer::new("fitted", Ink::Blue, Mark::Line(within(fitted))),
        Layer::new("as given", Ink::Red, Mark::Line(within(given))),
    ];
    Plot {
        title: "The bound Δ*".into(),
        about,
        x: Axis::new("similarity s of the two answers").within(0.0, 1.0),
        y: Axis::new("Δ*").within(0.0, 1.5 * highest),
        layers: layers.into_iter().filter(|layer| !layer.is_empty()).collect(),
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Returns the bounds as given, computed from their β; empty for forms without β.
fn given(asked: &Value) -> Vec<(f64, f64)> {
    let of = if asked["kind"] == "calibrated" { &asked["of"] } else { asked };
    let [beta1, beta2, beta3] = ["beta1", "beta2", "beta3"].map(|name| of[name].as_f64());
    let (Some(beta1), Some(beta2), Some(beta3)) = (beta1, beta2, beta3) else { return Vec::new() };
    (0..=100).map(|at| f64::from(at) / 100.0).map(|s| (s, beta1 / (s + beta2) + beta3)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Protects: the curve drawn as given is the constraint's own; unfitted forms without β have none.
    #[test]
    fn bounds_as_given_are_those_of_the_constraint() {
        let asked =
            json!({"kind": "calibrated", "of": {"kind": "edit", "beta1": 20, "beta2": 0.001, "beta3": -15}});
        let constraint = pcrm_core::constraint::parse("length_ratio").unwrap();
        let given = given(&asked);
        assert_eq!(given.len(), 101);
        assert!(given.iter().all(|(s, bound)| constraint.bound_at(*s) == Some(*bound as f32)), "{given:?}");
        assert!(super::given(&json!({"kind": "learned"})).is_empty());
    }
}
