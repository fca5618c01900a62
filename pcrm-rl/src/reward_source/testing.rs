//! Batches for tests of reward sources.

use std::path::Path;
use std::sync::Arc;

use pcrm_core::data::conversation::Content;
use pcrm_core::data::prompts::Prompt;
use pcrm_core::data::report::Origin;
use serde_json::Value;

use super::{Answer, AnswerTexts, Answers, Preparation, RewardSource, Spec, Weighted, open};
use crate::error::Result;

/// Owned prompts, texts and tokens for a batch to borrow.
#[derive(Default)]
pub struct OwnedAnswers {
    prompts: Vec<Prompt>,
    texts: Vec<AnswerTexts>,
    ids: Vec<Vec<u32>>,
}

impl OwnedAnswers {
    /// Adds an answer: prompt (text or messages), columns, answer. Its tokens are its bytes.
    pub fn add(&mut self, prompt: Value, columns: Value, answer: &str) {
        let line = self.prompts.len() as u64 + 1;
        let origin = Origin { file: Arc::from(Path::new("rows.jsonl")), line, record: line };
        let prompt = Content::from_value(&prompt).unwrap();
        let Value::Object(columns) = columns else { panic!("{columns}") };
        let read = match &prompt {
            Content::Text(text) => text.clone(),
            Content::Messages(turns) => {
                turns.iter().map(|turn| format!("<{}>{}", turn.role, turn.content)).collect()
            }
        };
        let sequence = format!("{read}{answer}<eos>");
        self.texts.push(AnswerTexts { prompt: read, completion: answer.to_owned(), sequence });
        self.ids.push(answer.bytes().map(u32::from).collect());
        self.prompts.push(Prompt { origin, prompt, columns });
    }

    /// Creates answers to one prompt without columns.
    pub fn of(answers: &[&str]) -> Self {
        let mut rows = Self::default();
        answers.iter().for_each(|answer| rows.add(Value::from("q"), serde_json::json!({}), answer));
        rows
    }

    pub fn prompts(&self) -> &[Prompt] {
        &self.prompts
    }

    pub fn ids_mut(&mut self) -> &mut Vec<Vec<u32>> {
        &mut self.ids
    }

    fn answers(&self) -> Vec<Answer<'_>> {
        let rows = self.prompts.iter().zip(&self.texts).zip(&self.ids);
        rows.map(|((prompt, texts), ids)| Answer { prompt, texts, completion_ids: ids, ended: true })
            .collect()
    }

    /// Returns the checked result of a source.
    pub fn scored_by(&self, source: &mut dyn RewardSource) -> Result<super::Scored> {
        source.checked_score(&Answers { step: 3, rows: &self.answers() })
    }

    /// Returns the rewards of weighted sources.
    pub fn weighed_by(&self, sources: &mut Weighted) -> Result<super::Rewards> {
        sources.score(&Answers { step: 3, rows: &self.answers() })
    }
}

/// Opens the sources of these texts.
pub fn sources(texts: &[&str]) -> Result<Weighted> {
    let specs: Vec<Spec> = texts.iter().map(|text| text.parse()).collect::<Result<_>>()?;
    open(&specs, &mut |dir| panic!("{}", dir.display()))
}

/// Returns the rewards of one source.
pub fn rewards(text: &str, rows: &OwnedAnswers) -> Result<Vec<Option<f32>>> {
    let mut sources = sources(&[text])?;
    sources.prepare(&Preparation { prompts: rows.prompts(), logs: None })?;
    Ok(rows.weighed_by(&mut sources)?.total)
}
