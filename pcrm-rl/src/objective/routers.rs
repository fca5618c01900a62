//! The routers' loss of a mixture of experts, which the objectives of language models add to their own.

use pcrm_core::model::RouterLoss;

use super::{Forward, Pass};
use crate::error::Result;
use crate::metrics::Metrics;

impl Forward {
    /// Adds the routers' loss of a part of a batch to the outputs and the metrics, if there is one. The batch's
    /// is the mean over its parts, weighted by the `weight` of their items. The metrics are TRL's: `aux_loss`
    /// is without its coefficient, and `loss` includes it. `of_loss` is the weight of the whole batch in the
    /// mean `loss`.
    ///
    /// # Errors
    /// Fails with the backend's error.
    pub(crate) fn with_routers(
        mut self,
        routers: Option<RouterLoss>,
        weight: f64,
        of_loss: f64,
        pass: &Pass<'_>,
        metrics: &mut Metrics,
    ) -> Result<Self> {
        if let Some(RouterLoss { value, coefficient }) = routers {
            let slope = coefficient * weight * pass.share;
            let aux_loss = f64::from(value.read_scalar()?);
            metrics.mean("aux_loss", aux_loss, weight);
            metrics.raise("loss", slope * aux_loss, of_loss);
            self.outputs.push((value, vec![slope]));
        }
        Ok(self)
    }
}
