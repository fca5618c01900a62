//! The page of a calibration: how often preferred answers win by similarity, and what bounds say about it.

use pcrm_eval::accuracy::{LEVEL, Share};
use serde_json::Value;

use super::result::{Calibrated, Calibrations};
use super::show::{COLUMNS, cells, held_out};
use crate::plugins::calibrated::Calibration;
use crate::plugins::calibration::bound_probability;
use crate::report::data::{self, Source};
use crate::report::document::{Block, Document, Fact, Section, Severity, Table};
use crate::report::plot::{Axis, Ink, Layer, Mark, Plot};
use crate::report::run::constraint;
use crate::report::{count, number, percent};

/// The page.
pub fn document(all: &Calibrations, sources: &[Source]) -> Document {
    let accuracy = &all.accuracy;
    let interval = format!("95 %: {:.1} to {:.1} %", 100.0 * accuracy.low, 100.0 * accuracy.high);
    let mut figures = vec![
        Fact::new("Chosen wins", percent(accuracy.value)).with_note(interval),
        Fact::new("Pairs", count(all.pairs as u64))
            .with_note(format!("{} prompts", count(all.prompts as u64))),
    ];
    figures.extend(all.best().map(|best| {
        Fact::new("Best similarity", best.name.clone()).with_note("by wins on prompts not fitted to")
    }));
    let how = "A bound Δ* states how sure one may be of a pair: P(chosen is better) = σ(Δ*/2). Judges that were not \
               trained on a pair say how often the chosen answer wins; bounds are fitted to that.";
    let mut sections = vec![Section::open("", vec![Block::Figures(figures), Block::Text(how.to_owned())])];
    sections.extend(all.constraints.iter().map(section));
    sections.push(Section::closed("Data", data::blocks(sources)));
    let names: Vec<&str> = all.constraints.iter().map(|one| one.name.as_str()).collect();
    Document {
        title: format!("Calibration of {}", names.join(", ")),
        about: format!("Wins: {}.", all.judges),
        sections,
    }
}

fn section(one: &Calibrated) -> Section {
    let mut blocks = Vec::new();
    if let (Some(calibration), Some(verdict)) = (&one.calibration, &one.verdict) {
        let severity = if one.is_curve() { Severity::Info } else { Severity::Warning };
        blocks.push(Block::Note(severity, capitalised(verdict) + "."));
        blocks.push(Block::Plots(vec![probability(one, calibration), bounds(one, calibration)]));
    }
    blocks.push(Block::Facts(facts(one)));
    if let Some(calibration) = &one.calibration {
        let mut deciles = Table::of_numbers("Pairs by similarity", &COLUMNS);
        deciles.rows = cells(&calibration.bins);
        blocks.push(Block::Table(deciles));
        let caption =
            "Log-likelihood of wins on prompts that were not fitted to, nats per pair; more is better";
        let mut likelihoods = Table::of_numbers(caption, &["P(chosen wins) from", "log-likelihood"]);
        likelihoods.rows = held_out(calibration)
            .map(|(name, value)| vec![name.to_owned(), format!("{value:.4}").replace('-', "−")])
            .into();
        blocks.push(Block::Table(likelihoods));
    }
    Section::open(one.name.clone(), blocks)
}

fn facts(one: &Calibrated) -> Vec<Fact> {
    let mut facts = vec![
        Fact::new("As given", constraint(&one.asked)),
        Fact::new("Fitted", constraint(&one.fitted)),
        Fact::new("File", one.file.display().to_string()),
    ];
    if let Some(calibration) = &one.calibration {
        let level = 100.0 * calibration.level;
        let between = |low: f64, high: f64| format!("{level} %: {} to {}", number(low), number(high));
        let (slope, gain) = (&calibration.slope, &calibration.held_out.gain);
        facts.push(
            Fact::new("β1, any sign allowed", number(slope.value)).with_note(between(slope.low, slope.high)),
        );
        facts.push(
            Fact::new("Curve against constant, nats per pair", number(gain.value))
                .with_note(between(gain.low, gain.high)),
        );
        facts.push(
            Fact::new("The constant", number(calibration.constant))
                .with_note(format!("states {}", percent(bound_probability(calibration.constant)))),
        );
    }
    facts
}

/// How often chosen answers win by similarity, against what the bounds state.
fn probability(one: &Calibrated, calibration: &Calibration) -> Plot {
    let wins = calibration.bins.iter().filter_map(|bin| {
        let share = Share::wilson(bin.win * bin.pairs as f64, bin.pairs, LEVEL).ok()?;
        Some((bin.s, share.value, share.low, share.high))
    });
    let used = one.is_curve();
    let band = calibration.band.iter().map(|at| (at.s, at.p.low, at.p.high)).collect();
    let curve: Vec<(f64, f64)> = calibration.band.iter().map(|at| (at.s, at.p.value)).collect();
    let level = 100.0 * calibration.level;
    let mut layers = vec![
        Layer::new("a coin", Ink::Grey, Mark::Across(0.5)),
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
        given(&one.asked).into_iter().map(|(s, bound)| (s, bound_probability(bound))).collect();
    if !given.is_empty() {
        layers.push(Layer::new("bounds as given", Ink::Red, Mark::Line(given)));
    }
    layers.push(Layer::new("pairs, in tenths", Ink::Orange, Mark::Intervals(wins.collect())));
    Plot {
        title: "How often the chosen answer wins".into(),
        about: "What a bound states is σ(Δ*/2). Intervals of the pairs: Wilson, 95 %.".into(),
        x: Axis::new("similarity s of the two answers").within(0.0, 1.0),
        y: Axis::shares("P(chosen wins)").within(0.4, 1.0),
        layers,
    }
}

/// The bounds themselves; what is far above all that was fitted is left out.
fn bounds(one: &Calibrated, calibration: &Calibration) -> Plot {
    let bound_of = |p: f64| 2.0 * (p / (1.0 - p)).ln();
    let fitted: Vec<(f64, f64)> = calibration
        .band
        .iter()
        .map(|at| (at.s, if one.is_curve() { bound_of(at.p.value) } else { calibration.constant }))
        .collect();
    // Where s is 0 the curve may be thousands: what most pairs have is shown.
    let tenth = calibration.bins.first().map_or(0.0, |bin| bin.s);
    let highest = fitted.iter().filter(|(s, _)| *s >= tenth).map(|(_, bound)| *bound).fold(4.0, f64::max);
    let within = |points: Vec<(f64, f64)>| {
        points.into_iter().filter(|(_, bound)| *bound <= 1.5 * highest).collect::<Vec<_>>()
    };
    let layers = vec![
        Layer::new("fitted", Ink::Blue, Mark::Line(within(fitted))),
        Layer::new("as given", Ink::Red, Mark::Line(within(given(&one.asked)))),
    ];
    Plot {
        title: "The bound Δ*".into(),
        about: "Of a pair's margin. A pair's loss is least at Δ*/2.".into(),
        x: Axis::new("similarity s of the two answers").within(0.0, 1.0),
        y: Axis::new("Δ*").within(0.0, 1.5 * highest),
        layers: layers.into_iter().filter(|layer| !layer.is_empty()).collect(),
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// What the bounds are before, by β.
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

    /// Protects: what is drawn as given are the bounds, as the constraint itself has them; unfitted forms without β have
    /// none.
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
