//! Runs texts through a model on the run's backend, packed into batches of few tokens.

use pcrm_core::constraint::Priors;
use pcrm_core::model::Rows;
use pcrm_core::tree::within_budget;
use pcrm_core::{Backend, DType, Error, Packed, Result, Tensor};

/// The maximum number of tokens in a batch, unless one text alone has more. A larger batch would not fit a
/// CPU's caches.
const BUDGET: usize = 2048;

/// An encoder's backend and its dtype.
pub(crate) struct Opened {
    pub(crate) backend: Box<dyn Backend>,
    pub(crate) dtype: DType,
}

impl Opened {
    /// Opens the run's backend; errors name `kind`.
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
                "cannot compute in {found}: the {name} backend on {device} supports {served}"
            )));
        }
        Ok(Self { backend, dtype: engine.dtype })
    }

    /// Returns the digest of everything that vectors depend on: `content`, a digest of the encoder's files,
    /// and the backend that computes.
    pub(crate) fn digest(&self, content: &str) -> String {
        let (version, name, device) = (env!("CARGO_PKG_VERSION"), self.backend.name(), self.backend.device());
        format!("{version} {name} {device} {} {content}", self.dtype)
    }
}

/// The tokens of a text whose hidden states are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeptTokens {
    All,
    First,
    Last,
}

impl KeptTokens {
    /// Returns the hidden states of every text's kept tokens in f32, `[kept tokens, width]` each; no text may
    /// be empty.
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
