//! Advantages: how much better than expected a sampled answer, or one of its tokens, did.
//!
//! These are functions of numbers on the host, in f64, that carry no gradient. [`rewards`] holds the rewards
//! of sampled answers, with several functions side by side. [`group`] compares the answers to one prompt with
//! each other (GRPO), [`leave_one_out`] each with the rest (RLOO), and [`gae`] every token with a critic
//! (PPO); [`episode`] is the whole computation from scores to advantages. [`shaping`] clips scores and
//! penalises answers without an end, [`coefficient`] adapts the strength of the KL penalty, [`running`]
//! normalises by all scores so far, [`mod@whiten`] by those of a batch, and [`best_worst`] builds pairs of
//! sampled answers for preference losses.

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

/// The constant that TRL adds to a standard deviation before dividing by it.
const EPSILON: f64 = 1e-4;

/// Standard deviations and advantages up to this count as 0, as in TRL (`torch.isclose`).
const ZERO: f64 = 1e-8;

/// The advantages of sampled answers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Advantages {
    /// Advantage of every answer; 0 for an unscored one.
    pub values: Vec<f64>,
    /// Rewards that were compared; `None` for an unscored answer.
    pub rewards: Vec<Option<f64>>,
    /// Share of answers in groups with equal rewards, which give no signal.
    pub zero_std: f64,
}

impl Advantages {
    /// Returns, for every group of `group` answers, true if it has an advantage beyond rounding. The other
    /// groups give no gradient, and dynamic sampling replaces them (DAPO, arXiv 2503.14476).
    pub fn signals(&self, group: usize) -> Vec<bool> {
        self.values.chunks(group.max(1)).map(|values| values.iter().any(|value| value.abs() > ZERO)).collect()
    }
}

/// The mean and the unbiased standard deviation of numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Moments {
    mean: f64,
    /// `None` for a single number.
    std: Option<f64>,
}

impl Moments {
    /// Computes the moments of these numbers; `None` if there are none.
    fn of(values: impl Iterator<Item = f64> + Clone) -> Option<Self> {
        let count = values.clone().count() as f64;
        let first = values.clone().next()?;
        if values.clone().all(|value| value == first) {
            // Their computed mean may differ in the last bit.
            return Some(Self { mean: first, std: (count > 1.0).then_some(0.0) });
        }
        let mean = values.clone().sum::<f64>() / count;
        let squares: f64 = values.map(|value| (value - mean) * (value - mean)).sum();
        Some(Self { mean, std: (count > 1.0).then(|| (squares / (count - 1.0)).sqrt()) })
    }

    /// Returns (x − mean) / (std + 1e-4); `None` if a single number has no standard deviation.
    fn normalise(self, value: f64) -> Option<f64> {
        self.std.map(|std| (value - self.mean) / (std + EPSILON))
    }

    fn is_constant(self) -> bool {
        self.std.is_some_and(|std| std <= ZERO)
    }
}

/// Refuses answers that do not divide into groups of equal size.
fn check_groups(answers: usize, group: usize) -> Result<()> {
    if group == 0 || !answers.is_multiple_of(group) {
        let message = format!("{group}: expected a size that divides {answers} answers");
        return refuse("num-generations", message);
    }
    Ok(())
}
