//! The first and last tokens of sequences, and the tokens that carry scores.

use std::collections::BTreeMap;

use serde::Serialize;

use super::finding::{Finding, Severity, Tally, many, percent};
use crate::data::answer_set::AnswerSet;
use crate::data::encode::{EncodedSet, Padding};
use crate::model::ModelConfig;
use crate::text::{SpecialToken, Tokenizer};

/// The number of tokens that are named among those that carry scores.
const SCORED: usize = 5;

/// A token that carries scores, and the number of its sequences.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Scored {
    /// The id.
    pub id: u32,
    /// The text.
    pub text: String,
    /// Sequences that end with it, padding taken off.
    pub sequences: usize,
}

/// The ends of all sequences, and tokens that should not be there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Ends {
    /// The number of sequences, two a pair.
    pub sequences: usize,
    /// Sequences that a chat template wrote.
    pub by_template: usize,
    /// Sequences that begin with two BOS.
    pub double_bos: Tally,
    /// Sequences that end with two EOS.
    pub double_eos: Tally,
    /// Sequences whose last token is not the EOS.
    pub without_eos: Tally,
    /// Plain texts with an EOS before their end.
    pub eos_inside: Tally,
    /// Pairs with the token for unknown text.
    pub unknown: Tally,
    /// Pairs with a token beyond the model's embedding.
    pub beyond_vocabulary: Tally,
    /// The size of the tokenizer's vocabulary: one more than its largest id.
    pub vocabulary: usize,
    /// The number of different tokens that carry scores.
    pub scored_tokens: usize,
    /// The most frequent of them.
    pub scored: Vec<Scored>,
}

impl Ends {
    /// Looks at sets that were encoded from `rows` and still have their padding.
    pub fn of(sets: &[EncodedSet], rows: &[AnswerSet], tokenizer: &Tokenizer, model: &ModelConfig) -> Self {
        let pad = Padding::of(model, tokenizer).id;
        let (bos, eos) = (id(tokenizer.bos()), id(tokenizer.eos()));
        let mut ends = Self { vocabulary: tokenizer.vocab_size(), ..Self::default() };
        let mut scored: BTreeMap<u32, usize> = BTreeMap::new();
        let by_template =
            |set: &EncodedSet| rows.get(set.row).is_some_and(|row| row.answers[0].is_conversation());
        for (set, pair) in sets.iter().flat_map(|set| set.pairs().map(move |pair| (set, pair))) {
            let by_template = by_template(set);
            for own in [pair.chosen, pair.rejected] {
                let at = |index: usize| pair.prompt.iter().chain(own).nth(index).copied();
                ends.sequences += 1;
                ends.by_template += usize::from(by_template);
                if bos.is_some() && at(0) == bos && at(1) == bos {
                    ends.double_bos.add(pair.origin);
                }
                let (last, before) = last_two(pair.prompt, own);
                if eos.is_some() && last == eos && before == eos {
                    ends.double_eos.add(pair.origin);
                }
                if last != eos || eos.is_none() {
                    ends.without_eos.add(pair.origin);
                }
                let (inside, length) = (pair.prompt.iter().chain(own), pair.prompt.len() + own.len());
                // A BOS that is the same token may begin a text.
                let mut inside = inside.take(length.saturating_sub(2)).skip(usize::from(bos == eos));
                if !by_template && eos.is_some() && inside.any(|token| Some(*token) == eos) {
                    ends.eos_inside.add(pair.origin);
                }
                *scored.entry(scored_token(pair.prompt, own, pad)).or_default() += 1;
            }
            let any = |wanted: &dyn Fn(u32) -> bool| {
                [pair.prompt, pair.chosen, pair.rejected].iter().any(|ids| ids.iter().any(|id| wanted(*id)))
            };
            if tokenizer.unk().is_some_and(|unk| any(&|id| id == unk.id)) {
                ends.unknown.add(pair.origin);
            }
            if any(&|id| id as usize >= model.vocabulary) {
                ends.beyond_vocabulary.add(pair.origin);
            }
        }
        ends.scored_tokens = scored.len();
        let mut scored: Vec<(u32, usize)> = scored.into_iter().collect();
        scored.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let named =
            |(id, sequences)| Scored { id, text: tokenizer.decode(&[id]).unwrap_or_default(), sequences };
        ends.scored = scored.into_iter().take(SCORED).map(named).collect();
        ends
    }

    /// Returns the findings.
    pub fn findings(&self, tokenizer: &Tokenizer, model: &ModelConfig) -> Vec<Finding> {
        let text = |token: Option<&SpecialToken>| token.map_or("none".to_owned(), |token| token.text.clone());
        let (bos, eos) = (text(tokenizer.bos()), text(tokenizer.eos()));
        let pairs = self.sequences / 2;
        let sequences = |tally: &Tally| {
            format!("{} ({})", many(tally.count, "sequence"), percent(tally.share(self.sequences)))
        };
        let mut findings = Vec::new();
        let mut say = |tally: &Tally, code, severity, found: String, advice: String| {
            if !tally.is_empty() {
                findings.push(Finding::new(code, severity, found, advice).tallied(tally));
            }
        };
        say(
            &self.double_bos,
            "double_bos",
            Severity::Warning,
            format!("{} begin with {bos} twice", sequences(&self.double_bos)),
            "Take it out of the texts, or out of the chat template".to_owned(),
        );
        say(
            &self.double_eos,
            "double_eos",
            Severity::Warning,
            format!("{} end with {eos} twice", sequences(&self.double_eos)),
            "The tokenizer adds one to those that have one: take it out of the texts or of tokenizer.json's \
             post-processor"
                .to_owned(),
        );
        say(
            &self.eos_inside,
            "eos_inside",
            Severity::Warning,
            format!("{} of plain text have {eos} before their end", sequences(&self.eos_inside)),
            "Texts that hold special tokens as text often come of a template that was applied already"
                .to_owned(),
        );
        say(
            &self.unknown,
            "unknown_tokens",
            Severity::Warning,
            format!(
                "{} ({}) with text that the tokenizer does not know",
                many(self.unknown.count, "pair"),
                percent(self.unknown.share(pairs))
            ),
            format!("The model sees {} in its place", text(tokenizer.unk().as_ref())),
        );
        say(
            &self.beyond_vocabulary,
            "beyond_vocabulary",
            Severity::Error,
            format!(
                "{} with tokens that the model has no embedding for: it has {}",
                many(self.beyond_vocabulary.count, "pair"),
                model.vocabulary
            ),
            format!(
                "The tokenizer gives ids up to {}: it is another model's, or tokens were added to it alone",
                self.vocabulary.saturating_sub(1)
            ),
        );
        findings.extend(self.end_findings(&eos));
        if self.vocabulary > model.vocabulary && self.beyond_vocabulary.is_empty() {
            findings.push(Finding::new(
                "large_vocabulary",
                Severity::Warning,
                format!(
                    "the tokenizer gives ids up to {}, the model has embeddings for {}",
                    self.vocabulary.saturating_sub(1),
                    model.vocabulary
                ),
                "These data use none of the ids beyond; others may, and then fail",
            ));
        }
        findings.extend(padding_finding(Padding::of(model, tokenizer), tokenizer));
        findings
    }

    /// The finding about sequences that do not end with the EOS.
    fn end_findings(&self, eos: &str) -> Option<Finding> {
        if self.without_eos.is_empty() {
            return None;
        }
        let said = |scored: &Scored| format!("{:?} ({})", scored.text, percent_of(scored, self.sequences));
        let (severity, how, advice) = match self.scored_tokens {
            1 => (
                Severity::Note,
                "all of them with the same token",
                "A score is read at the last token; the same one everywhere will do. Whoever scores with the model must \
                 end texts likewise",
            ),
            _ => (
                Severity::Warning,
                "with various tokens",
                "A score is read at the last token: where it belongs to the answer's text nothing tells the model that \
                 the answer is over. Let the chat template end every answer with one token",
            ),
        };
        let scored: Vec<String> = self.scored.iter().map(said).collect();
        let found = format!(
            "{} ({}) do not end with {eos}, but {how}: {}",
            many(self.without_eos.count, "sequence"),
            percent(self.without_eos.share(self.sequences)),
            scored.join(", ")
        );
        Some(Finding::new("without_eos", severity, found, advice).tallied(&self.without_eos))
    }
}

fn percent_of(scored: &Scored, all: usize) -> String {
    percent(scored.sequences as f64 / all.max(1) as f64)
}

fn padding_finding(padding: Padding, tokenizer: &Tokenizer) -> Option<Finding> {
    let eos = tokenizer.eos()?;
    if padding.id != Some(eos.id) {
        return None;
    }
    let found = match padding.named {
        true => format!("padding is the EOS {}", eos.text),
        false => format!("no padding token is named, so the EOS {} is taken for it", eos.text),
    };
    Some(Finding::new(
        "pad_is_eos",
        Severity::Warning,
        format!("{found}: scores are read at the token before it"),
        "transformers and TRL never score padding, and pcrm does as they do. A token of its own as \"pad_token\" in \
         tokenizer_config.json lets the EOS carry the score",
    ))
}

fn id(token: Option<&SpecialToken>) -> Option<u32> {
    token.map(|token| token.id)
}

fn last_two(prompt: &[u32], own: &[u32]) -> (Option<u32>, Option<u32>) {
    let mut back = prompt.iter().chain(own).rev().copied();
    (back.next(), back.next())
}

/// The last token that is no padding, or the first of all.
fn scored_token(prompt: &[u32], own: &[u32], pad: Option<u32>) -> u32 {
    let all = || prompt.iter().chain(own).copied();
    all().rev().find(|id| Some(*id) != pad).or_else(|| all().next()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
