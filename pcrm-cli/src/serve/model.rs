//! A served reward model, and the conversion of requests to its tokens.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use pcrm_core::data::conversation::{Content, Message};
use pcrm_core::data::encode::{encode_text, strip_padding};
use pcrm_core::model::{Outline, ScoringModel};
use pcrm_core::text::{Span, Tokenizer};
use pcrm_rl::sharing::{SharedScores, score_shared};

use super::ask::{Input, Side, TooLong};
use super::ending::Ending;
use super::refusal::{Refusal, RefusalKind};
use super::scores::Range;

/// A model that computes scores on one thread.
pub trait ServedScorer: Send {
    /// Computes the score of every sequence, in one pass.
    ///
    /// # Errors
    /// Fails if the model fails.
    fn scores(&self, sequences: &[&[u32]]) -> anyhow::Result<SharedScores>;
}

impl ServedScorer for ScoringModel {
    fn scores(&self, sequences: &[&[u32]]) -> anyhow::Result<SharedScores> {
        Ok(score_shared(self, sequences)?)
    }
}

/// A named model. A reload creates a new one; requests keep the one they were tokenised for.
pub struct Model {
    pub name: String,
    pub dir: PathBuf,
    /// The digest of the folder's files.
    pub sha: String,
    /// The name of the only label, from `config.json`.
    pub label: String,
    /// The most tokens per sequence.
    pub most: usize,
    /// The range of scores in training, if known.
    pub range: Option<Range>,
    tokenizer: Tokenizer,
    ending: Ending,
    facts: Facts,
    scorer: Mutex<Box<dyn ServedScorer>>,
}

/// The texts that get the end of training answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Close {
    /// Queries of OpenRLHF end as in training; other texts are scored as they are
    #[default]
    Openrlhf,
    /// All texts end as in training
    All,
    /// All texts are scored as they are
    None,
}

/// The data of a model's folder.
pub struct Folder {
    pub name: String,
    pub dir: PathBuf,
    pub sha: String,
    pub range: Option<Range>,
}

/// The token limits of a model.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// The size of the vocabulary; ids that a client sends must be below it.
    vocabulary: usize,
    /// The number of input ids that a text may produce; an encoder has one per token and type.
    inputs: usize,
    pad: Option<u32>,
}

impl Facts {
    pub fn of(outline: Outline<'_>) -> Self {
        Self { vocabulary: outline.vocabulary, inputs: outline.inputs, pad: outline.pad }
    }
}

impl Model {
    /// Assembles a model from its parts.
    pub fn new(
        folder: Folder,
        facts: Facts,
        tokenizer: Tokenizer,
        most: usize,
        scorer: Box<dyn ServedScorer>,
    ) -> Self {
        let label = label(&folder.dir).unwrap_or_else(|| "LABEL_0".to_owned());
        Self {
            name: folder.name,
            dir: folder.dir,
            sha: folder.sha,
            label,
            most,
            range: folder.range,
            ending: Ending::of(&tokenizer),
            tokenizer,
            facts,
            scorer: Mutex::new(scorer),
        }
    }

    /// Computes the scores of sequences.
    ///
    /// # Errors
    /// Fails if the model fails.
    pub fn scores(&self, sequences: &[&[u32]]) -> anyhow::Result<SharedScores> {
        let scorer = self.scorer.lock().map_err(|_| anyhow::anyhow!("the model's thread ended"))?;
        scorer.scores(sequences)
    }

    /// Returns the token ids of an input.
    ///
    /// # Errors
    /// Fails if the tokenizer or the template refuses the input, or if the sequence is empty, too long, or
    /// has a token outside the model's vocabulary.
    pub fn tokens(&self, input: &Input, too_long: TooLong, close: Close) -> Result<Vec<u32>, Refusal> {
        let mut ids = self.encoded(input, close).map_err(invalid)?;
        if let Some(pad) = self.facts.pad {
            strip_padding(&mut ids, pad);
        }
        if ids.is_empty() {
            return Err(Refusal::new(RefusalKind::Empty, "the text has no tokens; expected at least one"));
        }
        let most = if matches!(input, Input::Ids(_)) { self.facts.vocabulary } else { self.facts.inputs };
        if let Some(id) = ids.iter().find(|id| **id as usize >= most) {
            let message = format!("token id {id} is outside the model's vocabulary of {most}");
            return Err(Refusal::new(RefusalKind::Invalid, message));
        }
        self.cut(&mut ids, too_long)?;
        Ok(ids)
    }

    /// Returns the tokens of a text; `special` adds those that the tokenizer adds.
    ///
    /// # Errors
    /// Fails if the tokenizer refuses the text.
    pub fn spans(&self, text: &str, special: bool) -> Result<Vec<Span>, Refusal> {
        self.tokenizer.spans(text, special).map_err(invalid)
    }

    /// Returns the text of token ids; `plain` leaves out special tokens.
    ///
    /// # Errors
    /// Fails if an id is outside the vocabulary.
    pub fn text(&self, ids: &[u32], plain: bool) -> Result<String, Refusal> {
        let most = self.tokenizer.vocab_size();
        if let Some(id) = ids.iter().find(|id| **id as usize >= most) {
            let message = format!("token id {id} is outside the tokenizer's vocabulary of {most}");
            return Err(Refusal::new(RefusalKind::Invalid, message));
        }
        let text = if plain { self.tokenizer.decode_plain(ids) } else { self.tokenizer.decode(ids) };
        text.map_err(invalid)
    }

    /// Returns the text of a conversation, by the chat template.
    ///
    /// # Errors
    /// Fails without a template, or if it refuses the conversation or leaves out one of its turns.
    pub fn rendered(&self, messages: &[Message], generation_prompt: bool) -> Result<String, Refusal> {
        self.chat(messages, generation_prompt).map_err(invalid)
    }

    fn chat(&self, messages: &[Message], generation_prompt: bool) -> pcrm_core::Result<String> {
        self.tokenizer.refuse_lost_turns(&messages.iter().collect::<Vec<_>>())?;
        self.tokenizer.render_chat(messages, generation_prompt)
    }

    fn encoded(&self, input: &Input, close: Close) -> pcrm_core::Result<Vec<u32>> {
        let tokenizer = &self.tokenizer;
        match input {
            Input::Ids(ids) => Ok(ids.clone()),
            // A single text of an encoder ends as its tokenizer ends it.
            Input::Text { text, .. } if tokenizer.pairs().is_some() => tokenizer.encode(text),
            Input::Text { text, closed, .. } if *closed && close != Close::None || close == Close::All => {
                let ended = self.ending.end(text);
                match ended.is_whole {
                    true => tokenizer.encode_rendered(&ended.text),
                    false => tokenizer.encode(&ended.text),
                }
            }
            Input::Text { text, bare, .. } => match *bare || self.ending.has_bos(text) {
                true => tokenizer.encode_rendered(text),
                false => tokenizer.encode(text),
            },
            Input::Chat { messages, generation_prompt: false } => {
                encode_text(None, &Content::Messages(messages.clone()), tokenizer, self.facts.pad)
            }
            Input::Chat { messages, generation_prompt: true } => {
                tokenizer.encode_rendered(&self.chat(messages, true)?)
            }
            Input::Pair { prompt, answer } if tokenizer.has_chat_template() => {
                let turns = vec![Message::new("user", prompt), Message::new("assistant", answer)];
                encode_text(None, &Content::Messages(turns), tokenizer, self.facts.pad)
            }
            Input::Pair { prompt, answer } => {
                let [prompt, answer] = [prompt, answer].map(|text| Content::Text(text.clone()));
                encode_text(Some(&prompt), &answer, tokenizer, self.facts.pad)
            }
        }
    }

    /// Refuses or truncates a sequence that is too long.
    fn cut(&self, ids: &mut Vec<u32>, too_long: TooLong) -> Result<(), Refusal> {
        let (length, most) = (ids.len(), self.most);
        match too_long {
            TooLong::Cut { to: Some(to), .. } if to > most => {
                let message = format_args!("it is {to}; expected at most {most}, the model's limit");
                Err(Refusal::field("truncate_prompt_tokens", message))
            }
            TooLong::Cut { side, to } => {
                let kept = to.unwrap_or(most).min(length);
                match side {
                    Side::Left => drop(ids.drain(..length - kept)),
                    Side::Right => ids.truncate(kept),
                }
                Ok(())
            }
            TooLong::Refuse if length > most => {
                let message = format!(
                    "the text has {length} tokens; expected at most {most} (request truncation or shorten it)"
                );
                Err(Refusal::new(RefusalKind::Invalid, message))
            }
            TooLong::Refuse => Ok(()),
        }
    }
}

/// Refuses what the tokenizer refuses.
fn invalid(error: pcrm_core::Error) -> Refusal {
    Refusal::new(RefusalKind::Invalid, error.to_string())
}

/// Returns the name of the only label in `config.json`.
fn label(dir: &Path) -> Option<String> {
    let text = std::fs::read_to_string(dir.join("config.json")).ok()?;
    let config: serde_json::Value = serde_json::from_str(&text).ok()?;
    config["id2label"]["0"].as_str().map(str::to_owned)
}
