//! The likelihood of a whole ranking: Plackett–Luce, and Davidson–Luce with ties.

use super::ties::TieModel;
use crate::batch::Ranked;

/// The maximum size of a ranked set with a model of ties: the loss sums over 2^n − 1 outcomes.
pub const MOST_WITH_TIES: usize = 12;

/// One choice in a ranking: the best of the remaining answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Indices of the chosen scores: one, or several that tie.
    pub first: Vec<u32>,
    /// Indices of the remaining scores.
    pub rest: Vec<u32>,
    /// Share of the total loss.
    pub weight: f64,
}

/// Returns the choices that make up a set's ranking; their shares sum to `weight`.
///
/// Without a model of ties, tied answers are each compared with the worse ones and not with each other.
pub fn choices(set: &[Ranked], ties: TieModel, weight: f64) -> Vec<Choice> {
    let mut levels: Vec<usize> = set.iter().map(|answer| answer.losses).collect();
    levels.sort_unstable();
    levels.dedup();
    let mut choices = Vec::new();
    for level in levels {
        let places = |wanted: &dyn Fn(usize) -> bool| -> Vec<u32> {
            set.iter().filter(|answer| wanted(answer.losses)).map(|answer| answer.score).collect()
        };
        let (first, rest) = (places(&|losses| losses == level), places(&|losses| losses > level));
        match ties {
            TieModel::None => choices.extend(first.into_iter().map(|place| (vec![place], rest.clone()))),
            TieModel::Davidson { .. } | TieModel::RaoKupper { .. } => choices.push((first, rest)),
        }
    }
    choices.retain(|(first, rest)| first.len() + rest.len() > 1);
    let share = weight / choices.len().max(1) as f64;
    choices.into_iter().map(|(first, rest)| Choice { first, rest, weight: share }).collect()
}

/// Returns −ln P(choice) and adds `weight`·d(−ln P)/d score to `gradient`, which is as long as `scores`.
///
/// Of the remaining answers A, T ⊆ A is chosen as best with P(T) ∝ δ_T·e^{mean of r over T}, where δ is 1 for
/// one answer and ν^{|T| − 1} for several: Davidson–Luce (arXiv 1909.07123, eq. 5, with one parameter).
/// Without ν, T has one answer, which is Plackett–Luce: −ln P = −r_1 + ln Σ_A e^r. For two answers this is
/// Davidson and Bradley–Terry.
pub fn choice_loss(scores: &[f64], choice: &Choice, nu: Option<f64>, gradient: &mut [f64]) -> f64 {
    let outcomes = outcomes(choice, nu.is_some());
    let value = |outcome: &Vec<u32>| {
        let mean = outcome.iter().map(|at| scores[*at as usize]).sum::<f64>() / outcome.len() as f64;
        mean + nu.map_or(0.0, |nu| (outcome.len() - 1) as f64 * nu.ln())
    };
    let values: Vec<f64> = outcomes.iter().map(value).collect();
    let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total = highest + values.iter().map(|value| (value - highest).exp()).sum::<f64>().ln();
    for (at, (outcome, value)) in outcomes.iter().zip(&values).enumerate() {
        let chosen = if at == 0 { 1.0 } else { 0.0 };
        let share = choice.weight * ((value - total).exp() - chosen) / outcome.len() as f64;
        outcome.iter().for_each(|place| gradient[*place as usize] += share);
    }
    total - values[0]
}

/// Returns the sets that could have been chosen, the chosen one first.
fn outcomes(choice: &Choice, ties: bool) -> Vec<Vec<u32>> {
    let all = [&choice.first[..], &choice.rest].concat();
    if !ties {
        return all.into_iter().map(|place| vec![place]).collect();
    }
    let members = |mask: u32| -> Vec<u32> {
        all.iter().enumerate().filter(|(at, _)| mask >> at & 1 == 1).map(|(_, place)| *place).collect()
    };
    let chosen = (1 << choice.first.len()) - 1;
    let others = (1..1 << all.len()).filter(|mask| *mask != chosen);
    std::iter::once(chosen).chain(others).map(members).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: the gradient of a choice of one or several answers, with and without ties, by differences.
    #[test]
    fn gradients_are_differences() {
        let scores = [0.3, -1.2, 2.0, 0.3];
        for (first, nu) in [(vec![2], None), (vec![0], Some(0.7)), (vec![0, 3], Some(0.7))] {
            let rest = (0..4).filter(|at| !first.contains(at)).collect();
            let choice = Choice { first, rest, weight: 0.25 };
            let loss = |scores: &[f64]| choice.weight * choice_loss(scores, &choice, nu, &mut [0.0; 4]);
            let mut gradient = [0.0; 4];
            choice_loss(&scores, &choice, nu, &mut gradient);
            for at in 0..4 {
                let moved = |by: f64| {
                    let mut scores = scores;
                    scores[at] += by;
                    loss(&scores)
                };
                let difference = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                assert!((gradient[at] - difference).abs() < 1e-9, "{at}: {} {difference}", gradient[at]);
            }
        }
    }
}
