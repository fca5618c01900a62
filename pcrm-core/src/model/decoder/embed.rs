//! The embedding of token ids, the input of the first layer.

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::model::family::Positions;
use crate::model::layers::{Embedding, Linear, Weight};
use crate::model::lora::{Adapters, Noise};
use crate::params::Params;
use crate::tensor::Tensor;

/// The token embedding, its projection to the width of the layers if that differs, and the position embedding if
/// positions are learned.
#[derive(Debug, Clone)]
pub(super) struct Embed {
    tokens: Embedding,
    projection: Option<Linear>,
    positions: Option<Embedding>,
}

impl Embed {
    pub fn of(config: &ModelConfig, params: &Params, adapters: Option<&Adapters>) -> Result<Self> {
        let table = |name: &str| Weight::of(params, &format!("{name}.weight")).map(Embedding::new);
        let positions = match config.family.positions {
            Positions::Learned { table: name, .. } => Some(table(name)?),
            _ => None,
        };
        let projections = config.projections();
        let projection = projections.map(|of| Linear::of(params, of.into, adapters)).transpose()?;
        Ok(Self { tokens: table(config.family.embedding)?, projection, positions })
    }

    pub fn over(&self, params: &Params) -> Self {
        let positions = self.positions.as_ref().map(|positions| positions.over(params));
        let projection = self.projection.as_ref().map(|projection| projection.over(params));
        Self { tokens: self.tokens.over(params), projection, positions }
    }

    /// Returns whether this parameter is a table whose rows are scaled or added in its own type, so that a cast
    /// of the table would change the result.
    pub fn reads_wide(&self, config: &ModelConfig, name: &str) -> bool {
        let is_alone = config.embedding_scale == 1.0 && self.positions.is_none();
        let tables = std::iter::once(&self.tokens).chain(&self.positions);
        !is_alone && tables.into_iter().any(|table| table.name() == name)
    }

    /// Returns the token table, `[vocabulary, outer width]`.
    pub fn table(&self) -> &Tensor {
        self.tokens.table()
    }

    /// Embeds tokens at these positions: `[rows, width]` in the type of the computation.
    pub fn forward(
        &self,
        config: &ModelConfig,
        compute: DType,
        ids: &[u32],
        positions: Vec<u32>,
        noise: Noise<'_>,
    ) -> Result<Tensor> {
        let vocabulary = config.vocabulary;
        if let Some(id) = ids.iter().find(|id| **id as usize >= vocabulary) {
            let message = format!("{id} is outside the model's vocabulary of {vocabulary}");
            return Err(Error::invalid("token id", message));
        }
        let mut x = self.tokens.forward(ids.to_vec())?.cast(DType::F32)?;
        if config.embedding_scale != 1.0 {
            x = x.affine(config.embedding_scale, 0.0)?;
        }
        if let Some(projection) = &self.projection {
            x = projection.forward(&x.cast(compute)?, noise)?.cast(DType::F32)?;
        }
        let (Some(table), Positions::Learned { first, .. }) = (&self.positions, config.family.positions)
        else {
            return x.cast(compute);
        };
        if let Some(position) = positions.iter().find(|at| **at as usize >= config.max_positions) {
            let message = format!("{position} is past the model's last ({})", config.max_positions - 1);
            return Err(Error::invalid("position", message));
        }
        let rows = positions.into_iter().map(|position| position + first as u32).collect();
        x.add(&table.forward(rows)?.cast(DType::F32)?)?.cast(compute)
    }
}
