//! The best of n answers by score, and its value by the true reward: the over-optimisation curve of a reward
//! model.
//!
//! With N scored answers to a prompt, the mean value of the best answer over all subsets of size n has an
//! exact formula and needs no draws: the j-th answer by score is the best of a subset with probability C(j −
//! 1, n − 1) / C(N, n). The best of n is KL = ln n − (n − 1) / n nats away from the policy (arXiv 2112.09332,
//! appendix G; 2401.01879 shows that it is an upper bound).

use serde::{Deserialize, Serialize};

use crate::bootstrap::{Bootstrap, Clusters, Estimate};
use crate::error::{Error, Result, check_finite, check_lengths};

/// The answers to one prompt with their scores and true rewards.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ScoredAnswers {
    /// Scores of the reward model that picks the answer.
    pub scores: Vec<f64>,
    /// True rewards, in the same order; empty if unknown.
    pub truths: Vec<f64>,
}

/// A point of the best-of-n curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BestOfNPoint {
    /// Number of answers to choose from.
    pub n: usize,
    /// KL from the policy, ln n − (n − 1) / n, in nats.
    pub kl: f64,
    /// Mean score of the best answer.
    pub score: Estimate,
    /// Mean true reward of the best answer, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truth: Option<Estimate>,
}

/// Computes the curve for n = 1, 2, 4, … and N, with intervals over prompts.
///
/// # Errors
/// Fails if there are no prompts, if prompts have different numbers of answers, or if a number is not finite.
pub fn curve(prompts: &[ScoredAnswers], bootstrap: &Bootstrap) -> Result<Vec<BestOfNPoint>> {
    let Some(count) = prompts.first().map(|first| first.scores.len()).filter(|count| *count > 0) else {
        return Err(Error::Empty { what: "answers" });
    };
    let known = prompts.iter().all(|prompt| prompt.truths.len() == count);
    for prompt in prompts {
        check_lengths("answers to prompts", count, prompt.scores.len())?;
        check_finite("score", &prompt.scores)?;
        if known {
            check_finite("true reward", &prompt.truths)?;
        }
    }
    let mut sizes: Vec<usize> = (0..).map(|power| 1 << power).take_while(|n| *n < count).collect();
    sizes.push(count);
    let clusters = Clusters::of(&(0..prompts.len()).collect::<Vec<_>>());
    let mean_of = |values: &[f64]| {
        let estimate = bootstrap.estimate(&clusters, |drawn| {
            Ok(Some(drawn.iter().map(|at| values[*at]).sum::<f64>() / drawn.len() as f64))
        })?;
        estimate.ok_or(Error::Empty { what: "prompts" })
    };
    let point = |n: usize| {
        let weights = chances(count, n);
        let best = |of: fn(&ScoredAnswers) -> &[f64]| -> Vec<f64> {
            prompts.iter().map(|prompt| expected(prompt, of(prompt), &weights)).collect()
        };
        Ok(BestOfNPoint {
            n,
            kl: (n as f64).ln() - (n as f64 - 1.0) / n as f64,
            score: mean_of(&best(|prompt| &prompt.scores))?,
            truth: known.then(|| mean_of(&best(|prompt| &prompt.truths))).transpose()?,
        })
    };
    sizes.into_iter().map(point).collect()
}

/// Returns, for each of `count` answers by ascending score, its chance to be the best of `n`.
fn chances(count: usize, n: usize) -> Vec<f64> {
    // C(j, n) / C(count, n) grows by factors that do not overflow.
    let mut up_to = vec![0.0; count + 1]; // chance that the best is among the j lowest
    up_to[count] = 1.0;
    for j in (n..count).rev() {
        up_to[j] = up_to[j + 1] * (j + 1 - n) as f64 / (j + 1) as f64;
    }
    (0..count).map(|j| up_to[j + 1] - up_to[j]).collect()
}

/// Returns the mean value of the best answer by score; answers with the same score share their chances.
fn expected(prompt: &ScoredAnswers, values: &[f64], weights: &[f64]) -> f64 {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| prompt.scores[*a].total_cmp(&prompt.scores[*b]));
    let mut rank = 0;
    let mut sum = 0.0;
    for alike in order.chunk_by(|a, b| prompt.scores[*a] == prompt.scores[*b]) {
        let chance: f64 = weights[rank..rank + alike.len()].iter().sum();
        let mean = alike.iter().map(|at| values[*at]).sum::<f64>() / alike.len() as f64;
        sum += chance * mean;
        rank += alike.len();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: the curve equals the mean over all subsets by enumeration, ties included.
    #[test]
    fn the_curve_is_the_mean_over_all_subsets() -> Result<()> {
        let prompt =
            ScoredAnswers { scores: vec![0.3, -1.0, 2.0, 2.0, 0.9], truths: vec![5.0, 1.0, -3.0, 2.0, 4.0] };
        let curve =
            curve(&[prompt.clone(), prompt.clone()], &Bootstrap { resamples: 0, ..Bootstrap::default() })?;
        assert_eq!(curve.iter().map(|point| point.n).collect::<Vec<_>>(), [1, 2, 4, 5]);
        for point in curve {
            let (mut score, mut truth, mut subsets) = (0.0, 0.0, 0.0);
            for subset in 0u32..32 {
                if subset.count_ones() as usize != point.n {
                    continue;
                }
                let members: Vec<usize> = (0..5).filter(|at| subset >> at & 1 == 1).collect();
                let top = members.iter().map(|at| prompt.scores[*at]).fold(f64::MIN, f64::max);
                let best: Vec<usize> = members.into_iter().filter(|at| prompt.scores[*at] == top).collect();
                score += top;
                truth += best.iter().map(|at| prompt.truths[*at]).sum::<f64>() / best.len() as f64;
                subsets += 1.0;
            }
            assert!((point.score.value - score / subsets).abs() < 1e-12, "{}", point.n);
            let got = point.truth.map(|truth| truth.value).unwrap_or_default();
            // A subset has one or both of two tied answers: their chances are shared as if both were in it.
            assert!((got - truth / subsets).abs() < 1e-12, "{}: {got} {}", point.n, truth / subsets);
        }
        Ok(())
    }

    /// Protects: chances sum to 1 and do not overflow, and invalid input is refused.
    #[test]
    fn chances_sum_to_one() -> Result<()> {
        for (count, n) in [(1, 1), (5, 2), (4096, 2048), (1000, 1000)] {
            assert!((chances(count, n).iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
        assert!(curve(&[], &Bootstrap::default()).is_err());
        let bad = ScoredAnswers { scores: vec![f64::NAN], truths: vec![] };
        assert!(curve(&[bad], &Bootstrap::default()).is_err());
        let ragged = [
            ScoredAnswers { scores: vec![1.0], truths: vec![] },
            ScoredAnswers { scores: vec![1.0; 2], truths: vec![] },
        ];
        assert!(curve(&ragged, &Bootstrap::default()).is_err());
        Ok(())
    }
}
