//! Advantages: how much better a sampled answer, or a token of it, did than was expected.
//!
//! These are functions of numbers on the host, in f64, that carry no gradient. [`rewards`] holds the rewards of the
//! answers that a rollout sampled, several functions side by side; [`group`] compares the answers to one prompt with each
//! other (GRPO), [`leave_one_out`] each with the rest (RLOO), and [`gae`] every token with a critic (PPO), of which
//! [`episode`] is the whole way from scores to advantages. [`shaping`] clips scores and punishes answers without an end,
//! [`coefficient`] steers the strength of the KL penalty, [`running`] normalises by all scores so far, [`mod@whiten`] by those
//! of a batch, and [`best_worst`] makes pairs of sampled answers for preference losses.

pub mod best_worst;
pub mod coefficient;
pub mod episode;
pub mod gae;
pub mod group;
pub mod leave_one_out;
pub mod rewards;
pub mod running;
pub mod shaping;
pub mod whiten;

pub use best_worst::{SampledPairs, TiedSamples, best_and_worst};
pub use coefficient::{KlCoefficient, KlControl};
pub use episode::{Episode, Returns};
pub use gae::Gae;
pub use group::{GroupAdvantages, MultiObjective, ScaleRewards};
pub use leave_one_out::LeaveOneOut;
pub use rewards::Rewards;
pub use running::RunningMoments;
pub use shaping::ScoreShaping;
pub use whiten::whiten;

use crate::error::Result;
use crate::options::refuse;

/// The smallest standard deviation that TRL adds before it divides by one.
const EPSILON: f64 = 1e-4;

/// A standard deviation that TRL takes for 0 (`torch.isclose`).
const ZERO: f64 = 1e-8;

/// The advantages of sampled answers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Advantages {
    /// The advantage of every answer; 0 for one that no function scored.
    pub values: Vec<f64>,
    /// The rewards that were compared; `None` for an answer that no function scored.
    pub rewards: Vec<Option<f64>>,
    /// The share of answers whose group has equal rewards, and so gives no signal.
    pub zero_std: f64,
}

impl Advantages {
    /// Returns, for every group of `group` answers, true if an advantage in it is not 0: the others teach nothing, and
    /// dynamic sampling puts new groups in their place (DAPO, arXiv 2503.14476).
    pub fn signals(&self, group: usize) -> Vec<bool> {
        self.values.chunks(group.max(1)).map(|values| values.iter().any(|value| *value != 0.0)).collect()
    }
}

/// The mean and the unbiased standard deviation of the numbers that are there.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Moments {
    mean: f64,
    /// `None` for a single number.
    std: Option<f64>,
}

impl Moments {
    /// The moments of these numbers, `None` of none.
    fn of(values: impl Iterator<Item = f64> + Clone) -> Option<Self> {
        let count = values.clone().count() as f64;
        if count == 0.0 {
            return None;
        }
        let mean = values.clone().sum::<f64>() / count;
        let squares: f64 = values.map(|value| (value - mean) * (value - mean)).sum();
        Some(Self { mean, std: (count > 1.0).then(|| (squares / (count - 1.0)).sqrt()) })
    }

    /// (x − mean) / (std + 1e-4); `None` where a single number has no standard deviation.
    fn normalise(self, value: f64) -> Option<f64> {
        self.std.map(|std| (value - self.mean) / (std + EPSILON))
    }

    fn is_constant(self) -> bool {
        self.std.is_some_and(|std| std <= ZERO)
    }
}

/// Refuses answers that cannot be cut into groups of equal size.
fn check_groups(answers: usize, group: usize) -> Result<()> {
    if group == 0 || !answers.is_multiple_of(group) {
        let message = format!("{group}: expected a size that {answers} answers can be cut into");
        return refuse("num-generations", message);
    }
    Ok(())
}
