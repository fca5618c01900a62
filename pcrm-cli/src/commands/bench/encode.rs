//! `pcrm bench encode`: times a sentence encoder.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use pcrm_core::data::preference::{AnswerSet, Content, Ties, load_preferences};
use pcrm_core::encoder::{self, longest_first};
use serde::Serialize;

use super::memory::{Memory, Peak};
use super::round;
use crate::columns::ColumnArgs;
use crate::hub::Hub;
use crate::machine::Machine;
use crate::numbers::positive;
use crate::priors::priors;
use crate::terminal;
use crate::usage::usage;

/// Options of `pcrm bench encode`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct EncodeArgs {
    /// Time this sentence encoder: a name, or JSON such as '{"kind": "bert", "path": "FOLDER"}'
    #[arg(long, value_name = "NAME|JSON")]
    encoder: String,
    /// Use hidden states of the model in this Hugging Face folder or Hub repository, for the encoder policy
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Encode each distinct answer once, from these preference files and folders or Hub data sets (org/name,
    /// org/name:split)
    #[arg(long, value_name = "FILE", required = true, num_args = 1.., action = clap::ArgAction::Append)]
    data: Vec<PathBuf>,
    /// Use the first N answers [default: all]
    #[arg(long, value_name = "N", value_parser = positive::<usize>)]
    sentences: Option<usize>,
    /// Repeat N times and report the fastest
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive::<usize>)]
    rounds: usize,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    columns: ColumnArgs,
    #[command(flatten)]
    hub: Hub,
    #[command(flatten)]
    machine: Machine,
}

const EXAMPLES: &str = "\
Examples:
  pcrm bench encode --encoder bag-of-words --data helpful-base.test.jsonl.gz
  pcrm bench encode --encoder '{\"kind\": \"bert\", \"path\": \"all-MiniLM-L6-v2\"}' \
   --data helpful-base.test.jsonl.gz --backend tch --threads 2 --json";

#[derive(Debug, Serialize)]
struct Speed {
    system: String,
    encoder: serde_json::Value,
    device: String,
    dtype: String,
    sentences: usize,
    sentences_per_s: f64,
    tokens_per_s: Option<f64>,
    mean_tokens: Option<f64>,
    #[serde(flatten)]
    peak: Peak,
}

/// Times an encoder and prints its speed. Tokenising is timed, loading is not.
///
/// # Errors
/// Fails if an option is invalid, a file cannot be read or the encoder fails.
pub fn run(args: &EncodeArgs) -> Result<()> {
    let encoder = usage(encoder::parse(&args.encoder).context("--encoder"))?;
    let backend = args.machine.open()?;
    let memory = Memory::of(backend.as_ref());
    let model = match &args.model {
        Some(model) => Some(args.hub.model("--model", model, crate::hub::Weights::Read)?),
        None => None,
    };
    let (rows, _) =
        load_preferences(&args.hub.data("--data", &args.data)?, args.columns.options(Ties::Keep)?)?;
    let answers: Vec<String> = rows.iter().flat_map(answers).collect();
    let some = &answers[..args.sentences.unwrap_or(usize::MAX).min(answers.len())];
    let texts = longest_first(some.iter().map(String::as_str));
    let priors = priors(&args.machine, model.as_ref())?;
    let mut embedder = encoder.open(&texts, &priors).context("--encoder")?;
    let at_once = embedder.at_once().max(1);
    embedder.embed(&texts[texts.len() - texts.len().min(at_once)..]).context("--encoder")?; // warm-up
    let (mut seconds, mut tokens) = (f64::INFINITY, None);
    for _ in 0..args.rounds {
        let (before, started) = (embedder.tokens(), Instant::now());
        for batch in texts.chunks(at_once) {
            embedder.embed(batch).context("--encoder")?;
        }
        seconds = started.elapsed().as_secs_f64().min(seconds);
        tokens = embedder.tokens().zip(before).map(|(after, before)| (after - before) as f64);
    }
    let speed = Speed {
        system: format!("pcrm {} {}", env!("CARGO_PKG_VERSION"), args.machine.backend),
        encoder: encoder.to_tagged()?,
        device: args.machine.device.to_string(),
        dtype: args.machine.dtype.to_string(),
        sentences: texts.len(),
        sentences_per_s: round(texts.len() as f64 / seconds, 2),
        tokens_per_s: tokens.map(|tokens| round(tokens / seconds, 1)),
        mean_tokens: tokens.map(|tokens| round(tokens / texts.len() as f64, 1)),
        peak: memory.peak(backend.as_ref()),
    };
    match args.json {
        true => terminal::result(&(serde_json::to_string(&speed)? + "\n")),
        false => terminal::result(&format!(
            "{:.1} sentences/s, {} tokens/s, {} ({} sentences{})\n",
            speed.sentences_per_s,
            speed.tokens_per_s.map_or("?".to_owned(), |speed| format!("{speed:.0}")),
            speed.peak.text(),
            speed.sentences,
            speed.mean_tokens.map_or(String::new(), |mean| format!(" of {mean:.0} tokens")),
        )),
    }
}

/// Returns the answers of a set as texts; of a dialogue, the last assistant message.
fn answers(row: &AnswerSet) -> Vec<String> {
    const TURN: &str = "\n\nAssistant:";
    let text = |content: &Content| match content {
        Content::Text(text) => {
            text.rfind(TURN).map_or(text.as_str(), |at| &text[at + TURN.len()..]).trim().to_owned()
        }
        Content::Messages(turns) => turns.last().map(|turn| turn.content.clone()).unwrap_or_default(),
    };
    row.answers.iter().map(text).collect()
}
