use std::f64::consts::LN_2;

use pcrm_core::constraint::{Constraint, Direction, PairView, Priors, from_tagged, parse};
use pcrm_core::data::prompt_id::PromptId;
use pcrm_core::folds::fold;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::likelihood::{inverse, loss, probability};
use super::{Learned, Model};
use crate::testing::pair_of_lengths;

const GAPS: &str = r#"{"kind": "learned", "features": ["score_gap", "length_gap"]}"#;
const BOOSTED: &str = r#"{"kind": "learned", "form": "boosted", "features": ["score_gap", "length_gap"]}"#;

/// Pairs with score and length gaps, and the share of judges that prefer the preferred answer.
struct World {
    prompts: Vec<String>,
    lengths: Vec<[usize; 2]>,
    margins: Vec<f32>,
    wins: Vec<f32>,
}

const IDS: [u32; 40] = [7; 40];

impl World {
    /// Simulates `pairs` pairs, two per prompt, each judged `judges` times with P of
    /// `f(score gap, length gap)`.
    fn new(pairs: usize, judges: u32, f: impl Fn(f64, f64) -> f64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let lengths: Vec<[usize; 2]> =
            (0..pairs).map(|_| [rng.random_range(1..40), rng.random_range(1..40)]).collect();
        let margins: Vec<f32> = (0..pairs).map(|_| rng.random_range(0.0..4.0)).collect();
        let mut world = Self {
            prompts: (0..pairs).map(|at| format!("prompt {}", at / 2)).collect(),
            lengths,
            margins,
            wins: Vec::new(),
        };
        world.wins = (world.truth(f).iter())
            .map(|&p| (0..judges).filter(|_| rng.random_bool(p)).count() as f32 / judges as f32)
            .collect();
        world
    }

    fn truth(&self, f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        let of = |(margin, [chosen, rejected]): (&f32, &[usize; 2])| {
            let gap = ((1.0 + *chosen as f64) / (1.0 + *rejected as f64)).ln();
            probability(f(f64::from(*margin), gap))
        };
        self.margins.iter().zip(&self.lengths).map(of).collect()
    }

    fn pairs(&self) -> Vec<PairView<'_>> {
        let pair = |at: usize| PairView {
            prompt: &self.prompts[at],
            prompt_id: PromptId::of_text(&self.prompts[at]),
            margin: Some(self.margins[at]),
            ..pair_of_lengths(at as u64, &IDS[..self.lengths[at][0]], &IDS[..self.lengths[at][1]])
        };
        (0..self.prompts.len()).map(pair).collect()
    }

    fn fitted(&self, constraint: &str) -> Box<dyn Constraint> {
        parse(constraint).unwrap().fitted(&self.pairs(), &self.wins, &Priors::default()).unwrap()
    }

    fn bounds(&self, constraint: &dyn Constraint) -> Vec<f32> {
        constraint.checked_bounds(&self.pairs(), &Priors::default()).unwrap()
    }
}

fn known(score: f64, length: f64) -> f64 {
    -1.0 + 0.8 * score - 0.6 * length
}

fn root_mean_square(of: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = of.fold((0.0, 0.0), |(sum, count), x| (sum + x * x, count + 1.0));
    f64::sqrt(sum / count)
}

fn learned(constraint: &dyn Constraint) -> Learned {
    let mut value = constraint.to_tagged().unwrap();
    value.as_object_mut().unwrap().shift_remove("kind");
    serde_json::from_value(value).unwrap()
}

/// Protects: with a known f, σ(Δ*/2) is close to the true probabilities in either form, and much closer than
/// one probability for all; the linear form recovers the weights themselves.
#[test]
fn a_known_f_is_recovered() {
    let world = World::new(2000, 8, known);
    let truth = world.truth(known);
    let mean = truth.iter().sum::<f64>() / truth.len() as f64;
    let spread = root_mean_square(truth.iter().map(|p| p - mean));
    for (constraint, within) in [(GAPS, 0.012), (BOOSTED, 0.035)] {
        let bounds = world.bounds(world.fitted(constraint).as_ref());
        let p = bounds.iter().map(|bound| 1.0 / (1.0 + (-f64::from(*bound) / 2.0).exp()));
        let off = root_mean_square(p.zip(&truth).map(|(p, truth)| p - truth));
        assert!(off < within && spread > 0.1, "{constraint}: {off}, {spread}");
    }
    let fitted = learned(world.fitted(GAPS).as_ref());
    for model in &fitted.fit().unwrap().models {
        let Model::Linear(linear) = model else { panic!("{model:?}") };
        let slopes: Vec<f64> = linear.inputs.iter().map(|input| input.weight / input.std).collect();
        assert!((slopes[0] - 0.8).abs() < 0.08 && (slopes[1] + 0.6).abs() < 0.08, "{slopes:?}");
    }
}

/// Protects: a direction holds against the data, in either form; a free feature follows the data.
#[test]
fn directions_are_kept_against_the_data() {
    let world = World::new(800, 6, |score, length| 1.5 - 0.9 * score + 0.8 * length);
    for constraint in [GAPS, BOOSTED] {
        let effects = world.fitted(constraint).effects();
        let bounds: Vec<f64> = effects[0].points.iter().map(|(_, bound)| *bound).collect();
        assert!(bounds.is_sorted() && effects[0].direction == Direction::Increasing, "{effects:?}");
        if let Some(weight) = effects[0].weight {
            assert_eq!((weight.low, weight.high), (0.0, 0.0));
        }
        let [first, last] = [effects[1].points[0].1, effects[1].points[40].1];
        assert!(last > first + 1.0, "{constraint}: {first}, {last}");

        let free = constraint.replacen('{', r#"{"monotone": {"score_gap": "free"}, "#, 1);
        let effects = world.fitted(&free).effects();
        let [first, last] = [effects[0].points[0].1, effects[0].points[40].1];
        assert!(last < first - 1.0, "{constraint}: {first}, {last}");
    }
}

/// Protects: trees keep a direction everywhere, for every value of the other feature, though the truth goes
/// up and down.
#[test]
fn trees_are_monotone_everywhere() {
    let world = World::new(800, 6, |score, length| 2.0 * (3.0 * score).sin() + 2.0 * score * length);
    let fitted = learned(world.fitted(BOOSTED).as_ref());
    for model in &fitted.fit().unwrap().models {
        let Model::Boosted(boosted) = model else { panic!("{model:?}") };
        assert!(boosted.trees.len() > 5, "{}", boosted.trees.len());
        for length in -30..=30 {
            let at = |score: i32| model.at(&[f64::from(score) / 50.0, f64::from(length) / 10.0]);
            assert!((0..200).map(at).is_sorted(), "{length}");
        }
    }
}

/// Protects: no pair is bounded by a fit it took part in. Changing a fold's pairs and wins changes every
/// model except the one that bounds them.
#[test]
fn no_fold_takes_part_in_its_own_model() {
    for constraint in [GAPS, BOOSTED] {
        let mut world = World::new(600, 4, known);
        let before = learned(world.fitted(constraint).as_ref());
        let held: Vec<usize> =
            (0..600).filter(|&at| fold(PromptId::of_text(&world.prompts[at]), 5) == 2).collect();
        assert!(held.len() > 60);
        for &at in &held {
            world.wins[at] = 1.0 - world.wins[at];
            world.margins[at] = 9.0 - world.margins[at];
        }
        let after = world.fitted(constraint);
        let models = [&before, &learned(after.as_ref())].map(|learned| learned.fit().unwrap().models.clone());
        for (at, (before, after)) in models[0].iter().zip(&models[1]).enumerate() {
            assert_eq!(before == after, at == 2, "model {at}");
        }
        // That model bounds them.
        let bounds = world.bounds(after.as_ref());
        for &at in &held {
            let [chosen, rejected] = world.lengths[at].map(|length| 1.0 + length as f64);
            let x = [f64::from(world.margins[at]), (chosen / rejected).ln()];
            assert_eq!(bounds[at], models[0][2].bound(&x) as f32);
        }
    }
}

/// Protects: the same pairs and wins give the same bits, and a fitted constraint round-trips through text bit
/// by bit.
#[test]
fn fits_are_deterministic_and_round_trip() {
    let world = World::new(400, 4, known);
    for constraint in [GAPS, BOOSTED] {
        let [one, two] = [world.fitted(constraint), world.fitted(constraint)];
        let text = one.to_tagged().unwrap().to_string();
        assert_eq!(text, two.to_tagged().unwrap().to_string());
        let read = parse(&text).unwrap();
        assert!(!read.is_unfitted());
        assert_eq!(read.to_tagged().unwrap().to_string(), text);
        assert_eq!(world.bounds(read.as_ref()), world.bounds(one.as_ref()));
        assert_eq!(read.effects(), one.effects());
        // Another tool may write fields in another order.
        let reordered: std::collections::BTreeMap<String, Value> = serde_json::from_str(&text).unwrap();
        parse(&serde_json::to_string(&reordered).unwrap()).unwrap();
    }
}

/// Protects: evidence comes from held-out pairs, and shows both that features help and that they do not.
#[test]
fn evidence_tells_what_the_features_bring() {
    let world = World::new(1200, 1, known);
    let fitted = learned(world.fitted(GAPS).as_ref());
    let evidence = &fitted.fit().unwrap().evidence;
    let mean = world.wins.iter().copied().map(f64::from).sum::<f64>() / 1200.0;
    assert_eq!((evidence.pairs, evidence.prompts, evidence.mean_win), (1200, 600, mean));
    let constant = -loss(inverse(mean), mean);
    assert!((evidence.log_likelihood.constant - constant).abs() < 2e-3, "{evidence:?}");
    assert_eq!(evidence.log_likelihood.coin, -LN_2);
    assert!(evidence.gain.low > 0.01 && evidence.gain.low < evidence.gain.mean, "{evidence:?}");

    let nothing = World::new(1200, 1, |_, _| 0.5);
    let fitted = learned(nothing.fitted(GAPS).as_ref());
    let gain = fitted.fit().unwrap().evidence.gain;
    assert!(gain.low < 0.0 && gain.mean.abs() < 3e-3, "{gain:?}");
}

/// Protects: the displayed effect of a feature: its range, its units, and Δ* along it.
#[test]
fn effects_are_in_the_features_units() {
    let world = World::new(2000, 8, known);
    let effects = world.fitted(GAPS).effects();
    let [score, length] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!([score.feature.as_str(), length.feature.as_str()], ["score_gap", "length_gap"]);
    assert_eq!([score.direction, length.direction], [Direction::Increasing, Direction::Free]);
    // Uniform from 0 to 4.
    assert!((score.mean - 2.0).abs() < 0.05 && (score.std - 4.0 / 12_f64.sqrt()).abs() < 0.03, "{score:?}");
    let [(low, at_low), .., (high, at_high)] = score.points[..] else { panic!("{score:?}") };
    assert!((low - 0.04).abs() < 0.03 && (high - 3.96).abs() < 0.03, "{low}, {high}");
    for (value, bound) in [(low, at_low), (high, at_high)] {
        let p = 1.0 / (1.0 + (-bound / 2.0).exp());
        assert!((p - probability(known(value, length.mean))).abs() < 0.02, "{value}: {p}");
    }
    let weight = score.weight.unwrap();
    assert!(weight.low < weight.mean && weight.mean < weight.high && weight.high - weight.low < 0.1);
    assert!(parse(GAPS).unwrap().effects().is_empty());
}

/// Protects: finite bounds for pairs that are always won and for constant features.
#[test]
fn corner_cases_stay_finite() {
    let mut world = World::new(200, 4, known);
    world.margins.fill(1.1);
    for constraint in [GAPS, BOOSTED] {
        world.wins.fill(1.0);
        let bounds = world.bounds(world.fitted(constraint).as_ref());
        assert!(bounds.iter().all(|bound| (5.0..40.0).contains(bound)), "{bounds:?}");
        // Slightly better than chance, and worse than it in some folds.
        world.wins = (0..200).map(|at| if at % 50 < 26 { 1.0 } else { 0.0 }).collect();
        let bounds = world.bounds(world.fitted(constraint).as_ref());
        assert!(bounds.iter().all(|bound| *bound < 4.0), "{bounds:?}");
    }
}

/// Protects: a combined constraint fits the parts that need it, and leaves the others unchanged.
#[test]
fn parts_of_a_combined_one_are_fitted() {
    let world = World::new(200, 4, known);
    let fixed = r#"{"kind": "fixed", "bound": 1.5}"#;
    let combined = format!(r#"{{"kind": "combine", "how": "min", "of": [{fixed}, {GAPS}]}}"#);
    assert!(parse(&combined).unwrap().is_unfitted());
    let fitted = world.fitted(&combined);
    assert!(!fitted.is_unfitted());
    let alone = world.bounds(world.fitted(GAPS).as_ref());
    let expected: Vec<f32> = alone.iter().map(|bound| bound.min(1.5)).collect();
    assert_eq!(world.bounds(fitted.as_ref()), expected);
    assert!(!parse(&combined.replace(GAPS, fixed)).unwrap().is_unfitted());
}

/// Protects: the default features, with the score gap if all pairs have one; similarities of any constraint,
/// under custom names.
#[test]
fn features_are_the_usual_ones_or_those_asked_for() {
    let world = World::new(60, 4, known);
    let names = |constraint: &str, pairs: &[PairView<'_>]| -> Vec<Value> {
        let fitted = parse(constraint).unwrap().fitted(pairs, &world.wins, &Priors::default()).unwrap();
        let tagged = fitted.to_tagged().unwrap();
        let inputs = tagged["models"][0]["inputs"].as_array().unwrap().clone();
        inputs.into_iter().map(|input| input["feature"].clone()).collect()
    };
    let mut pairs = world.pairs();
    assert_eq!(names("learned", &pairs), ["cosine", "edit", "score_gap"]);
    pairs[3].margin = None;
    assert_eq!(names("learned", &pairs), ["cosine", "edit"]);
    let wide = r#"{"kind": "learned", "features": ["cosine",
        {"name": "narrow", "kind": "cosine", "encoder": {"kind": "bag-of-words", "width": 16}}]}"#;
    assert_eq!(names(wide, &pairs), ["cosine", "narrow"]);
    let tagged = parse("learned").unwrap().to_tagged().unwrap();
    assert_eq!(tagged, json!({"kind": "learned", "monotone": {}, "folds": 5, "form": "linear"}));
}

/// Protects: unusable configurations are refused while parsing, by field.
#[test]
fn refuses_configurations() {
    for (fields, expected) in [
        (
            r#""features": ["lenght_gap"]"#,
            "features: found \"lenght_gap\", expected length_gap, score_gap or a constraint's name: unknown \
             constraint",
        ),
        (r#""features": "edit""#, "features: found \"edit\", expected a list"),
        (r#""features": []"#, "features: found none"),
        (r#""features": [3]"#, "features: found 3, expected a name or an object"),
        (r#""features": ["edit", "edit"]"#, "features: two are called \"edit\"; give one a \"name\""),
        (
            r#""features": [{"kind": "edit", "beta4": 1}]"#,
            "features: constraint \"edit\": unknown field `beta4`",
        ),
        (r#""features": [{"kind": "edit", "name": 1}]"#, "features: \"name\" must be a string, found 1"),
        (
            r#""features": ["edit"], "monotone": {"cosine": "free"}"#,
            "monotone: \"cosine\" is not a feature; features: edit",
        ),
        (r#""monotone": {"cosine": "down"}"#, "monotone: cosine: found \"down\", expected \"increasing\""),
        (r#""folds": 2"#, "folds: found 2, expected a whole number from 3 to 20"),
        (r#""form": "neural""#, "unknown variant `neural`, expected `linear` or `boosted`"),
        (r#""fold": 2"#, "unknown field `fold`, expected one of `features`"),
        (r#""models": []"#, "features: missing; a fitted constraint has"),
        (r#""features": ["edit"], "models": []"#, "evidence: missing; a fitted constraint has"),
        (r#""digest": "00""#, "digest: found one, but no models"),
    ] {
        let error = parse(&format!(r#"{{"kind": "learned", {fields}}}"#)).unwrap_err().to_string();
        assert!(error.starts_with(&format!("constraint \"learned\": {expected}")), "{error}");
    }
}

/// Protects: pairs and wins that cannot be fitted or bounded are refused with the missing item.
#[test]
fn refuses_evidence() {
    let world = World::new(60, 4, known);
    let pairs = world.pairs();
    let without_margin: Vec<_> = pairs.iter().map(|&pair| PairView { margin: None, ..pair }).collect();
    let one_prompt: Vec<_> =
        pairs.iter().map(|&pair| PairView { prompt_id: PromptId::of_text("?"), ..pair }).collect();
    let priors = Priors::default();
    let refusal = |constraint: &str, pairs: &[PairView<'_>], wins: &[f32]| {
        parse(constraint).unwrap().fitted(pairs, wins, &priors).unwrap_err().to_string()
    };
    let mut broken = world.wins.clone();
    broken[7] = f32::NAN;
    let fixed = r#"{"kind": "learned", "features": ["fixed"]}"#;
    let asked = r#"{"kind": "learned", "monotone": {"score_gap": "free"}}"#;
    for (error, expected) in [
        (refusal(GAPS, &[], &[]), "found no pairs"),
        (refusal(GAPS, &pairs, &world.wins[1..]), "found 59 wins for 60 pairs"),
        (refusal(GAPS, &pairs, &broken), "pair 7 has the win NaN, expected a number in [0, 1]"),
        (
            refusal(GAPS, &pairs, &[0.5; 60]),
            "judges prefer the preferred answer in 50.0 % of cases over 60 pairs, which is no better than \
             chance",
        ),
        (refusal(GAPS, &one_prompt, &world.wins), "the pairs have 1 prompts, which fall into 1 of 5 folds"),
        (
            refusal(GAPS, &without_margin, &world.wins),
            "feature \"score_gap\": pair 0 has no margin, expected",
        ),
        (
            refusal(fixed, &pairs, &world.wins),
            "feature \"fixed\": the constraint \"fixed\" has no similarity",
        ),
        (
            refusal(asked, &without_margin, &world.wins),
            "monotone: \"score_gap\" is not a feature of these pairs; features: cosine",
        ),
        (
            world.fitted(GAPS).bounds(&without_margin, &priors).unwrap_err().to_string(),
            "feature \"score_gap\": pair 0 has no margin",
        ),
        (
            parse(GAPS).unwrap().bounds(&pairs, &priors).unwrap_err().to_string(),
            "is not fitted yet: `pcrm calibrate",
        ),
    ] {
        assert!(error.starts_with(&format!("constraint \"learned\": {expected}")), "{error}");
    }
}

/// Protects: a fitted file whose features and numbers do not match is refused with the mismatch.
#[test]
fn refuses_fits_of_other_features() {
    let world = World::new(200, 4, known);
    let [linear, boosted] = [GAPS, BOOSTED].map(|constraint| world.fitted(constraint).to_tagged().unwrap());
    let refusal = |constraint: &str, change: &dyn Fn(&mut Value)| {
        let mut value = if constraint == GAPS { linear.clone() } else { boosted.clone() };
        change(&mut value);
        from_tagged(value).unwrap_err().to_string()
    };
    let split = json!({"feature": 0, "at": 1.0, "below": 1.0, "above": 0.5});
    type Change<'a> = &'a dyn Fn(&mut Value);
    let cases: [(&str, Change<'_>, &str); 13] = [
        (
            GAPS,
            &|v| v["features"] = json!(["score_gap"]),
            "monotone: \"length_gap\" is not a feature; features: score_gap",
        ),
        (
            GAPS,
            &|v| v["features"] = json!(["score_gap", "length_gap", "edit"]),
            "models: model 0: inputs: fitted to 2 features (score_gap, length_gap), but the constraint has 3 \
             (score_gap, length_gap, edit)",
        ),
        (
            GAPS,
            &|v| v["features"] = json!(["length_gap", "score_gap"]),
            "models: model 0: inputs: fitted to 2 features",
        ),
        (
            GAPS,
            &|v| v["models"][1]["inputs"][0]["weight"] = Value::Null,
            "models: model 1: inputs: score_gap: weight: found null, expected a finite number",
        ),
        (
            GAPS,
            &|v| v["models"][1]["inputs"][0]["weight"] = json!(-0.1),
            "models: model 1: inputs: score_gap: weight: found -0.1, where the bound must be increasing",
        ),
        (
            GAPS,
            &|v| v["models"][1]["inputs"][0]["std"] = json!(0),
            "models: model 1: inputs: score_gap: std: found 0",
        ),
        (
            GAPS,
            &|v| drop(v["models"].as_array_mut().unwrap().pop()),
            "models: found 4, expected 5, one per fold",
        ),
        (
            GAPS,
            &|v| v["evidence"]["features"][0]["feature"] = json!("edit"),
            "evidence: found features edit, length_gap",
        ),
        (GAPS, &|v| v["models"][1]["intercept"] = json!(0.1), "digest: found"),
        (GAPS, &|v| v["features"][0] = json!({"kind": "score_gap"}), "digest: found"),
        (
            BOOSTED,
            &|v| v["models"][0]["trees"][0] = split.clone(),
            "models: model 0: trees: tree 0: trees: a split of feature 0 goes against",
        ),
        (
            BOOSTED,
            &|v| v["models"][0]["trees"][0] = json!({"feature": 2, "at": 1, "below": 1, "above": 1}),
            "models: model 0: trees: tree 0: feature: found 2, expected less than 2",
        ),
        (
            BOOSTED,
            &|v| v["models"][0]["trees"][0] = Value::Null,
            "models: model 0: trees: tree 0: trees: found null",
        ),
    ];
    for (constraint, change, expected) in cases {
        let error = refusal(constraint, change);
        assert!(error.starts_with(&format!("constraint \"learned\": {expected}")), "{error}");
    }
    let error = refusal(GAPS, &|v| drop(v.as_object_mut().unwrap().shift_remove("digest")));
    assert!(error.contains("digest: found null, expected"), "{error}");
}
