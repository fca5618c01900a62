//! Example pairs as tokens: the cut between prompt and answers, special tokens, and the token that carries
//! the score.

use anyhow::Result;
use pcrm_core::data::encode::EncodedPair;
use pcrm_core::text::Tokenizer;
use pcrm_core::text::pieces::pieces;
use serde::Serialize;

/// The tokens of a prompt to show: from its start and from its end, where the cut is.
const PROMPT: Shown = Shown { first: 24, last: 40 };
/// The tokens of an answer to show.
const ANSWER: Shown = Shown { first: 56, last: 16 };

/// The numbers of tokens to show of a long part.
#[derive(Clone, Copy)]
struct Shown {
    first: usize,
    last: usize,
}

/// A pair as tokens.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Example {
    /// The place of the record: `train.jsonl:12`.
    pub origin: String,
    /// The constraint's similarity of the answers, if it has one.
    pub similarity: Option<f32>,
    /// Δ*, if the pair is bounded.
    pub bound: Option<f32>,
    /// The tokens that both sequences begin with.
    pub prompt: SequencePart,
    /// The rest of the preferred sequence; its last token carries the score.
    pub chosen: SequencePart,
    /// The rest of the dispreferred sequence; its last token carries the score.
    pub rejected: SequencePart,
}

/// A part of a sequence.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SequencePart {
    /// All its tokens.
    pub ids: Vec<u32>,
    /// The cells to show.
    #[serde(rename = "pieces")]
    pub cells: Vec<Cell>,
}

/// A cell of a shown part.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// A text token, or the tokens that make up one character.
    Text(String),
    /// A special token.
    Special(String),
    /// The token that carries the score, text or special.
    Scored(String),
    /// The number of omitted tokens.
    LeftOut(usize),
}

/// Returns the indices of `wanted` out of `count` pairs, evenly spread from the first on.
pub fn spread(count: usize, wanted: usize) -> impl Iterator<Item = usize> {
    let wanted = wanted.min(count);
    (0..wanted).map(move |at| at * count / wanted)
}

/// Returns a pair as tokens, with its similarity and bound.
///
/// # Errors
/// Fails if the tokenizer cannot decode a token.
pub fn example(pair: EncodedPair<'_>, tokenizer: &Tokenizer, prior: (Option<f32>, f32)) -> Result<Example> {
    let before = pair.prompt.last().copied();
    let answer = |ids: &[u32]| -> Result<SequencePart> {
        let mut part = part(tokenizer, before, ids, ANSWER)?;
        if let Some(last) = part.cells.last_mut()
            && let Cell::Text(text) | Cell::Special(text) = last
        {
            *last = Cell::Scored(std::mem::take(text));
        }
        Ok(part)
    };
    Ok(Example {
        origin: pair.origin.to_string(),
        similarity: prior.0,
        bound: Some(prior.1).filter(|bound| bound.is_finite()),
        prompt: part(tokenizer, None, pair.prompt, PROMPT)?,
        chosen: answer(pair.chosen)?,
        rejected: answer(pair.rejected)?,
    })
}

fn part(tokenizer: &Tokenizer, before: Option<u32>, ids: &[u32], shown: Shown) -> Result<SequencePart> {
    let run = |before: Option<u32>, ids: &[u32]| -> Result<Vec<Cell>> {
        let cell = |piece: pcrm_core::text::pieces::Piece| match piece.ids[..] {
            [id] if tokenizer.is_special(id) => Cell::Special(piece.text),
            _ => Cell::Text(piece.text),
        };
        Ok(pieces(tokenizer, before, ids)?.into_iter().map(cell).collect())
    };
    // Omitting eight tokens or fewer saves no space.
    let cells = match ids.len().checked_sub(shown.first + shown.last) {
        Some(left_out) if left_out > 8 => {
            let back = ids.len() - shown.last;
            let mut cells = run(before, &ids[..shown.first])?;
            cells.push(Cell::LeftOut(left_out));
            cells.extend(run(Some(ids[back - 1]), &ids[back..])?);
            cells
        }
        _ => run(before, ids)?,
    };
    Ok(SequencePart { ids: ids.to_vec(), cells })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: examples are spread over the data, appear once each, and never exceed the number of pairs.
    #[test]
    fn examples_are_spread() {
        assert_eq!(spread(100, 3).collect::<Vec<_>>(), [0, 33, 66]);
        assert_eq!(spread(2, 5).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(spread(0, 5).count() + spread(5, 0).count(), 0);
    }
}
