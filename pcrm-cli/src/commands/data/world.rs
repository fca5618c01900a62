//! `pcrm data world`: generates a world of preference pairs with a known true reward, and an untrained model
//! for it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use pcrm_core::disk::FolderLock;
use pcrm_core::disk::whole;
use pcrm_eval::worlds::{Carried, Likeness, Pair, Verdict, World};
use serde::Serialize;
use serde_json::json;

use crate::machine::Machine;
use crate::numbers::positive;
use crate::paragraph::paragraph;
use crate::usage::usage;
use crate::{terminal, untrained};

/// Options of `pcrm data world`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct WorldArgs {
    /// List the worlds, and how much of preference strength the similarity of answers explains in each
    #[arg(long, conflicts_with = "output")]
    list: bool,
    /// Generate this world
    #[arg(long, value_name = "NAME", default_value = "questions")]
    name: String,
    /// Generate N training pairs; calibration gets a ninth as many, the test set two ninths
    #[arg(long, value_name = "N", default_value_t = 2400, value_parser = positive::<usize>)]
    pairs: usize,
    /// Repeat every held-out prompt N times in prompts.jsonl, for N answers each
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive::<usize>)]
    answers: usize,
    /// Write to this folder: train.jsonl, calibration.jsonl and test.jsonl (pairs with their true rewards),
    /// learn.jsonl (training prompts), asked.jsonl (held-out prompts), prompts.jsonl (held-out prompts,
    /// repeated), and base (an untrained model)
    #[arg(long, value_name = "DIR", required_unless_present = "list")]
    output: Option<PathBuf>,
    #[command(flatten)]
    machine: Machine,
}

const EXAMPLES: &str = "\
Examples:
  pcrm data world --list
  pcrm data world --name dialogue --seed 1 --output world
  pcrm reward --model world/base --data world/train.jsonl --eval-data world/test.jsonl --output rm";

/// The minimum number of pairs of a world with meaningful measures.
const FEWEST: usize = 30;

/// Generates a world, or lists them.
///
/// # Errors
/// Fails if the name is unknown, there are too few pairs or a file cannot be written.
pub fn run(args: &WorldArgs) -> Result<()> {
    let Some(output) = args.output.as_ref().filter(|_| !args.list) else {
        return terminal::result(&list(args.machine.seed)?);
    };
    usage(args.check())?;
    let world = World::named(&args.name, args.machine.seed, args.pairs).context("--name")?;
    let backend = args.machine.open()?;
    let held = FolderLock::take(output).context("--output")?;
    let texts = || world.train.iter().flat_map(|pair| [&pair.prompt, &pair.chosen, &pair.rejected]);
    untrained::write(&*backend, texts().map(String::as_str), args.machine.seed, &output.join("base"))?;
    let (calibration, test) = world.test.split_at(world.test.len() / 3);
    write(&output.join("train.jsonl"), &world.train)?;
    write(&output.join("calibration.jsonl"), calibration)?;
    prompts(&output.join("learn.jsonl"), &world.train, 1)?;
    prompts(&output.join("asked.jsonl"), test, 1)?;
    prompts(&output.join("prompts.jsonl"), test, args.answers)?;
    write(&output.join("test.jsonl"), test)?;
    held.still_there().context("--output")
}

impl WorldArgs {
    fn check(&self) -> Result<()> {
        let known: Vec<&str> = World::all().into_iter().map(|(name, _)| name).collect();
        let is_known = known.contains(&self.name.as_str());
        ensure!(is_known, "--name {}: unknown world; expected one of {}", self.name, known.join(", "));
        ensure!(self.pairs >= FEWEST, "--pairs {}: expected at least {FEWEST}", self.pairs);
        Ok(())
    }
}

/// Lists the worlds, each with a test of whether similarity explains preference strength.
fn list(seed: u64) -> Result<String> {
    const PAIRS: usize = 1500;
    let mut text = String::new();
    for (name, about) in World::all() {
        text.push_str(&paragraph(&format!("{name}: "), about));
        let world = World::named(name, seed, PAIRS).context("a world")?;
        for likeness in Likeness::ALL {
            let carried = Carried::of(likeness, &world.train)?;
            let what = match likeness {
                Likeness::Length => "length",
                Likeness::Words => "words",
            };
            let verdict = match carried.verdict() {
                Verdict::Carries => "carries preference strength",
                Verdict::DoesNot => "carries almost no preference strength",
                Verdict::Open => "may carry some preference strength",
            };
            let ends = carried.explained.interval.map_or(String::new(), |interval| {
                format!(", 95 %: {:.0} to {:.0} %", 100.0 * interval.low(), 100.0 * interval.high())
            });
            let explained = 100.0 * carried.explained.value;
            text.push_str(&format!(
                "  similarity in {what} {verdict} ({explained:.0} % of its variance{ends})\n"
            ));
        }
    }
    Ok(text)
}

/// Writes the distinct prompts of pairs in order of first appearance, each repeated `times` times.
fn prompts(path: &Path, pairs: &[Pair], times: usize) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    let different = pairs.iter().filter(|pair| seen.insert(&pair.prompt));
    let records = different.flat_map(|pair| vec![json!({ "prompt": pair.prompt }); times]);
    write(path, &records.collect::<Vec<_>>())
}

fn write(path: &Path, records: &[impl Serialize]) -> Result<()> {
    let mut text = String::new();
    for record in records {
        text.push_str(&(serde_json::to_string(record)? + "\n"));
    }
    Ok(whole::write(path, text.as_bytes())?)
}
