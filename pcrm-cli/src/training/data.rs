//! The data of a run: encoded sets of answers for training and evaluation.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use pcrm_core::data::encode::EncodedSet;
use pcrm_core::data::overlap::overlap;
use pcrm_core::data::preference::{AnswerSet, Ties};
use pcrm_core::data::prompt_id::PromptId;
use pcrm_core::digest;
use pcrm_core::text::Tokenizer;

use super::DataOptions;
use crate::card::DataForm;
use crate::dataset::Reading;
use crate::report::data;
use crate::warnings::Warnings;
use crate::{left_out, template};

/// With fewer held-out pairs than this, evaluations are mostly noise.
const FEW_HELD_OUT: usize = 20;

/// The data of a run.
pub struct Encoded {
    /// The training sets.
    pub train: Vec<EncodedSet>,
    /// The evaluation sets.
    pub eval: Option<Vec<EncodedSet>>,
    /// The reports of the files.
    pub sources: Vec<data::Source>,
    /// The form of the texts.
    pub form: DataForm,
    /// Warnings about the data, repeated with the run's results.
    pub warnings: Warnings,
}

/// Reads, encodes and splits the data; sequences have at most `max_length` tokens and no `pad` at their end.
///
/// # Errors
/// Fails if a file cannot be read, no pair is usable, or the split leaves one side without pairs.
pub fn encoded(
    source: &DataOptions<'_>,
    reading: &Reading,
    ties: Ties,
    tokenizer: &Tokenizer,
    pad: Option<u32>,
    max_length: usize,
) -> Result<Encoded> {
    let mut warnings = Warnings::default();
    let mut read =
        |paths: &[PathBuf], role: &str| -> Result<(Vec<AnswerSet>, Vec<EncodedSet>, data::Source)> {
            let (rows, read) = reading.preferences(paths, ties)?;
            let (sets, encoded) = reading.encode(&rows, tokenizer, pad, max_length)?;
            let left_out = [read.shortfall(), left_out::unencoded(&encoded, max_length)];
            left_out.into_iter().flatten().for_each(|text| warnings.add(format!("{role}: {text}")));
            template::warn(&rows, tokenizer);
            Ok((rows, sets, data::Source { role: role.to_owned(), read, encoded }))
        };
    let (rows, encoded, read_first) = read(source.data, "training")?;
    let form = DataForm::of(&rows, &encoded);
    let mut sources = vec![read_first];
    let (train, eval) = match source.eval_split {
        Some(share) => {
            sources[0].role = "training and held out".to_owned();
            // Split by the prompt's identity, so that no prompt is on both sides, whatever the order and
            // schemas of the files.
            let (eval, train): (Vec<_>, Vec<_>) =
                encoded.into_iter().partition(|set| held_out(source.machine.seed, set.prompt_id, share));
            ensure!(
                !eval.is_empty() && !train.is_empty(),
                "--eval-split {share}: leaves one side without pairs ({} to train on, {} held out)",
                pairs(&train),
                pairs(&eval)
            );
            (train, Some(eval))
        }
        None if source.eval_data.is_empty() => (encoded, None),
        None => {
            let (eval_rows, eval, read_second) = read(source.eval_data, "evaluation")?;
            let shared = overlap(&rows, &eval_rows);
            if !shared.is_empty() {
                warnings.add(format!(
                    "{shared} of --eval-data are also in --data: evaluations partly measure memorisation"
                ));
            }
            sources.push(read_second);
            (encoded, Some(eval))
        }
    };
    if let Some(count) = eval.as_deref().map(pairs).filter(|count| *count < FEW_HELD_OUT) {
        let are = if count == 1 { "pair is" } else { "pairs are" };
        warnings.add(format!(
            "only {count} {are} held out: accuracy and loss of so few are mostly noise (use a larger \
             --eval-split, or --eval-data)"
        ));
    }
    Ok(Encoded { train, eval, sources, form, warnings })
}

/// Returns true if this seed holds out the prompt. The prompt's identity decides, so that no prompt is on
/// both sides.
pub fn held_out(seed: u64, prompt: PromptId, share: f64) -> bool {
    digest_fraction(&format!("{seed}\0{prompt}")) < share
}

/// Returns the number of pairs of these sets.
fn pairs(sets: &[EncodedSet]) -> usize {
    sets.iter().map(|set| set.comparisons.len()).sum()
}

/// Derives a number from 0 to 1 from a text's hash.
fn digest_fraction(text: &str) -> f64 {
    let digits = digest::text(text);
    u32::from_str_radix(&digits[..8], 16).map_or(0.0, |number| f64::from(number) / f64::from(u32::MAX))
}
