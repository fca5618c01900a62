//! `pcrm ppo`, `rloo`, `grpo` and `online-dpo`: train a policy on its own sampled answers and their rewards.

mod args;
mod card;
mod critic;
mod loss;
mod mix;
mod prompts;
mod signs;
mod source;
mod verbs;

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
pub use args::OnlineArgs;
use pcrm_core::constraint::Constraint;
use pcrm_core::model::lora::peft;
use pcrm_core::model::{ModelConfig, WeightPool};
use pcrm_core::text::Tokenizer;
use pcrm_rl::fingerprint;
use pcrm_rl::metrics;
use pcrm_rl::offline::Outcome;
use pcrm_rl::online::{Algorithm, Bounding, Mix, OnlineRun, train};
use pcrm_rl::reference::Reference;
use pcrm_rl::reward_source::Combine;
use pcrm_rl::rollout::Stop;
use pcrm_rl::train::Base;
use serde_json::{Value, json};
pub use verbs::{Chosen, GrpoArgs, OnlineDpoArgs, PpoArgs, RlooArgs};

use crate::generation::rewards;
use crate::priors::priors;
use crate::processes::resumes;
use crate::progress::{Watch, say};
use crate::report::curves::Curves;
use crate::report::run::language;
use crate::training::folder::RunFolder;
use crate::training::policy::card::FinishedRun;
use crate::training::{folder, moment, policy};
use crate::usage::{named, usage};
use crate::warnings::Warnings;
use crate::{config, constraint, interrupt, report};
use card::{facts, method};
use prompts::prompts;

/// Trains with GRPO.
///
/// # Errors
/// Fails as [`rloo`] does.
pub fn grpo(args: &GrpoArgs, resolved: &str) -> Result<()> {
    run(&args.online, &args.chosen(), resolved)
}

/// Trains with RLOO; `resolved` is the config file of this run.
///
/// # Errors
/// Fails if an option is invalid, the folder holds another run, a file cannot be read, a reward or training
/// fails, or Ctrl-C interrupts.
pub fn rloo(args: &RlooArgs, resolved: &str) -> Result<()> {
    run(&args.online, &args.chosen(), resolved)
}

/// Trains with PPO.
///
/// # Errors
/// Fails as [`rloo`] does, or if the critic cannot be opened.
pub fn ppo(args: &PpoArgs, resolved: &str) -> Result<()> {
    run(&args.online, &args.chosen(), resolved)
}

/// Trains with online DPO.
///
/// # Errors
/// Fails as [`rloo`] does, or if the constraint cannot bound the pairs.
pub fn online_dpo(args: &OnlineDpoArgs, resolved: &str) -> Result<()> {
    run(&args.online, &args.chosen()?, resolved)
}

fn run(args: &OnlineArgs, chosen: &Chosen, resolved: &str) -> Result<()> {
    let mut bound = bound(chosen)?;
    let (trainer, online) = args.options(chosen)?;
    let specs = args.rewards()?;
    let resume = resumes(args.resume);
    folder::check(&args.output, resume, &args.model)?;
    let backend = args.steps.processes.open(&args.machine)?;
    moment::fix(backend.collective().as_ref(), &args.output, resume)?;
    let (given, args) = (args, &args.fetched()?);
    let unread = args.source().unread()?;
    let at = || format!("--model {}", args.model.display());
    let resolved = config::with_option(resolved, "learning-rate", trainer.learning_rate)?;
    let resolved = config::with_lanes(&resolved, trainer.lanes)?;
    let tokenizer = Tokenizer::from_dir(&peft::tokenizer_dir(&args.model)?).with_context(at)?;
    let mut warnings = Warnings::default();
    if let Algorithm::Grpo(config) = &online.algorithm {
        config.warnings().into_iter().for_each(|text| warnings.add(text));
    }
    let (train_prompts, eval_prompts) = prompts(args, &tokenizer, &mut warnings)?;
    let texts = match &chosen.mix {
        Some(mix) => {
            let shape = ModelConfig::from_dir(&peft::base_dir(&args.model)?).with_context(at)?;
            Some((mix.texts(args, &shape, &tokenizer, &mut warnings)?, mix))
        }
        None => None,
    };
    let reference = policy::reference(args.reference.as_deref(), &args.hub)?;
    let pool = Arc::new(WeightPool::default());
    let base = Base { pool: Some(Arc::clone(&pool)), ..args.source().base() };
    let model = base.open_language(backend.as_ref()).with_context(at)?;
    let reference_model = match online.needs_reference() {
        // New adapters leave the base unchanged, so both can share it.
        true if reference == Reference::Start && base.lora.is_some() => Some(model.without_adapters()?),
        true => match reference.base(&base)? {
            Some(base) => Some(base.open_reference(backend.as_ref())?),
            None => None,
        },
        false => None,
    };
    let (machine, hub) = (&args.machine, &args.hub);
    let sources = rewards::open("--reward", &specs, machine, hub, backend.as_ref(), &tokenizer, &pool)?;
    let mut sources = sources.combined(args.combine).context("--combine")?;
    let critic = match &chosen.critic {
        Some(critic) => Some(critic.origin(&specs, &tokenizer, &args.hub)?),
        None => None,
    };
    let critic_model = critic.as_ref().map(|origin| origin.open(&base, backend.as_ref())).transpose()?;
    let priors = priors(&args.machine, (!args.random_init).then_some(&args.model))?;
    if let Some(bound) = &mut bound {
        bound.settle(&priors).context("--constraint")?;
    }
    let mut ends = model.stop_ids()?;
    ends.extend(tokenizer.eos().map(|eos| eos.id));
    ends.extend(&args.rollout.stop_token);
    let names: Vec<String> =
        ends.iter().map(|id| format!("{:?} ({id})", tokenizer.decode(&[*id]).unwrap_or_default())).collect();
    ensure!(!ends.is_empty(), "the model names no token that ends an answer; set one with --stop-token");
    let rollouts = args.sampler.open(&args.output, &model, &ends, &train_prompts, &mut warnings)?;
    let identity = args.source().identity([
        ("reference", policy::identity(&reference)?),
        ("reward", rewards::identity(&specs)?),
        ("combine", if args.combine == Combine::Sum { Value::Null } else { json!(args.combine) }),
        ("max-prompt-length", json!(args.rollout.max_prompt_length)),
        ("stop-tokens", json!(ends)),
        ("critic", critic.as_ref().map(critic::Origin::identity).transpose()?.unwrap_or_default()),
        ("ptx", chosen.mix.as_ref().map(mix::MixArgs::identity).transpose()?.unwrap_or_default()),
        ("rollouts-file", args.sampler.identity()?),
        ("constraint", bound.as_ref().map(|bound| bound.to_tagged()).transpose()?.unwrap_or_default()),
    ])?;
    unread.unchanged()?;
    let mut fingerprint = fingerprint::of(&trainer, &online);
    fingerprint.extend(identity);
    // Reward models render answers with templates of their own.
    fingerprint.extend(moment::mentioned());
    let manifest = json!({
        "pcrm": env!("CARGO_PKG_VERSION"),
        "model": args.model,
        "data": args.data,
        "eval_data": args.eval_data,
        "rewards": specs,
        "train_prompts": train_prompts.numbered.len(),
        "eval_prompts": eval_prompts.as_ref().map(|eval| eval.numbered.len()),
        "fingerprint": fingerprint,
    });
    let held =
        RunFolder::shared(backend.as_ref(), &args.output, resume, &args.model, &fingerprint, &trainer)?;
    let mut watch = Watch::default();
    watch.describing(held.description(&resolved, manifest));
    say(&format!(
        "training on {} prompts, {} answers each{}; answers end at {}",
        train_prompts.numbered.len(),
        online.num_generations,
        eval_prompts
            .as_ref()
            .map_or(String::new(), |eval| format!(", evaluating on {}", eval.numbered.len())),
        names.join(", ")
    ));
    for (dir, models) in pool.shared() {
        say(&format!("{models} models share the frozen weights of {}", dir.display()));
    }
    args.sampler.note().iter().for_each(|note| say(note));
    if let Some(origin) = &critic {
        say(&format!("the critic starts from {}", origin.name()));
    }
    let stop = Stop::at(ends);
    let mut notes = json!({ "algorithm": online, "rewards": specs });
    let bounds = bound.as_ref().map(|bound| bound.to_tagged()).transpose()?;
    if let Some(bounds) = &bounds {
        notes["constraint"] = bounds.clone();
    }
    let model = model.with_config(|config| {
        config.raw.insert("pcrm".into(), notes);
    });
    let run = OnlineRun {
        backend: backend.as_ref(),
        model,
        reference: reference_model,
        critic: critic_model,
        mix: texts.as_ref().map(|(data, mix)| Mix { data, coefficient: mix.ptx_coef }),
        bounding: bound.as_deref().map(|constraint| Bounding { constraint, priors: &priors }),
        tokenizer: &tokenizer,
        train: train_prompts,
        eval: eval_prompts,
        ends: &stop,
        rollouts,
        rewards: &mut sources,
        budget: args.budget(),
        dir: &args.output,
        fingerprint,
        stop: interrupt::flag()?,
    };
    let trained = train(run, &online, &trainer, &mut watch);
    let outcome = trained.as_ref().map(|trained| &trained.outcome);
    if held.writes() && !outcome.is_err_and(|error| !error.is_divergence()) {
        let path = args.output.join(report::FILE);
        let lines = metrics::read(&args.output.join("metrics.jsonl")).map_err(anyhow::Error::from);
        let run = lines.map(|lines| {
            signs::findings(&lines).into_iter().for_each(|text| warnings.add(text));
            language::LanguagePage {
                name: folder::name_of(&args.output),
                base: folder::base_name(&given.model, args.random_init),
                curves: Curves::new(lines),
                ending: outcome,
                warnings: warnings.all(),
                sources: &[],
                max_grad_norm: trainer.max_grad_norm,
                options: &resolved,
                kind: language::TrainingKind::Rewarded,
                answers: [signs::changes(&args.output), signs::answers(&args.output)]
                    .into_iter()
                    .flatten()
                    .collect(),
            }
        });
        if let (Ok(run), Ok(Outcome::Finished { .. })) = (&run, outcome) {
            let trained = FinishedRun {
                method: method(&online.algorithm),
                source: args.source(),
                given: (&given.model, &given.data),
                output: &args.output,
                files: given.data.iter().map(|path| folder::name_of(path)).collect(),
                constraint: bounds.as_ref(),
                training: facts(given, &online, &trainer, run.curves.last()),
                measures: language::measures(run),
                held_out: "prompts",
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

/// Returns the constraint on margins; `None` for no bound.
fn bound(chosen: &Chosen) -> Result<Option<Box<dyn Constraint>>> {
    let Some(text) = &chosen.constraint else { return Ok(None) };
    usage((|| {
        let constraint = constraint::read(text)?;
        if constraint.kind() == "none" {
            return Ok(None);
        }
        ensure!(
            !constraint.is_unfitted(),
            "--constraint {}: must be fitted to pairs first; run `pcrm calibrate` and use the file it writes",
            constraint.kind()
        );
        if let Algorithm::OnlineDpo(config) = &chosen.algorithm {
            config.preference.check(true).map_err(named)?;
        }
        Ok(Some(constraint))
    })())
}
