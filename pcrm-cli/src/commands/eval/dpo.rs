//! `pcrm eval dpo`: evaluates a policy by its implicit reward and measures its distance from the reference.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use pcrm_core::constraint::{self, Constraint};
use pcrm_core::data::encode::{self, EncodedSet};
use pcrm_core::data::preference::Ties;
use pcrm_core::model::lora::peft::AdapterFolder;
use pcrm_core::model::{LanguageModel, Loading, weights};
use pcrm_core::text::Tokenizer;
use pcrm_core::tree::within_budget;
use pcrm_eval::{Bootstrap, Evaluation, LengthUnit, PairScore, RewardReport};
use pcrm_rl::answers::predicted;
use pcrm_rl::loss::preference::{Answer, Judged, Pair, PreferenceConfig};
use pcrm_rl::reference::{next_token_kl, token_log_probs};
use serde::Serialize;
use serde_json::{Map, Value};

use super::items::own_lengths;
use crate::dataset::{Reading, bounds, say_beyond_training};
use crate::hub::{Hub, Weights};
use crate::left_out;
use crate::machine::Machine;
use crate::numbers::{positive, real, whole};
use crate::priors::priors;
use crate::progress::{bar, say};
use crate::quantize::QuantizeArgs;
use crate::report;
use crate::report::data::Source;
use crate::report::evaluation as page;
use crate::terminal;
use crate::training::policy;
use crate::warnings::Warnings;

/// Options of `pcrm eval dpo`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
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
    storage: QuantizeArgs,
    #[command(flatten)]
    hub: Hub,
    #[command(flatten)]
    machine: Machine,
}

const EXAMPLES: &str = "\
Examples:
  pcrm eval dpo --model runs/dpo --data test.jsonl
  pcrm eval dpo --model runs/dpo --reference runs/sft --data test.jsonl --json > report.json";

/// Statistics of the policy and its reference: means over the answers of the data and over their tokens.
#[derive(Debug, Serialize)]
struct Policy {
    /// β
    beta: f64,
    /// KL(π ‖ π_ref) of the next token over all answer tokens, in nats per token; `None` without a reference.
    kl_per_token: Option<f64>,
    /// The same over tokens of preferred answers.
    kl_per_token_chosen: Option<f64>,
    /// The same over tokens of other answers.
    kl_per_token_rejected: Option<f64>,
    /// ln π of preferred answers.
    logps_chosen: f64,
    /// ln π of other answers.
    logps_rejected: f64,
    /// The implicit reward of preferred answers.
    rewards_chosen: f64,
    /// The implicit reward of other answers.
    rewards_rejected: f64,
    /// Tokens of preferred answers, including the end token.
    tokens_chosen: f64,
    /// Tokens of other answers.
    tokens_rejected: f64,
}

/// Evaluates a policy.
///
/// # Errors
/// Fails if an option or a file is invalid; nothing is written then.
pub fn dpo(args: &EvalDpoArgs) -> Result<()> {
    let mut warnings = Warnings::default();
    let backend = args.machine.open()?;
    let dir = args.hub.model_or_adapter("--model", &args.model, Weights::Read)?;
    let data = args.hub.data("--data", &args.data)?;
    let at = || format!("--model {}", args.model.display());
    let trained = Trained::of(&dir)?;
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
    let tokenizer = Tokenizer::from_dir(&policy::tokenizer_dir(&dir)?).with_context(at)?;
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
    let measured = measured(args, &config, (&model, reference.as_ref()), &sets)?;
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
    let document = page::document(&page::Evaluation {
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
    /// Returns the folder of the reference, or `None` for no reference.
    fn reference_dir(&self, trained: &Trained, config: &PreferenceConfig) -> Result<Option<PathBuf>> {
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

/// The record of a policy's training in its run's folder.
struct Trained {
    config: PreferenceConfig,
    constraint: Option<Value>,
    reference: Option<PathBuf>,
}

impl Trained {
    /// Reads the manifest of a run, if there is one.
    fn of(dir: &Path) -> Result<Self> {
        let path = dir.join("manifest.json");
        let Ok(text) = fs::read_to_string(&path) else {
            return Ok(Self { config: PreferenceConfig::default(), constraint: None, reference: None });
        };
        let manifest: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        let print = manifest["fingerprint"].as_object().cloned().unwrap_or_default();
        let known = serde_json::to_value(PreferenceConfig::default())?;
        let is_option = |name: &str| known.get(name).is_some() || name == "ld-alpha";
        let options: Map<String, Value> =
            print.iter().filter(|(name, _)| is_option(name)).map(|(a, b)| (a.clone(), b.clone())).collect();
        let config = serde_json::from_value(options.into()).with_context(|| path.display().to_string())?;
        let model = manifest["model"].as_str().map(PathBuf::from).filter(|dir| dir.exists());
        let reference = match print.get("reference").and_then(Value::as_str) {
            Some("start") => model,
            Some("base") => match model {
                Some(dir) if AdapterFolder::is_alone(&dir) => Some(AdapterFolder::open(&dir)?.base()?),
                _ => None,
            },
            _ => None,
        };
        Ok(Self { config, constraint: print.get("constraint").cloned(), reference })
    }

    /// Returns the requested constraint, else the one from training, else none.
    fn constraint(&self, named: Option<&str>) -> Result<Box<dyn Constraint>> {
        match (named, &self.constraint) {
            (Some(text), _) => crate::constraint::read(text),
            (None, Some(tagged)) => Ok(constraint::from_tagged(tagged.clone())?),
            (None, None) => Ok(constraint::parse("none")?),
        }
    }
}

/// Measurements of the pairs and their answers, in order.
struct Measured {
    judged: Vec<Judged>,
    /// The summed divergence of each answer's tokens, by set and answer.
    kl: Option<Vec<Vec<f64>>>,
}

fn measured(
    args: &EvalDpoArgs,
    config: &PreferenceConfig,
    (policy, reference): (&LanguageModel, Option<&LanguageModel>),
    sets: &[EncodedSet],
) -> Result<Measured> {
    pcrm_rl::score::within_vocabulary(sets, policy.config().vocabulary)?;
    let mut found = Measured { judged: Vec::new(), kl: reference.map(|_| Vec::new()) };
    let (bar, mut done) = (bar(sets.len() as u64, "evaluating"), 0);
    let host = |of: Vec<Vec<f32>>| -> Vec<Vec<f64>> {
        of.into_iter().map(|of| of.into_iter().map(f64::from).collect()).collect()
    };
    for part in within_budget(sets, args.micro_tokens, EncodedSet::unique_tokens) {
        let part: Vec<&EncodedSet> = part.iter().collect();
        let ours = host(token_log_probs(policy, &part)?);
        let theirs = match reference {
            Some(reference) => {
                pcrm_rl::score::within_vocabulary(part.iter().copied(), reference.config().vocabulary)?;
                host(token_log_probs(reference, &part)?)
            }
            None => vec![Vec::new(); ours.len()],
        };
        let answers: Vec<Answer<'_>> = ours
            .iter()
            .zip(&theirs)
            .map(|(policy, reference)| Answer { policy, reference, ..Answer::default() })
            .collect();
        let mut first = 0;
        for set in &part {
            let pairs = set.comparisons.iter().map(|comparison| Pair {
                chosen: first + comparison.chosen as usize,
                rejected: first + comparison.rejected as usize,
                bound: f64::INFINITY,
                weight: 1.0,
            });
            found.judged.extend(config.judge(&answers, &pairs.collect::<Vec<_>>()));
            first += set.answers.len();
        }
        if let (Some(kl), Some(reference)) = (&mut found.kl, reference) {
            let mut sums =
                host(next_token_kl(policy, reference, &part)?).into_iter().map(|of| of.iter().sum::<f64>());
            kl.extend(part.iter().map(|set| sums.by_ref().take(set.answers.len()).collect::<Vec<_>>()));
        }
        done += part.len();
        bar.set_position(done as u64);
    }
    bar.finish_and_clear();
    Ok(found)
}

impl Measured {
    fn policy(&self, config: &PreferenceConfig, sets: &[EncodedSet]) -> Policy {
        let count = self.judged.len().max(1) as f64;
        let mean = |of: &dyn Fn(&Judged) -> f64| self.judged.iter().map(of).sum::<f64>() / count;
        // The indices of each pair's two answers.
        let pairs = || {
            sets.iter().enumerate().flat_map(|(at, set)| {
                set.comparisons.iter().map(move |pair| (at, [pair.chosen as usize, pair.rejected as usize]))
            })
        };
        let tokens = |at: usize, answer: usize| predicted(&sets[at].answers[answer]).len() as f64;
        let mean_tokens = |side: usize| pairs().map(|(at, two)| tokens(at, two[side])).sum::<f64>() / count;
        let divergence = |side: usize| {
            let kl = self.kl.as_ref()?;
            let sum: f64 = pairs().map(|(at, two)| kl[at][two[side]]).sum();
            Some(sum / (mean_tokens(side) * count))
        };
        let of_all = self.kl.as_ref().map(|kl| {
            let places = sets.iter().flat_map(|set| set.answers.iter().map(|answer| predicted(answer).len()));
            kl.concat().iter().sum::<f64>() / places.sum::<usize>().max(1) as f64
        });
        Policy {
            beta: config.beta,
            kl_per_token: of_all,
            kl_per_token_chosen: divergence(0),
            kl_per_token_rejected: divergence(1),
            logps_chosen: mean(&|of| of.log_probs[0]),
            logps_rejected: mean(&|of| of.log_probs[1]),
            rewards_chosen: mean(&|of| of.rewards[0]),
            rewards_rejected: mean(&|of| of.rewards[1]),
            tokens_chosen: mean_tokens(0),
            tokens_rejected: mean_tokens(1),
        }
    }
}

impl Policy {
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

    fn table(&self) -> String {
        let lines = self.lines().into_iter().map(|(name, value)| format!("{name:<38} {value}\n"));
        format!("\nThe policy on the answers of the data\n{}", lines.collect::<String>())
    }

    /// Returns the page with these numbers added at the top.
    fn added(&self, mut document: report::Document) -> report::Document {
        use report::document::{Block, Section};
        let facts = self.lines().into_iter().map(|(name, value)| report::Fact::new(name, value)).collect();
        let section = Section::open("The policy on the answers of the data", vec![Block::Facts(facts)]);
        document.sections.insert(1.min(document.sections.len()), section);
        document
    }
}
