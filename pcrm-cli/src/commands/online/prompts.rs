//! The prompts of a run: read, encoded, and split into those to train on and those held out.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use pcrm_core::data::encode::encode_prompts;
use pcrm_core::data::preference::Ties;
use pcrm_core::data::prompts::load_prompts;
use pcrm_core::text::Tokenizer;
use pcrm_rl::online::Prompts;

use super::OnlineArgs;
use crate::progress::say;
use crate::template;
use crate::training::held_out;
use crate::warnings::Warnings;

/// Returns the training prompts and the held-out ones, if there are any.
///
/// # Errors
/// Fails if a file cannot be read, or if a split leaves one side without prompts.
pub fn prompts(
    args: &OnlineArgs,
    tokenizer: &Tokenizer,
    warnings: &mut Warnings,
) -> Result<(Prompts, Option<Prompts>)> {
    let mut read = |paths: &[PathBuf], role: &str| -> Result<Prompts> {
        let (rows, report) = load_prompts(paths, args.columns.options(Ties::Keep)?)?;
        say(&report.to_string());
        report.shortfall().into_iter().for_each(|text| warnings.add(format!("{role}: {text}")));
        let (encoded, report) = encode_prompts(&rows, tokenizer, args.rollout.max_prompt_length)?;
        say(&report.to_string());
        let systems = template::lost_systems_of_prompts(&rows, tokenizer);
        systems.into_iter().for_each(|text| warnings.add(format!("{role}: {text}")));
        Ok(Prompts::new(rows, encoded))
    };
    let all = read(&args.data, "training")?;
    match args.eval_split {
        Some(share) => {
            let (eval, train): (Vec<_>, Vec<_>) = all
                .encoded
                .into_iter()
                .partition(|prompt| held_out(args.machine.seed, prompt.prompt_id, share));
            ensure!(
                !eval.is_empty() && !train.is_empty(),
                "--eval-split {share}: leaves one side without prompts ({} to train on, {} held out)",
                train.len(),
                eval.len()
            );
            Ok((Prompts::new(all.records.clone(), train), Some(Prompts::new(all.records, eval))))
        }
        None if args.eval_data.is_empty() => Ok((all, None)),
        None => Ok((all, Some(read(&args.eval_data, "evaluation")?))),
    }
}
