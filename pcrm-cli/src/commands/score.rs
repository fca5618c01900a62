//! `pcrm score`: scores texts or pairs with a trained reward model.

mod written;

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use pcrm_core::Error;
use pcrm_core::data::encode::encode_text;
use pcrm_core::data::preference::{Preference, ReadOptions, Strictness, Ties, Verdict};
use pcrm_core::data::render::check_turns;
use pcrm_core::data::scored::SCORED_BY;
use pcrm_core::data::texts::{Row, SourceRow, load_rows};
use pcrm_core::disk::whole::{folder_of, sweep};
use pcrm_core::model::{Scores, weights};
use pcrm_core::text::Tokenizer;
use pcrm_rl::score::score_sequences;

use self::written::{Written, mark, refuse_taken};
use crate::columns::ColumnArgs;
use crate::dataset::{length, say_beyond_training, spare_inputs};
use crate::hub::{Hub, Weights};
use crate::machine::Machine;
use crate::numbers::positive;
use crate::output::Output;
use crate::progress::{bar, say};
use crate::quantize::QuantizeArgs;
use crate::usage::usage;
use crate::warnings::Warnings;
use crate::{left_out, template, terminal};

/// Options of `pcrm score`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct ScoreArgs {
    /// Score with the reward model in this folder or Hub repository (org/name)
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Read these files, folders or Hub data sets (org/name, org/name:split): pairs (chosen, rejected) or
    /// texts (text; prompt and completion; messages)
    #[arg(long, value_name = "FILE", required = true, num_args = 1.., action = clap::ArgAction::Append)]
    data: Vec<PathBuf>,
    /// Write to this JSONL file, or to standard output for - [default: -]: every row, in order, with
    /// chosen_score and rejected_score, or score, and the model as scored_by; null and the reason as left_out if a
    /// row cannot be scored
    #[arg(long, value_name = "FILE")]
    output: Option<Output>,
    /// Also write the scored token ids
    #[arg(long)]
    ids: bool,
    /// Replace columns of these names that pcrm score did not write, such as scores of people
    #[arg(long)]
    overwrite_scores: bool,
    /// Leave out rows with a sequence of more than N tokens [default: all positions of the model]
    #[arg(long, value_name = "N", value_parser = positive::<usize>)]
    max_length: Option<usize>,
    /// Compute at most N tokens at once; the scores do not depend on it
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = positive::<usize>)]
    micro_tokens: usize,
    #[command(flatten)]
    columns: ColumnArgs,
    #[command(flatten)]
    hub: Hub,
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    storage: QuantizeArgs,
}

const EXAMPLES: &str = "\
Examples:
  pcrm score --model runs/rm --data pairs.jsonl --output scored.jsonl
  echo '{\"prompt\": \"Hi!\", \"completion\": \"Hello.\"}' > text.jsonl
  pcrm score --model runs/rm --data text.jsonl";

/// The number of rows scored and written together.
const CHUNK: usize = 512;

/// Scores every row and writes a line for each.
///
/// # Errors
/// Fails if the model is not a reward model, a file cannot be read, a row has values in the columns to be written or
/// no row can be scored; nothing is written then.
pub fn run(args: &ScoreArgs) -> Result<()> {
    let options = usage(args.options())?;
    let strictness = options.strictness;
    let backend = args.machine.open()?;
    let dir = args.hub.model_or_adapter("--model", &args.model, Weights::Read)?;
    let data = args.hub.data("--data", &args.data)?;
    let output = args.output.as_ref().and_then(Output::file);
    output.iter().try_for_each(|output| spare_inputs("--output", output, &data))?;
    let (model, tokenizer) = args.machine.trained(backend.as_ref(), &dir, args.storage.for_model(&dir))?;
    let outline = model.outline();
    let max_length = usage(length(args.max_length, outline.max_positions, outline))?;
    let scored = Scored { vocabulary: outline.inputs, pad: outline.pad };
    let (mut rows, report) = load_rows(&data, options)?;
    say(&report.to_string());
    let mut warnings = Warnings::default();
    report.shortfall().into_iter().for_each(|text| warnings.add(text));
    let paired = rows.iter().any(|(row, _)| matches!(row, Row::Pair(_)));
    let lost = leave_out_lost(&mut rows, &tokenizer);
    let usable = report.kept - lost.len();
    if let Some(first) = lost.first() {
        ensure!(strictness == Strictness::Skip && usable > 0, "{first}");
        let count = lost.len();
        warnings.add(format!("{count} of {} rows are left out (first: {first})", rows.len()));
    }
    warn_of_joins(&rows, &tokenizer);
    if !args.overwrite_scores {
        refuse_taken(&rows, paired, args.ids)?;
    }
    let mark = mark(&dir)?;
    let mut lines = Vec::new();
    let (mut too_long, mut lengths) = (0, Vec::with_capacity(rows.len()));
    let bar = bar(rows.len() as u64, "scoring");
    for chunk in rows.chunks(CHUNK) {
        let mut sequences = Vec::new();
        let mut places = Vec::new();
        for (row, _) in chunk {
            let ids = token_ids(row, &tokenizer, &scored).with_context(|| row.origin().to_string())?;
            let longest = ids.iter().map(Vec::len).max().unwrap_or(0);
            let start = sequences.len();
            places.push(match row {
                Row::LeftOut { reason, .. } => Err(reason.clone()),
                _ if longest > max_length => {
                    too_long += 1;
                    Err(format!("{longest} tokens, more than --max-length {max_length}"))
                }
                _ => {
                    lengths.push(longest);
                    sequences.extend(ids);
                    Ok(start..sequences.len())
                }
            });
        }
        let views: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        let scores = score_sequences(&model, &views, args.micro_tokens)?;
        for ((row, fields), places) in chunk.iter().zip(places) {
            let mut fields = fields.clone();
            let columns = Written::of(row, paired, args.ids);
            columns.clear(&mut fields);
            match places {
                Ok(places) => {
                    for (answer, place) in places.enumerate() {
                        let ids = args.ids.then(|| tokenizer.untyped(&sequences[place]));
                        columns.write(&mut fields, answer, scores[place], ids)?;
                    }
                }
                Err(reason) => columns.leave_out(&mut fields, reason),
            }
            fields.insert(SCORED_BY.to_owned(), mark.as_str().into());
            serde_json::to_writer(&mut lines, &fields)?;
            lines.push(b'\n');
        }
        bar.inc(chunk.len() as u64);
    }
    bar.finish_and_clear();
    ensure!(too_long < usable, "no rows are left: all exceed --max-length {max_length}");
    match left_out::too_long(too_long, rows.len(), "rows", max_length) {
        Some(text) => warnings.add(text),
        None if too_long > 0 => say(&format!("{too_long} rows are longer than --max-length {max_length}")),
        None => {}
    }
    say_beyond_training(outline, lengths.into_iter());
    let scored = usable - too_long;
    match output {
        Some(path) => {
            sweep(folder_of(path))?;
            weights::write(path, &lines)?;
            say(&format!("{scored} of {} rows scored, written to {}", rows.len(), path.display()));
        }
        None => terminal::result(&String::from_utf8_lossy(&lines))?,
    }
    if scored < rows.len() {
        say(&format!(
            "{} rows have no score (null) and a reason in {:?}",
            rows.len() - scored,
            left_out::COLUMN
        ));
    }
    warnings.repeat();
    Ok(())
}

impl ScoreArgs {
    /// Returns the options for reading records; refuses options without effect.
    fn options(&self) -> Result<ReadOptions> {
        ensure!(
            !self.columns.score_margins,
            "--score-margins has no effect here: scores do not depend on margins"
        );
        self.columns.options(Ties::Keep)
    }
}

/// Leaves out the rows with a turn that the chat template leaves out, whose scores would be those of other rows.
/// Returns their places and the reasons.
fn leave_out_lost(rows: &mut [SourceRow], tokenizer: &Tokenizer) -> Vec<String> {
    let mut lost = Vec::new();
    for (row, _) in rows {
        let checked = match row {
            Row::Pair(pair) => {
                let prompt = pair.prompt.as_ref();
                pair.answers.iter().try_for_each(|answer| check_turns(prompt, answer, tokenizer))
            }
            Row::Single { prompt, text, .. } => check_turns(prompt.as_ref(), text, tokenizer),
            Row::LeftOut { .. } => Ok(()),
        };
        let reason = match checked {
            Ok(()) => continue,
            Err(Error::Tokenizer(reason)) => reason,
            Err(error) => error.to_string(),
        };
        let origin = row.origin().clone();
        lost.push(format!("{origin}: {reason}"));
        *row = Row::LeftOut { origin, reason };
    }
    lost
}

/// Warns if prompts and answers are joined in a doubtful way.
fn warn_of_joins<'a>(rows: &'a [SourceRow], tokenizer: &Tokenizer) {
    let pair = |row: &'a Row| match row {
        Row::Pair(pair) => pair.pairs().next(),
        Row::Single { origin, prompt, text } => Some(Preference {
            origin,
            prompt: prompt.as_ref(),
            chosen: text,
            rejected: text,
            margin: None,
            scores: None,
            verdict: Verdict::Tied,
            in_set: None,
        }),
        Row::LeftOut { .. } => None,
    };
    template::warn_of_pairs(rows.iter().filter_map(|(row, _)| pair(row)), tokenizer);
}

/// The range of ids that the model accepts, and the id it never scores.
struct Scored {
    vocabulary: usize,
    pad: Option<u32>,
}

/// Returns the sequences of a row: preferred and dispreferred, the only one, or none for a row left out.
fn token_ids(row: &Row, tokenizer: &Tokenizer, scored: &Scored) -> Result<Vec<Vec<u32>>> {
    let encode = |prompt: Option<&_>, text: &_| -> Result<Vec<u32>> {
        let ids = encode_text(prompt, text, tokenizer, scored.pad)?;
        let beyond = ids.iter().find(|id| **id as usize >= scored.vocabulary);
        if let Some(id) = beyond {
            let text = tokenizer.decode(&[*id]).unwrap_or_default();
            bail!("token id {id} ({text:?}) is outside the model's vocabulary of {}", scored.vocabulary);
        }
        Ok(ids)
    };
    Ok(match row {
        Row::Pair(pair) => {
            pair.answers.iter().map(|answer| encode(pair.prompt.as_ref(), answer)).collect::<Result<_>>()?
        }
        Row::Single { prompt, text, .. } => vec![encode(prompt.as_ref(), text)?],
        Row::LeftOut { .. } => Vec::new(),
    })
}
