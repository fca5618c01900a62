//! The encoder `policy`: hidden states of the model to be trained, in its initial state.

use std::path::PathBuf;

use pcrm_core::constraint::Priors;
use pcrm_core::encoder::{Embedder, Encoder};
use pcrm_core::model::{Decoder, checkpoint};
use pcrm_core::registry::EncoderPlugin;
use pcrm_core::text::Tokenizer;
use pcrm_core::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::pooling::Pooling;
use crate::sentence_folder::digest_of;
use crate::texts_on_backend::{KeptTokens, Opened};

/// Hidden states of a decoder after its last norm, for a text's tokens as its tokenizer gives them.
///
/// As data: `{"kind": "policy", "pooling": "mean"}`, the default, or `"last"`. The decoder is the model to be
/// trained, frozen in its initial state, or the one in the folder `model`. A trained model records the
/// folder's name, so that its bounds stay those it was trained with. Texts are truncated to the model's
/// positions (`max_position_embeddings`). A text without tokens gives zeros.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The pooling of the tokens' states into one vector.
    #[serde(default)]
    pub pooling: StatePooling,
    /// The folder of a model to use instead of the one to be trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
}

/// The hidden states of a text that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StatePooling {
    /// The mean over all tokens.
    #[default]
    Mean,
    /// The last token's, the only one that has seen the whole text.
    Last,
}

inventory::submit! {
    EncoderPlugin {
        name: "policy",
        about: "mean or last hidden state of the model to be trained, frozen at the start",
        build: |data| Ok(Box::new(erased_serde::deserialize::<Policy>(data)?)),
    }
}

impl Policy {
    fn folder(&self, priors: &Priors) -> Result<PathBuf> {
        match (&self.model, &priors.model) {
            (Some(named), _) => priors.folder(named),
            (None, Some(folder)) => priors.folder(folder),
            (None, None) => Err(Error::Plugin {
                what: "encoder",
                name: "policy".to_owned(),
                message: "there is no model to take hidden states from (a model of random weights has no \
                          folder, and some commands have no model); expected one, or \"model\": \"FOLDER\" \
                          in the encoder's configuration"
                    .to_owned(),
            }),
        }
    }
}

impl Encoder for Policy {
    fn kind(&self) -> &'static str {
        "policy"
    }

    fn settle(&mut self, priors: &Priors) -> Result<()> {
        self.model = Some(self.folder(priors)?);
        Ok(())
    }

    fn open(&self, _texts: &[&str], priors: &Priors) -> Result<Box<dyn Embedder>> {
        let dir = self.folder(priors)?;
        if !dir.is_dir() {
            return Err(Error::file(
                dir,
                "is not a folder; expected the folder of the model to take hidden states from",
            ));
        }
        let on = Opened::new("policy", priors)?;
        let tokenizer = Tokenizer::from_dir(&dir)?;
        let model = Decoder::load(on.backend.as_ref(), &dir, on.dtype)?;
        let mut content = Sha256::new();
        let mut files = checkpoint::files(&dir)?;
        files.push(dir.join("config.json"));
        for path in &files {
            content.update(digest_of(path).map_err(Error::io(path))?);
        }
        for (name, bytes) in tokenizer.files() {
            content.update(name);
            content.update(Sha256::digest(bytes));
        }
        let content: String = content.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let digest = on.digest(&format!("{:?} {content}", self.pooling));
        Ok(Box::new(Ready { model, tokenizer, pooling: self.pooling, digest, tokens: 0 }))
    }
}

/// The frozen decoder.
struct Ready {
    model: Decoder,
    tokenizer: Tokenizer,
    pooling: StatePooling,
    digest: String,
    tokens: u64,
}

impl Embedder for Ready {
    fn digest(&self) -> Option<String> {
        Some(self.digest.clone())
    }

    fn embed(&mut self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        let (width, most) = (self.model.config().width, self.model.config().max_positions);
        let mut ids = texts.iter().map(|text| self.tokenizer.encode(text)).collect::<Result<Vec<_>>>()?;
        ids.iter_mut().for_each(|ids| ids.truncate(most));
        self.tokens += ids.iter().map(|ids| ids.len() as u64).sum::<u64>();
        let there: Vec<Vec<u32>> = ids.iter().filter(|ids| !ids.is_empty()).cloned().collect();
        let (kept, pooling) = match self.pooling {
            StatePooling::Mean => (KeptTokens::All, Pooling::Mean),
            StatePooling::Last => (KeptTokens::Last, Pooling::LastToken),
        };
        let states = kept.states(&there, |batch, rows| self.model.forward(batch, rows))?;
        let mut pooled = states.iter().map(|states| pooling.of(states, width));
        let zeros = || vec![0.0; width];
        Ok(ids
            .iter()
            .map(|ids| if ids.is_empty() { zeros() } else { pooled.next().unwrap_or_else(zeros) })
            .collect())
    }

    fn tokens(&self) -> Option<u64> {
        Some(self.tokens)
    }
}
