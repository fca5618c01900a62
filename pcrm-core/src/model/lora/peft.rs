//! Adapter folders of PEFT: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::config::LoraConfig;
use super::naming::{AdapterLayout, PREFIX};
use super::tensors::Tensors;
use super::{Adapters, Base, Values, adapt, base, peft_config, trainer_notes, tying};
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::model::checkpoint::Checkpoint;
use crate::model::config::ModelConfig;
use crate::model::decoder::Decoder;
use crate::model::loading::{Loading, Precision};
use crate::model::parameters::Head;
use crate::model::{disguise, notes, weights};

/// The configuration of an adapter.
pub const CONFIG: &str = "adapter_config.json";
/// The weights of an adapter.
pub const WEIGHTS: &str = "adapter_model.safetensors";

/// Returns the folder with the full weights of a model: its own, or the base's for an adapter.
///
/// # Errors
/// Fails if the base of an adapter does not exist.
pub fn base_dir(dir: &Path) -> Result<PathBuf> {
    match AdapterFolder::is_alone(dir) {
        true => AdapterFolder::open(dir)?.base(),
        false => Ok(dir.to_path_buf()),
    }
}

/// Returns the folder with the tokenizer of a model: an adapter's own if it has one, else its base's.
///
/// # Errors
/// Fails if the base of an adapter does not exist.
pub fn tokenizer_dir(dir: &Path) -> Result<PathBuf> {
    let has_own = ["tokenizer.json", "tokenizer.model"].iter().any(|name| dir.join(name).exists());
    if has_own { Ok(dir.to_path_buf()) } else { base_dir(dir) }
}

/// An adapter folder with its parsed configuration; the weights are read later.
#[derive(Debug)]
pub struct AdapterFolder {
    dir: PathBuf,
    config: LoraConfig,
    task: Option<String>,
}

impl AdapterFolder {
    /// Returns whether a folder holds an adapter.
    pub fn is_one(dir: &Path) -> bool {
        dir.join(CONFIG).is_file()
    }

    /// Returns whether a folder holds an adapter without a full model beside it.
    pub fn is_alone(dir: &Path) -> bool {
        dir.join(CONFIG).is_file() && !dir.join("config.json").exists()
    }

    /// Reads the configuration of an adapter.
    ///
    /// # Errors
    /// Fails if the file is missing, if the method is not LoRA, and if a key is not supported.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(CONFIG);
        let text = disguise::read_text(&path)?;
        let json: Map<String, Value> =
            serde_json::from_str(&text).map_err(|error| Error::file(&path, error))?;
        let task = json.get("task_type").and_then(Value::as_str).map(str::to_owned);
        Ok(Self { dir: dir.to_path_buf(), config: LoraConfig::from_json(&json, &path)?, task })
    }

    /// Returns the configuration.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// Returns `base_model_name_or_path`: a folder, or the name of a repository.
    ///
    /// # Errors
    /// Fails if the configuration names none.
    pub fn base_name(&self) -> Result<&str> {
        let name = self.config.other.get("base_model_name_or_path").and_then(Value::as_str);
        let named = name.filter(|name| !name.is_empty());
        named.ok_or_else(|| Error::file(self.dir.join(CONFIG), "base_model_name_or_path names no base model"))
    }

    /// Returns `revision`: the branch, tag or commit of the base's repository, if the configuration names one.
    pub fn base_revision(&self) -> Option<&str> {
        self.config.other.get("revision").and_then(Value::as_str).filter(|revision| !revision.is_empty())
    }

    /// Returns the folder of the base, looked up relative to the working directory and to the adapter.
    ///
    /// # Errors
    /// Fails if there is no such folder.
    pub fn base(&self) -> Result<PathBuf> {
        let name = self.base_name()?;
        let places = [PathBuf::from(name), self.dir.join(name)];
        if let Some(place) = places.iter().find(|place| place.join("config.json").is_file()) {
            return Ok(place.clone());
        }
        let [given, beside] = places.map(|place| place.display().to_string());
        let tried = if given == beside { given } else { format!("{given} and {beside}") };
        let message = format!(
            "base_model_name_or_path is {name:?}; expected the folder of the base model, with a config.json in it \
             (tried {tried})"
        );
        Err(Error::file(self.dir.join(CONFIG), message))
    }

    /// Returns the base in a folder that is to be loaded with the options `how`, with the digest of its weights if the
    /// adapter has one or is to be trained further.
    ///
    /// # Errors
    /// Fails if the folder holds other weights than those that the adapter was trained on.
    pub(in crate::model) fn base_in(&self, dir: &Path, how: Loading<'_>) -> Result<Base> {
        let Some(expected) = trainer_notes::base_weights(&self.dir)? else {
            return match how.precision {
                Precision::Compute => Ok(Base { dir: dir.to_path_buf(), weights: None }),
                Precision::Masters | Precision::Rounded => Base::with_digest(dir),
            };
        };
        let base = Base { dir: dir.to_path_buf(), weights: Some(base::digest(dir)?) };
        base.require(&expected, &self.dir)?;
        Ok(base)
    }

    /// Returns whether the adapter belongs to a reward model: by `task_type`, or by its head if that is
    /// missing.
    ///
    /// # Errors
    /// Fails if the weights cannot be read.
    pub fn is_reward(&self) -> Result<bool> {
        match self.task.as_deref() {
            Some(task) => Ok(task == "SEQ_CLS"),
            None => self.holds(Head::Score),
        }
    }

    /// Returns whether the adapter holds a head of its own.
    ///
    /// # Errors
    /// Fails if the weights cannot be read.
    pub fn holds(&self, head: Head) -> Result<bool> {
        let name = match head {
            Head::Language => "lm_head.weight",
            Head::Score => crate::model::parameters::SCORE,
            Head::Value => crate::model::parameters::VALUE,
        };
        Ok(self.weights()?.contains(&format!("{PREFIX}{name}")))
    }

    /// Applies the adapter to its base.
    ///
    /// # Errors
    /// Fails if the base does not fit: it lacks modules, weights have another shape, weights are missing or
    /// unknown, or the adapter has other values for a weight of the base.
    pub(in crate::model) fn apply(&self, base: &Decoder, from: Base, seed: u64) -> Result<Decoder> {
        let checkpoint = self.weights()?;
        let layout = AdapterLayout::of_tensors(base.config(), base.heads(), checkpoint.names());
        if tying::parts(&self.config, &layout) {
            return Err(
                self.parted("modules_to_save names the embedding or lm_head without ensure_weight_tying")
            );
        }
        let mut tensors = Tensors::read(&checkpoint, &layout)?;
        if tying::parted(&self.config, &layout, &tensors.own) {
            let why = format!(
                "modules_to_save names the embedding, and {WEIGHTS} has no {}.weight, so ensure_weight_tying had no \
                 effect",
                layout.head()
            );
            return Err(self.parted(&why));
        }
        tensors.tie(&layout).map_err(|error| Error::file(&self.dir, error))?;
        let values = Values::Stored { values: &mut tensors.own, naming: layout.naming };
        let adapted = adapt(base, self.config.clone(), from, seed, values).map_err(|error| {
            let message = format!("does not fit its base model: {error}");
            Error::file(&self.dir, message)
        })?;
        // PEFT also stores embeddings if they may have changed; a resized one no longer matches the base.
        let unread = tensors.check_rest(base, CONFIG).map_err(|error| Error::file(&self.dir, error))?;
        if !unread.is_empty() {
            notes::say(&format!(
                "{WEIGHTS}: ignoring tensors that the base model also has: {}",
                unread.join(", ")
            ));
        }
        let mut config = adapted.config().clone();
        self.read_notes(&mut config)?;
        Ok(adapted.with_config(|own| *own = config))
    }

    /// Replaces the notes in the base's config by the notes of the adapter's trainer.
    ///
    /// # Errors
    /// Fails if their file is broken.
    pub(in crate::model) fn read_notes(&self, base: &mut ModelConfig) -> Result<()> {
        trainer_notes::read(&self.dir, base)
    }

    /// Returns the error for an adapter that trained the embedding or the head separately, although the base
    /// has one matrix for both.
    fn parted(&self, why: &str) -> Error {
        let message = format!(
            "{why}: PEFT trained one apart from the other, but the base model has one matrix for both \
             (tie_word_embeddings); merge the adapter in Python with peft's merge_and_unload, which unties them"
        );
        Error::file(self.dir.join(CONFIG), message)
    }

    fn weights(&self) -> Result<Checkpoint> {
        if !self.dir.join(WEIGHTS).exists() && self.dir.join("adapter_model.bin").exists() {
            let message = "found adapter_model.bin, a pickle: load it in Python with peft and save it again \
                           with save_pretrained, as safetensors";
            return Err(Error::file(&self.dir, message));
        }
        Checkpoint::open_file(&self.dir, WEIGHTS)
    }
}

/// Writes the adapters of a decoder as PEFT does.
///
/// # Errors
/// Fails if the disk is full or not writable.
pub(in crate::model) fn save(decoder: &Decoder, adapters: &Adapters, dir: &Path) -> Result<()> {
    let layout = adapters.layout(decoder.config(), decoder.heads());
    let config = peft_config::json(adapters, &layout)?;
    let embedding = layout.embedding();
    decoder.write(&dir.join(WEIGHTS), |name| {
        let mut names = vec![layout.peft(name)];
        // PEFT reads the embedding under both names.
        names.extend((layout.is_tied() && name == embedding).then(|| format!("{}.weight", layout.head())));
        names.iter().map(|name| format!("{PREFIX}{name}")).collect()
    })?;
    let base_weights = adapters.base.weights.as_deref();
    trainer_notes::write(dir, decoder.config(), decoder.quantisation(), base_weights)?;
    // Last, so that a folder with a config has the weights too.
    weights::write_json(&dir.join(CONFIG), &config)
}

/// Reads the weights that [`save`] wrote, under the names of the decoder's parameters, for adapters of the same kind.
///
/// # Errors
/// Fails if the file cannot be read, or belongs to a base with other weights.
pub(in crate::model) fn saved(
    dir: &Path,
    adapters: &Adapters,
    shape: &ModelConfig,
    heads: &[Head],
) -> Result<BTreeMap<String, HostTensor>> {
    if let Some(expected) = trainer_notes::base_weights(dir)? {
        adapters.base.require(&expected, dir)?;
    }
    let checkpoint = Checkpoint::open_file(dir, WEIGHTS)?;
    let layout = AdapterLayout::of_tensors(shape, heads, checkpoint.names());
    let mut tensors = Tensors::read(&checkpoint, &layout)?;
    tensors.tie(&layout)?;
    Ok(tensors.own)
}
