//! `pcrm merge`: merges a PEFT adapter into its base model.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use pcrm_core::disk::FolderLock;
use pcrm_core::disk::whole::sweep_own;
use pcrm_core::model::lora::peft::AdapterFolder;
use pcrm_core::model::{LanguageModel, Loading, ModelConfig, RewardModel};
use pcrm_core::quant::Quantisation;
use pcrm_core::registry::{self, BackendPlugin};
use pcrm_core::text::{Tokenizer, tokenizer};
use pcrm_core::{DType, Device};
use pcrm_rl::manifest;
use pcrm_rl::score_range::ScoreRange;
use serde_json::Value;

use crate::hub::Weights;
use crate::plugins;
use crate::progress::say;
use crate::revision::RevisionArgs;
use crate::usage::usage;

/// Options of `pcrm merge`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct MergeArgs {
    /// Merge the PEFT adapter (LoRA) in this folder, of a reward model or a language model
    #[arg(value_name = "ADAPTER")]
    adapter: PathBuf,
    /// Merge into the model in this folder or Hub repository (org/name) [default: the base named in
    /// adapter_config.json]
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// Write the full model and its tokenizer to this folder
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Merge into the weights that the base has once it is quantised to nf4, nf4-double or int8: the merged model
    /// of an adapter that was trained with --quantize then scores as in training [default: the base's own weights]
    #[arg(long, value_name = "TYPE")]
    quantize: Option<Quantisation>,
    #[command(flatten)]
    revision: RevisionArgs,
}

const EXAMPLES: &str = "\
Examples:
  pcrm merge runs/adapter --output runs/merged
  pcrm merge runs/adapter --base models/qwen2 --output runs/merged \
   && pcrm score --model runs/merged --data pairs.jsonl
  pcrm merge runs/qlora --quantize nf4 --output runs/merged    # scores as in training";

/// Merges the adapter.
///
/// # Errors
/// Fails if the output folder already holds a model, the folder is not an adapter, or the base is missing or
/// does not fit.
pub fn run(args: &MergeArgs) -> Result<()> {
    usage(args.check())?;
    let at = || args.adapter.display().to_string();
    let folder = AdapterFolder::open(&args.adapter).with_context(at)?;
    let base = args.base_dir(&folder)?;
    let plugin = registry::find::<BackendPlugin>(plugins::DEFAULT_BACKEND)?;
    let backend = (plugin.open)(Device::Cpu.into())?;
    let how = Loading::masters(backend.as_ref(), DType::F32);
    let how = match args.quantize {
        Some(method) => how.quantised(Some(method)),
        None => how.dequantised(),
    };
    let reward = folder.is_reward()?;
    let held = FolderLock::take(&args.output).context("--output")?;
    args.check_output(held.was_left())?;
    sweep_own(&args.output)?;
    let of_tokenizer =
        [args.adapter.as_path(), &base].into_iter().find(|dir| dir.join(tokenizer::TOKENIZER).exists());
    match of_tokenizer {
        // The model's config.json, which an adapter lacks, decides the tokenizer class.
        Some(dir) if dir == base => Tokenizer::from_dir(dir)?.save_to(&args.output)?,
        Some(dir) => tokenizer::copy_files(dir, &args.output)?,
        None => say("neither the adapter nor its base has a tokenizer; none is written"),
    }
    // Written after the tokenizer: a folder with a model counts as complete.
    let trained = manifest::quantisation(&args.adapter);
    match reward {
        true => {
            let model = RewardModel::load_adapter(&args.adapter, Some(&base), how, 0)?;
            let differs = args.note_types(trained, model.config());
            let model = model.merged()?;
            match differs {
                true => model.with_config(without_range).save(&args.output)?,
                false => model.save(&args.output)?,
            }
        }
        false => {
            let model = LanguageModel::load_adapter(&args.adapter, Some(&base), how, 0)?;
            args.note_types(trained, model.config());
            model.merged()?.save(&args.output)?;
        }
    }
    held.still_there().context("--output")?;
    let kind = if reward { "reward model" } else { "language model" };
    say(&format!("{}: a {kind} merged with its base {}", args.output.display(), base.display()));
    Ok(())
}

impl MergeArgs {
    fn check(&self) -> Result<()> {
        ensure!(
            AdapterFolder::is_one(&self.adapter),
            "{}: has no adapter_config.json; expected the folder of a PEFT adapter",
            self.adapter.display()
        );
        self.check_output(true)
    }

    /// Refuses a folder that holds a model. `unfinished` is true if a killed merge left weights without a
    /// config there.
    fn check_output(&self, unfinished: bool) -> Result<()> {
        let names: &[&str] = match unfinished {
            true => &["config.json", "adapter_config.json"],
            false => &["config.json", "adapter_config.json", "model.safetensors"],
        };
        let taken = names.iter().find(|name| self.output.join(name).exists());
        ensure!(taken.is_none(), "--output {}: already holds a model", self.output.display());
        Ok(())
    }

    /// Reports that the base's weights are not those that the adapter was trained on, and returns true if so. `base` is
    /// the config of the base, with the adapter's notes.
    fn note_types(&self, trained: Option<Quantisation>, base: &ModelConfig) -> bool {
        let into = base.quantised.or(self.quantize);
        // Without pcrm's notes, the type that the adapter was trained on is unknown.
        let is_known = trained.is_some() || (base.quantised.is_none() && base.raw.contains_key("pcrm"));
        if !is_known || trained == into {
            return false;
        }
        let named = |method: Option<Quantisation>| match method {
            Some(method) => format!("a base quantised to {method}"),
            None => "a float base".to_owned(),
        };
        let hint = match trained {
            Some(method) if base.quantised.is_none() => {
                format!("; --quantize {method} merges it into the weights of training")
            }
            _ => String::new(),
        };
        say(&format!(
            "the adapter was trained on {} and is merged into {}, so the merged model scores and samples \
             differently{hint}",
            named(trained),
            named(into)
        ));
        true
    }

    /// Returns the folder of the base: the one given by the option, else the one named by the adapter.
    fn base_dir(&self, folder: &AdapterFolder) -> Result<PathBuf> {
        if let Some(base) = &self.base {
            return self.revision.hub().model("--base", base, Weights::Read);
        }
        match folder.base() {
            Ok(base) => Ok(base),
            // Not a local path, so a Hub repository.
            Err(_) => {
                let hub = self.revision.hub().or_revision(folder.base_revision());
                hub.model("base_model_name_or_path", Path::new(folder.base_name()?), Weights::Read)
            }
        }
    }
}

/// Removes the noted range of scores, which is of other weights.
fn without_range(config: &mut ModelConfig) {
    if let Some(notes) = config.raw.get_mut("pcrm").and_then(Value::as_object_mut) {
        ScoreRange::drop_noted(notes);
    }
}
