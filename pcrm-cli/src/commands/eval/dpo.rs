//! `pcrm eval dpo`: evaluates a policy by its implicit reward and measures its distance from the reference.

mod measured;
mod policy;
mod trained;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use pcrm_core::data::encode;
use pcrm_core::data::preference::Ties;
use pcrm_core::model::lora::peft::tokenizer_dir;
use pcrm_core::model::{LanguageModel, Loading, weights};
use pcrm_core::text::Tokenizer;
use pcrm_eval::{Bootstrap, Evaluation, LengthUnit, PairScore, RewardReport};
use pcrm_rl::loss::preference::PreferenceConfig;
use serde_json::Value;

use self::measured::measured;
use self::trained::PolicyTraining;
use super::items::own_lengths;
use crate::dataset::{Reading, all_positions, bounds, say_beyond_training, spare_inputs};
use crate::hub::{Hub, Weights};
use crate::left_out;
use crate::machine::Machine;
use crate::numbers::{positive, real, whole};
use crate::priors::priors;
use crate::progress::say;
use crate::quantize::QuantizeArgs;
use crate::report;
use crate::report::data::Source;
use crate::report::evaluation as page;
use crate::terminal;
use crate::usage::usage;
use crate::warnings::Warnings;

/// Options of `pcrm eval dpo`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, mut_arg("max_length", all_positions))]
pub struct EvalDpoArgs {
    /// Evaluate the policy in this folder or Hub repository (org/name)
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Evaluate on these preference files, folders or Hub data sets
    #[arg(long, value_name = "FILE", required = true, num_args = 1.., action = clap::ArgAction::Append)]
    data: Vec<PathBuf>,
    /// Compare the policy with the model in this folder, or with none [default: the reference it was trained
    /// with, from manifest.json in its folder]
    #[arg(long, value_name = "DIR|none")]
    reference: Option<String>,
    /// Compare margins with the bounds of this constraint [default: the one the policy was trained with]
    #[arg(long, value_name = "NAME|JSON|FILE")]
    constraint: Option<String>,
    /// Multiply log-ratios by B [default: the β of training, or 0.1]
    #[arg(long, value_name = "B", value_parser = real)]
    beta: Option<f64>,
    /// Draw N bootstrap samples of prompts for intervals; 0 for none
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = whole::<usize>)]
    bootstrap: usize,
    /// Write the report as JSON to this file
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the page with plots to this file [default: evaluation/report.html in the model's folder]
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Compute at most N tokens at once; the results do not depend on it
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = positive::<usize>)]
    micro_tokens: usize,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    hub: Hub,
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    storage: QuantizeArgs,
}

const EXAMPLES: &str = "\
Examples:
  pcrm eval dpo --model runs/dpo --data test.jsonl
  pcrm eval dpo --model runs/dpo --reference runs/sft --data test.jsonl --json > report.json";

/// Evaluates a policy.
///
/// # Errors
/// Fails if an option or a file is invalid; nothing is written then.
pub fn dpo(args: &EvalDpoArgs) -> Result<()> {
    usage(args.check())?;
    let mut warnings = Warnings::default();
    let backend = args.machine.open()?;
    let dir = args.hub.model_or_adapter("--model", &args.model, Weights::Read)?;
    let data = args.hub.data("--data", &args.data)?;
    args.output.iter().try_for_each(|output| spare_inputs("--output", output, &data))?;
    let at = || format!("--model {}", args.model.display());
    let trained = PolicyTraining::of(&dir)?;
    let config =
        PreferenceConfig { beta: args.beta.unwrap_or(trained.config.beta), ..trained.config.clone() };
    // The reference is quantised as the policy is.
    let quantise = args.storage.for_model(&dir);
    let load = |dir: &Path| -> Result<LanguageModel> {
        let how = Loading::frozen(backend.as_ref(), args.machine.dtype).quantised(quantise);
        let model = LanguageModel::load_as(dir, how)?;
        Ok(model.detached())
    };
    let reference_dir = args.reference_dir(&trained, &config)?;
    let model = load(&dir).with_context(at)?;
    let reference = match &reference_dir {
        Some(dir) => Some(load(dir).with_context(|| format!("--reference {}", dir.display()))?),
        None => None,
    };
    let tokenizer = Tokenizer::from_dir(&tokenizer_dir(&dir)?).with_context(at)?;
    let max_length = args.reading.scoring_length(model.config())?;
    let (rows, read) = args.reading.preferences(&data, Ties::Drop)?;
    let (sets, encoded) = args.reading.encode(&rows, &tokenizer, None, max_length)?;
    let left_out = [read.shortfall(), left_out::unencoded(&encoded, max_length)];
    left_out.into_iter().flatten().for_each(|text| warnings.add(text));
    let longest = sets.iter().flat_map(|set| set.answers.iter().map(|answer| answer.ids.len()));
    say_beyond_training(model.config(), longest);
    let constraint = trained.constraint(args.constraint.as_deref())?;
    let priors = priors(&args.machine, None)?;
    let bounds = bounds(constraint.as_ref(), &sets, &priors)?;
    let measured = measured(&config, &model, reference.as_ref(), &sets, args.micro_tokens)?;
    let mut evaluation = Evaluation::new(LengthUnit::Tokens);
    for ((pair, judged), bound) in encode::pairs(&sets).zip(&measured.judged).zip(&bounds) {
        let (chosen_tokens, rejected_tokens, similarity) = own_lengths(pair.chosen, pair.rejected);
        let score = PairScore {
            chosen: judged.rewards[0],
            rejected: judged.rewards[1],
            chosen_tokens,
            rejected_tokens,
            similarity: Some(similarity),
            bound: bound.is_finite().then_some(f64::from(*bound)),
            ..PairScore::default()
        };
        evaluation.add_pair(score, None, Some(pair.prompt_text).filter(|text| !text.is_empty()));
    }
    let bootstrap = Bootstrap { resamples: args.bootstrap, seed: args.machine.seed, ..Bootstrap::default() };
    let report = RewardReport::beside(&evaluation, &[], &bootstrap)?;
    let policy = measured.policy(&config, &sets);
    let mut json = serde_json::to_value(&report)?;
    if let Value::Object(fields) = &mut json {
        fields.insert("policy".into(), serde_json::to_value(&policy)?);
        fields.insert("constraint".into(), constraint.to_tagged()?);
        if !warnings.all().is_empty() {
            fields.insert("warnings".into(), warnings.all().into());
        }
    }
    let name = args.model.display().to_string();
    let path = args.report.clone().unwrap_or_else(|| dir.join("evaluation").join(report::FILE));
    let tagged = constraint.to_tagged()?;
    let document = page::document(&page::EvaluationPage {
        model: &name,
        others: &[],
        scores: None,
        constraint: Some(&tagged),
        report: &report,
        pairs: evaluation.pairs(),
        warnings: warnings.all(),
        sources: &[Source { role: "evaluation".to_owned(), read, encoded }],
    });
    let document = document.map(|document| policy.added(document));
    if report::write(&path, document) {
        say(&format!("report: {}", path.display()));
    }
    if let Some(path) = &args.output {
        weights::write_json(path, &json)?;
        say(&format!("report as JSON: {}", path.display()));
    }
    match args.json {
        true => terminal::result(&(serde_json::to_string_pretty(&json)? + "\n")),
        false => {
            let table = format!("{}{}{}", warnings.paragraphs(), report.table(&[&name]), policy.table());
            terminal::result(&table)
        }
    }
}

impl EvalDpoArgs {
    /// Checks the options that can be checked without a model or data.
    fn check(&self) -> Result<()> {
        self.reading.check()?;
        if let Some(beta) = self.beta {
            ensure!(
                beta > 0.0 && beta.is_finite(),
                "--beta {beta}: expected a positive number; a β of 0 or below gives other preferences than the \
                 policy has"
            );
        }
        if let Some(constraint) = &self.constraint {
            crate::constraint::read(constraint)?;
        }
        Ok(())
    }

    /// Returns the folder of the reference, or `None` for no reference.
    fn reference_dir(&self, trained: &PolicyTraining, config: &PreferenceConfig) -> Result<Option<PathBuf>> {
        match self.reference.as_deref() {
            Some("none") => Ok(None),
            Some(named) => {
                Ok(Some(self.hub.model_or_adapter("--reference", &PathBuf::from(named), Weights::Read)?))
            }
            None if config.is_without_reference() => Ok(None),
            None => match &trained.reference {
                Some(dir) => {
                    say(&format!("reference: {}, as in training", dir.display()));
                    Ok(Some(dir.clone()))
                }
                None => bail!(
                    "--reference: {} does not record its reference; expected the folder of the reference, or \
                     none",
                    self.model.display()
                ),
            },
        }
    }
}
