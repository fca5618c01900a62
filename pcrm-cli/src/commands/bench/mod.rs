//! `pcrm bench`: measures training and scoring speed, also as a share of the machine's matrix peak.

mod dpo;
mod encode;
mod gemm;
mod generate;
mod grpo;
mod memory;
mod pace;
mod prompts;
mod reward;
mod sft;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use pcrm_core::Backend;
use pcrm_core::data::encode::{EncodeOptions, EncodedSet, encode_sets};
use pcrm_core::data::preference::{AnswerSet, Content, Ties, load_preferences};
use pcrm_core::data::schema::Schema;
use pcrm_core::text::Tokenizer;

use self::reward::StepWork;
use crate::columns::ColumnArgs;
use crate::hub::Hub;
use crate::machine::Machine;
use crate::numbers::{positive, whole};

/// Subcommands of `pcrm bench`.
#[derive(Debug, Subcommand)]
pub enum BenchVerb {
    /// Time training steps of a reward model
    Reward(reward::BenchArgs),
    /// Time the scoring of pairs
    Score(reward::BenchArgs),
    /// Time training steps of a language model on the preferred answers of pairs
    Sft(sft::SftArgs),
    /// Time training steps of a policy on pairs, including its reference
    Dpo(dpo::DpoArgs),
    /// Time the sampling of answers
    Generate(generate::GenerateArgs),
    /// Time on-policy steps: sampling answers and updating on them
    Grpo(grpo::GrpoArgs),
    /// Time a sentence encoder on the answers of pairs
    Encode(encode::EncodeArgs),
    /// Time matrix products to find the machine's peak
    Gemm(gemm::GemmArgs),
}

/// The model and the pairs of the timed steps.
#[derive(Debug, Args)]
struct WorkArgs {
    /// Time the model in this Hugging Face folder or Hub repository (org/name)
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Draw random weights: the folder needs only config.json and a tokenizer
    #[arg(long)]
    random_init: bool,
    /// Use the first pairs that fit, in order, from these preference files and folders or Hub data sets
    /// (org/name, org/name:split)
    #[arg(long, value_name = "FILE", required = true, num_args = 1.., action = clap::ArgAction::Append)]
    data: Vec<PathBuf>,
    /// Time N steps
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = positive::<usize>)]
    steps: usize,
    /// Run N steps before the clock starts
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = whole::<usize>)]
    warmup: usize,
    /// Pairs per step, or prompts for ranked answers
    #[arg(long, value_name = "PAIRS", default_value_t = 8, value_parser = positive::<usize>)]
    batch: usize,
    /// Skip pairs with a sequence of N tokens or more (not counting the end token)
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = positive::<usize>)]
    max_length: usize,
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

/// Runs the subcommand.
///
/// # Errors
/// Fails if an option is invalid, a file cannot be read or too few pairs fit.
pub fn run(verb: &BenchVerb) -> Result<()> {
    match verb {
        BenchVerb::Reward(args) => reward::run(args, StepWork::Reward),
        BenchVerb::Score(args) => reward::run(args, StepWork::Score),
        BenchVerb::Sft(args) => sft::run(args),
        BenchVerb::Dpo(args) => dpo::run(args),
        BenchVerb::Generate(args) => generate::run(args),
        BenchVerb::Grpo(args) => grpo::run(args),
        BenchVerb::Encode(args) => encode::run(args),
        BenchVerb::Gemm(args) => gemm::run(args),
    }
}

fn system(backend: &dyn Backend) -> String {
    format!("pcrm {} {}", env!("CARGO_PKG_VERSION"), backend.name())
}

impl WorkArgs {
    /// Returns the first pairs or ranked sets that fit, in file order. HH dialogues are used only if
    /// both sides share everything up to the last assistant mark.
    fn fitting(
        &self,
        tokenizer: &Tokenizer,
        padding: Option<u32>,
        answers: Option<usize>,
    ) -> Result<Vec<EncodedSet>> {
        let files = self.hub.data("--data", &self.data)?;
        let (mut rows, report) = load_preferences(&files, self.columns.options(Ties::Drop)?)?;
        if report.schema == Some(Schema::HhDialogues) {
            rows.retain(shares_turns);
        }
        let need = (self.steps + self.warmup) * self.batch;
        // The limit does not count the end token: a sequence may have max_length tokens with it.
        let options = EncodeOptions { max_length: Some(self.max_length), ..EncodeOptions::new(padding) };
        let (encoded, _) = encode_sets(&rows, tokenizer, &options)?;
        let wanted = |set: &EncodedSet| answers.is_none_or(|answers| set.answers.len() == answers);
        let sets: Vec<EncodedSet> = encoded.into_iter().filter(wanted).take(need).collect();
        ensure!(
            sets.len() == need,
            "only {} fit; {need} are needed for --steps, --warmup and --batch",
            sets.len()
        );
        Ok(sets)
    }
}

fn shares_turns(row: &AnswerSet) -> bool {
    const TURN: &str = "\n\nAssistant:";
    let [Content::Text(chosen), Content::Text(rejected)] = &row.answers[..] else { return true };
    let cut = chosen.rfind(TURN).map_or(0, |at| at + TURN.len());
    rejected.as_bytes().get(..cut) == Some(&chosen.as_bytes()[..cut])
}

fn round(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}
