//! `pcrm calibrate`: fits constraints to measured win rates.

mod agreement;
mod forms;
mod judges;
mod page;
mod result;
mod show;
mod temperature;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use pcrm_core::disk::whole::{folder_of, sweep};
use pcrm_core::model::{ModelConfig, weights};
use pcrm_core::text::Tokenizer;
use pcrm_rl::crossfit::fit;

use self::forms::FitCandidate;
use self::judges::Judges;
use self::result::{Calibrated, Calibrations};
use crate::dataset::padding;
use crate::priors::priors;
use crate::progress::say;
use crate::record::column;
use crate::training::{Encoded, TrainingArgs};
use crate::usage::usage;
use crate::{report, terminal};

/// Options of `pcrm calibrate`.
#[derive(Debug, Args)]
#[command(
    after_long_help = EXAMPLES,
    mut_arg("model", |arg| arg.help(MODEL)),
    mut_arg("data", |arg| arg.help(DATA)),
    mut_arg("eval_split", |arg| arg.help(EVAL_SPLIT))
)]
pub struct CalibrateArgs {
    /// Constraint to fit: one with a similarity and beta1, beta2, beta3, or an unfitted form; a name, JSON or
    /// a JSON file
    #[arg(long, value_name = "NAME|JSON|FILE", default_value = "length_ratio", action = clap::ArgAction::Append)]
    constraint: Vec<String>,
    /// Fit a temperature instead of a constraint: divide the head of the reward model --model by a number
    /// fitted to --data, which the model must not have been trained on, and write the model to the folder
    /// --output
    #[arg(long, conflicts_with_all = ["constraint", "judge", "agreement_field", "beta2"])]
    temperature: bool,
    /// Write the fitted constraint to this JSON file, for use with --constraint; with several constraints, a
    /// folder for one file each
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Write a page with plots to this folder
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    evidence: EvidenceArgs,
    #[command(flatten)]
    training: TrainingArgs,
}

const MODEL: &str = "\
Train judges from the model in this Hugging Face folder or Hub repository (org/name): a language model, which gets a \
score head, or a reward model; with --temperature, scale this reward model";
const DATA: &str = "\
Fit to these preference files and folders (JSONL or JSON, plain, gzip or zstd, or Parquet) or Hub data sets \
(org/name, org/name:split)";
const EVAL_SPLIT: &str = "\
Leave out this share of the prompts of --data: those that `pcrm reward` holds out with the same share and --seed";

/// The default number of parts of the prompts.
const FOLDS: usize = 5;
/// The default number of bootstrap samples.
const BOOTSTRAP: usize = 1000;
/// The default confidence level.
const LEVEL: f64 = 0.95;

/// The source of evidence and its weighting.
#[derive(Debug, Args)]
#[command(next_help_heading = "Evidence")]
struct EvidenceArgs {
    /// Judge all pairs with this trained reward model instead of cross-fitted ones; it must not have been
    /// trained on them
    #[arg(long, value_name = "DIR", conflicts_with = "agreement_field")]
    judge: Option<PathBuf>,
    /// Read the share of annotators (0 to 1) who prefer the chosen answer from this column or JSON pointer,
    /// instead of using judges
    #[arg(long, value_name = "COLUMN")]
    agreement_field: Option<String>,
    /// Set β2 of the curves: a number above 0, or `fitted` to fit it with the others (small: bounds rise
    /// steeply where s is near 0; large: bounds are nearly linear in s) [default: the constraint's own]
    #[arg(long, value_name = "X|fitted")]
    beta2: Option<String>,
    /// Split the prompts into N parts: judges of a part, and curves evaluated on it, are fitted on the other
    /// parts
    #[arg(long, value_name = "N", default_value_t = FOLDS)]
    folds: usize,
    /// Draw N bootstrap samples of prompts
    #[arg(long, value_name = "N", default_value_t = BOOTSTRAP)]
    bootstrap: usize,
    /// Set the confidence level of intervals
    #[arg(long, value_name = "P", default_value_t = LEVEL)]
    level: f64,
}

const EXAMPLES: &str = "\
A bound limits the confidence in a pair: P(chosen is better) = σ(Δ*/2). Judges that were not trained on a pair \
estimate how often its chosen answer wins; β1 and β3 of Δ* = β1/(s + β2) + β3 maximise the likelihood of these \
estimates.

Examples:
  pcrm calibrate --model qwen2 --data train.jsonl --epochs 2 --output bound.json --report runs/calibration
  pcrm reward --model qwen2 --data train.jsonl --epochs 2 --constraint bound.json --output runs/rm
  pcrm calibrate --model qwen2 --data train.jsonl --constraint length_ratio --constraint cosine --output bounds
  pcrm calibrate --model qwen2 --data votes.jsonl --agreement-field agreement --output bound.json
  pcrm calibrate --temperature --model runs/rm --data held-out.jsonl --output runs/rm-scaled
  pcrm calibrate --model qwen2 --data train.jsonl --judge runs/other --constraint edit --beta2 fitted \
   --output bound.json";

/// Gathers evidence, fits constraints, and prints and writes the results.
///
/// # Errors
/// Fails if an option, a file or the fit is invalid; no constraint is written then.
pub fn run(args: &CalibrateArgs) -> Result<()> {
    let evidence = &args.evidence;
    usage(args.check())?;
    if args.temperature {
        return temperature::run(args);
    }
    let options = args.training.options()?;
    let mut forms = usage(FitCandidate::of_all(&args.constraint, evidence))?;
    usage(args.check_output(&forms))?;
    let mut training = args.training.fetched()?;
    training.reading.columns.elsewhere.extend(evidence.agreement_field.as_deref().map(column));
    let training = &training;
    let at = || format!("--model {}", training.model.display());
    let model = ModelConfig::from_dir(&training.model).with_context(at)?;
    let max_length = usage(training.reading.training_length(&model))?;
    let tokenizer = Tokenizer::from_dir(&training.model).with_context(at)?;
    let pad = padding(&model, &tokenizer);
    let Encoded { train: sets, sources, warnings, .. } = training.encoded(&tokenizer, pad, max_length)?;
    let judges = Judges { training, evidence, options: &options, tokenizer: &tokenizer };
    let (judges, sets, wins) = judges.wins(sets)?;
    let priors = priors(&training.machine, (!training.random_init).then_some(&training.model))?;
    for form in &mut forms {
        form.unfitted.settle(&priors).with_context(|| format!("--constraint {}", form.name))?;
    }
    let folder = if forms.len() == 1 { folder_of(&args.output) } else { &args.output };
    sweep(folder)?;
    let mut constraints = Vec::new();
    for form in &forms {
        let fitted = fit(form.unfitted.as_ref(), &sets, &wins, &judges, &priors)
            .with_context(|| format!("--constraint {}", form.name))?;
        constraints.push(Calibrated::new(form, fitted, args.file(form, &forms))?);
    }
    for one in &constraints {
        weights::write_json(&one.file, &one.fitted)?;
    }
    let all = Calibrations::new(judges, &sets, constraints)?;
    if let Some(dir) = &args.report {
        let path = dir.join(report::FILE);
        if report::write(&path, Ok(page::document(&all, &sources))) {
            say(&format!("report: {}", path.display()));
        }
    }
    match args.json {
        true => terminal::result(&(serde_json::to_string_pretty(&all)? + "\n"))?,
        false => terminal::result(&show::text(&all))?,
    }
    warnings.repeat();
    Ok(())
}

impl CalibrateArgs {
    /// Checks the options that can be checked without data.
    fn check(&self) -> Result<()> {
        let folds = self.evidence.folds;
        ensure!((2..=1000).contains(&folds), "--folds {folds}: expected 2 to 1000");
        forms::check(&self.evidence)?;
        ensure!(
            self.training.eval_data.is_empty(),
            "--eval-data: has no effect, as nothing is evaluated; --eval-split leaves out the prompts that pcrm \
             reward holds out"
        );
        let waits = ("collective-timeout", true);
        ensure!(
            !self.training.steps.processes.changed().contains(&waits),
            "--collective-timeout has no effect: judges are trained by one process"
        );
        ensure!(
            !(self.temperature && self.training.eval_split.is_some()),
            "--eval-split: --temperature fits to all of --data, which the model must not have been trained on"
        );
        let untrained = [
            (self.temperature, "--temperature"),
            (self.evidence.judge.is_some(), "--judge"),
            (self.evidence.agreement_field.is_some(), "--agreement-field"),
        ];
        match untrained.iter().find(|(given, _)| *given) {
            Some((_, by)) => self.training.trains_nothing(by),
            None => Ok(()),
        }
    }

    /// Refuses a file for the constraints of several forms, and a folder for a single one.
    fn check_output(&self, forms: &[FitCandidate]) -> Result<()> {
        let output = self.output.display();
        ensure!(
            forms.len() == 1 || !self.output.is_file(),
            "--output {output}: is a file; expected a folder for several constraints"
        );
        ensure!(
            forms.len() > 1 || !self.output.is_dir(),
            "--output {output}: is a folder; expected a file for the constraint"
        );
        Ok(())
    }

    /// Returns the path that a form's constraint is written to.
    fn file(&self, form: &FitCandidate, forms: &[FitCandidate]) -> PathBuf {
        match forms.len() {
            1 => self.output.clone(),
            _ => self.output.join(format!("{}.json", form.name)),
        }
    }
}
