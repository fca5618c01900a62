//! `pcrm sft`: fine-tunes a language model on completions.

mod args;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
pub use args::SftArgs;
use pcrm_core::data::completions::{CUT_OFF, load_completions};
use pcrm_core::data::encode::{CompletionOptions, EncodedCompletion, encode_completions};
use pcrm_core::data::preference::Ties;
use pcrm_core::model::ModelConfig;
use pcrm_core::text::Tokenizer;
use pcrm_rl::objective::sft::{Completions, SftConfig};
use pcrm_rl::offline::Outcome;
use pcrm_rl::train::{Setting, SftData, sft};
use pcrm_rl::{fingerprint, metrics};
use serde_json::json;

use crate::card::TrainingMethod;
use crate::processes::resumes;
use crate::progress::{Watch, say};
use crate::report::curves::Curves;
use crate::report::run::language;
use crate::report::{Fact, count};
use crate::training::folder::RunFolder;
use crate::training::policy::card::{self, FinishedRun};
use crate::training::{completion_shortfall, folder, held_out, moment};
use crate::usage::{named, usage};
use crate::warnings::Warnings;
use crate::{config, interrupt, report, template};

/// Fine-tunes a model; `resolved` is the config file of this run.
///
/// # Errors
/// Fails if an option is invalid, the folder holds another run, a file cannot be read, training fails or
/// Ctrl-C interrupts.
pub fn run(args: &SftArgs, resolved: &str) -> Result<()> {
    let trainer = args.trainer()?;
    usage(args.reading.columns.columns())?;
    usage(args.reading.columns.refuse_margins("sft reads no margins"))?;
    let resume = resumes(args.resume);
    folder::check(&args.output, resume, &args.model)?;
    let backend = args.steps.processes.open(&args.machine)?;
    moment::fix(backend.collective().as_ref(), &args.output, resume)?;
    let (given, args) = (args, &args.fetched()?);
    let at = || format!("--model {}", args.model.display());
    let shape = ModelConfig::from_dir(&args.model).with_context(at)?;
    let options = usage(args.reading.options(&shape))?;
    let unread = args.source().unread()?;
    let max_length = options.max_length.unwrap_or(shape.max_positions);
    let resolved = config::with_option(resolved, "max-length", max_length as i64)?;
    let resolved = config::with_option(&resolved, "learning-rate", trainer.learning_rate)?;
    let resolved = config::with_lanes(&resolved, trainer.lanes)?;
    let tokenizer = Tokenizer::from_dir(&args.model).with_context(at)?;
    let mut warnings = Warnings::default();
    let (train, eval, sources) = completions(args, &tokenizer, &options, &mut warnings)?;
    let data = SftData { train: Completions::new(train), eval: eval.map(Completions::new), max_length };
    let mut identity = args.source().identity([
        ("max-length", json!(options.max_length)),
        ("too-long", json!(options.too_long)),
        ("train-on", json!(options.train_on)),
    ])?;
    unread.unchanged()?;
    let mut fingerprint = fingerprint::of(&trainer, &SftConfig::default());
    identity.extend(moment::asked());
    fingerprint.extend(identity.clone());
    let manifest = json!({
        "pcrm": env!("CARGO_PKG_VERSION"),
        "model": args.model,
        "data": args.data,
        "eval_data": args.eval_data,
        "train_completions": data.train.items().len(),
        "eval_completions": data.eval.as_ref().map(|eval| eval.items().len()),
        "fingerprint": fingerprint,
    });
    let held =
        RunFolder::shared(backend.as_ref(), &args.output, resume, &args.model, &fingerprint, &trainer)?;
    let mut watch = Watch::default();
    watch.describing(held.description(&resolved, manifest));
    say(&format!(
        "training on {} completions, {} target tokens{}",
        data.train.items().len(),
        data.train.targets(),
        data.eval.as_ref().map_or(String::new(), |eval| format!(", evaluating on {}", eval.items().len())),
    ));
    let base = args.source().base();
    let setting = Setting {
        backend: backend.as_ref(),
        base: &base,
        tokenizer: &tokenizer,
        dir: &args.output,
        resume: held.resumes(),
        stop: interrupt::flag()?,
    };
    let trained = sft(setting, &trainer, &data, identity, &mut watch);
    let outcome = trained.as_ref().map(|trained| &trained.outcome);
    if held.writes() && !outcome.is_err_and(|error| !error.is_divergence()) {
        let path = args.output.join(report::FILE);
        let run =
            metrics::read(&args.output.join("metrics.jsonl")).map_err(anyhow::Error::from).map(|lines| {
                language::LanguagePage {
                    name: folder::name_of(&args.output),
                    base: folder::base_name(&given.model, args.random_init),
                    curves: Curves::new(lines),
                    ending: outcome,
                    warnings: warnings.all(),
                    sources: &sources,
                    max_grad_norm: trainer.max_grad_norm,
                    options: &resolved,
                    kind: language::TrainingKind::FineTuned,
                    answers: Vec::new(),
                }
            });
        if let (Ok(run), Ok(Outcome::Finished { .. })) = (&run, outcome) {
            let mut training = card::settings(&trainer, run.curves.last(), "completions");
            training.push(Fact::new("Training completions", count(data.train.items().len() as u64)));
            training.push(Fact::new("Max. sequence length, tokens", count(max_length as u64)));
            training.push(Fact::new("dtype", args.lora.types(args.machine.dtype, &args.model)));
            let trained = FinishedRun {
                method: TrainingMethod::Sft,
                source: args.source(),
                given: (&given.model, &given.data),
                output: &args.output,
                files: card::files(sources.iter().map(|source| &source.read)),
                constraint: None,
                training,
                measures: language::measures(run),
                held_out: "completions",
            };
            trained.write();
        }
        let page = run.map(|run| language::document(&run));
        if report::write(&path, page) {
            say(&format!("report: {}", path.display()));
        }
    }
    let outcome = trained.map_err(named)?.outcome;
    held.conclude(&outcome, &args.output, &warnings)
}

type Split = (Vec<EncodedCompletion>, Option<Vec<EncodedCompletion>>, Vec<language::CompletionSource>);

/// Reads, encodes and splits the data.
fn completions(
    args: &SftArgs,
    tokenizer: &Tokenizer,
    options: &CompletionOptions,
    warnings: &mut Warnings,
) -> Result<Split> {
    let mut sources = Vec::new();
    let mut read = |paths: &[PathBuf], role: &str| -> Result<Vec<EncodedCompletion>> {
        let (rows, read) = load_completions(paths, args.reading.columns.options(Ties::Drop)?)?;
        say(&read.to_string());
        let (completions, encoded) = encode_completions(&rows, tokenizer, options)?;
        say(&encoded.to_string());
        let systems = template::lost_systems(&rows, tokenizer);
        let left_out = [read.shortfall(), completion_shortfall(&encoded), systems];
        left_out.into_iter().flatten().for_each(|text| warnings.add(format!("{role}: {text}")));
        // The report on reading has printed it already.
        let cut = read.findings.iter().find(|finding| finding.code == CUT_OFF);
        cut.into_iter().for_each(|cut| warnings.keep(format!("{role}: {}. {}", cut.found, cut.advice)));
        sources.push(language::CompletionSource { role: role.to_owned(), read, encoded });
        Ok(completions)
    };
    let both = args.eval_split.is_some();
    let train = read(&args.data, if both { "training and held out" } else { "training" })?;
    let (train, eval) = match args.eval_split {
        Some(share) => {
            let (eval, train): (Vec<_>, Vec<_>) =
                train.into_iter().partition(|row| held_out(args.machine.seed, row.prompt_id, share));
            ensure!(
                !eval.is_empty() && !train.is_empty(),
                "--eval-split {share}: leaves one side without completions ({} to train on, {} held out)",
                train.len(),
                eval.len()
            );
            (train, Some(eval))
        }
        None if args.eval_data.is_empty() => (train, None),
        None => (train, Some(read(&args.eval_data, "evaluation")?)),
    };
    Ok((train, eval, sources))
}
