//! The encoder `bert`: sentence encoders of the BERT family, from Hugging Face files, on the run's backend.

use pcrm_core::constraint::Priors;
use pcrm_core::encoder::{Embedder, Encoder};
use pcrm_core::model::{self, checkpoint};
use pcrm_core::registry::EncoderPlugin;
use pcrm_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::pooling::Pooling;
use crate::sentence_folder::{FolderOptions, SentenceFolder};
use crate::texts_on_backend::{KeptTokens, Opened};

/// Sentence embeddings of an encoder in the BERT family (bert, camembert, distilbert, roberta, xlm-roberta),
/// read from a sentence-transformers folder: the last layer's hidden states, pooled as the folder specifies.
///
/// As data: `{"kind": "bert", "path": "all-MiniLM-L6-v2"}`; `pooling`, `normalize` and `max_tokens` override
/// the folder's settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bert {
    /// The folder.
    pub folder: FolderOptions,
}

inventory::submit! {
    EncoderPlugin {
        name: "bert",
        about: "BERT-family sentence encoder from a sentence-transformers folder, on the run's backend",
        build: |data| Ok(Box::new(erased_serde::deserialize::<Bert>(data)?)),
    }
}

impl Encoder for Bert {
    fn kind(&self) -> &'static str {
        "bert"
    }

    fn settle(&mut self, priors: &Priors) -> Result<()> {
        self.folder.path = priors.folder(&self.folder.path)?;
        Ok(())
    }

    fn open(&self, _texts: &[&str], priors: &Priors) -> Result<Box<dyn Embedder>> {
        let on = Opened::new("bert", priors)?;
        let options = FolderOptions { path: priors.folder(&self.folder.path)?, ..self.folder.clone() };
        let folder = SentenceFolder::open(&options)?;
        let kept = match folder.pooling()? {
            Pooling::Cls => KeptTokens::First,
            Pooling::LastToken => KeptTokens::Last,
            Pooling::Mean | Pooling::Max => KeptTokens::All,
        };
        let dir = folder.transformer();
        let model = model::Bert::load(on.backend.as_ref(), dir, on.dtype)?;
        let most = model.config().max_positions;
        if folder.max_tokens() > most {
            let message =
                format!("found {}, expected at most {most}, the model's positions", folder.max_tokens());
            return Err(Error::invalid("max_tokens", message));
        }
        let mut files = checkpoint::files(dir)?;
        files.push(dir.join("config.json"));
        let digest = on.digest(&folder.digest(&files)?);
        Ok(Box::new(Ready { model, folder, kept, digest, tokens: 0 }))
    }
}

/// An encoder with its weights.
struct Ready {
    model: model::Bert,
    folder: SentenceFolder,
    kept: KeptTokens,
    digest: String,
    tokens: u64,
}

impl Embedder for Ready {
    fn digest(&self) -> Option<String> {
        Some(self.digest.clone())
    }

    fn embed(&mut self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        let ids = self.folder.tokens(texts)?;
        self.tokens += ids.iter().map(|ids| ids.len() as u64).sum::<u64>();
        let width = self.model.config().width;
        let states = self.kept.states(&ids, |batch, rows| self.model.forward(batch, rows))?;
        states.iter().map(|states| self.folder.pooled(states, width)).collect()
    }

    fn tokens(&self) -> Option<u64> {
        Some(self.tokens)
    }
}
