//! Models: decoders of several families from Hugging Face folders, with heads on top, and sentence encoders.

pub mod adoption;
pub mod bert;
mod bitsandbytes;
pub mod checkpoint;
pub mod config;
pub mod decoder;
pub(crate) mod disguise;
pub mod encoders;
pub mod families;
pub mod family;
mod fields;
pub mod folder;
mod generation;
mod keys;
pub mod language;
mod layers;
pub mod loading;
pub mod lora;
pub mod mixture;
mod multimodal;
mod notes;
pub mod outline;
pub mod parameters;
mod published;
mod quantised;
pub mod recompute;
pub mod reward;
pub mod rope;
mod routing;
pub mod scoring;
mod sights;
pub(crate) mod types;
pub mod weights;

pub use adoption::Adoption;
pub use bert::Bert;
pub use checkpoint::Checkpoint;
pub use config::ModelConfig;
pub use decoder::{Decoder, Filled, KeyValueCache};
pub use encoders::EncoderReward;
pub use language::{LanguageModel, RouterLoss, TokenQuestions};
pub use loading::{LinearStorage, Loading, Precision, WeightPool};
pub use lora::LoraConfig;
pub use outline::Outline;
pub use parameters::Head;
pub use recompute::Checkpointing;
pub use reward::RewardModel;
pub use scoring::{Scores, ScoringConfig, ScoringModel};

use crate::error::Result;
use crate::host::HostTensor;
use crate::tensor::Tensor;

/// The rows whose hidden states are wanted.
#[derive(Debug, Clone, Copy)]
pub enum Rows<'a> {
    /// All rows of the batch.
    All,
    /// These rows, ascending. For the others the last layer computes only keys and values.
    Only(&'a [usize]),
}

/// Returns the wanted rows of x.
fn select(x: &Tensor, rows: Rows<'_>) -> Result<Tensor> {
    match rows {
        Rows::All => Ok(x.clone()),
        Rows::Only(rows) => {
            let index = HostTensor::indices(rows.iter().map(|row| *row as u32).collect());
            x.index_select(0, &x.constant(&index)?)
        }
    }
}
