//! Scoring sets of answers.

use anyhow::{Context, Result, bail, ensure};
use pcrm_core::data::encode::{common_prefix, encode_text};
use pcrm_core::model::Scores;
use pcrm_core::tree::within_budget;
use pcrm_eval::Labels;
use pcrm_rl::score::score_sequences;

use super::{BROKEN, LoadedScorer, Pace, Scoring, ScoringData};
use crate::commands::eval::items::{Body, Item};
use crate::commands::eval::sets::Answers;
use crate::left_out;
use crate::progress::say;
use crate::warnings::Warnings;

impl Scoring<'_> {
    /// Scores the sets of answers whose answers all fit.
    pub(super) fn score_sets(
        &self,
        rows: &ScoringData,
        scorer: &mut LoadedScorer,
        max_length: usize,
        warnings: &mut Warnings,
    ) -> Result<Vec<Item>> {
        let LoadedScorer { model, tokenizer, cache, .. } = scorer;
        let (pad, vocabulary) = (model.outline().pad, model.outline().inputs);
        let mut encoded: Vec<(&Item, &Answers, Vec<Vec<u32>>)> = Vec::new();
        for (answers, item) in &rows.sets {
            let ids = |answer: &String| -> Result<Vec<u32>> {
                let (prompt, text) = answers.contents(answer, tokenizer);
                let ids = encode_text(Some(&prompt), &text, tokenizer, pad);
                let ids = ids.with_context(|| item.key.clone())?;
                if let Some(id) = ids.iter().find(|id| **id as usize >= vocabulary) {
                    let row = &item.key;
                    bail!("{row}: token id {id} is outside the model's vocabulary of {vocabulary}");
                }
                Ok(ids)
            };
            let ids: Vec<Vec<u32>> = answers.answers.iter().map(ids).collect::<Result<_>>()?;
            if ids.iter().all(|ids| (1..=max_length).contains(&ids.len())) {
                encoded.push((item, answers, ids));
            }
        }
        let (too_long, all) = (rows.sets.len() - encoded.len(), rows.sets.len());
        ensure!(!encoded.is_empty(), "no sets of answers are left: all exceed --max-length {max_length}");
        match left_out::too_long(too_long, all, "sets of answers", max_length) {
            Some(text) => warnings.add(text),
            None if too_long > 0 => {
                say(&format!("{too_long} sets have an answer beyond --max-length {max_length}"))
            }
            None => {}
        }
        let all = encoded.iter().flat_map(|(_, _, ids)| ids.iter().map(Vec::as_slice));
        let unknown: Vec<&[u32]> = all.clone().filter(|ids| cache.get(ids).is_none()).collect();
        let mut pace = Pace::new(unknown.len(), all.count());
        for part in within_budget(&unknown, self.micro_tokens, |ids| ids.len()) {
            for (ids, score) in part.iter().zip(score_sequences(model, part, self.micro_tokens)?) {
                ensure!(score.is_finite(), BROKEN);
                cache.insert(ids, score);
            }
            pace.went(part.len(), cache);
        }
        pace.end();
        let item = |(item, answers, ids): (&Item, &Answers, Vec<Vec<u32>>)| {
            let scores = ids.iter().map(|ids| cache.get(ids).map(f64::from)).collect::<Option<Vec<f64>>>();
            let scores = scores.context("an answer was not scored")?;
            let lengths: Vec<usize> = match answers.single {
                // A single answer shares nothing with others.
                true => vec![tokenizer.encode(&answers.answers[0])?.len()],
                false => {
                    let shared = ids.iter().map(|other| common_prefix(&ids[0], other)).min().unwrap_or(0);
                    ids.iter().map(|ids| ids.len() - shared).collect()
                }
            };
            let body = match (&answers.labels, answers.single) {
                (Labels::Human(human), true) => {
                    Body::Answer { score: scores[0], length: lengths[0], human: human[0] }
                }
                (labels, _) => Body::Set { scores, lengths, labels: labels.clone() },
            };
            Ok(Item { body, ..item.clone() })
        };
        encoded.into_iter().map(item).collect()
    }
}
