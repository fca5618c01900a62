//! The model and the data of a run, shared by every training command.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use pcrm_core::data::files::{self, data_files};
use pcrm_core::digest;
use pcrm_core::model::Checkpointing;
use pcrm_core::model::lora::LoraConfig;
use pcrm_core::model::lora::peft::AdapterFolder;
use pcrm_core::optim::WeightType;
use pcrm_core::quant::Quantisation;
use pcrm_rl::fingerprint::Fingerprint;
use pcrm_rl::train::Base;
use serde_json::{Value, json};

use crate::columns::ColumnArgs;
use crate::hub::{Hub, Weights};
use crate::machine::Machine;
use crate::training::unread::Unread;
use crate::usage::usage;

/// The options that define what a run reads, borrowed from a command's own.
pub struct DataOptions<'a> {
    pub model: &'a PathBuf,
    pub random_init: bool,
    pub data: &'a [PathBuf],
    pub eval_data: &'a [PathBuf],
    pub eval_split: Option<f64>,
    pub columns: &'a ColumnArgs,
    pub lora: Option<LoraConfig>,
    pub quantise: Option<Quantisation>,
    pub checkpointing: Checkpointing,
    pub weights: WeightType,
    pub router_aux_loss_coef: Option<f64>,
    pub hub: &'a Hub,
    pub machine: &'a Machine,
}

/// Local paths in place of Hub repositories.
pub struct Fetched {
    pub model: PathBuf,
    pub data: Vec<PathBuf>,
    pub eval_data: Vec<PathBuf>,
}

impl DataOptions<'_> {
    /// Refuses a type of trained weights together with adapters, quantised weights without adapters, and a negative
    /// coefficient of the routers' loss.
    ///
    /// # Errors
    /// Fails with a message that names the option.
    fn check(&self) -> Result<()> {
        ensure!(
            self.lora.is_none() || self.weights == WeightType::F32,
            "--weights {}: adapters are trained in f32, on a base in the type of --dtype",
            self.weights
        );
        if let Some(coefficient) = self.router_aux_loss_coef {
            let fits = coefficient >= 0.0 && coefficient.is_finite();
            ensure!(fits, "--router-aux-loss-coef {coefficient}: expected a number from 0 up");
        }
        let trains_adapters = self.lora.is_some() || AdapterFolder::is_alone(self.model);
        if let Some(method) = self.quantise.filter(|_| !trains_adapters) {
            bail!(
                "--quantize {method}: quantised weights are frozen, because an update is smaller than the distance \
                 of their values; add --lora-r to train adapters on them"
            );
        }
        Ok(())
    }

    /// Returns true if there is held-out data.
    pub fn evaluates(&self) -> bool {
        self.eval_split.is_some() || !self.eval_data.is_empty()
    }

    /// Fetches files from the Hub where needed.
    ///
    /// # Errors
    /// Fails if a repository cannot be fetched.
    pub fn fetched(&self) -> Result<Fetched> {
        Ok(Fetched {
            model: self.hub.model("--model", self.model, Weights::drawn_if(self.random_init))?,
            data: self.hub.data("--data", self.data)?,
            eval_data: self.hub.data("--eval-data", self.eval_data)?,
        })
    }

    /// Records the state of all files before they are read.
    ///
    /// # Errors
    /// Fails if a file does not exist.
    pub fn unread(&self) -> Result<Unread> {
        usage(self.check())?;
        let data = data_files(self.data)?.into_iter().chain(data_files(self.eval_data)?);
        Unread::note(data, self.model)
    }

    /// Returns the initial model.
    pub fn base(&self) -> Base {
        Base {
            dir: self.model.clone(),
            random_init: self.random_init,
            dtype: self.machine.dtype,
            seed: self.machine.seed,
            lora: self.lora.clone(),
            checkpointing: self.checkpointing,
            weights: self.weights,
            router_aux_loss_coef: self.router_aux_loss_coef,
            quantise: self.quantise,
            pool: None,
        }
    }

    /// Returns the identity of a run's inputs, by option name, including digests of the data and the model;
    /// `own` holds further options of the command that affect the numbers.
    ///
    /// # Errors
    /// Fails if a file cannot be read.
    pub fn identity(&self, own: impl IntoIterator<Item = (&'static str, Value)>) -> Result<Fingerprint> {
        let digests = |paths: &[PathBuf]| -> Result<Vec<String>> {
            data_files(paths)?.iter().map(|path| Ok(files::digest(path)?)).collect()
        };
        let (machine, columns) = (self.machine, self.columns);
        let shared = [
            ("schema", json!(columns.schema.map(|schema| schema.name()))),
            ("prompt-field", json!(columns.prompt_field)),
            ("chosen-field", json!(columns.chosen_field)),
            ("field", json!(columns.field)),
            ("limit", json!(columns.limit)),
            ("eval-split", json!(self.eval_split)),
            ("backend", json!(machine.backend)),
            ("device", json!(machine.device.to_string())),
            ("dtype", json!(machine.dtype.to_string())),
            ("data", json!(digests(self.data)?)),
            ("eval-data", json!(digests(self.eval_data)?)),
            ("model", json!(digest::with_base(self.model)?)),
            ("random-init", json!(self.random_init)),
            ("lora", json!(self.lora)),
            ("quantize", json!(self.quantise)),
            ("router-aux-loss-coef", json!(self.router_aux_loss_coef)),
        ];
        Ok(shared.into_iter().chain(own).map(|(name, value)| (name.to_owned(), value)).collect())
    }
}
