//! Fits compared with scipy, and calibrations of data from a known curve.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::draws::Ends;
use super::*;

/// A known curve: Δ*(s) = 0.8·v(s) + 0.5 with β2 = 0.1, σ(Δ*/2) from 0.56 at s = 1 to 0.98 at s = 0.
const KNOWN: (f64, f64) = (0.8, 0.5);
const KNOWN_BETA2: f64 = 0.1;

fn settings(bootstrap: usize) -> Settings {
    Settings { beta2: Beta2::Given(KNOWN_BETA2), bootstrap, level: 0.95, seed: 1 }
}

/// Returns whether an interval contains a value.
fn holds(interval: Interval, value: f64) -> bool {
    interval.ends.is_some_and(|ends| (ends.low..=ends.high).contains(&value))
}

fn chance(s: f64) -> f64 {
    sigmoid((KNOWN.0 * abscissa(s, KNOWN_BETA2) + KNOWN.1) / 2.0)
}

/// Simulates pairs with s in (0, 1), three per prompt, each won with probability `p(s)`.
fn simulated(count: usize, seed: u64, p: impl Fn(f64) -> f64) -> Vec<Observation> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut one = |at: usize| {
        let s: f64 = rng.random();
        let win = f64::from(u8::from(rng.random_bool(p(s))));
        Observation { s, win, given: 3.0, prompt: at / 3, fold: at / 3 % 5 }
    };
    (0..count).map(&mut one).collect()
}

/// Protects: free and bounded fits, on either border and inside, with shares and counts, equal those of
/// scipy's optimisers (tests/golden/constraints/calibration.py).
#[test]
fn fits_equal_scipy() {
    let golden = include_str!("../../../tests/golden/constraints/calibration.json");
    let golden: Vec<Value> = serde_json::from_str(golden).unwrap();
    assert_eq!(golden.len(), 6);
    for case in golden {
        let list = |name: &str| -> Vec<f64> {
            case[name].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
        };
        let beta2 = case["beta2"].as_f64().unwrap();
        let v: Vec<f64> = list("s").iter().map(|s| abscissa(*s, beta2)).collect();
        let (wins, counts) = (list("wins"), list("counts"));
        let sample = Sample { v: &v, wins: &wins, counts: &counts };
        let free = LinearBound::free(&sample);
        let bounded = LinearBound::bounded(&sample, free);
        for (found, expected) in [(free, list("free")), (bounded, list("bounded"))] {
            let off = (found.slope - expected[0]).abs().max((found.end - expected[1]).abs());
            assert!(off < 1e-6, "{}: {found:?}, expected {expected:?}", case["name"]);
        }
        assert!((constant(&sample) - case["constant"].as_f64().unwrap()).abs() < 1e-9);
        assert!((sample.mean_win() - case["mean"].as_f64().unwrap()).abs() < 1e-12);
    }
}

/// Protects: a known curve is recovered and used, with β within a few standard errors and the truth inside
/// the band.
#[test]
fn a_known_curve_is_recovered() {
    let found = Calibration::of(&simulated(6000, 2, chance), &settings(400)).unwrap();
    assert_eq!(found.verdict, Conclusion::Informative, "{}", found.sentence());
    assert_eq!((found.pairs, found.prompts), (6000, 2000));
    assert!((found.beta1 - KNOWN.0).abs() < 0.2, "{}", found.beta1);
    assert!((found.beta3() - (KNOWN.1 - KNOWN.0 / 1.1)).abs() < 0.3, "{}", found.beta3());
    let outside = found.band.iter().filter(|at| !holds(at.p, chance(at.s))).count();
    assert!(outside < GRID / 5, "{outside} of {GRID} outside");
    let held_out = found.held_out;
    assert!(held_out.curve > held_out.constant && held_out.constant > held_out.coin, "{held_out:?}");
    assert!(
        held_out.gain.is_above(0.0)
            && (held_out.gain.value - (held_out.curve - held_out.constant)).abs() < 1e-12
    );
}

/// Protects: the fitted β2 is the candidate that generated the data, or a neighbour of nearly equal likelihood;
/// the paper's β2, under which a few pairs with s near 0 dominate, predicts other prompts worse.
#[test]
fn beta2_is_fitted_where_asked() {
    let seen = simulated(6000, 2, chance);
    let found = Calibration::of(&seen, &Settings { beta2: Beta2::Fitted, ..settings(100) }).unwrap();
    assert!([0.03, 0.1, 0.3].contains(&found.beta2), "{}", found.beta2);
    assert_eq!(found.verdict, Conclusion::Informative);
    let papers = Calibration::of(&seen, &Settings { beta2: Beta2::Given(0.001), ..settings(100) }).unwrap();
    assert!(found.held_out.curve > papers.held_out.curve, "{:?} {:?}", found.held_out, papers.held_out);
    assert_eq!(found.held_out.constant, papers.held_out.constant);
}

/// Protects: over many worlds the band contains the truth about as often as its level states. (The binomial's
/// standard deviation is 1.8 % of 150 worlds.)
#[test]
fn the_band_covers_the_truth_as_often_as_it_says() {
    const WORLDS: u64 = 150;
    let mut covered = [0; 3];
    for world in 0..WORLDS {
        let found = Calibration::of(&simulated(450, 100 + world, chance), &settings(200)).unwrap();
        for (covered, at) in covered.iter_mut().zip([20, 50, 80]) {
            let CurvePoint { s, p } = found.band[at];
            *covered += u64::from(holds(p, chance(s)));
        }
    }
    for covered in covered {
        let share = covered as f64 / WORLDS as f64;
        assert!((0.89..0.995).contains(&share), "{share}");
    }
}

/// Protects: with an uninformative s, the curve is used in at most the share of worlds that the level leaves
/// out on one side; the constant follows from the wins.
#[test]
fn what_says_nothing_is_not_used() {
    let verdicts: Vec<Conclusion> = (0..80)
        .map(|world| {
            let found = Calibration::of(&simulated(300, 500 + world, |_| 0.7), &settings(200)).unwrap();
            let won = found.mean_win.value;
            assert!((found.constant - 2.0 * (won / (1.0 - won)).ln()).abs() < 1e-9);
            found.verdict
        })
        .collect();
    let used = verdicts.iter().filter(|verdict| **verdict == Conclusion::Informative).count();
    let flat = verdicts.iter().filter(|verdict| **verdict == Conclusion::Flat).count();
    assert!(used <= 6 && flat >= 68, "{used} used, {flat} flat");
}

/// Protects: a reversed relation is reported and never becomes a curve.
#[test]
fn the_other_way_round_is_said() {
    let found = Calibration::of(&simulated(3000, 3, |s| 0.55 + 0.4 * s * s), &settings(200)).unwrap();
    assert_eq!(found.verdict, Conclusion::Reversed, "{:?}", found.slope);
    assert_eq!(found.beta1, 0.0);
    assert!(found.sentence().contains("the other way round"), "{}", found.sentence());
}

/// Protects: judges no better than a coin are refused with a message, however the wins vary with s.
#[test]
fn chance_is_told_from_evidence() {
    let found = Calibration::of(&simulated(900, 4, |s| 0.6 - 0.3 * s), &settings(100)).unwrap();
    assert_eq!(found.verdict, Conclusion::Chance);
    assert!(found.sentence().contains("no better than a coin"), "{}", found.sentence());
}

/// Protects: judges that may be no better than a coin cause a warning, others do not.
#[test]
fn doubtful_judges_are_told_of() {
    let doubtful = |p: f64| {
        let found = Calibration::of(&simulated(300, 8, |_| p), &settings(200)).unwrap();
        (!found.mean_win.is_above(0.5), found.sentence().contains("may be no better than a coin"))
    };
    assert_eq!((doubtful(0.53), doubtful(0.7)), ((true, true), (false, false)));
}

/// Protects: the log-likelihoods of four pairs in two folds, computed by hand. Fitted to a fold with wins 1
/// and ½, the constant has p = ¾, which is evaluated on the other fold.
#[test]
fn held_out_likelihoods_by_hand() {
    let seen = |win, prompt, fold| Observation { s: 0.5, win, given: 2.0 * 4_f64.ln(), prompt, fold };
    let observations = [seen(1.0, 0, 0), seen(0.5, 1, 0), seen(1.0, 2, 1), seen(0.5, 3, 1)];
    let found = Calibration::of(&observations, &settings(100)).unwrap().held_out;
    let three_quarters = (2.0 * 0.75_f64.ln() + 0.75_f64.ln() + 0.25_f64.ln()) / 4.0;
    // All similarities are equal, so the curve is the constant.
    assert!((found.constant - three_quarters).abs() < 1e-9, "{found:?}");
    assert!((found.curve - three_quarters).abs() < 1e-9, "{found:?}");
    // Δ* = 2 ln 4 states 4/5.
    let given = (3.0 * 0.8_f64.ln() + 0.2_f64.ln()) / 4.0;
    assert!((found.given - given).abs() < 1e-9, "{found:?}");
    assert_eq!(found.coin, -std::f64::consts::LN_2);
    let one_fold: Vec<Observation> =
        observations.iter().map(|seen| Observation { fold: 3, ..*seen }).collect();
    let error = Calibration::of(&one_fold, &settings(100)).unwrap_err().to_string();
    assert!(error.contains("pairs of several prompts"), "{error}");
    assert!(Calibration::of(&[], &settings(100)).is_err());
}

/// Protects: wins that s separates perfectly, or that are all equal, give finite numbers.
#[test]
fn separable_data_stay_finite() {
    for wins in [|at: usize| f64::from(u8::from(at < 20)), |_| 1.0] {
        let seen = |at: usize| Observation {
            s: at as f64 / 30.0,
            win: wins(at),
            given: 5.0,
            prompt: at,
            fold: at % 5,
        };
        let found = Calibration::of(&(0..30).map(seen).collect::<Vec<_>>(), &settings(100)).unwrap();
        let numbers = [
            found.beta1,
            found.end,
            found.beta3(),
            found.slope.ends.map_or(0.0, |ends| ends.high),
            found.constant,
        ];
        assert!(numbers.iter().all(|x| x.is_finite()), "{numbers:?}");
        assert!(found.end >= LEAST && found.beta1 >= 0.0 && found.constant > 0.0);
    }
}

/// Protects: all pairs of a prompt are drawn together, so thirty copies of each pair carry no more
/// information than one.
#[test]
fn prompts_are_drawn_whole() {
    let once: Vec<Observation> = simulated(200, 5, chance)
        .into_iter()
        .enumerate()
        .map(|(at, seen)| Observation { prompt: at, ..seen })
        .collect();
    let copied: Vec<Observation> = once.iter().flat_map(|seen| [*seen; 30]).collect();
    let width = |seen: &[Observation]| {
        let Ends { low, high, .. } = Calibration::of(seen, &settings(200)).unwrap().slope.ends.unwrap();
        high - low
    };
    assert!((width(&copied) / width(&once) - 1.0).abs() < 1e-6);
}

/// Protects: results depend on the seed, not on threads.
#[test]
fn threads_change_nothing() {
    let seen = simulated(300, 6, chance);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| Calibration::of(&seen, &settings(100)).unwrap())
    };
    assert_eq!(run(1), run(4));
    let other = Calibration::of(&seen, &Settings { seed: 2, ..settings(100) }).unwrap();
    assert_ne!(run(1).slope.ends, other.slope.ends);
}

/// Protects: deciles computed by hand; equal similarities stay together.
#[test]
fn deciles_keep_equal_similarities_together() {
    let seen = |at: usize, s: f64| Observation { s, win: at as f64 % 2.0, given: 0.0, prompt: at, fold: 0 };
    let spread: Vec<Observation> = (0..20).map(|at| seen(at, at as f64 / 20.0)).collect();
    let found = bins::bins(&spread, |_| 0.0);
    assert_eq!(found.len(), 10);
    assert!(found.iter().all(|bin| (bin.pairs, bin.win, bin.fitted, bin.given) == (2, 0.5, 0.5, 0.5)));
    assert_eq!((found[3].low, found[3].high), (0.3, 0.35));
    let heaped: Vec<Observation> = (0..20).map(|at| seen(at, if at < 13 { 0.0 } else { 1.0 })).collect();
    let pairs: Vec<usize> = bins::bins(&heaped, |_| 0.0).iter().map(|bin| bin.pairs).collect();
    assert_eq!(pairs, [13, 7]);
}

/// Protects: evidence is checked pair by pair, and pairs with the same prompt count as one prompt.
#[test]
fn observations_are_checked() {
    let pairs = [crate::testing::pair_of_lengths(1, &[1], &[2]); 3];
    let seen = observations(&pairs, &[0.5; 3], &[1.0, 0.0, 0.5], &[3.0; 3], 5).unwrap();
    assert!(seen.iter().all(|seen| seen.prompt == 0 && seen.fold == fold(PromptId::of_text("prompt"), 5)));
    let refusal =
        |s: [f32; 3], wins: &[f32]| observations(&pairs, &s, wins, &[3.0; 3], 5).unwrap_err().to_string();
    assert_eq!(refusal([0.5; 3], &[1.0, 1.5, 0.0]), "wins: pair 1: found 1.5, expected 0 to 1");
    assert!(refusal([0.5, 0.5, f32::NAN], &[1.0; 3]).starts_with("similarity: pair 2: found NaN"));
    assert!(refusal([0.5; 3], &[1.0; 2]).contains("found 2 for 3 pairs"));
}
