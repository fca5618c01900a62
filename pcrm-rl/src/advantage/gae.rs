//! Generalised advantage estimation over the tokens of an answer (arXiv 1506.02438).

use serde::{Deserialize, Serialize};

/// The two constants of the estimator.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Gae {
    /// γ, the discount of a later token's reward.
    pub gamma: f64,
    /// λ, from one step of the critic (0) to the observed rewards (1).
    pub lam: f64,
}

impl Default for Gae {
    fn default() -> Self {
        Self { gamma: 1.0, lam: 0.95 }
    }
}

impl Gae {
    /// Computes advantages and returns of the tokens of one answer from their rewards and the critic's values
    /// before each of them.
    ///
    /// δ_t = r_t + γ·V_{t+1} − V_t, A_t = δ_t + γλ·A_{t+1}, R_t = A_t + V_t. The answer ends with its last
    /// token: V after it is 0, even if sampling was cut off there.
    pub fn of(&self, rewards: &[f64], values: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let mut advantages = vec![0.0; rewards.len()];
        let (mut next, mut later) = (0.0, 0.0);
        for (at, (reward, value)) in rewards.iter().zip(values).enumerate().rev() {
            later = reward + self.gamma * next - value + self.gamma * self.lam * later;
            next = *value;
            advantages[at] = later;
        }
        let returns = advantages.iter().zip(values).map(|(advantage, value)| advantage + value).collect();
        (advantages, returns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: λ = 1 gives the discounted rewards less the value, λ = 0 one step of the critic, and no
    /// tokens give nothing.
    #[test]
    fn the_ends_of_lambda_are_known() {
        let (rewards, values) = ([1.0, -2.0, 4.0], [0.5, 0.25, -1.0]);
        let (advantages, returns) = Gae { gamma: 0.5, lam: 1.0 }.of(&rewards, &values);
        assert_eq!(returns, [1.0, 0.0, 4.0]);
        assert_eq!(advantages, [0.5, -0.25, 5.0]);
        let (advantages, _) = Gae { gamma: 1.0, lam: 0.0 }.of(&rewards, &values);
        assert_eq!(advantages, [0.75, -3.25, 5.0]);
        assert_eq!(Gae::default().of(&[2.0], &[0.5]), (vec![1.5], vec![2.0]));
        assert_eq!(Gae::default().of(&[], &[]), (Vec::new(), Vec::new()));
    }
}
