use super::*;
use crate::loss::WrongShare;

fn answer<'a>(policy: &'a [f64], reference: &'a [f64], prompt: &'a [f64]) -> AnswerTokens<'a> {
    AnswerTokens { policy, reference, prompt, alignment: -0.3 }
}

/// Protects: the gradient of every loss by every token, with weights, bounds where allowed, and every
/// option, by differences.
#[test]
fn gradients_are_differences_for_every_token() {
    const STEP: f64 = 1e-6;
    let start = [-0.7, -1.9, -0.2, -2.5, -0.4, -1.1, -0.3, -0.9, -1.4, -0.6];
    let reference = [-0.9, -1.2, -0.6, -2.2, -0.8, -1.0, -0.5];
    let learned = [3.5, 6.0];
    let pairs = [
        Pair { chosen: 0, rejected: 1, bound: 0.4, weight: 1.0 },
        Pair { chosen: 2, rejected: 1, bound: f64::INFINITY, weight: 0.5 },
    ];
    for (loss, name) in super::super::names::ALL {
        for (ld_alpha, use_weighting) in [(None, false), (Some(0.3), false), (None, true)] {
            let config = PreferenceConfig {
                label_smoothing: WrongShare::Given(0.1),
                ld_alpha,
                use_weighting: use_weighting && !loss.sorts(),
                beta: 0.7,
                ..PreferenceConfig::of(loss)
            };
            let at = |numbers: &[f64]| {
                let answers = [
                    answer(&numbers[..3], &reference[..3], &numbers[7..8]),
                    answer(&numbers[3..5], &reference[3..5], &numbers[8..9]),
                    answer(&numbers[5..7], &reference[5..7], &numbers[9..]),
                ];
                config.evaluate(&answers, &pairs, 0.5, learned)
            };
            let found = at(&start);
            let slopes: Vec<f64> =
                found.gradient.concat().into_iter().chain(found.prompt_gradient.concat()).collect();
            for token in 0..start.len() {
                // Differences across a change of rank are not derivatives; weights of pairs differ under
                // sorting.
                if loss.sorts() {
                    continue;
                }
                let moved = |by: f64| {
                    let mut numbers = start;
                    numbers[token] += by;
                    at(&numbers).total
                };
                let difference = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
                assert!(
                    (slopes[token] - difference).abs() < 1e-7,
                    "{name}, token {token}: {} {difference}",
                    slopes[token]
                );
            }
        }
    }
}

/// Protects: PCDPO (arXiv 2404.00978, §5.7.2): L = −ln σ(Δ) − ln σ(Δ* − Δ) with
/// dL/d ln π_w = β·(σ(Δ − Δ*) − σ(−Δ)), smallest at Δ = Δ*/2.
#[test]
fn a_bounded_pair_is_drawn_to_half_its_bound() {
    let config = PreferenceConfig::default();
    let bound = 3.0;
    let at = |margin: f64| {
        let (chosen, rejected) = ([margin / config.beta - 1.0], [-1.0]);
        let answers = [answer(&chosen, &[0.0], &[]), answer(&rejected, &[0.0], &[])];
        config.evaluate(&answers, &[Pair { chosen: 0, rejected: 1, bound, weight: 1.0 }], 1.0, [0.0; 2])
    };
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    for margin in [-4.0, 0.0, 1.4, 1.6, 2.9, 8.0] {
        let found = at(margin);
        let closed = config.beta * (sigmoid(margin - bound) - sigmoid(-margin));
        assert!((found.judged[0].margin - margin).abs() < 1e-12);
        assert!((found.gradient[0][0] - closed).abs() < 1e-12, "{margin}: {found:?} {closed}");
        assert!((found.gradient[1][0] + closed).abs() < 1e-12);
        let value = (1.0 + (-margin).exp()).ln() + (1.0 + (margin - bound).exp()).ln();
        assert!((found.total - value).abs() < 1e-12 && found.total >= at(bound / 2.0).total);
    }
    assert!(at(bound / 2.0).gradient[0][0].abs() < 1e-15);
}
