use super::*;

/// A run that owns its measures.
struct Measured {
    arm: &'static str,
    held_out: Option<&'static str>,
    measures: BTreeMap<String, f64>,
}

fn run(arm: &'static str, accuracy: f64, log_loss: f64) -> Measured {
    let measures = BTreeMap::from([("accuracy".to_owned(), accuracy), ("log_loss".to_owned(), log_loss)]);
    Measured { arm, held_out: None, measures }
}

impl Measured {
    fn run(&self) -> HeldOutRun<'_> {
        let Self { arm, held_out, measures } = self;
        HeldOutRun { arm, setting: arm, held_out: *held_out, pairs: 100, measures }
    }
}

fn outcome_of(runs: &[Measured]) -> Result<ComparisonOutcome> {
    ComparisonOutcome::of(&labels(), &runs.iter().map(Measured::run).collect::<Vec<_>>())
}

fn labels() -> [String; 2] {
    ["none", "fixed"].map(str::to_owned)
}

/// Protects: differences are paired by seed, so that an effect of the seed on all arms does not hide
/// them; the sentence names their direction.
#[test]
fn differences_are_paired() {
    let seeds = [0.5, 0.6, 0.7];
    let both = |(at, accuracy): (usize, &f64)| {
        [run("none", *accuracy, 0.9), run("fixed", accuracy + 0.001 * at as f64, 0.6 + 0.01 * at as f64)]
    };
    let runs: Vec<Measured> = seeds.iter().enumerate().flat_map(both).collect();
    let outcome = outcome_of(&runs).unwrap();
    let [accuracy, log_loss] = outcome.arms[1].differences[..] else { panic!("{outcome:?}") };
    assert!(!accuracy.unwrap().excludes_zero() && log_loss.unwrap().excludes_zero());
    assert!((log_loss.unwrap().value + 0.29).abs() < 1e-12);
    let said = outcome.reading();
    assert!(
        said.len() == 1 && said[0].starts_with("fixed, against none: log loss better (−0.290, 95 %: −0.315"),
        "{said:?}"
    );
}

/// Protects: stars and sentences agree: every significant difference is in the sentence, including
/// measures that are neither better nor worse.
#[test]
fn every_star_is_in_a_sentence() {
    let with = |arm: &'static str, std: f64, accuracy: f64| {
        let mut run = run(arm, accuracy, 0.6);
        run.measures.insert("margin_std".to_owned(), std);
        run
    };
    let arms = |accuracy: f64, std: f64| -> Vec<Measured> {
        let both = |seed: u64| {
            let wobble = 0.001 * seed as f64;
            [with("none", 0.56, 0.6), with("fixed", 0.56 + std + wobble, 0.6 + accuracy + wobble)]
        };
        (0..3).flat_map(both).collect()
    };
    for (accuracy, std, expected) in [
        (
            -0.001,
            -0.17,
            "fixed: no measure of quality differs significantly from none; margin std lower (−0.169",
        ),
        (-0.001, -0.001, "fixed: no significant difference from none."),
        (0.05, -0.001, "fixed, against none: accuracy better (+5.10 points"),
        (0.05, 0.2, "fixed, against none: accuracy better (+5.10 points"),
        (-0.05, -0.001, "fixed, against none: accuracy worse (−4.90 points"),
    ] {
        let outcome = outcome_of(&arms(accuracy, std)).unwrap();
        let said = outcome.reading();
        assert!(said[0].starts_with(expected), "{said:?}");
        let stars = outcome.arms[1].differences.iter().flatten().filter(|mean| mean.excludes_zero()).count();
        assert_eq!(said[0].matches("95 %").count(), stars, "{said:?}");
    }
}

/// Protects: fewer than three seeds give no intervals and a sentence says so; shares stay within 0 and
/// 100 %; pairs shared by all seeds are counted once.
#[test]
fn few_seeds_and_shared_pairs_are_said() {
    let seeds = |count: u64, held_out: Option<&'static str>| -> ComparisonOutcome {
        let one = |arm, seed: u64| {
            let accuracy = if seed.is_multiple_of(2) { 0.99 } else { 0.6 };
            Measured { held_out, ..run(arm, accuracy, 0.6) }
        };
        let runs: Vec<Measured> =
            (0..count).flat_map(|seed| [one("none", seed), one("fixed", seed)]).collect();
        outcome_of(&runs).unwrap()
    };
    for count in 1..5 {
        let outcome = seeds(count, None);
        let mean = outcome.arms[0].means[0].unwrap();
        assert_eq!(mean.interval.is_some(), count >= 3, "{count}: {mean:?}");
        assert!(mean.interval.is_none_or(|interval| interval.low() >= 0.0 && interval.high() <= 1.0));
        assert_eq!(outcome.reading()[0].contains("at least 3 seeds"), count < 3, "{:?}", outcome.reading());
        assert_eq!(outcome.held_out, HeldOut::Own(100 * count as usize));
    }
    let same = seeds(3, Some("sha256"));
    assert_eq!(same.held_out, HeldOut::Same(100));
    assert!(same.reading()[1].contains("the same pairs"), "{:?}", same.reading());
}

/// Protects: arms with different numbers of runs are refused.
#[test]
fn missing_runs_are_named() {
    let runs = [run("none", 0.5, 0.7), run("none", 0.5, 0.7), run("fixed", 0.5, 0.7)];
    let error = outcome_of(&runs).unwrap_err().to_string();
    assert_eq!(error, "fixed has 1 runs and none has 2; expected equal numbers");
}
