//! `pcrm kto`: trains a policy on single answers labelled desirable or undesirable.

mod args;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
pub use args::KtoArgs;
use pcrm_core::data::encode::{CompletionOptions, TrainOn, encode_completions};
use pcrm_core::data::labelled::load_labelled;
use pcrm_core::data::preference::Ties;
use pcrm_core::model::ModelConfig;
use pcrm_core::model::lora::peft;
use pcrm_core::text::Tokenizer;
use pcrm_rl::offline::Outcome;
use pcrm_rl::reference::Reference;
use pcrm_rl::train::{KtoData, KtoOptions, Setting, kto};
use pcrm_rl::{fingerprint, metrics};
use serde_json::json;

use crate::card::TrainingMethod;
use crate::processes::resumes;
use crate::progress::say;
use crate::report::curves::Curves;
use crate::report::run::language;
use crate::report::{Fact, count};
use crate::training::folder::RunFolder;
use crate::training::policy::card::{self, FinishedRun};
use crate::training::policy::{self, Watching};
use crate::training::{completion_shortfall, folder, held_out, moment};
use crate::usage::{named, usage};
use crate::warnings::Warnings;
use crate::{config, interrupt, report, template};

/// The range of desirable·w_d : undesirable·w_u that TRL recommends.
const BALANCE: std::ops::RangeInclusive<f64> = 1.0..=1.33;

/// Answers with their labels.
type Labelled = (Vec<pcrm_core::data::encode::EncodedCompletion>, Vec<bool>);

/// Trains a policy; `resolved` is the config file of this run.
///
/// # Errors
/// Fails if an option is invalid, the folder holds another run, a file cannot be read, training fails or
/// Ctrl-C interrupts.
pub fn run(args: &KtoArgs, resolved: &str) -> Result<()> {
    let options = args.options()?;
    usage(args.reading.columns.columns())?;
    usage(args.reading.columns.refuse_margins("kto reads no margins"))?;
    usage((|| {
        ensure!(
            args.reading.train_on == TrainOn::Completion,
            "--train-on: KTO trains on completions; expected completion"
        );
        Ok(())
    })())?;
    let resume = resumes(args.resume);
    folder::check(&args.output, resume, &args.model)?;
    let backend = args.steps.processes.open(&args.machine)?;
    moment::fix(backend.collective().as_ref(), &args.output, resume)?;
    let (given, args) = (args, &args.fetched()?);
    let unread = args.source().unread()?;
    let reference = policy::reference(args.reference.as_deref(), &args.hub)?;
    let at = || format!("--model {}", args.model.display());
    let shape = ModelConfig::from_dir(&peft::base_dir(&args.model)?).with_context(at)?;
    let encoding = usage(args.reading.options(&shape))?;
    let max_length = encoding.max_length.unwrap_or(shape.max_positions);
    let resolved = config::with_option(resolved, "max-length", max_length as i64)?;
    let resolved = config::with_option(&resolved, "learning-rate", options.trainer.learning_rate)?;
    let resolved = config::with_lanes(&resolved, options.trainer.lanes)?;
    let tokenizer = Tokenizer::from_dir(&peft::tokenizer_dir(&args.model)?).with_context(at)?;
    let mut warnings = Warnings::default();
    let (train, eval, sources) = labelled(args, &tokenizer, &encoding, &mut warnings)?;
    balance(&train.1, &options).into_iter().for_each(|text| warnings.add(text));
    if let Reference::Folder(dir) = &reference {
        policy::other_reference(&shape, &tokenizer, dir)?.into_iter().for_each(|text| warnings.add(text));
    }
    let mut identity = args.source().identity([
        ("reference", policy::identity(&reference)?),
        ("max-length", json!(encoding.max_length)),
        ("too-long", json!(encoding.too_long)),
    ])?;
    unread.unchanged()?;
    let mut fingerprint = fingerprint::of(&options.trainer, &options.kto);
    identity.extend(moment::asked());
    fingerprint.extend(identity.clone());
    let manifest = json!({
        "pcrm": env!("CARGO_PKG_VERSION"),
        "model": args.model,
        "data": args.data,
        "eval_data": args.eval_data,
        "train_answers": train.0.len(),
        "eval_answers": eval.as_ref().map(|eval| eval.0.len()),
        "fingerprint": fingerprint,
    });
    let (output, trainer) = (&args.output, &options.trainer);
    let held = RunFolder::shared(backend.as_ref(), output, resume, &args.model, &fingerprint, trainer)?;
    let mut watch = Watching::default();
    watch.describing(held.description(&resolved, manifest));
    let (answers, desirable) = (train.0.len(), train.1.iter().filter(|label| **label).count());
    say(&format!(
        "training on {} answers, {desirable} of them desirable{}",
        train.0.len(),
        eval.as_ref().map_or(String::new(), |eval| format!(", evaluating on {}", eval.0.len())),
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
    let data = KtoData { train, eval, reference, max_length };
    let cache = policy::kept_log_probs();
    let trained = kto(setting, &options, data, identity, &cache, &mut watch);
    if let Ok((_, computed)) = &trained {
        policy::say_computed(*computed);
    }
    watch.warnings().into_iter().for_each(|text| warnings.keep(text));
    let outcome = trained.as_ref().map(|(trained, _)| &trained.outcome);
    if held.writes() && !outcome.is_err_and(|error| !error.is_divergence()) {
        let path = args.output.join(report::FILE);
        let lines = metrics::read(&args.output.join("metrics.jsonl")).map_err(anyhow::Error::from);
        let run = lines.map(|lines| language::LanguagePage {
            name: folder::name_of(&args.output),
            base: folder::base_name(&given.model, args.random_init),
            curves: Curves::new(lines),
            ending: outcome,
            warnings: warnings.all(),
            sources: &sources,
            max_grad_norm: options.trainer.max_grad_norm,
            options: &resolved,
            kind: language::TrainingKind::Labelled,
            answers: Vec::new(),
        });
        if let (Ok(run), Ok(Outcome::Finished { .. })) = (&run, outcome) {
            let mut training = vec![
                Fact::new("Loss", options.kto.kto_loss.to_string()),
                Fact::new("beta", options.kto.beta.to_string()),
                Fact::new("Weights", weights(&options)),
                Fact::new("Reference", args.reference.clone().unwrap_or_else(|| "start".to_owned())),
                Fact::new("Training answers", format!("{answers}, {desirable} of them desirable")),
            ];
            training.extend(card::settings(&options.trainer, run.curves.last(), "answers"));
            training.push(Fact::new("Max. sequence length, tokens", count(max_length as u64)));
            training.push(Fact::new("dtype", args.lora.types(args.machine.dtype, &args.model)));
            let trained = FinishedRun {
                method: TrainingMethod::Kto,
                source: args.source(),
                given: (&given.model, &given.data),
                output: &args.output,
                files: card::files(sources.iter().map(|source| &source.read)),
                constraint: None,
                training,
                measures: language::measures(run),
                held_out: "answers",
            };
            trained.write();
        }
        let page = run.map(|run| language::document(&run));
        if report::write(&path, page) {
            say(&format!("report: {}", path.display()));
        }
    }
    let outcome = trained.map_err(named)?.0.outcome;
    held.conclude(&outcome, &args.output, &warnings)
}

fn weights(options: &KtoOptions) -> String {
    format!("{} desirable, {} undesirable", options.kto.desirable_weight, options.kto.undesirable_weight)
}

/// Returns a warning if one kind of answer outweighs the other, as TRL does.
fn balance(labels: &[bool], options: &KtoOptions) -> Option<String> {
    let desirable = labels.iter().filter(|label| **label).count();
    let others = labels.len() - desirable;
    if desirable == 0 || others == 0 {
        return Some(format!("{desirable} answers are desirable and {others} are not: KTO needs both kinds"));
    }
    let ratio =
        options.kto.desirable_weight * desirable as f64 / (options.kto.undesirable_weight * others as f64);
    let best = others as f64 * options.kto.undesirable_weight / desirable as f64;
    (!BALANCE.contains(&ratio)).then(|| {
        format!(
            "{desirable} answers are desirable and {others} are not; weighted, their ratio is {ratio:.2}. \
             The paper recommends 1 to 1.33: use --desirable-weight {best:.2} to {:.2}",
            1.33 * best
        )
    })
}

type Split = (Labelled, Option<Labelled>, Vec<language::CompletionSource>);

/// Reads, encodes and splits the data.
fn labelled(
    args: &KtoArgs,
    tokenizer: &Tokenizer,
    options: &CompletionOptions,
    warnings: &mut Warnings,
) -> Result<Split> {
    let mut sources = Vec::new();
    let mut read = |paths: &[PathBuf], role: &str| -> Result<Labelled> {
        let (rows, read) = load_labelled(paths, args.reading.columns.options(Ties::Drop)?)?;
        say(&read.to_string());
        let (answers, encoded) = encode_completions(&rows, tokenizer, options)?;
        say(&encoded.to_string());
        let systems = template::lost_systems(&rows, tokenizer);
        let left_out = [read.shortfall(), completion_shortfall(&encoded), systems];
        left_out.into_iter().flatten().for_each(|text| warnings.add(format!("{role}: {text}")));
        sources.push(language::CompletionSource { role: role.to_owned(), read, encoded });
        let labels = answers.iter().map(|answer| rows[answer.row].desirable).collect();
        Ok((answers, labels))
    };
    let both = args.eval_split.is_some();
    let all = read(&args.data, if both { "training and held out" } else { "training" })?;
    let (train, eval) = match args.eval_split {
        Some(share) => {
            let rows = all.0.into_iter().zip(all.1);
            let (eval, train): (Vec<_>, Vec<_>) =
                rows.partition(|(row, _)| held_out(args.machine.seed, row.prompt_id, share));
            ensure!(
                !eval.is_empty() && !train.is_empty(),
                "--eval-split {share}: leaves one side without answers ({} to train on, {} held out)",
                train.len(),
                eval.len()
            );
            (train.into_iter().unzip(), Some(eval.into_iter().unzip()))
        }
        None if args.eval_data.is_empty() => (all, None),
        None => (all, Some(read(&args.eval_data, "evaluation")?)),
    };
    Ok((train, eval, sources))
}
