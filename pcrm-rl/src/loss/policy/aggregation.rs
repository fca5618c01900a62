//! The aggregation of the tokens of a step into one loss.

use super::rows::Totals;

/// The weight of a token in the loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Aggregation {
    /// The mean over answers of the means over their tokens.
    MeanOfRows,
    /// The mean over answers of the sums over their tokens.
    SumOfRows,
    /// The mean over all tokens of the step.
    Tokens,
    /// The sum divided by the tokens of the rollout ([`Totals::generated`]).
    Generated,
    /// The sum divided by a constant per answer.
    Constant(f64),
}

impl Aggregation {
    /// Returns the weight of each token of an answer with this many tokens.
    pub(super) fn weight(self, tokens: usize, totals: &Totals) -> f64 {
        let rows = totals.rows.max(1.0);
        1.0 / match self {
            Self::MeanOfRows => rows * tokens.max(1) as f64,
            Self::SumOfRows => rows,
            Self::Tokens => totals.tokens.max(1.0),
            Self::Generated => totals.generated.max(1.0),
            Self::Constant(length) => rows * length,
        }
    }
}
