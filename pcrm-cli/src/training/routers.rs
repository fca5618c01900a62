//! The option on the routers' loss of mixtures of experts, shared by the commands that train policies.

use clap::Args;

use crate::numbers::real;

/// The coefficient of the routers' loss.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Steps")]
pub struct RouterArgs {
    /// Add the loss that balances the routers of a mixture of experts, times C; 0 leaves it out [default:
    /// router_aux_loss_coef of the model's config.json if its output_router_logits is true, else 0]
    #[arg(long, value_name = "C", value_parser = real)]
    pub router_aux_loss_coef: Option<f64>,
}
