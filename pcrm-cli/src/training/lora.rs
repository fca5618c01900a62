//! The options of LoRA, as every verb that trains takes them.

use clap::Args;
use pcrm_core::model::lora::{LoraConfig, Modules};

use crate::numbers::{positive, real};

/// Adapters in place of the whole model.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "LoRA")]
pub struct LoraArgs {
    /// Train adapters of rank N on the frozen model, saved as PEFT loads them; `pcrm merge` makes a full model of them
    #[arg(long, value_name = "N", conflicts_with = "random_init", value_parser = positive::<usize>)]
    lora_r: Option<usize>,
    /// Scale adapters by ALPHA / N [default: twice the rank]
    #[arg(long, value_name = "ALPHA", requires = "lora_r", value_parser = real)]
    lora_alpha: Option<f64>,
    /// Drop this share of an adapter's input in training [default: 0]
    #[arg(long, value_name = "P", requires = "lora_r", value_parser = real)]
    lora_dropout: Option<f64>,
    /// Put adapters on these modules: names or ends of names, one regular expression, or all-linear [default: as
    /// PEFT chooses for the family, queries and values]
    #[arg(long, value_name = "MODULE", requires = "lora_r", num_args = 1..)]
    lora_target_modules: Vec<String>,
    /// Train these modules whole and save them with the adapters; a reward model's head always is
    #[arg(long, value_name = "MODULE", requires = "lora_r", num_args = 1..)]
    lora_modules_to_save: Vec<String>,
    /// Scale adapters by ALPHA / sqrt(N) (rsLoRA)
    #[arg(long, requires = "lora_r")]
    use_rslora: bool,
}

impl LoraArgs {
    /// The configuration; none without a rank.
    pub fn config(&self) -> Option<LoraConfig> {
        let r = self.lora_r?;
        // A name is a list of one, as TRL has it; what no module is called is a pattern.
        let is_pattern = |text: &str| text == "all-linear" || text.contains(['*', '(', '\\', '|', '[']);
        let target_modules = match self.lora_target_modules.as_slice() {
            [] => None,
            [one] if is_pattern(one) => Some(Modules::Pattern(one.clone())),
            names => Some(Modules::List(names.to_vec())),
        };
        let saved = &self.lora_modules_to_save;
        Some(LoraConfig {
            r,
            lora_alpha: self.lora_alpha.unwrap_or(2.0 * r as f64),
            lora_dropout: self.lora_dropout.unwrap_or(0.0),
            use_rslora: self.use_rslora,
            target_modules,
            modules_to_save: (!saved.is_empty()).then(|| saved.clone()),
            ..LoraConfig::default()
        })
    }
}
