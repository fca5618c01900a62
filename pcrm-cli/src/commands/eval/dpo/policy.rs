//! Statistics of the policy and its reference, as JSON, as a table and on the page.

use serde::Serialize;

use crate::report;

/// Statistics of the policy and its reference: means over the answers of the data and over their tokens.
#[derive(Debug, Serialize)]
pub struct PolicyFigures {
    /// β
    pub beta: f64,
    /// KL(π ‖ π_ref) of the next token over all answer tokens, in nats per token; `None` without a reference.
    pub kl_per_token: Option<f64>,
    /// The same over tokens of preferred answers.
    pub kl_per_token_chosen: Option<f64>,
    /// The same over tokens of other answers.
    pub kl_per_token_rejected: Option<f64>,
    /// ln π of preferred answers.
    pub logps_chosen: f64,
    /// ln π of other answers.
    pub logps_rejected: f64,
    /// The implicit reward of preferred answers.
    pub rewards_chosen: f64,
    /// The implicit reward of other answers.
    pub rewards_rejected: f64,
    /// Tokens of preferred answers, including the end token.
    pub tokens_chosen: f64,
    /// Tokens of other answers.
    pub tokens_rejected: f64,
}

impl PolicyFigures {
    /// Returns the measurements with their names.
    fn lines(&self) -> Vec<(&'static str, String)> {
        let number = |value: f64| format!("{value:.4}");
        let mut lines = Vec::new();
        if let (Some(all), Some(chosen), Some(rejected)) =
            (self.kl_per_token, self.kl_per_token_chosen, self.kl_per_token_rejected)
        {
            let of = format!(
                "{} (preferred answers {}, others {})",
                number(all),
                number(chosen),
                number(rejected)
            );
            lines.push(("KL to the reference, nats per token", of));
        }
        let two = |a: f64, b: f64| format!("{} / {}", number(a), number(b));
        lines.extend([
            ("beta", self.beta.to_string()),
            ("implicit reward, preferred / other", two(self.rewards_chosen, self.rewards_rejected)),
            ("ln π, preferred / other", two(self.logps_chosen, self.logps_rejected)),
            ("tokens, preferred / other", two(self.tokens_chosen, self.tokens_rejected)),
        ]);
        lines
    }

    /// Returns the measurements as a table for the terminal.
    pub fn table(&self) -> String {
        let lines = self.lines().into_iter().map(|(name, value)| format!("{name:<38} {value}\n"));
        format!("\nThe policy on the answers of the data\n{}", lines.collect::<String>())
    }

    /// Returns the page with these numbers added at the top.
    pub fn added(&self, mut document: report::Document) -> report::Document {
        use report::document::{Block, Section};
        let facts = self.lines().into_iter().map(|(name, value)| report::Fact::new(name, value)).collect();
        let section = Section::open("The policy on the answers of the data", vec![Block::Facts(facts)]);
        document.sections.insert(1.min(document.sections.len()), section);
        document
    }
}
