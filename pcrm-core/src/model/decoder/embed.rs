//! The embedding of token ids, the input of the first layer.

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::model::family::Positions;
use crate::model::layers::{Embedding, Weight};
use crate::params::Params;
use crate::tensor::Tensor;

/// The token embedding, and the position embedding if positions are learned.
#[derive(Debug, Clone)]
pub(super) struct Embed {
    tokens: Embedding,
    positions: Option<Embedding>,
}

impl Embed {
    pub fn of(config: &ModelConfig, params: &Params) -> Result<Self> {
        let table = |name: &str| Weight::of(params, &format!("{name}.weight")).map(Embedding::new);
        let positions = match config.family.positions {
            Positions::Learned { table: name, .. } => Some(table(name)?),
            _ => None,
        };
        Ok(Self { tokens: table(config.family.embedding)?, positions })
    }

    pub fn over(&self, params: &Params) -> Self {
        let positions = self.positions.as_ref().map(|positions| positions.over(params));
        Self { tokens: self.tokens.over(params), positions }
    }

    /// Returns whether this parameter is a table whose rows are scaled or added in its own type, so that a cast
    /// of the table would change the result.
    pub fn reads_wide(&self, config: &ModelConfig, name: &str) -> bool {
        let is_alone = config.embedding_scale == 1.0 && self.positions.is_none();
        let tables = std::iter::once(&self.tokens).chain(&self.positions);
        !is_alone && tables.into_iter().any(|table| table.name() == name)
    }

    /// Returns the token table, `[vocabulary, width]`.
    pub fn table(&self) -> &Tensor {
        self.tokens.table()
    }

    /// Embeds tokens at these positions: `[rows, width]` in f32.
    pub fn forward(&self, config: &ModelConfig, ids: &[u32], positions: Vec<u32>) -> Result<Tensor> {
        let vocabulary = config.vocabulary;
        if let Some(id) = ids.iter().find(|id| **id as usize >= vocabulary) {
            let message = format!("{id} is outside the model's vocabulary of {vocabulary}");
            return Err(Error::invalid("token id", message));
        }
        let mut x = self.tokens.forward(ids.to_vec())?.cast(DType::F32)?;
        if config.embedding_scale != 1.0 {
            x = x.affine(config.embedding_scale, 0.0)?;
        }
        let (Some(table), Positions::Learned { first, .. }) = (&self.positions, config.family.positions)
        else {
            return Ok(x);
        };
        if let Some(position) = positions.iter().find(|at| **at as usize >= config.max_positions) {
            let message = format!("{position} is past the model's last ({})", config.max_positions - 1);
            return Err(Error::invalid("position", message));
        }
        let rows = positions.into_iter().map(|position| position + first as u32).collect();
        x.add(&table.forward(rows)?.cast(DType::F32)?)
    }
}
