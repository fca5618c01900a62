//! Models that score: reward models over decoders, which PCRM trains, and over encoders, which it only
//! applies.

use std::path::Path;

use super::encoders::EncoderConfig;
use super::lora::peft::{AdapterFolder, tokenizer_dir};
use super::{EncoderReward, LinearStorage, Loading, ModelConfig, Outline, RewardModel, folder};
use crate::backend::Backend;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use crate::text::Tokenizer;
use crate::tree::Packed;

/// A model that computes a score for every sequence.
pub trait Scores: Sized {
    /// Returns the properties needed to encode texts and interpret scores.
    fn outline(&self) -> Outline<'_>;

    /// Returns the same weights without history.
    fn detached(&self) -> Self;

    /// Computes the scores of the sequences that end at these rows (ascending), f32 `[rows]`.
    ///
    /// # Errors
    /// Fails if the model lacks a token or position, or if the backend fails.
    fn scores(&self, batch: &Packed, rows: &[usize]) -> Result<Tensor>;
}

impl Scores for RewardModel {
    fn outline(&self) -> Outline<'_> {
        self.config().into()
    }

    fn detached(&self) -> Self {
        RewardModel::detached(self)
    }

    fn scores(&self, batch: &Packed, rows: &[usize]) -> Result<Tensor> {
        RewardModel::scores(self, batch, rows)
    }
}

/// The config of a scoring model: a decoder's or an encoder's.
#[derive(Debug, Clone)]
pub enum ScoringConfig {
    /// The config of a decoder.
    Decoder(Box<ModelConfig>),
    /// The config of an encoder.
    Encoder(Box<EncoderConfig>),
}

impl ScoringConfig {
    /// Reads `config.json` from a folder.
    ///
    /// # Errors
    /// Fails as [`EncoderConfig::find`] and [`ModelConfig::from_dir`] do.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        if AdapterFolder::is_alone(dir) {
            let folder = AdapterFolder::open(dir)?;
            let mut config = ModelConfig::from_dir(&folder.base()?)?;
            folder.read_notes(&mut config)?;
            return Ok(Self::Decoder(Box::new(config)));
        }
        match EncoderConfig::find(dir)? {
            Some(config) => Ok(Self::Encoder(Box::new(config))),
            None => Ok(Self::Decoder(Box::new(ModelConfig::from_dir(dir)?))),
        }
    }

    /// Returns the properties needed to encode texts and interpret scores.
    pub fn outline(&self) -> Outline<'_> {
        match self {
            Self::Decoder(config) => config.as_ref().into(),
            Self::Encoder(config) => config.outline(),
        }
    }

    /// Reads the tokenizer from the model's folder. An encoder's tokenizer encodes pairs of texts.
    ///
    /// # Errors
    /// Fails as [`Tokenizer::from_dir`] does, or if an encoder's tokenizer does not separate the texts of a
    /// pair.
    pub fn tokenizer(&self, dir: &Path) -> Result<Tokenizer> {
        let tokenizer = Tokenizer::from_dir(&tokenizer_dir(dir)?)?;
        match self {
            Self::Decoder(_) => Ok(tokenizer),
            Self::Encoder(config) => tokenizer.reading_pairs(config.pair_form()),
        }
    }
}

impl<'a> From<&'a ScoringConfig> for Outline<'a> {
    fn from(config: &'a ScoringConfig) -> Self {
        config.outline()
    }
}

/// A trained reward model: a decoder or an encoder.
#[derive(Debug, Clone)]
pub enum ScoringModel {
    /// A decoder and a head that reads its last token.
    Decoder(Box<RewardModel>),
    /// An encoder and a head that reads its first token, or the mean of all.
    Encoder(Box<EncoderReward>),
}

impl ScoringModel {
    /// Opens a trained reward model and its tokenizer. The weights are frozen and held in the compute type.
    /// An encoder's tokenizer encodes pairs of texts. The folder may hold a PEFT adapter of a reward model,
    /// which is applied to its base.
    ///
    /// # Errors
    /// Fails if the path is not a model's folder, and as [`RewardModel::load`], [`EncoderReward::load`] and
    /// [`Tokenizer::from_dir`] do.
    pub fn open(backend: &dyn Backend, dir: &Path, compute: DType) -> Result<(Self, Tokenizer)> {
        Self::open_as(dir, Loading::frozen(backend, compute))
    }

    /// Opens a trained reward model like [`ScoringModel::open`], with the parameters of a decoder stored
    /// according to `how`.
    ///
    /// # Errors
    /// Fails as [`ScoringModel::open`] does, and if an encoder is to be quantised.
    pub fn open_as(dir: &Path, how: Loading<'_>) -> Result<(Self, Tokenizer)> {
        if AdapterFolder::is_alone(dir) {
            let model = RewardModel::load_adapter(dir, None, how, 0)?;
            let tokenizer = Tokenizer::from_dir(&tokenizer_dir(dir)?)?;
            return Ok((Self::Decoder(Box::new(model)), tokenizer));
        }
        folder::check(dir)?;
        let tokenizer = Tokenizer::from_dir(dir)?;
        match EncoderConfig::find(dir)? {
            Some(config) => {
                if matches!(how.linear, LinearStorage::Quantised(_)) {
                    let message =
                        "is an encoder, whose weights cannot be quantised; only those of decoders can";
                    return Err(Error::file(dir, message));
                }
                let tokenizer = tokenizer.reading_pairs(config.pair_form())?;
                let model = EncoderReward::load(how.backend, config, dir, how.compute)?;
                Ok((Self::Encoder(Box::new(model)), tokenizer))
            }
            None => {
                let model = RewardModel::load_as(dir, how)?;
                Ok((Self::Decoder(Box::new(model)), tokenizer))
            }
        }
    }
}

impl Scores for ScoringModel {
    fn outline(&self) -> Outline<'_> {
        match self {
            Self::Decoder(model) => model.outline(),
            Self::Encoder(model) => model.outline(),
        }
    }

    fn detached(&self) -> Self {
        match self {
            Self::Decoder(model) => Self::Decoder(Box::new(RewardModel::detached(model))),
            Self::Encoder(model) => Self::Encoder(model.clone()),
        }
    }

    fn scores(&self, batch: &Packed, rows: &[usize]) -> Result<Tensor> {
        match self {
            Self::Decoder(model) => RewardModel::scores(model, batch, rows),
            Self::Encoder(model) => model.scores(batch, rows),
        }
    }
}

impl From<&RewardModel> for ScoringModel {
    fn from(model: &RewardModel) -> Self {
        Self::Decoder(Box::new(RewardModel::detached(model)))
    }
}

impl From<&ScoringModel> for ScoringModel {
    fn from(model: &ScoringModel) -> Self {
        model.detached()
    }
}
