//! `pcrm generate`: samples answers from a policy.

mod chat;
mod page;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;
use pcrm_core::data::prompts::Prompt as PromptRecord;
use pcrm_core::disk::GrowingFile;
use pcrm_rl::reward_source::{Place, Spec, Weighted};
use pcrm_rl::rollout::{Engine, Finish, Progress, Prompt, Sample, Watch, numbered};
use serde_json::{Value, json};

use crate::generation::{
    Policy, PromptArgs, SamplingArgs, cut_off, decimal, digest_of, follow, record, rewards,
};
use crate::hub::Hub;
use crate::interrupt::{self, Interrupted};
use crate::machine::Machine;
use crate::numbers::positive;
use crate::output::Output;
use crate::progress::{Bar, bar, say};
use crate::quantize::QuantizeArgs;
use crate::usage::usage;
use crate::{report, terminal};

/// Options of `pcrm generate`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct GenerateArgs {
    /// Answer with the language model or PEFT adapter in this folder or Hub repository (org/name)
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Sample N answers to each prompt
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive::<usize>)]
    samples: usize,
    /// Write to this JSONL file, or to standard output for - [default: -]: a line per answer, in the order of
    /// prompts
    #[arg(long, value_name = "FILE")]
    output: Option<Output>,
    /// Continue the interrupted run beside --output
    #[arg(long, requires = "output")]
    resume: bool,
    /// Also write the token ids of each answer and their log-probabilities
    #[arg(long)]
    log_probs: bool,
    /// Write a page beside --output (FILE.html) that shows answers token by token, shaded by probability;
    /// implies --log-probs
    #[arg(long, requires = "output")]
    report: bool,
    /// Score each answer with the reward model in this folder or Hub repository
    #[arg(long, value_name = "DIR")]
    score_with: Option<PathBuf>,
    /// Chat with the model: each line is a message, the answer is printed as it is sampled; Ctrl-D ends
    #[arg(long, conflicts_with_all = ["prompt", "data", "output", "score_with", "samples", "log_probs", "report"])]
    chat: bool,
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
  pcrm generate --model runs/sft --prompt 'Once upon a time' --max-tokens 60
  pcrm generate --model runs/sft --data prompts.jsonl --samples 4 --score-with runs/rm --output answers.jsonl
  pcrm generate --model runs/sft --data prompts.jsonl --report --output answers.jsonl
  pcrm generate --model runs/sft --chat";

/// Samples and writes answers.
///
/// # Errors
/// Fails if an option is invalid, the model is not a language model, a prompt does not fit or Ctrl-C
/// interrupts.
pub fn run(args: &GenerateArgs) -> Result<()> {
    usage(args.check())?;
    let backend = args.machine.open()?;
    let policy = Policy::open(&args.machine, &args.hub, backend.as_ref(), &args.model, args.storage)?;
    if args.chat {
        return chat::run(&policy, &args.sampling, args.machine.seed);
    }
    let specs: Vec<Spec> = args
        .score_with
        .iter()
        .map(|dir| Spec { place: Place::Model(dir.clone()), weight: 1.0, name: None })
        .collect();
    let mut judge = match specs.as_slice() {
        [] => None,
        specs => {
            let Policy { tokenizer, pool, .. } = &policy;
            let (machine, backend) = (&args.machine, backend.as_ref());
            Some(rewards::open("--score-with", specs, machine, &args.hub, backend, tokenizer, pool)?)
        }
    };
    let (asked, encoded) = args.prompts.read(&args.hub, &policy.tokenizer)?;
    let sampling = args.sampling.sampling(&policy.model, args.machine.seed)?;
    let rows: Vec<usize> = encoded.iter().map(|prompt| prompt.row).collect();
    let prompts = numbered(encoded.into_iter().map(|prompt| prompt.ids));
    let log_probs = args.log_probs || args.report;
    let mut origins = args.sampling.origins(&sampling)?;
    origins.extend(policy.origins(&args.machine));
    origins.insert("samples".to_owned(), json!(args.samples));
    origins.insert("log-probs".to_owned(), json!(log_probs));
    origins.insert("score-with".to_owned(), rewards::identity(&specs)?);
    let of_prompts = digest_of(&prompts, rows.iter().map(|row| &asked[*row]))?;
    origins.insert("prompts".to_owned(), json!(of_prompts));
    let output = args.file();
    let file = output.map(|path| GrowingFile::open(path, &origins, args.samples, args.resume));
    let file = file.transpose()?;
    let begun = file.as_ref().map_or(0, GrowingFile::groups).min(prompts.len());
    let decode = |ids: &[u32]| policy.text(ids);
    let stop = policy.stop(&args.sampling, &decode)?;
    say(&format!("answers end at {}", ends(&policy, &stop.ids)));
    policy.note_positions(&prompts, sampling.max_tokens);
    if begun > 0 {
        say(&format!("{begun} of {} prompts are already answered", prompts.len()));
    }
    let mut writer = Writer {
        policy: &policy,
        judge: judge.as_mut(),
        prompts: &prompts[begun..],
        asked: rows[begun..].iter().map(|row| &asked[*row]).collect(),
        log_probs,
        file,
        bar: bar((prompts.len() - begun) as u64, "prompts"),
        interrupted: interrupt::flag()?,
        failure: None,
        truncated: 0,
    };
    let started = Instant::now();
    let mut engine = Engine::new(policy.model.decoder(), args.sampling.budget())?;
    let ran =
        engine.run(policy.model.decoder(), &prompts[begun..], args.samples, &sampling, &stop, &mut writer);
    writer.bar.finish_and_clear();
    if let Some(failure) = writer.failure {
        return Err(failure);
    }
    let progress = match ran {
        Err(pcrm_rl::Error::Interrupted(message)) => {
            let kept = match output {
                Some(_) => "; --resume continues",
                None => "",
            };
            return Err(Interrupted { message: format!("{message}{kept}") }.into());
        }
        ran => ran?,
    };
    if let Some(file) = writer.file {
        file.finish()?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let tokens = progress.sampled as f64;
    say(&format!(
        "{} answers, {} tokens in {seconds:.1} s ({:.0} tokens/s){}",
        progress.samples,
        progress.sampled,
        tokens / seconds.max(1e-9),
        cut_off(writer.truncated, sampling.max_tokens).map_or_else(String::new, |cut| format!("; {cut}"))
    ));
    if let Some(path) = output {
        say(&format!("answers: {}", path.display()));
        let page = page::path(path);
        if args.report && report::write(&page, page::document(path, &policy)) {
            say(&format!("report: {}", page.display()));
        }
    }
    Ok(())
}

/// Names the tokens that end answers.
fn ends(policy: &Policy, ids: &std::collections::BTreeSet<u32>) -> String {
    let name = |id: &u32| format!("{:?} ({id})", policy.tokenizer.decode(&[*id]).unwrap_or_default());
    let names: Vec<String> = ids.iter().map(name).collect();
    if names.is_empty() { "no token, only at --max-tokens".to_owned() } else { names.join(", ") }
}

impl GenerateArgs {
    /// Returns the file of the answers, or `None` for standard output.
    fn file(&self) -> Option<&Path> {
        self.output.as_ref().and_then(Output::file)
    }

    fn check(&self) -> Result<()> {
        self.sampling.check()?;
        if !self.chat {
            self.prompts.check()?;
        }
        let file = self.file();
        for (option, given) in [("--resume", self.resume), ("--report", self.report)] {
            ensure!(!given || file.is_some(), "{option}: expected a file as --output, found standard output");
        }
        let page = file.map(page::path).filter(|_| self.report);
        ensure!(
            page.is_none() || page.as_deref() != file,
            "--output: the page of --report would replace the answers; expected a name that does not end in .html"
        );
        ensure!(file != Some(self.model.as_path()), "--output: is the model's folder; expected a file");
        Ok(())
    }
}

/// Writes answers as they come.
struct Writer<'a> {
    policy: &'a Policy,
    judge: Option<&'a mut Weighted>,
    prompts: &'a [Prompt],
    /// The prompts of the engine, in its order.
    asked: Vec<&'a PromptRecord>,
    log_probs: bool,
    file: Option<GrowingFile>,
    bar: Bar,
    interrupted: &'static AtomicBool,
    failure: Option<anyhow::Error>,
    truncated: usize,
}

impl Writer<'_> {
    fn write(&mut self, prompt: usize, samples: &[Sample]) -> Result<()> {
        let asked = self.asked[prompt];
        let texts = self.policy.texts(&self.prompts[prompt].ids, samples)?;
        let scores = match &mut self.judge {
            Some(judge) => Some(rewards::score(judge, asked, samples, &texts)?.total),
            None => None,
        };
        let mut lines = String::new();
        for (at, (sample, texts)) in samples.iter().zip(&texts).enumerate() {
            let mut record = record(asked, &texts.completion, at, sample);
            self.truncated += usize::from(sample.finish == Finish::Length);
            if let Some(scores) = &scores {
                record.insert("score".to_owned(), decimal(scores[at])?);
            }
            if self.log_probs {
                record.insert("ids".to_owned(), json!(sample.ids));
                record.insert("log_probs".to_owned(), decimals(&sample.log_probs)?);
                if let Some(filtered) = &sample.filtered {
                    record.insert("filtered_log_probs".to_owned(), decimals(filtered)?);
                }
            }
            lines.push_str(&serde_json::to_string(&record)?);
            lines.push('\n');
        }
        match &mut self.file {
            Some(file) => file.append(&lines)?,
            None => terminal::result(&lines)?,
        }
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

fn decimals(values: &[f32]) -> Result<Value> {
    values.iter().map(|value| decimal(Some(*value))).collect()
}
