//! The mixture of experts of a config: number, width and layers.

use serde_json::Value;

use crate::error::Result;
use crate::model::family::{Experts, Normalised};
use crate::model::fields::Fields;

/// The experts of a decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixture {
    /// The number of experts of a layer.
    pub experts: usize,
    /// The number of experts that every token uses.
    pub taken: usize,
    /// The width of an expert.
    pub width: usize,
    /// The width of the additional network that every token uses; 0 if there is none.
    pub shared: usize,
    /// True if the shares of a token's experts are divided by their sum.
    pub normalised: bool,
    /// The factor on the routers' loss in the training of language models, see [`Decoder::forward_balanced`];
    /// 0 if `output_router_logits` is false.
    ///
    /// [`Decoder::forward_balanced`]: crate::model::Decoder::forward_balanced
    pub balance: f64,
    /// For each layer, true if it has experts.
    pub layers: Vec<bool>,
}

impl Mixture {
    /// Reads the keys of a family.
    ///
    /// # Errors
    /// Fails if a key has another type, and if tokens use more experts than there are.
    pub(super) fn read(fields: &Fields<'_>, family: &Experts, layers: usize) -> Result<Self> {
        let experts = fields.positive(family.count)?;
        let taken = fields.positive("num_experts_per_tok")?;
        if taken > experts {
            return Err(
                fields.wrong("num_experts_per_tok", &format!("at most {experts}, the experts of a layer"))
            );
        }
        let mut sparse = vec![true; layers];
        if let Some(keys) = family.layers {
            let every = fields.positive(keys.every)?;
            let but = listed(fields, keys.but)?;
            for (layer, sparse) in sparse.iter_mut().enumerate() {
                *sparse = (layer + 1).is_multiple_of(every) && !but.contains(&layer);
            }
        }
        Ok(Self {
            experts,
            taken,
            width: fields.positive(family.width)?,
            shared: family.shared.map_or(Ok(0), |shared| fields.positive(shared.width))?,
            normalised: match family.normalised {
                Normalised::Always => true,
                Normalised::Flag(key) => fields.flag(key)?,
            },
            balance: match fields.flag("output_router_logits")? {
                true => fields.number("router_aux_loss_coef")?,
                false => 0.0,
            },
            layers: sparse,
        })
    }

    /// Returns whether a layer has experts.
    pub fn is_in(&self, layer: usize) -> bool {
        self.layers.get(layer).copied().unwrap_or(false)
    }
}

/// Reads a list of layers; empty for null.
fn listed(fields: &Fields<'_>, key: &str) -> Result<Vec<usize>> {
    let layers: Option<Vec<usize>> = match fields.value(key) {
        Value::Null => Some(Vec::new()),
        Value::Array(layers) => {
            layers.iter().map(|layer| layer.as_u64().and_then(|layer| usize::try_from(layer).ok())).collect()
        }
        _ => None,
    };
    layers.ok_or_else(|| fields.wrong(key, "a list of layers, from 0"))
}
