//! Answers sampled from a model into a file, which later calls reuse.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, ensure};
use pcrm_core::data::prompts::Prompt as Asked;
use pcrm_core::digest;
use pcrm_core::disk::{GrowingFile, Origins, sealed};
use pcrm_rl::rollout::{Engine, Progress, Prompt, Sample, Watch, numbered};
use serde_json::json;

use super::JudgeArgs;
use super::answers::{Named, Policy};
use crate::generation::{self, cut_off, follow, is_cut_off, record};
use crate::interrupt::{self, Interrupted};
use crate::progress::{Bar, bar, say};

/// Returns the file of a model's answers in `--output`.
pub fn file(output: &Path, label: &str) -> PathBuf {
    output.join("answers").join(format!("{label}.jsonl"))
}

/// Samples an answer to every prompt, or reuses those sampled by an earlier call with the same options.
///
/// # Errors
/// Fails if the model cannot be read, the file has answers from other options, or Ctrl-C interrupts.
pub fn policy(args: &JudgeArgs, named: &Named) -> Result<Policy> {
    let label = named.label.clone();
    let path = file(args.output.as_ref().context("--model: expected --output")?, &label);
    let (dir, notes) = (path.parent().unwrap_or(&path), path.with_file_name(format!("{label}.json")));
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let (backend, storage) = (args.machine.open()?, args.storage);
    let policy = generation::Policy::open(&args.machine, &args.hub, backend.as_ref(), &named.path, storage)?;
    let (asked, encoded) = args.prompts.read(&args.hub, &policy.tokenizer)?;
    let sampling = args.sampling.sampling(&policy.model, args.machine.seed)?;
    let rows: Vec<usize> = encoded.iter().map(|prompt| prompt.row).collect();
    let prompts = numbered(encoded.into_iter().map(|prompt| prompt.ids));
    let mut origins: Origins = args.sampling.origins(&sampling)?;
    origins.extend(policy.origins(&args.machine));
    let ids = serde_json::to_string(&prompts.iter().map(|prompt| &prompt.ids).collect::<Vec<_>>())?;
    origins.insert("prompts".to_owned(), json!(digest::text(&ids)));
    let reread = |label: String| -> Result<Policy> {
        let policy = Policy::read(label, &path)?;
        let cut = policy.rows.iter().filter(|(prompt, _)| is_cut_off(&prompt.columns)).count();
        if let Some(cut) = cut_off(cut, sampling.max_tokens) {
            say(&format!("{}: of {} answers, {cut}", policy.label, policy.rows.len()));
        }
        Ok(policy)
    };
    if path.exists() {
        let (found, _): (Origins, _) = sealed::read(&notes)?;
        ensure!(
            found == origins,
            "{}: was sampled with another model, other prompts or other options; name another --output",
            path.display()
        );
        say(&format!("{label}: reusing the answers in {}", path.display()));
        return reread(label);
    }
    let file = GrowingFile::open(&path, &origins, 1, true)?;
    let begun = file.groups().min(prompts.len());
    let decode = |ids: &[u32]| policy.text(ids);
    let stop = policy.stop(&args.sampling, &decode)?;
    let mut writer = Writer {
        policy: &policy,
        asked: rows[begun..].iter().map(|row| &asked[*row]).collect(),
        prompts: &prompts[begun..],
        file,
        bar: bar((prompts.len() - begun) as u64, "prompts"),
        interrupted: interrupt::flag()?,
        failure: None,
    };
    let mut engine = Engine::new(policy.model.decoder(), args.sampling.budget())?;
    let ran = engine.run(policy.model.decoder(), &prompts[begun..], 1, &sampling, &stop, &mut writer);
    writer.bar.finish_and_clear();
    if let Some(failure) = writer.failure {
        return Err(failure);
    }
    if let Err(pcrm_rl::Error::Interrupted(message)) = ran {
        return Err(Interrupted { message: format!("{message}; rerun the same command to continue") }.into());
    }
    ran?;
    sealed::write(&notes, &origins)?;
    writer.file.finish()?;
    reread(label)
}

/// Writes answers as they come.
struct Writer<'a> {
    policy: &'a generation::Policy,
    /// The prompts of the engine, in its order.
    asked: Vec<&'a Asked>,
    prompts: &'a [Prompt],
    file: GrowingFile,
    bar: Bar,
    interrupted: &'static AtomicBool,
    failure: Option<anyhow::Error>,
}

impl Writer<'_> {
    fn write(&mut self, at: usize, samples: &[Sample]) -> Result<()> {
        let texts = self.policy.texts(&self.prompts[at].ids, samples)?;
        for (number, (sample, texts)) in samples.iter().zip(&texts).enumerate() {
            let record = record(self.asked[at], &texts.completion, number, sample);
            self.file.append(&(serde_json::to_string(&record)? + "\n"))?;
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
