//! The settings of judges of kind `openai`, and of paid services in general.

use anyhow::{Result, ensure};
use pcrm_rl::judge::Prices;
use serde_json::Value;

use super::Service;

/// The kinds of judges that use neither a key nor a budget.
const FREE: [&str; 4] = ["command", "gold", "replay", "reward"];

impl Service {
    /// Refuses options that affect none of these judges.
    ///
    /// # Errors
    /// Fails with the option.
    pub fn check(&self, judges: &[&Value]) -> Result<()> {
        let models: Vec<_> = judges.iter().filter(|data| data["kind"] == "openai").collect();
        for (is_given, option, key) in [
            (self.judge_model.is_some(), "--judge-model", "model"),
            (self.judge_url.is_some(), "--judge-url", "base_url"),
            (!self.template.is_empty(), "--template", "template"),
            (self.concurrency.is_some(), "--concurrency", "concurrency"),
        ] {
            ensure!(
                !is_given || !models.is_empty(),
                "{option} has no effect: no judge is a language model (openai)"
            );
            ensure!(
                !is_given || models.iter().any(|data| data.get(key).is_none()),
                "{option} has no effect: every such judge names its own {key}"
            );
        }
        let is_paid = judges.iter().any(|data| !FREE.contains(&data["kind"].as_str().unwrap_or_default()));
        for (is_given, option) in [
            (self.api_key.is_some(), "--api-key"),
            (self.max_calls.is_some(), "--max-calls"),
            (self.max_spent_tokens.is_some(), "--max-spent-tokens"),
            (self.max_cost.is_some(), "--max-cost"),
            (self.input_price.is_some(), "--input-price"),
            (self.output_price.is_some(), "--output-price"),
        ] {
            ensure!(!is_given || is_paid, "{option} has no effect: no judge is a paid service (openai)");
        }
        Ok(())
    }

    /// Adds the service's settings to the data of a judge of kind `openai`, once per template.
    ///
    /// # Errors
    /// Fails if no model is named.
    pub fn completed(&self, mut tagged: Value) -> Result<Vec<Value>> {
        if tagged["kind"] != "openai" {
            return Ok(vec![tagged]);
        }
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let mut fill = |key: &str, value: Option<Value>| {
            if let (true, Some(value)) = (tagged.get(key).is_none(), value) {
                tagged[key] = value;
            }
        };
        fill("model", self.judge_model.clone().or_else(|| variable("OPENAI_MODEL")).map(Value::from));
        fill("base_url", self.judge_url.clone().or_else(|| variable("OPENAI_BASE_URL")).map(Value::from));
        fill("concurrency", self.concurrency.map(Value::from));
        ensure!(
            tagged.get("model").is_some(),
            "openai: no model; expected openai:MODEL, --judge-model NAME or OPENAI_MODEL in the environment"
        );
        if tagged.get("template").is_some() || self.template.is_empty() {
            return Ok(vec![tagged]);
        }
        let with = |template: &String| {
            let mut tagged = tagged.clone();
            tagged["template"] = template.as_str().into();
            tagged
        };
        Ok(self.template.iter().map(with).collect())
    }

    /// Returns the key of paid services.
    pub fn key(&self) -> Option<String> {
        let given = self.api_key.clone().or_else(|| std::env::var("OPENAI_API_KEY").ok());
        given.map(|key| key.trim().to_owned()).filter(|key| !key.is_empty())
    }

    /// Returns the prices, if any is given.
    pub fn prices(&self) -> Option<Prices> {
        let known = self.input_price.is_some() || self.output_price.is_some();
        let price = |price: Option<f64>| price.unwrap_or(0.0);
        known.then(|| Prices { input: price(self.input_price), output: price(self.output_price) })
    }
}
