//! Losses of preference pairs.

use pcrm_core::{HostTensor, Result, Tensor};
use serde::{Deserialize, Serialize};

/// What the loss adds to Bradley–Terry besides the constraint.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LossConfig {
    /// ε: the ranking loss is −(1 − ε)·ln σ(Δ) − ε·ln σ(−Δ) (conservative labels); 0 for none.
    pub label_smoothing: f64,
    /// c: adds c·(r_w + r_l)², which keeps scores around 0 (arXiv 2312.09244); 0 for none.
    pub center_rewards: f64,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self { label_smoothing: 0.0, center_rewards: 0.0 }
    }
}

/// What the loss knows of every comparison besides its scores; all of one length.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Δ*, `f32::INFINITY` for no bound.
    pub bounds: Vec<f32>,
    /// m of −ln σ(Δ − m); 0 for none.
    pub margins: Vec<f32>,
    /// The share of the whole loss; the shares of a batch add up to 1.
    pub weights: Vec<f32>,
}

/// The parts of a loss, each the weighted sum over the comparisons, without dimensions.
#[derive(Debug, Clone)]
pub struct Loss {
    /// What is minimised: all parts together.
    pub total: Tensor,
    /// −ln σ(Δ − m), smoothed.
    pub ranking: Tensor,
    /// −ln σ(Δ* − Δ); absent where no comparison has a bound.
    pub constraint: Option<Tensor>,
}

/// The loss of PCRM (arXiv 2404.00978, §4.1): L = −ln σ(Δ − m) − ln σ(Δ* − Δ) + c·(r_w + r_l)², Δ = r_w − r_l.
///
/// `chosen` and `rejected` are the scores `[comparisons]`. An infinite Δ* leaves Bradley–Terry's loss alone.
///
/// # Errors
/// Lengths that differ.
pub fn pair_loss(chosen: &Tensor, rejected: &Tensor, known: &Known, config: &LossConfig) -> Result<Loss> {
    let weights = chosen.constant(&HostTensor::vector(known.weights.clone()))?;
    let weighted = |x: &Tensor| x.mul(&weights)?.sum_all();
    let margin = chosen.sub(rejected)?; // Δ
    let ranked = match known.margins.iter().any(|margin| *margin != 0.0) {
        true => margin.sub(&chosen.constant(&HostTensor::vector(known.margins.clone()))?)?,
        false => margin.clone(),
    };
    let mut ranking = ranked.log_sigmoid()?.neg()?;
    if config.label_smoothing != 0.0 {
        let flipped = ranked.neg()?.log_sigmoid()?.neg()?;
        ranking = ranking
            .affine(1.0 - config.label_smoothing, 0.0)?
            .add(&flipped.affine(config.label_smoothing, 0.0)?)?;
    }
    let ranking = weighted(&ranking)?;
    let mut total = ranking.clone();
    let mut constraint = None;
    if known.bounds.iter().any(|bound| bound.is_finite()) {
        let bounds = chosen.constant(&HostTensor::vector(known.bounds.clone()))?;
        let part = weighted(&bounds.sub(&margin)?.log_sigmoid()?.neg()?)?;
        total = total.add(&part)?;
        constraint = Some(part);
    }
    if config.center_rewards != 0.0 {
        let centred = weighted(&chosen.add(rejected)?.square()?)?;
        total = total.add(&centred.affine(config.center_rewards, 0.0)?)?;
    }
    Ok(Loss { total, ranking, constraint })
}
