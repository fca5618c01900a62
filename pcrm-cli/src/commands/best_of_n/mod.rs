//! `pcrm best-of-n`: samples n answers to each prompt and keeps the best by a reward.

mod page;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use pcrm_core::data::prompts::Prompt as PromptRecord;
use pcrm_core::disk::{FolderLock, GrowingFile, whole};
use pcrm_eval::Bootstrap;
use pcrm_eval::best_of_n::{ScoredAnswers, curve};
use pcrm_rl::reward_source::{Combine, Spec, Weighted};
use pcrm_rl::rollout::{Engine, Progress, Prompt, Sample, Watch, numbered};
use serde_json::{Map, Value, json};

use crate::generation::{
    Policy, PromptArgs, SamplingArgs, decimal, digest_of, follow, is_cut_off, record, rewards,
};
use crate::hub::Hub;
use crate::interrupt::{self, Interrupted};
use crate::machine::Machine;
use crate::numbers::positive;
use crate::progress::{Bar, bar, say};
use crate::quantize::QuantizeArgs;
use crate::report;
use crate::terminal;
use crate::usage::usage;
use crate::warnings;

/// Options of `pcrm best-of-n`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct BestArgs {
    /// Answer with the language model or PEFT adapter in this folder or Hub repository (org/name)
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Choose by this reward; several are added up (see --combine): model:DIR, length, overlong, regex,
    /// exact, format, json, repetition, world, command:CMD, python:FILE.py:FUNCTION, http://.., or JSON; append
    /// :WEIGHT to weight one
    #[arg(long, value_name = "SOURCE", required = true, action = clap::ArgAction::Append)]
    reward: Vec<String>,
    /// Combine several rewards: sum, or min (the lowest of the standardised scores of an ensemble of reward
    /// models)
    #[arg(long, value_name = "HOW", default_value_t = Combine::Sum)]
    combine: Combine,
    /// Also measure the chosen answers with this source, which does not affect the choice: the true reward of
    /// a generated world (world), or a stronger model
    #[arg(long, value_name = "SOURCE")]
    truth: Option<String>,
    /// Sample N answers to each prompt
    #[arg(long, short = 'n', value_name = "N", default_value_t = 16, value_parser = positive::<usize>)]
    n: usize,
    /// Write to this folder: samples.jsonl (all answers with their scores), best.jsonl (prompt and
    /// completion, as pcrm sft and TRL read them), pairs.jsonl (best as chosen, worst as rejected),
    /// curve.json and report.html
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Continue an interrupted run in --output
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    prompts: PromptArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    hub: Hub,
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    storage: QuantizeArgs,
}

const EXAMPLES: &str = "\
Examples:
  pcrm best-of-n --model runs/sft --reward model:runs/rm --data prompts.jsonl -n 16 --output runs/best
  pcrm sft --model runs/sft --data runs/best/best.jsonl --output runs/rejection    # rejection sampling
  pcrm dpo --model runs/sft --data runs/best/pairs.jsonl --output runs/dpo";

/// Files that a run writes at its end.
const WRITTEN: [&str; 4] = ["best.jsonl", "pairs.jsonl", "curve.json", report::FILE];

/// Samples and scores answers, and writes the best.
///
/// # Errors
/// Fails if an option is invalid, a prompt does not fit, a reward fails or Ctrl-C interrupts.
pub fn run(args: &BestArgs) -> Result<()> {
    let (specs, truth) = usage(args.check())?;
    let backend = args.machine.open()?;
    let policy = Policy::open(&args.machine, &args.hub, backend.as_ref(), &args.model, args.storage)?;
    let tokenizer = &policy.tokenizer;
    let open = |option: &str, specs: &[Spec]| {
        let machine = &args.machine;
        rewards::open(option, specs, machine, &args.hub, backend.as_ref(), tokenizer, &policy.pool)
    };
    let mut proxy = open("--reward", &specs)?.combined(args.combine).context("--combine")?;
    let mut truths = truth.as_ref().map(|spec| open("--truth", std::slice::from_ref(spec))).transpose()?;
    let (asked, encoded) = args.prompts.read(&args.hub, tokenizer)?;
    let _held = FolderLock::take(&args.output).context("--output")?;
    for source in std::iter::once(&mut proxy).chain(&mut truths) {
        source.prepare(&pcrm_rl::reward_source::Preparation { prompts: &asked, logs: Some(&args.output) })?;
        source.notes().iter().for_each(|note| say(note));
    }
    let rows: Vec<usize> = encoded.iter().map(|prompt| prompt.row).collect();
    let prompts = numbered(encoded.into_iter().map(|prompt| prompt.ids));
    let sampling = args.sampling.sampling(&policy.model, args.machine.seed)?;
    let mut origins = args.sampling.origins(&sampling)?;
    origins.extend(policy.origins(&args.machine));
    origins.insert("n".to_owned(), json!(args.n));
    origins.insert("reward".to_owned(), rewards::identity(&specs)?);
    if args.combine != Combine::Sum {
        origins.insert("combine".to_owned(), json!(args.combine));
    }
    origins.insert("truth".to_owned(), rewards::identity(truth.as_slice())?);
    let of_prompts = digest_of(&prompts, rows.iter().map(|row| &asked[*row]))?;
    origins.insert("prompts".to_owned(), json!(of_prompts));
    let all = args.output.join("samples.jsonl");
    // A run that was killed while it wrote its results may have some of them beside its unfinished lines.
    if !all.exists()
        && !GrowingFile::is_begun(&all)
        && let Some(name) = WRITTEN.iter().find(|name| args.output.join(name).exists())
    {
        bail!("--output {}: already holds {name}; name another folder", args.output.display());
    }
    let file = GrowingFile::open(&all, &origins, args.n, args.resume)?;
    let begun = file.groups().min(prompts.len());
    if begun > 0 {
        say(&format!("{begun} of {} prompts are already answered", prompts.len()));
    }
    let decode = |ids: &[u32]| policy.text(ids);
    let stop = policy.stop(&args.sampling, &decode)?;
    policy.note_positions(&prompts, sampling.max_tokens);
    let mut writer = Writer {
        policy: &policy,
        proxy: &mut proxy,
        truth: truths.as_mut(),
        asked: rows[begun..].iter().map(|row| &asked[*row]).collect(),
        prompts: &prompts[begun..],
        file,
        bar: bar((prompts.len() - begun) as u64, "prompts"),
        interrupted: interrupt::flag()?,
        failure: None,
    };
    let mut engine = Engine::new(policy.model.decoder(), args.sampling.budget())?;
    let ran = engine.run(policy.model.decoder(), &prompts[begun..], args.n, &sampling, &stop, &mut writer);
    writer.bar.finish_and_clear();
    if let Some(failure) = writer.failure {
        return Err(failure);
    }
    match ran {
        Err(pcrm_rl::Error::Interrupted(message)) => {
            return Err(Interrupted { message: format!("{message}; --resume continues") }.into());
        }
        ran => drop(ran?),
    }
    let file = writer.file;
    leave(&args.output, &file.text()?, args.n, truth.is_some())?;
    file.finish()?;
    say(&format!("answers, pairs, curve and report: {}", args.output.display()));
    Ok(())
}

impl BestArgs {
    fn check(&self) -> Result<(Vec<Spec>, Option<Spec>)> {
        self.sampling.check()?;
        self.prompts.check()?;
        ensure!(self.n >= 2, "-n {}: expected at least 2 to choose from", self.n);
        let parse = |text: &String| Ok(text.parse::<Spec>()?);
        let specs = self.reward.iter().map(parse).collect::<Result<_>>()?;
        Ok((specs, self.truth.as_ref().map(parse).transpose()?))
    }
}

/// Writes scored answers as they come.
struct Writer<'a> {
    policy: &'a Policy,
    proxy: &'a mut Weighted,
    truth: Option<&'a mut Weighted>,
    /// The prompts of the engine, in its order.
    asked: Vec<&'a PromptRecord>,
    prompts: &'a [Prompt],
    file: GrowingFile,
    bar: Bar,
    interrupted: &'static AtomicBool,
    failure: Option<anyhow::Error>,
}

impl Writer<'_> {
    fn write(&mut self, at: usize, samples: &[Sample]) -> Result<()> {
        let asked = self.asked[at];
        let texts = self.policy.texts(&self.prompts[at].ids, samples)?;
        let scores = rewards::score(self.proxy, asked, samples, &texts)?;
        let truths = match &mut self.truth {
            Some(truth) => Some(rewards::score(truth, asked, samples, &texts)?.total),
            None => None,
        };
        let mut lines = String::new();
        for (number, (sample, texts)) in samples.iter().zip(&texts).enumerate() {
            let mut record = record(asked, &texts.completion, number, sample);
            record.insert("score".to_owned(), decimal(scores.total[number])?);
            if scores.sources.len() > 1 {
                let each = scores
                    .sources
                    .iter()
                    .map(|source| Ok((source.name.clone(), decimal(source.rewards[number])?)));
                record.insert("scores".to_owned(), Value::Object(each.collect::<Result<Map<_, _>>>()?));
            }
            if let Some(truths) = &truths {
                record.insert("true_reward".to_owned(), decimal(truths[number])?);
            }
            lines.push_str(&serde_json::to_string(&record)?);
            lines.push('\n');
        }
        self.file.append(&lines)?;
        self.bar.inc(1);
        Ok(())
    }
}

impl Watch for Writer<'_> {
    fn done(&mut self, prompt: usize, samples: Vec<Sample>) -> pcrm_rl::Result<()> {
        if self.failure.is_none() {
            self.failure = self.write(prompt, &samples).err();
        }
        Ok(())
    }

    fn step(&mut self, progress: &Progress) -> ControlFlow<()> {
        follow(&self.bar, progress, self.failure.is_some(), self.interrupted)
    }
}

/// Writes the results: the best answers, pairs of best and worst, the curve and the page. `measured`: the answers
/// have a true reward.
fn leave(dir: &Path, lines: &str, n: usize, measured: bool) -> Result<()> {
    let records: Vec<Map<String, Value>> =
        lines.lines().map(serde_json::from_str).collect::<Result<_, _>>().context("samples.jsonl")?;
    let (mut best, mut pairs, mut answers) = (String::new(), String::new(), Vec::new());
    let (mut unscored, mut unmeasured, mut cut_best) = (0, 0, 0);
    for samples in records.chunks(n) {
        let score = |record: &Map<String, Value>| record["score"].as_f64();
        let scored: Vec<&Map<String, Value>> =
            samples.iter().filter(|record| score(record).is_some()).collect();
        unscored += samples.len() - scored.len();
        let by_score = |a: &&&Map<String, Value>, b: &&&Map<String, Value>| {
            score(a).unwrap_or_default().total_cmp(&score(b).unwrap_or_default())
        };
        // Equal scores: the first sample wins.
        let Some(top) = scored.iter().rev().max_by(by_score) else { continue };
        let Some(low) = scored.iter().min_by(by_score) else { continue };
        let mut record: Map<String, Value> = (*top).clone();
        record.remove("scores");
        cut_best += usize::from(is_cut_off(&record));
        best.push_str(&(serde_json::to_string(&record)? + "\n"));
        if score(top) > score(low) && top["completion"] != low["completion"] {
            let pair = json!({
                "prompt": top["prompt"],
                "chosen": top["completion"],
                "rejected": low["completion"],
                "score_chosen": top["score"],
                "score_rejected": low["score"],
            });
            pairs.push_str(&(serde_json::to_string(&pair)? + "\n"));
        }
        if scored.len() == n {
            let of = |key: &str| -> Vec<f64> {
                samples.iter().filter_map(|record| record.get(key)?.as_f64()).collect()
            };
            let truths = if measured { of("true_reward") } else { Vec::new() };
            match measured && truths.len() < n {
                true => unmeasured += n - truths.len(),
                false => answers.push(ScoredAnswers { scores: of("score"), truths }),
            }
        }
    }
    let points = match answers.is_empty() {
        true => Vec::new(),
        false => curve(&answers, &Bootstrap::default())?,
    };
    for (count, what) in [(unscored, "score"), (unmeasured, "true reward")] {
        if count > 0 {
            say(&format!("{count} answers have no {what}; their prompts are left out of the curve"));
        }
    }
    if let Some(text) = of_cut_answers(&records, cut_best) {
        warnings::print(&text);
    }
    whole::write(&dir.join("best.jsonl"), best.as_bytes())?;
    whole::write(&dir.join("pairs.jsonl"), pairs.as_bytes())?;
    whole::write_json(&dir.join("curve.json"), &json!({ "prompts": answers.len(), "points": points }))?;
    report::write(&dir.join(report::FILE), Ok(page::document(dir, &points, answers.len(), &records)));
    if points.is_empty() {
        let wanted = if measured { "a score and a true reward" } else { "a score" };
        return terminal::result(&format!(
            "No prompt has {wanted} for all of its {n} answers: there is no curve.\n"
        ));
    }
    let known = points.iter().any(|point| point.truth.is_some());
    let mut shown = format!("     n      KL     score{}\n", if known { "  true reward" } else { "" });
    for point in &points {
        let truth = point.truth.map_or(String::new(), |truth| format!("  {:>11.3}", truth.value));
        shown.push_str(&format!("{:>6}  {:>6.3}  {:>8.3}{truth}\n", point.n, point.kl, point.score.value));
    }
    terminal::result(&shown)
}

/// Returns a warning about answers that were cut off, `best` of them in `best.jsonl`; `None` if none was.
fn of_cut_answers(records: &[Map<String, Value>], best: usize) -> Option<String> {
    let cut = records.iter().filter(|record| is_cut_off(record)).count();
    let trained = match best {
        0 => "none of best.jsonl".to_owned(),
        _ => format!(
            "{best} of best.jsonl, after which `pcrm sft` would teach the model to end. Use a larger limit, or \
             leave out rows whose finish is length"
        ),
    };
    (cut > 0).then(|| format!("{cut} of {} answers were cut off at --max-tokens: {trained}", records.len()))
}

#[cfg(test)]
mod tests;
