//! `pcrm eval reward`: evaluates a reward model from its weights or from scores in a file.

mod cache;
mod columns;
mod comparisons;
mod dpo;
mod fields;
mod given;
mod items;
mod scoring;
mod sets;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use pcrm_core::model::weights;
use pcrm_eval::interval::{LEVEL, fewest_draws};
use pcrm_eval::{Bootstrap, LengthUnit, RewardReport};
use serde_json::Value;

use self::cache::{ScoreCache, users_folder};
pub use self::comparisons::{EvalComparisonsArgs, comparisons};
pub use self::dpo::{EvalDpoArgs, dpo};
use self::fields::Fields;
use self::items::{Item, evaluation, in_common_of_all};
use self::scoring::{Rows, Scorer, Scoring, constraint_of};
use crate::dataset::Reading;
use crate::hub::{Hub, Weights};
use crate::left_out;
use crate::machine::Machine;
use crate::numbers::{positive, whole};
use crate::priors::priors;
use crate::progress::say;
use crate::quantize::QuantizeArgs;
use crate::report;
use crate::report::data::Source;
use crate::report::evaluation as page;
use crate::terminal;
use crate::usage::usage;
use crate::warnings::Warnings;

/// Subcommands of `pcrm eval`.
#[derive(Debug, Subcommand)]
pub enum EvalVerb {
    /// Evaluate reward models: accuracy, calibration, bias, agreement with people, benchmarks, comparisons
    Reward(Box<EvalRewardArgs>),
    /// Evaluate a policy by its implicit reward: accuracy, calibration, length, KL to its reference
    Dpo(Box<EvalDpoArgs>),
    /// Merge comparisons made by `pcrm compare`: more seeds, other data
    Comparisons(EvalComparisonsArgs),
}

/// Options of `pcrm eval reward`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct EvalRewardArgs {
    /// Evaluate the reward model in this folder or Hub repository (org/name)
    #[arg(long, value_name = "DIR", required_unless_present = "scores", requires = "data")]
    model: Option<PathBuf>,
    /// Evaluate on these files, folders or Hub data sets (org/name, org/name:split): preference pairs,
    /// several answers to a prompt (chosen and rejected lists; responses with scores or ranks), or single
    /// answers with human scores (--human-field)
    #[arg(long, value_name = "FILE", num_args = 1.., action = clap::ArgAction::Append)]
    data: Vec<PathBuf>,
    /// Evaluate the scores in this JSONL file instead of a model
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "data", "constraint"])]
    scores: Option<PathBuf>,
    /// Compare with the models in these folders or the scores in these files, on the rows they share
    #[arg(long, value_name = "DIR|FILE", num_args = 1.., action = clap::ArgAction::Append)]
    compare: Vec<PathBuf>,
    /// Compare margins with the bounds of this constraint (a name, JSON, or a JSON file) [default: the one
    /// the model was trained with]
    #[arg(long, value_name = "NAME|JSON|FILE")]
    constraint: Option<String>,
    /// Draw N bootstrap samples of prompts for intervals and p-values; 0 for none (95 % intervals need at
    /// least 39)
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = whole::<usize>)]
    bootstrap: usize,
    /// Keep scores in this folder [default: pcrm/scores in the user's cache folder]
    #[arg(long, value_name = "DIR", conflicts_with = "no_cache")]
    cache: Option<PathBuf>,
    /// Disable the score cache
    #[arg(long)]
    no_cache: bool,
    /// Write the report as JSON to this file
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the page with plots to this file [default: evaluation/DATA/report.html in the model's folder;
    /// with --compare evaluation/DATA-against-OTHER/report.html]
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Write no page
    #[arg(long, conflicts_with = "report")]
    no_report: bool,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Compute at most N tokens at once; the scores do not depend on it
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = positive::<usize>)]
    micro_tokens: usize,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    fields: Fields,
    #[command(flatten)]
    storage: QuantizeArgs,
    #[command(flatten)]
    hub: Hub,
    #[command(flatten)]
    machine: Machine,
}

const EXAMPLES: &str = "\
Examples:
  pcrm eval reward --model runs/rm --data test.jsonl
  pcrm eval reward --model runs/rm --data test.jsonl --compare runs/baseline --output report.json
  pcrm eval reward --model runs/bt --data test.jsonl --compare runs/fixed runs/calibrated
  pcrm eval reward --model runs/rm --data reward-bench-2.jsonl --max-length 4096
  pcrm eval reward --model runs/rm --data ratings.json --human-field /scores/overall
  pcrm eval reward --scores scored.jsonl --subset-field domain --json > report.json

Rows of --scores files have one of
  score_chosen, score_rejected (or chosen_score, rejected_score, as pcrm score writes): numbers, or lists
  scores: [..] with num_correct (the first are right), human scores, or for two answers label: A>B or B>A
  score with a human score and a prompt, one answer a row";

/// Evaluates a reward model.
///
/// # Errors
/// Fails if an option or a file is invalid; nothing is written then.
pub fn reward(args: &EvalRewardArgs) -> Result<()> {
    usage(args.check())?;
    args.warn_of_few_draws();
    let mut warnings = Warnings::default();
    let (first, others) = match (&args.scores, &args.model) {
        (Some(scores), _) => {
            let first = Scored::given(scores, &args.fields, &mut warnings)?;
            let others = args.compare.iter().map(|other| {
                ensure!(
                    !other.is_dir(),
                    "--compare {}: is a folder; expected a file of scores, as with --scores",
                    other.display()
                );
                Scored::given(other, &args.others_fields(), &mut warnings)
            });
            (first, others.collect::<Result<Vec<_>>>()?)
        }
        (None, Some(model)) => {
            let data = args.hub.data("--data", &args.data)?;
            let scoring = args.scoring(&data)?;
            // Refuse a misspelt folder before the first model scores for hours.
            let others = args.compare.iter().filter(|other| !other.is_file()).map(|dir| ("--compare", dir));
            for (option, dir) in std::iter::once(("--model", model)).chain(others) {
                args.hub.model_or_adapter(option, dir, Weights::Read)?;
            }
            let rows = scoring.read(&mut warnings)?;
            let first = args.by_model(("--model", model), &scoring, &rows, &mut warnings)?;
            let others = args.compare.iter().map(|other| match other.is_dir() {
                false if other.is_file() => Scored::given(other, &args.others_fields(), &mut warnings),
                _ => args.by_model(("--compare", other), &scoring, &rows, &mut warnings),
            });
            (first, others.collect::<Result<Vec<_>>>()?)
        }
        // clap requires one of them.
        (None, None) => anyhow::bail!("expected --model DIR and --data FILE, or --scores FILE"),
    };
    let (constraint, sources) = (first.constraint.clone(), first.sources.clone());
    let bootstrap = Bootstrap { resamples: args.bootstrap, seed: args.machine.seed, ..Bootstrap::default() };
    let (before, unit) = (first.items.len(), first.unit);
    let units: Vec<LengthUnit> = others.iter().map(|other| other.unit).collect();
    let (ours, theirs) =
        in_common_of_all(first.items, others.into_iter().map(|other| other.items).collect())?;
    if ours.len() < before {
        say(&format!("compared on the {} of {before} rows in common", ours.len()));
    }
    let ours = evaluation(&ours, unit)?;
    let theirs = theirs.iter().zip(units).map(|(items, unit)| evaluation(items, unit));
    let report = RewardReport::beside(&ours, &theirs.collect::<Result<Vec<_>>>()?, &bootstrap)?;
    let (name, other_names) = args.names();
    if let Some(path) = args.page() {
        let page = page::Evaluation {
            model: &name,
            others: &other_names,
            scores: args.scores.as_deref(),
            constraint: constraint.as_ref(),
            report: &report,
            pairs: ours.pairs(),
            warnings: warnings.all(),
            sources: &sources,
        };
        let earlier = fs::read(&path).ok();
        if report::write(&path, page::document(&page)) {
            let replaced = earlier.is_some() && fs::read(&path).ok() != earlier;
            let note = if replaced { " (replaces an earlier report)" } else { "" };
            say(&format!("report: {}{note}", path.display()));
        }
    }
    let mut json = serde_json::to_value(&report)?;
    if let (Value::Object(fields), Some(constraint)) = (&mut json, constraint) {
        fields.insert("constraint".into(), constraint);
    }
    if let (Value::Object(fields), false) = (&mut json, warnings.all().is_empty()) {
        fields.insert("warnings".into(), warnings.all().into());
    }
    if let Some(path) = &args.output {
        weights::write_json(path, &json)?;
        say(&format!("report as JSON: {}", path.display()));
    }
    match args.json {
        true => terminal::result(&(serde_json::to_string_pretty(&json)? + "\n")),
        false => {
            let names = std::iter::once(&name).chain(&other_names).map(String::as_str);
            let table = report.table(&names.collect::<Vec<_>>());
            terminal::result(&format!("{}{table}", warnings.paragraphs()))
        }
    }
}

/// The rows scored by one model.
struct Scored {
    items: Vec<Item>,
    unit: LengthUnit,
    constraint: Option<Value>,
    sources: Vec<Source>,
}

impl Scored {
    fn given(path: &Path, fields: &Fields, warnings: &mut Warnings) -> Result<Self> {
        let given = given::read(path, fields)?;
        say(&format!("{} rows with scores from {}", given.items.len(), path.display()));
        let rows = given.items.len() + given.left_out;
        match left_out::share(given.left_out, rows) {
            Some(share) => warnings.add(format!(
                "{} of {rows} rows ({share}) of {} have no score, since pcrm score left them out",
                given.left_out,
                path.display()
            )),
            None if given.left_out > 0 => say(&format!("{} rows have no score", given.left_out)),
            None => {}
        }
        Ok(Self { items: given.items, unit: given.unit, constraint: None, sources: Vec::new() })
    }
}

impl EvalRewardArgs {
    fn scoring<'a>(&'a self, data: &'a [PathBuf]) -> Result<Scoring<'a>> {
        Ok(Scoring {
            data,
            reading: &self.reading,
            fields: &self.fields,
            micro_tokens: self.micro_tokens,
            priors: priors(&self.machine, None)?,
        })
    }

    fn others_fields(&self) -> Fields {
        let own = self.fields.compare_score_field.clone();
        Fields { score_field: own.or(self.fields.score_field.clone()), ..self.fields.clone() }
    }

    /// Warns that too few bootstrap samples give no interval.
    fn warn_of_few_draws(&self) {
        let least = fewest_draws(LEVEL);
        if (1..least).contains(&self.bootstrap) {
            say(&format!(
                "warning: --bootstrap {}: too few draws for intervals and p-values; expected at least \
                 {least}, or 0",
                self.bootstrap
            ));
        }
    }

    /// Returns the names of the model and of those it is compared with: their paths, or the score fields if
    /// several models' scores are in one file.
    fn names(&self) -> (String, Vec<String>) {
        let name = |path: &Path, field: Option<&String>| match field {
            Some(field) => field.rsplit('/').next().unwrap_or(field).to_owned(),
            None => path.display().to_string(),
        };
        let own = match &self.scores {
            Some(scores) => name(scores, self.fields.score_field.as_ref()),
            None => self.model.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
        };
        let field = self.others_fields().score_field;
        let others = self.compare.iter().map(|path| name(path, field.as_ref().filter(|_| path.is_file())));
        (own, others.collect())
    }

    /// Returns the path of the page: a folder per data set or comparison, inside the model's folder or the
    /// current one.
    fn page(&self) -> Option<PathBuf> {
        if self.no_report {
            return None;
        }
        if let Some(path) = &self.report {
            return Some(path.clone());
        }
        let (of, data) = match (&self.scores, &self.model) {
            (None, Some(model)) if model.is_dir() => (model.join("evaluation"), &self.data[..]),
            (None, Some(model)) => {
                (Path::new("evaluation").join(model.display().to_string().replace('/', "--")), &self.data[..])
            }
            (scores, _) => (PathBuf::from("evaluation"), scores.as_slice()),
        };
        let mut folder = folder_name(data);
        if !self.compare.is_empty() {
            let other = |name: &String| name.trim_end_matches('/').rsplit('/').next().map(str::to_owned);
            let others: Vec<String> = self.names().1.iter().filter_map(other).collect();
            folder.push_str(&format!(
                "-against-{}",
                folder_name(&others.iter().map(PathBuf::from).collect::<Vec<_>>())
            ));
        }
        Some(of.join(folder).join(report::FILE))
    }

    /// Checks the options that need no file.
    fn check(&self) -> Result<()> {
        self.reading.check()?;
        if let Some(constraint) = &self.constraint {
            crate::constraint::read(constraint)?;
        }
        Ok(())
    }

    fn by_model(
        &self,
        (option, model): (&str, &Path),
        scoring: &Scoring<'_>,
        rows: &Rows,
        warnings: &mut Warnings,
    ) -> Result<Scored> {
        let backend = self.machine.open()?;
        let dir = &*self.hub.model_or_adapter(option, model, Weights::Read)?;
        let quantise = self.storage.for_model(dir);
        let (model, tokenizer) = self.machine.trained(backend.as_ref(), dir, quantise)?;
        let (constraint, whose) = constraint_of(&model, self.constraint.as_deref())?;
        let cache = match (&self.cache, self.no_cache) {
            (_, true) => ScoreCache::default(),
            (Some(folder), _) => ScoreCache::open(folder, dir, &self.machine, quantise)?,
            (None, _) => ScoreCache::open(&users_folder()?, dir, &self.machine, quantise)?,
        };
        let tagged = constraint.to_tagged()?;
        let mut scorer = Scorer { model, tokenizer, constraint, whose, cache };
        let (items, sources) = scoring.score(rows, &mut scorer, warnings)?;
        Ok(Scored { items, unit: LengthUnit::Tokens, constraint: Some(tagged), sources })
    }
}

/// Returns the name of data: their files' names without extensions.
fn folder_name(data: &[PathBuf]) -> String {
    let name = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let kinds = [".gz", ".zst", ".jsonl", ".json", ".parquet"];
        kinds.iter().fold(name, |name, kind| name.strip_suffix(kind).unwrap_or(&name).to_owned())
    };
    let mut folder = data.iter().take(3).map(name).collect::<Vec<_>>().join("+");
    if data.len() > 3 {
        folder.push_str(&format!("+{}", data.len() - 3));
    }
    folder
}
