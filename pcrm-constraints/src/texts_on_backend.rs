//! Texts through a model on a backend: opened from what the run computes on, packed into batches of few tokens.

use pcrm_core::constraint::Priors;
use pcrm_core::model::Rows;
use pcrm_core::tree::within_budget;
use pcrm_core::{Backend, DType, Error, Packed, Result, Tensor};

/// Tokens that are computed at once, unless one text has more. More would leave the caches of a CPU.
const BUDGET: usize = 2048;

/// A backend for an encoder, and what it computes in.
pub(crate) struct Opened {
    pub(crate) backend: Box<dyn Backend>,
    pub(crate) dtype: DType,
}

impl Opened {
    /// Opens the run's backend; `kind` is named in errors.
    pub(crate) fn new(kind: &str, priors: &Priors) -> Result<Self> {
        let refuse = |message: String| Error::Plugin { what: "encoder", name: kind.to_owned(), message };
        let engine = priors.engine.ok_or_else(|| {
            refuse("there is no backend to compute on; expected one (--backend, --device)".to_owned())
        })?;
        let backend = engine.open()?;
        let served = backend.dtypes();
        if !served.contains(&engine.dtype) {
            let served = served.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let (found, name, device) = (engine.dtype, backend.name(), backend.device());
            return Err(refuse(format!(
                "cannot compute in {found}: the {name} backend on {device} serves {served}"
            )));
        }
        Ok(Self { backend, dtype: engine.dtype })
    }

    /// What vectors depend on: `content`, a digest of the encoder's files, and what computes.
    pub(crate) fn digest(&self, content: &str) -> String {
        let (version, name, device) = (env!("CARGO_PKG_VERSION"), self.backend.name(), self.backend.device());
        format!("{version} {name} {device} {} {content}", self.dtype)
    }
}

/// The tokens of a text whose hidden states are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    All,
    First,
    Last,
}

impl Kept {
    /// The hidden states of every text's kept tokens in f32, `[kept tokens, width]` each; no text may be empty.
    pub(crate) fn states(
        self,
        texts: &[Vec<u32>],
        forward: impl Fn(&Packed, Rows<'_>) -> Result<Tensor>,
    ) -> Result<Vec<Vec<f32>>> {
        let mut states = Vec::with_capacity(texts.len());
        for part in within_budget(texts, BUDGET, Vec::len) {
            let mut batch = Packed::default();
            let mut rows = Vec::new();
            for ids in part {
                let start = batch.ids.len();
                batch.push(ids, None)?;
                match self {
                    Self::All => {}
                    Self::First => rows.push(start),
                    Self::Last => rows.push(batch.ids.len() - 1),
                }
            }
            let wanted = if self == Self::All { Rows::All } else { Rows::Only(&rows) };
            let values = forward(&batch, wanted)?.cast(DType::F32)?.read()?.into_f32();
            let count = |ids: &Vec<u32>| if self == Self::All { ids.len() } else { 1 };
            let width = values.len() / part.iter().map(count).sum::<usize>();
            let mut values = values.as_slice();
            for ids in part {
                let (own, others) = values.split_at(count(ids) * width);
                states.push(own.to_vec());
                values = others;
            }
        }
        Ok(states)
    }
}
