//! Checks the first and last tokens of sequences, and the tokens that scores are read at.

use std::collections::BTreeMap;

use serde::Serialize;

use super::finding::{Finding, Severity, Tally, many, percent};
use crate::data::answer_set::AnswerSet;
use crate::data::encode::{EncodedSet, Padding};
use crate::model::Outline;
use crate::text::{SpecialToken, Tokenizer};

/// The number of scored tokens that a finding lists.
const SCORED: usize = 5;

/// A token at which scores are read, and the number of sequences that end with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScoredToken {
    /// The id.
    pub id: u32,
    /// The text.
    pub text: String,
    /// Sequences that end with it, without padding.
    pub sequences: usize,
}

/// Counts of sequence ends, and of tokens that should not occur.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Ends {
    /// The number of sequences, two per pair.
    pub sequences: usize,
    /// Sequences rendered by a chat template.
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
    /// The number of different tokens at which scores are read.
    pub scored_tokens: usize,
    /// The most frequent of these tokens.
    pub scored: Vec<ScoredToken>,
}

impl Ends {
    /// Counts the ends of sets that were encoded from `rows` and still have their padding.
    pub fn of<'a>(
        sets: &[EncodedSet],
        rows: &[AnswerSet],
        tokenizer: &Tokenizer,
        model: impl Into<Outline<'a>>,
    ) -> Self {
        let model = model.into();
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
                // If BOS and EOS are the same token, it may begin a text.
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
            if any(&|id| id as usize >= model.inputs) {
                ends.beyond_vocabulary.add(pair.origin);
            }
        }
        ends.scored_tokens = scored.len();
        let mut scored: Vec<(u32, usize)> = scored.into_iter().collect();
        scored.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let named = |(id, sequences)| ScoredToken {
            id,
            text: tokenizer.decode(&[id]).unwrap_or_default(),
            sequences,
        };
        ends.scored = scored.into_iter().take(SCORED).map(named).collect();
        ends
    }

    /// Returns the findings.
    pub fn findings<'a>(&self, tokenizer: &Tokenizer, model: impl Into<Outline<'a>>) -> Vec<Finding> {
        let model = model.into();
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
            "Remove it from the texts or from the chat template".to_owned(),
        );
        say(
            &self.double_eos,
            "double_eos",
            Severity::Warning,
            format!("{} end with {eos} twice", sequences(&self.double_eos)),
            "The tokenizer adds one to texts that already have one: remove it from the texts or from \
             tokenizer.json's post-processor"
                .to_owned(),
        );
        say(
            &self.eos_inside,
            "eos_inside",
            Severity::Warning,
            format!("{} of plain text have {eos} before their end", sequences(&self.eos_inside)),
            "Special tokens within a text often mean that a template was already applied".to_owned(),
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
            format!("The model sees {} instead", text(tokenizer.unk().as_ref())),
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
                "The tokenizer gives ids up to {}: it belongs to another model, or tokens were added to the \
                 tokenizer only",
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
                "These data use none of the higher ids; other data may, and then fail",
            ));
        }
        findings.extend(padding_finding(Padding::of(model, tokenizer), tokenizer));
        findings
    }

    /// Returns the finding about sequences that do not end with the EOS.
    fn end_findings(&self, eos: &str) -> Option<Finding> {
        if self.without_eos.is_empty() {
            return None;
        }
        let said =
            |scored: &ScoredToken| format!("{:?} ({})", scored.text, percent_of(scored, self.sequences));
        let (severity, how, advice) = match self.scored_tokens {
            1 => (
                Severity::Note,
                "all of them with the same token",
                "A score is read at the last token, and the same token everywhere is enough. Texts scored \
                 later must end the same way",
            ),
            _ => (
                Severity::Warning,
                "with various tokens",
                "A score is read at the last token: if it is part of the answer's text, nothing shows the \
                 model that the answer is complete. Let the chat template end every answer with one token",
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

fn percent_of(scored: &ScoredToken, all: usize) -> String {
    percent(scored.sequences as f64 / all.max(1) as f64)
}

fn padding_finding(padding: Padding, tokenizer: &Tokenizer) -> Option<Finding> {
    let eos = tokenizer.eos()?;
    if padding.id != Some(eos.id) {
        return None;
    }
    let found = match padding.named {
        true => format!("padding is the EOS {}", eos.text),
        false => format!("no padding token is named, so the EOS {} is used", eos.text),
    };
    Some(Finding::new(
        "pad_is_eos",
        Severity::Warning,
        format!("{found}: scores are read at the token before it"),
        "transformers and TRL never score padding, and neither does pcrm. A separate \"pad_token\" in \
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

/// Returns the last token that is not padding, or the first token if all are padding.
fn scored_token(prompt: &[u32], own: &[u32], pad: Option<u32>) -> u32 {
    let all = || prompt.iter().chain(own).copied();
    all().rev().find(|id| Some(*id) != pad).or_else(|| all().next()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
