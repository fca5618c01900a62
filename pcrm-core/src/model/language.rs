//! A language model: a decoder and its head of logits, in Hugging Face's files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::backend::Backend;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::kernels::{Ask, TokenStats};
use crate::model::config::ModelConfig;
use crate::model::decoder::Decoder;
use crate::model::loading::{self, Headless, Loading};
use crate::model::lora::peft::{self, AdapterFolder};
use crate::model::lora::{self, LoraConfig, Values};
use crate::model::{Checkpointing, Head, Rows, folder, weights};
use crate::params::Params;
use crate::tensor::Tensor;
use crate::tree::Packed;

/// The defaults of generation that a folder names beside its model.
const GENERATION: &str = "generation_config.json";

const HEADS: &[Head] = &[Head::Language];

/// The way that tokens are asked about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenQuestions {
    /// Logits are divided by this number; 1 leaves them alone.
    pub temperature: f64,
    /// Whether to compute the entropy of the next token as well.
    pub entropy: bool,
}

impl Default for TokenQuestions {
    fn default() -> Self {
        Self { temperature: 1.0, entropy: false }
    }
}

/// A decoder with a head over the vocabulary: policies, references, models that SFT trains.
#[derive(Debug, Clone)]
pub struct LanguageModel {
    decoder: Decoder,
    /// `generation_config.json` of the folder that the model came from, which saving writes again.
    generation: Option<Arc<[u8]>>,
}

impl LanguageModel {
    /// Loads a language model as f32 masters, to train it or to compute with it in `compute`. The folder of a
    /// PEFT adapter is loaded with the base that it names; training then changes the adapter alone.
    ///
    /// # Errors
    /// A missing or broken file, a parameter that is missing or has another shape, a family or a key of
    /// `config.json` that is not served.
    pub fn load(backend: &dyn Backend, dir: &Path, compute: DType) -> Result<Self> {
        Self::load_as(dir, Loading::masters(backend, compute))
    }

    /// Loads a language model whose parameters are held as `how` says.
    ///
    /// # Errors
    /// As [`LanguageModel::load`].
    pub fn load_as(dir: &Path, how: Loading<'_>) -> Result<Self> {
        if AdapterFolder::is_alone(dir) {
            return Self::load_adapter(dir, None, how, 0);
        }
        let decoder = loading::read_folder(dir, HEADS, how, Headless::Refused)?;
        let path = dir.join(GENERATION);
        let generation = match path.exists() {
            true => Some(fs::read(&path).map_err(Error::io(&path))?.into()),
            false => None,
        };
        Ok(Self { decoder, generation })
    }

    /// Loads a PEFT adapter with its base: the folder `base`, or the one that the adapter names. The seed
    /// draws dropout.
    ///
    /// # Errors
    /// As [`LanguageModel::load`] for the base; an adapter of a reward model, or one that does not fit the
    /// base.
    pub fn load_adapter(dir: &Path, base: Option<&Path>, how: Loading<'_>, seed: u64) -> Result<Self> {
        let folder = AdapterFolder::open(dir)?;
        if folder.is_reward()? {
            let message = "is the adapter of a reward model (task_type SEQ_CLS), not of a language model";
            return Err(Error::file(dir, message));
        }
        let base_dir = base.map_or_else(|| folder.base(), |base| Ok(base.to_path_buf()))?;
        folder::check(&base_dir)?;
        let base = Self::load_as(&base_dir, how)?;
        Ok(base.over(folder.apply(&base.decoder, Some(base_dir), seed)?))
    }

    /// Creates a language model with random weights.
    ///
    /// # Errors
    /// A standard deviation (`initializer_range`) that is not finite.
    pub fn random(backend: &dyn Backend, config: ModelConfig, compute: DType, seed: u64) -> Result<Self> {
        let decoder = loading::random(config, HEADS, Loading::masters(backend, compute), seed)?;
        Ok(Self { decoder, generation: None })
    }

    /// Changes the config that is saved with the model: the padding id, notes of the trainer.
    pub fn with_config(self, change: impl FnOnce(&mut ModelConfig)) -> Self {
        Self { decoder: self.decoder.with_config(change), generation: self.generation }
    }

    /// Returns the body.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Returns the shape of the model.
    pub fn config(&self) -> &ModelConfig {
        self.decoder.config()
    }

    /// Returns all parameters, the head's included.
    pub fn params(&self) -> &Params {
        self.decoder.params()
    }

    /// Returns handles to the parameters that training changes.
    pub fn trained(&self) -> Params {
        self.params().trained()
    }

    /// Returns the same model with the trained parameters as leaves that get gradients.
    pub fn trainable(&self) -> Self {
        self.over(self.decoder.trainable())
    }

    /// Returns the same weights without history. An optimiser that updates them changes the result too: a
    /// reference policy needs a [`LanguageModel::snapshot`].
    pub fn detached(&self) -> Self {
        self.over(self.decoder.detached())
    }

    /// Returns a frozen copy that computes in `dtype` and that later updates of the original do not reach.
    pub fn snapshot(&self, dtype: DType) -> Result<Self> {
        Ok(self.over(self.decoder.snapshot(dtype)?))
    }

    /// Returns the same weights without history, held in the type that the model computes in: to sample many tokens, for
    /// which weights would be cast again and again.
    ///
    /// # Errors
    /// The backend's.
    pub fn for_sampling(&self) -> Result<Self> {
        match self.decoder.compute() {
            DType::F32 => Ok(self.detached()),
            other => self.snapshot(other),
        }
    }

    /// Draws the dropout of adapters for a step of training: the masks of a step are the same whenever it is
    /// computed.
    pub fn at_step(&self, step: u64) -> Self {
        self.over(self.decoder.clone().at_step(step))
    }

    /// Puts new adapters on the model. The base is frozen; A is drawn from the seed and B is zero, so that
    /// the model computes what it computed before. `base` is the folder that the saved adapter will name.
    ///
    /// # Errors
    /// A configuration that is not served or matches no module; a model that has adapters already.
    pub fn with_adapters(&self, config: LoraConfig, base: &Path, seed: u64) -> Result<Self> {
        config.check_new()?;
        Ok(self.over(lora::adapt(&self.decoder, config, Some(base.to_path_buf()), seed, Values::Drawn)?))
    }

    /// Returns the base without its adapters, frozen, over the same storage: the reference of new adapters.
    ///
    /// # Errors
    /// None in practice.
    pub fn without_adapters(&self) -> Result<Self> {
        Ok(self.over(lora::without(&self.decoder)?))
    }

    /// Returns a full model with the adapters merged into its weights.
    ///
    /// # Errors
    /// The backend's.
    pub fn merged(&self) -> Result<Self> {
        Ok(self.over(lora::merged(&self.decoder)?))
    }

    /// Returns the same model, whose layers run again in the backward pass; see [`Decoder::checkpointing`].
    pub fn checkpointing(self, checkpointing: Checkpointing) -> Self {
        Self { decoder: self.decoder.checkpointing(checkpointing), generation: self.generation }
    }

    /// Returns the bytes of the folder's `generation_config.json`.
    pub(super) fn generation_bytes(&self) -> Option<&[u8]> {
        self.generation.as_deref()
    }

    fn over(&self, decoder: Decoder) -> Self {
        Self { decoder, generation: self.generation.clone() }
    }

    /// Computes the logits at these rows (ascending), `[rows, vocabulary]`.
    ///
    /// # Errors
    /// Those of [`Decoder::forward`]; a config that bounds logits.
    pub fn logits(&self, batch: &Packed, rows: Rows<'_>) -> Result<Tensor> {
        self.decoder.logits(&self.decoder.forward(batch, rows)?)
    }

    /// Computes statistics of each of `targets` as the token after the row of the same index in `rows`. Rows
    /// may come in any order and repeat: the last row of a prompt predicts the first token of every answer.
    /// Logits that the config caps are capped.
    ///
    /// # Errors
    /// Those of [`Decoder::forward`]; as many targets as rows are needed; a target outside the vocabulary; a
    /// temperature that is not positive.
    pub fn token_stats(
        &self,
        batch: &Packed,
        rows: &[usize],
        targets: &[u32],
        how: TokenQuestions,
    ) -> Result<TokenStats> {
        Ok(self.balanced_stats(batch, rows, targets, how, false)?.0)
    }

    /// Computes statistics of tokens as [`LanguageModel::token_stats`] does and, if the config asks for it by
    /// `output_router_logits`, the routers' loss of [`Decoder::forward_balanced`] times its coefficient.
    ///
    /// # Errors
    /// As [`LanguageModel::token_stats`].
    pub fn trained_stats(
        &self,
        batch: &Packed,
        rows: &[usize],
        targets: &[u32],
        how: TokenQuestions,
    ) -> Result<(TokenStats, Option<Tensor>)> {
        let factor = self.config().mixture.as_ref().map_or(0.0, |mixture| mixture.balance);
        let (stats, balance) = self.balanced_stats(batch, rows, targets, how, factor != 0.0)?;
        Ok((stats, balance.map(|balance| balance.affine(factor, 0.0)).transpose()?))
    }

    fn balanced_stats(
        &self,
        batch: &Packed,
        rows: &[usize],
        targets: &[u32],
        how: TokenQuestions,
        balanced: bool,
    ) -> Result<(TokenStats, Option<Tensor>)> {
        let (distinct, places) = distinct(rows);
        let (hidden, balance) = match balanced {
            true => self.decoder.forward_balanced(batch, Rows::Only(&distinct))?,
            false => (self.decoder.forward(batch, Rows::Only(&distinct))?, None),
        };
        let TokenQuestions { temperature, entropy } = how;
        let soft_cap = self.config().logit_cap;
        let ask = Ask { rows: &places, targets, temperature, soft_cap, entropy };
        Ok((self.decoder.token_stats(&hidden, &ask)?, balance))
    }

    /// Computes ln p of `targets`, f32 `[targets]`, as [`LanguageModel::token_stats`] does.
    ///
    /// # Errors
    /// As [`LanguageModel::token_stats`].
    pub fn log_probs(&self, batch: &Packed, rows: &[usize], targets: &[u32]) -> Result<Tensor> {
        Ok(self.token_stats(batch, rows, targets, TokenQuestions::default())?.log_probs)
    }

    /// Returns the trained weights by name, as files store them.
    pub fn tensors(&self) -> Result<BTreeMap<String, HostTensor>> {
        self.decoder.tensors()
    }

    /// Overwrites the trained weights with those of [`LanguageModel::tensors`].
    ///
    /// # Errors
    /// A weight that is missing or has another shape.
    pub fn restore(&self, tensors: BTreeMap<String, HostTensor>) -> Result<()> {
        self.decoder.restore(tensors)
    }

    /// Overwrites the trained weights with those of a folder that [`Self::save`] wrote.
    ///
    /// # Errors
    /// A file that cannot be read; a weight that is missing or has another shape.
    pub fn restore_from(&self, dir: &Path) -> Result<()> {
        self.decoder.restore_from(dir)
    }

    /// Writes `config.json`, `model.safetensors` and, if the model came with one, `generation_config.json`,
    /// such that `AutoModelForCausalLM.from_pretrained` gives the same logits. A tied head is not written. A
    /// model with adapters writes them alone, as PEFT does.
    ///
    /// # Errors
    /// A disk that is full or may not be written to.
    pub fn save(&self, dir: &Path) -> Result<()> {
        if let Some(adapters) = self.decoder.adapters() {
            return peft::save(&self.decoder, adapters, dir);
        }
        self.decoder.write(&dir.join(weights::SINGLE), str::to_owned)?;
        if let Some(generation) = &self.generation {
            weights::write(&dir.join(GENERATION), generation)?;
        }
        // Last: a folder with a config has the weights too.
        weights::write_json(&dir.join("config.json"), &self.config().language_json())
    }
}

/// Returns the distinct rows, ascending, and the place of each row among them.
fn distinct(rows: &[usize]) -> (Vec<usize>, Vec<u32>) {
    let mut distinct = rows.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let place = |row: &usize| distinct.partition_point(|other| other < row) as u32;
    let places = rows.iter().map(place).collect();
    (distinct, places)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: repeated rows in any order are computed once and find their place.
    #[test]
    fn rows_are_computed_once() {
        assert_eq!(distinct(&[4, 2, 4, 9]), (vec![2, 4, 9], vec![1, 0, 1, 2]));
        assert_eq!(distinct(&[]), (vec![], vec![]));
    }
}
