//! What a run reads: pairs to learn from and pairs to evaluate on, encoded.

use anyhow::{Result, ensure};
use pcrm_core::data::encode::EncodedPair;
use pcrm_core::data::overlap::overlap;
use pcrm_core::text::Tokenizer;

use super::TrainingArgs;
use crate::card::Form;
use crate::hashes::digest_text;
use crate::progress::say;
use crate::report::data::Source;

/// What a run reads.
pub struct Encoded {
    /// Pairs to learn from.
    pub train: Vec<EncodedPair>,
    /// Pairs to evaluate on.
    pub eval: Option<Vec<EncodedPair>>,
    /// What the files were.
    pub sources: Vec<Source>,
    /// The form of the texts.
    pub form: Form,
}

/// Reads, encodes and splits the data.
///
/// # Errors
/// Files that cannot be read, no usable pair, a split that leaves one side without pairs.
pub fn encoded(args: &TrainingArgs, tokenizer: &Tokenizer, pad: Option<u32>) -> Result<Encoded> {
    let (rows, read) = args.reading.preferences(&args.data, args.kept_ties())?;
    let (encoded, report) = args.reading.encode(&rows, tokenizer, pad)?;
    let form = Form::of(&rows, &encoded);
    let mut sources = vec![Source { role: "training".to_owned(), read, encoded: report }];
    let (train, eval) = match args.eval_split {
        Some(share) => {
            ensure!(share > 0.0 && share < 1.0, "--eval-split {share}: expected a share between 0 and 1");
            sources[0].role = "training and held out".to_owned();
            // By the prompt's hash: no prompt on both sides, whatever the order of the file.
            let (eval, train): (Vec<_>, Vec<_>) = encoded.into_iter().partition(|pair| {
                digest_fraction(&format!("{}\0{}", args.machine.seed, pair.prompt_text)) < share
            });
            ensure!(
                !eval.is_empty() && !train.is_empty(),
                "--eval-split {share}: leaves one side without pairs"
            );
            (train, Some(eval))
        }
        None if args.eval_data.is_empty() => (encoded, None),
        None => {
            let (eval_rows, read) = args.reading.preferences(&args.eval_data, args.kept_ties())?;
            let shared = overlap(&rows, &eval_rows);
            if !shared.is_empty() {
                say(&format!(
                    "warning: {shared} of --eval-data stand in --data too: what they measure is memory as well"
                ));
            }
            let (eval, report) = args.reading.encode(&eval_rows, tokenizer, pad)?;
            sources.push(Source { role: "evaluation".to_owned(), read, encoded: report });
            (encoded, Some(eval))
        }
    };
    Ok(Encoded { train, eval, sources, form })
}

/// A number from 0 to 1 from a text's hash.
fn digest_fraction(text: &str) -> f64 {
    let digits = digest_text(text);
    u32::from_str_radix(&digits[..8], 16).map_or(0.0, |number| f64::from(number) / f64::from(u32::MAX))
}
