//! The options of LoRA, shared by every training command.

use std::path::Path;

use clap::Args;
use pcrm_core::DType;
use pcrm_core::model::lora::{LoraConfig, Modules};
use pcrm_core::quant::Quantisation;
use pcrm_rl::manifest;

use crate::numbers::{positive, real};
use crate::quantize::QuantizeArgs;

/// Options for training adapters instead of the whole model.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "LoRA")]
pub struct LoraArgs {
    /// Train adapters of rank N on the frozen model (with --quantize: QLoRA), saved in PEFT's format; `pcrm
    /// merge` merges them into a full model
    #[arg(long, value_name = "N", value_parser = positive::<usize>)]
    lora_r: Option<usize>,
    /// Scale adapters by ALPHA / N [default: twice the rank]
    #[arg(long, value_name = "ALPHA", requires = "lora_r", value_parser = real)]
    lora_alpha: Option<f64>,
    /// Drop out this share of an adapter's input in training [default: 0]
    #[arg(long, value_name = "P", requires = "lora_r", value_parser = real)]
    lora_dropout: Option<f64>,
    /// Put adapters on these modules: names or name endings, one regular expression, or all-linear [default:
    /// PEFT's choice for the family, queries and values]
    #[arg(long, value_name = "MODULE", requires = "lora_r", num_args = 1..)]
    lora_target_modules: Vec<String>,
    /// Also train these modules in full and save them with the adapters; a reward model's head is always
    /// included
    #[arg(long, value_name = "MODULE", requires = "lora_r", num_args = 1..)]
    lora_modules_to_save: Vec<String>,
    /// Train an embedding of --lora-modules-to-save and the language-model head as one; for models that have one
    /// matrix for both
    #[arg(long, requires = "lora_r")]
    lora_ensure_weight_tying: bool,
    /// Scale adapters by ALPHA / sqrt(N) (rsLoRA); not for adapters of experts, which PEFT scales in another way
    #[arg(long, requires = "lora_r")]
    use_rslora: bool,
    #[command(flatten)]
    base: QuantizeArgs,
}

impl LoraArgs {
    /// Returns the options that matter in training only, each with whether it is given; all others need the rank.
    pub(super) fn changed(&self) -> Vec<(&'static str, bool)> {
        vec![("lora-r", self.lora_r.is_some()), ("quantize", self.base.is_given())]
    }

    /// Returns the quantisation of the frozen base. By default an adapter that is trained further keeps the
    /// one of its training so far.
    pub fn quantise(&self, model: &Path) -> Option<Quantisation> {
        self.base.given_or(|| manifest::quantisation(model))
    }

    /// Returns the types of the computation and, if it is quantised, of the frozen base.
    pub fn types(&self, dtype: DType, model: &Path) -> String {
        match self.quantise(model) {
            Some(method) => format!("{dtype}, the frozen base quantised to {method}"),
            None => dtype.to_string(),
        }
    }

    /// Returns the configuration, or `None` without a rank.
    pub fn config(&self) -> Option<LoraConfig> {
        let r = self.lora_r?;
        // A single name is a list of one, as in TRL; characters that no module name contains mark a pattern.
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
            ensure_weight_tying: self.lora_ensure_weight_tying,
            ..LoraConfig::default()
        })
    }
}
