//! The conclusion from the evidence, as a word and in a sentence.

use serde::{Deserialize, Serialize};

use super::Calibration;
use super::draws::Ends;

/// The conclusion from the evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Conclusion {
    /// Confidence grows as similarity falls: the curve is used.
    Informative,
    /// The interval of β1 contains 0, or there is no interval: the constant is used.
    Flat,
    /// Confidence grows with similarity, which the curve cannot express: the constant is used.
    Reversed,
    /// The curve is no better than the constant on held-out prompts: the constant is used.
    NoGain,
    /// Judges prefer the preferred answer no more often than a coin: nothing is usable.
    Chance,
}

impl Calibration {
    /// Returns the verdict in a sentence, with a warning if the judges may be no better than a coin.
    pub fn sentence(&self) -> String {
        let verdict = self.follows();
        let Some(Ends { low, high, .. }) = self.mean_win.ends else { return verdict };
        if low > 0.5 || self.verdict == Conclusion::Chance {
            return verdict;
        }
        format!(
            "{verdict}; but the preferred answer wins in {:.1} to {:.1} %, so these judges may be no better \
             than a coin: a bound this tight lets a model learn next to nothing",
            100.0 * low,
            100.0 * high
        )
    }

    fn follows(&self) -> String {
        let slope = match self.slope.ends {
            Some(ends) => {
                let [low, high] = [ends.low, ends.high].map(|end| format!("{end:.3}").replace('-', "−"));
                format!("beta1 is {low} to {high} with {} % confidence", 100.0 * self.level)
            }
            None => format!("{} prompts give no interval of beta1", self.prompts),
        };
        let fixed = format!("fixed with bound {:.3} is fitted instead", self.constant);
        match self.verdict {
            Conclusion::Informative => format!(
                "preferences are clearer between less similar answers ({slope}, beta2 {}): the curve is \
                 fitted",
                self.beta2
            ),
            Conclusion::Flat => format!(
                "this similarity carries no usable information about the strength of preferences in these \
                 data ({slope}{}): {fixed}",
                if self.slope.ends.is_some() { ", which includes 0" } else { "" }
            ),
            Conclusion::Reversed => format!(
                "here the relation is the other way round: preferences are clearer between more similar \
                 answers ({slope}), which a bound that loosens with difference cannot express: {fixed}"
            ),
            Conclusion::NoGain => format!(
                "the curve is no better than a constant on held-out prompts ({:.4} against {:.4} nats per \
                 pair): {fixed}",
                self.held_out.curve, self.held_out.constant
            ),
            Conclusion::Chance => format!(
                "the judges prefer the preferred answer of {:.1} % of {} pairs, no better than a coin: \
                 nothing can be fitted to them; use better judges (more training, another model) or more \
                 pairs",
                100.0 * self.mean_win.value,
                self.pairs
            ),
        }
    }
}
