//! Leave-one-out advantages: each answer to a prompt against the mean of the others (RLOO, arXiv 2402.14740).

use super::{Advantages, Moments, check_groups};
use crate::error::Result;

/// The advantages of RLOO.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeaveOneOut {
    /// Standardises the advantages of the batch: subtracts their mean and divides by their standard
    /// deviation.
    pub normalize_advantages: bool,
}

impl LeaveOneOut {
    /// Computes the advantages of answers in consecutive groups of `group`: A = r − (mean of the other
    /// rewards of the group). An answer without a reward is skipped; it, and a single scored one, gets 0.
    ///
    /// # Errors
    /// Fails if the group size does not divide the number of answers.
    pub fn of(&self, rewards: &[Option<f64>], group: usize) -> Result<Advantages> {
        check_groups(rewards.len(), group)?;
        let mut raw = Vec::with_capacity(rewards.len());
        let (mut equal, mut groups) = (0.0_f64, 0.0_f64);
        for of_group in rewards.chunks(group) {
            let sum: f64 = of_group.iter().flatten().sum();
            let others = of_group.iter().flatten().count() as f64 - 1.0;
            let moments = Moments::of(of_group.iter().copied().flatten());
            equal += f64::from(u8::from(moments.is_some_and(Moments::is_constant)));
            groups += 1.0;
            let same = moments.is_some_and(|moments| moments.std == Some(0.0));
            let advantage = |reward: &Option<f64>| {
                let reward = (*reward).filter(|_| others > 0.0)?;
                Some(if same { 0.0 } else { reward - (sum - reward) / others })
            };
            raw.extend(of_group.iter().map(advantage));
        }
        let moments = Moments::of(raw.iter().copied().flatten());
        let value = |advantage: &Option<f64>| match self.normalize_advantages {
            true => moments.and_then(|moments| moments.normalise((*advantage)?)).unwrap_or(0.0),
            false => advantage.unwrap_or(0.0),
        };
        Ok(Advantages {
            values: raw.iter().map(value).collect(),
            rewards: rewards.to_vec(),
            zero_std: equal / groups.max(1.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: the baseline excludes its own answer and unscored ones; a group with one scored answer gives
    /// 0.
    #[test]
    fn the_baseline_is_the_mean_of_the_others() -> Result<()> {
        let rewards = [Some(1.0), Some(2.0), Some(6.0), Some(4.0), None, None, Some(5.0), None, Some(1.0)];
        let found = LeaveOneOut::default().of(&rewards, 3)?;
        assert_eq!(found.values, [-3.0, -1.5, 4.5, 0.0, 0.0, 0.0, 4.0, 0.0, -4.0]);
        let normal = LeaveOneOut { normalize_advantages: true }.of(&rewards, 3)?;
        let scored = [0, 1, 2, 6, 8].map(|at: usize| normal.values[at]);
        assert!(scored.iter().sum::<f64>().abs() < 1e-12 && normal.values[3] == 0.0, "{scored:?}");
        assert_eq!(LeaveOneOut { normalize_advantages: true }.of(&[None, None], 2)?.values, [0.0, 0.0]);
        Ok(())
    }
}
