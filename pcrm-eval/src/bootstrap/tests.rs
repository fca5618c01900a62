//! Intervals, differences and draws against known distributions.

use super::*;
use crate::interval::Method;
use crate::quantiles::mean;

fn mean_of(values: &[f64]) -> impl Fn(&[usize]) -> Result<Option<f64>> + Sync {
    move |positions| Ok(Some(mean(&positions.iter().map(|at| values[*at]).collect::<Vec<_>>())))
}

/// Protects: the interval of a mean is mean ± 1.96 σ/√n as in theory, within the error of 4000 draws.
#[test]
fn the_interval_of_a_mean_is_that_of_theory() {
    let values: Vec<f64> = (0..400).map(|at| f64::from(at % 20)).collect();
    let bootstrap = Bootstrap { resamples: 4000, ..Bootstrap::default() };
    let estimate = bootstrap.estimate(&Clusters::alone(400), mean_of(&values)).unwrap().unwrap();
    // The variance of 0..19 is (20² − 1) / 12 = 33.25, so σ/√n is 5.7663 / 20 = 0.2883.
    let half = 1.96 * 33.25_f64.sqrt() / 20.0;
    assert_eq!(estimate.value, 9.5);
    let interval = estimate.interval.unwrap();
    assert!((interval.low() - (9.5 - half)).abs() < 0.03, "{estimate:?}");
    assert!((interval.high() - (9.5 + half)).abs() < 0.03, "{estimate:?}");
    assert_eq!((interval.method(), interval.n()), (Method::Bootstrap, 4000));
}

/// Protects: values of one prompt are drawn together: ten copies of each add no information.
#[test]
fn prompts_are_drawn_whole() {
    let values: Vec<f64> = (0..400).map(|at| f64::from(at / 10 % 8)).collect();
    let prompts: Vec<usize> = (0..400).map(|at| at / 10).collect();
    let width = |clusters: &Clusters| {
        let estimate = Bootstrap::default().estimate(clusters, mean_of(&values)).unwrap().unwrap();
        let interval = estimate.interval.unwrap();
        interval.high() - interval.low()
    };
    let ratio = width(&Clusters::of(&prompts)) / width(&Clusters::alone(400));
    // The theoretical ratio is √10.
    assert!((2.7..3.7).contains(&ratio), "{ratio}");
    assert_eq!(Clusters::of(&[5, 3, 5]).members, [vec![0, 2], vec![1]]);
}

/// Protects: results depend on the seed and not on threads.
#[test]
fn the_seed_decides() {
    let values: Vec<f64> = (0..50).map(|at| (f64::from(at) * 1.7).sin()).collect();
    let run = |seed, threads| {
        let bootstrap = Bootstrap { seed, ..Bootstrap::default() };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| bootstrap.estimate(&Clusters::alone(50), mean_of(&values)).unwrap().unwrap())
    };
    assert_eq!(run(3, 1), run(3, 4));
    assert_ne!(run(3, 1), run(4, 1));
}

/// Protects: a paired difference cancels the variation that both models share. A constant difference has
/// a p-value and no interval, since the draws have no spread.
#[test]
fn paired_draws_cancel_what_both_share() {
    let noise: Vec<f64> = (0..60).map(|at| 100.0 * (f64::from(at) * 2.3).sin()).collect();
    let better: Vec<f64> =
        noise.iter().enumerate().map(|(at, value)| value + 0.4 + 0.01 * (at % 21) as f64).collect();
    let between = |second: &[f64]| {
        let all = Clusters::alone(60);
        Bootstrap::default().difference(&all, mean_of(&noise), mean_of(second)).unwrap().unwrap()
    };
    let found = between(&better);
    let interval = found.difference.interval.unwrap();
    assert!(interval.low() > 0.45 && interval.high() < 0.55, "{found:?}");
    // No draw is at most 0: 2 (0 + 1) / 1001.
    assert_eq!(found.p, Some(2.0 / 1001.0));
    let constant = between(&noise.iter().map(|value| value + 0.5).collect::<Vec<_>>());
    assert_eq!((constant.difference.interval, constant.p), (None, Some(2.0 / 1001.0)));
    let same = between(&noise);
    assert_eq!((same.difference.interval, same.p), (None, Some(1.0)));
}

/// Protects: too few draws or prompts give neither an interval (not even one of width zero) nor a
/// p-value, and p never falls below the limit for the number of prompts.
#[test]
fn too_few_draws_or_prompts_show_nothing() {
    let values: Vec<f64> = (0..60).map(|at| 1.0 + (f64::from(at) * 2.3).sin()).collect();
    let zeros = vec![0.0; 60];
    for resamples in [0, 1, 2, 38, 39, 1000] {
        for prompts in [1, 2, 5, 6, 7, 60] {
            let bootstrap = Bootstrap { resamples, ..Bootstrap::default() };
            let all = Clusters::alone(prompts);
            let found = bootstrap.difference(&all, mean_of(&zeros), mean_of(&values)).unwrap().unwrap();
            let estimate = bootstrap.estimate(&all, mean_of(&values)).unwrap().unwrap();
            assert_eq!(found.difference.value, estimate.value);
            let expected = resamples >= 39 && prompts >= 6;
            let what = format!("{resamples} draws of {prompts} prompts: {found:?}, {estimate:?}");
            assert_eq!(bootstrap.supports(prompts), expected, "{what}");
            assert_eq!(found.p.is_some(), expected, "{what}");
            for interval in [found.difference.interval, estimate.interval] {
                assert_eq!(interval.is_some(), expected, "{what}");
                assert!(interval.is_none_or(|interval| interval.low() < interval.high()), "{what}");
            }
            assert!(found.p.is_none_or(|p| p >= 0.5_f64.powi(prompts as i32 - 1)), "{what}");
        }
    }
}

/// Protects: an undefined statistic stays undefined, and the bootstrap refuses data without prompts.
#[test]
fn undefined_statistics_have_no_interval() {
    assert_eq!(Bootstrap::default().estimate(&Clusters::alone(3), |_| Ok(None)).unwrap(), None);
    assert!(Bootstrap::default().estimate(&Clusters::alone(0), |_| Ok(Some(1.0))).is_err());
}

/// Protects: a statistic that is undefined on more draws than lie beyond one end of its interval has
/// neither an interval nor a p-value; a few such draws are skipped.
#[test]
fn statistics_undefined_on_many_draws_have_no_interval() {
    let values: Vec<f64> = (0..40).map(|at| 1.0 + (f64::from(at) * 2.3).sin()).collect();
    let (bootstrap, all) = (Bootstrap::default(), Clusters::alone(40));
    // A draw lacks all of the first `needed` prompts with probability (1 − needed / 40)^40.
    for (needed, is_shown) in [(2, false), (5, true)] {
        let lacks = |positions: &[usize]| !positions.iter().any(|at| *at < needed);
        let of = |positions: &[usize]| match lacks(positions) {
            true => Ok(None),
            false => mean_of(&values)(positions),
        };
        let undefined = bootstrap.count(&all, lacks);
        assert!(undefined > 0 || is_shown, "{needed}");
        assert_eq!(bootstrap.tolerates(undefined), is_shown, "{undefined}");
        let estimate = bootstrap.estimate(&all, of).unwrap().unwrap();
        assert_eq!(estimate.interval.is_some(), is_shown, "{estimate:?}");
        assert_eq!(estimate.interval.map(|found| found.n()), is_shown.then_some(1000 - undefined));
        let found = bootstrap.difference(&all, |_| Ok(Some(0.0)), of).unwrap().unwrap();
        assert_eq!((found.difference.interval.is_some(), found.p.is_some()), (is_shown, is_shown));
    }
    assert!(bootstrap.tolerates(25) && !bootstrap.tolerates(26));
}
