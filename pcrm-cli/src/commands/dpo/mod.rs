//! `pcrm dpo`: trains a policy on preferences, optionally with bounds on the margins of its implicit rewards.

mod args;
mod record;

use anyhow::{Context, Result};
pub use args::DpoArgs;
use pcrm_core::model::ModelConfig;
use pcrm_core::model::lora::peft;
use pcrm_core::text::Tokenizer;
use pcrm_rl::fingerprint::Fingerprint;
use pcrm_rl::loss::WrongShare;
use pcrm_rl::reference::Reference;
use pcrm_rl::train::Setting;
use pcrm_rl::train::dpo::{Caches, DpoData, DpoRun};
use serde_json::{Value, json};

use self::record::Record;
use crate::dataset::bound_warnings;
use crate::paragraph::paragraph;
use crate::priors::priors;
use crate::processes::resumes;
use crate::progress::say;
use crate::report::run::FittedTo;
use crate::training::folder::RunFolder;
use crate::training::policy::{self, Watching};
use crate::training::reward::{beginning, fitted_lines, margins, wrong_labels_line};
use crate::training::{Encoded, REWARD_RATE, encoded, folder, moment};
use crate::usage::{named, usage};
use crate::{config, constraint, interrupt};

/// Trains a policy; `resolved` is the config file of this run.
///
/// # Errors
/// Fails if an option is invalid, the folder holds another run, a file cannot be read, training fails or
/// Ctrl-C interrupts.
pub fn run(args: &DpoArgs, resolved: &str) -> Result<()> {
    let file = constraint::file(&args.constraint);
    let mut constraint = usage(constraint::read(&args.constraint))?;
    let is_bounded = constraint.kind() != "none";
    let options = args.options(is_bounded)?;
    let reads_margins =
        constraint.reads_margins() || options.preference.label_smoothing == WrongShare::ESTIMATE;
    usage(args.check_margins(reads_margins))?;
    let resume = resumes(args.resume);
    folder::check(&args.output, resume, &args.model)?;
    let backend = args.steps.processes.open(&args.machine)?;
    moment::fix(backend.collective().as_ref(), &args.output, resume)?;
    let given = args;
    let args = &args.fetched()?;
    let unread = args.source().unread()?;
    let reference = args.reference(&options.preference)?;
    let at = || format!("--model {}", args.model.display());
    let shape = ModelConfig::from_dir(&peft::base_dir(&args.model)?).with_context(at)?;
    let max_length = usage(args.reading.training_length(&shape))?;
    let resolved = config::with_option(resolved, "max-length", max_length as i64)?;
    let resolved = config::with_option(&resolved, "learning-rate", options.trainer.learning_rate)?;
    let mut resolved = config::with_lanes(&resolved, options.trainer.lanes)?;
    if file.is_some() {
        // The file may change or disappear, so the run's config keeps its content.
        resolved = config::with_option(&resolved, "constraint", constraint.to_tagged()?.to_string())?;
    }
    let priors = priors(&args.machine, (!args.random_init).then_some(&args.model))?;
    constraint.settle(&priors).context("--constraint")?;
    let tokenizer = Tokenizer::from_dir(&peft::tokenizer_dir(&args.model)?).with_context(at)?;
    let base = args.source().base();
    // The end token of an answer is learned, even if it pads batches elsewhere.
    let Encoded { train, eval, sources, mut warnings, .. } =
        encoded(&args.source(), &args.reading, DpoArgs::TIES, &tokenizer, None, max_length)?;
    let with_margins = train.iter().flat_map(|set| &set.comparisons).any(|pair| pair.margin.is_some());
    if with_margins && !reads_margins {
        let text = "the data have margins, which neither the loss nor the constraint reads";
        say(paragraph("note: ", text).trim_end());
    }
    if let Reference::Folder(dir) = &reference {
        policy::other_reference(&shape, &tokenizer, dir)?.into_iter().for_each(|text| warnings.add(text));
    }
    let asked = constraint.to_tagged()?;
    let of_reference = policy::identity(&reference)?;
    let mut identity = identity(args, &asked, &of_reference, max_length)?;
    identity.extend(moment::asked());
    let mut fingerprint = options.fingerprint();
    fingerprint.extend(identity.clone());
    let (output, trainer) = (&args.output, &options.trainer);
    let held = RunFolder::shared(backend.as_ref(), output, resume, &args.model, &fingerprint, trainer)?;
    let setting = Setting {
        backend: backend.as_ref(),
        base: &base,
        tokenizer: &tokenizer,
        dir: &args.output,
        resume: held.resumes(),
        stop: interrupt::flag()?,
    };
    let keeps_constraint = held.resumes() && args.output.join("constraint.json").exists();
    let has_reference = reference != Reference::None;
    let data = DpoData { constraint, reference, train, eval, max_length };
    let mut watch = Watching::default();
    let caches = Caches { margins: margins(), log_probs: policy::kept_log_probs() };
    let run =
        DpoRun::new(setting, &options, data, &priors, caches, REWARD_RATE, &mut watch).map_err(named)?;
    let tagged = run.constraint.to_tagged()?;
    if let Some(evidence) = run.evidence.as_ref().filter(|_| !keeps_constraint) {
        fitted_lines(&tagged, evidence).iter().for_each(|line| say(line));
    }
    run.wrong_labels.iter().for_each(|found| say(&wrong_labels_line(found)));
    let pairs = &run.train.pairs;
    bound_warnings(&pairs.sets, &pairs.bounds).into_iter().for_each(|text| warnings.add(text));
    unread.unchanged()?;
    // A constraint that was fitted to the pairs is known only now.
    identity.insert("constraint".to_owned(), tagged.clone());
    fingerprint.extend(identity.clone());
    let manifest = json!({
        "pcrm": env!("CARGO_PKG_VERSION"),
        "model": args.model,
        "data": args.data,
        "eval_data": args.eval_data,
        "train_pairs": pairs.count(),
        "eval_pairs": run.eval.as_ref().map(|eval| eval.pairs.count()),
        "fingerprint": fingerprint,
    });
    watch.describing(held.description(&resolved, manifest));
    if has_reference {
        policy::say_computed(run.computed);
    }
    let counts = (pairs.count(), run.eval.as_ref().map(|eval| eval.pairs.count()));
    say(&beginning((run.trained_parameters(), run.parameters()), counts, &tagged));
    let record = Record {
        args,
        given,
        options: &options,
        constraint: &tagged,
        has_reference,
        fitted: run.evidence.as_ref().map(|evidence| FittedTo { asked: &asked, evidence }),
        resolved: &resolved,
        max_length,
        sources: &sources,
        parameters: run.parameters(),
        train: pairs,
        eval: run.eval.as_ref().map(|eval| &eval.pairs),
    };
    let trained = run.train(identity, &mut watch);
    let outcome = trained.as_ref().map(|trained| &trained.outcome);
    watch.warnings().into_iter().for_each(|text| warnings.keep(text));
    if held.writes() {
        record.leave(outcome, &mut warnings);
    }
    let outcome = trained.map_err(named)?.outcome;
    held.conclude(&outcome, &args.output, &warnings)
}

/// Returns the identity of the run's inputs.
fn identity(args: &DpoArgs, constraint: &Value, reference: &Value, max_length: usize) -> Result<Fingerprint> {
    let columns = &args.reading.columns;
    args.source().identity([
        ("constraint", constraint.clone()),
        ("reference", reference.clone()),
        ("max-length", json!(max_length)),
        ("too-long", json!(args.reading.too_long)),
        ("rejected-field", json!(columns.rejected_field)),
        ("margin-field", json!(columns.margin_field)),
        ("score-margins", json!(columns.score_margins)),
    ])
}
