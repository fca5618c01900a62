//! A mixture of experts (Shazeer et al., arXiv 1701.06538): every row uses a few of many networks, weighted
//! by their shares.
//!
//! Rows are sorted by expert, so that every expert processes its own rows without padding. A row's outputs
//! are added up in the order of its experts: its bits depend on its own experts alone, not on the other rows.

use super::feed_forward::Network;
use super::{Names, Pass};
use crate::dtype::DType;
use crate::error::Result;
use crate::host::HostTensor;
use crate::model::Rows;
use crate::model::layers::{Linear, Weight};
use crate::model::lora::Noise;
use crate::model::routing::Routes;
use crate::params::Params;
use crate::tensor::{Tensor, Unary};

#[derive(Debug, Clone)]
pub(super) struct Experts {
    router: Linear,
    experts: Vec<Network>,
    shared: Option<Shared>,
    taken: usize,
    normalised: bool,
}

/// A network that every row uses, multiplied by σ(gate·x).
#[derive(Debug, Clone)]
struct Shared {
    gate: Linear,
    network: Network,
}

impl Experts {
    /// Looks up the experts of a layer, if it has any.
    pub fn find(params: &Params, at: &Names<'_>) -> Result<Option<Self>> {
        let (Some(family), Some(mixture)) = (&at.config.family.experts, &at.config.mixture) else {
            return Ok(None);
        };
        if !mixture.is_in(at.layer) {
            return Ok(None);
        }
        let matrix = |name: &str| {
            Ok::<_, crate::Error>(Linear::new(
                Weight::of(params, &format!("{}.weight", at.name(name)))?,
                None,
            ))
        };
        let expert = |expert: usize| {
            let lead = at.name(&format!("{}{expert}.", family.prefix));
            Network::gated(params, at, &lead, family.expert)
        };
        let shared = family.shared.map(|shared| {
            let network = Network::gated(params, at, &at.name(""), shared.network)?;
            let gate = Linear::of(params, &at.name(shared.gate), at.adapters)?;
            Ok::<_, crate::Error>(Shared { gate, network })
        });
        Ok(Some(Self {
            router: matrix(family.router)?,
            experts: (0..mixture.experts).map(expert).collect::<Result<_>>()?,
            shared: shared.transpose()?,
            taken: mixture.taken,
            normalised: mixture.normalised,
        }))
    }

    pub fn over(&self, params: &Params) -> Self {
        Self {
            router: self.router.over(params),
            experts: self.experts.iter().map(|expert| expert.over(params)).collect(),
            shared: self.shared.as_ref().map(|shared| Shared {
                gate: shared.gate.over(params),
                network: shared.network.over(params),
            }),
            ..*self
        }
    }

    /// Computes x `[wanted rows, width]` → `[wanted rows, width]`.
    pub fn forward(&self, x: &Tensor, pass: &Pass, rows: Rows<'_>) -> Result<Tensor> {
        let count = x.shape()[0];
        let logits = self.router.forward(x, Noise::NONE)?.cast(DType::F32)?;
        let routes = Routes::new(&logits.read()?.into_f32(), self.experts.len(), self.taken, self.normalised);
        let shares = routes.shares(&logits)?.cast(x.dtype())?; // [rows, taken]
        pass.note(&logits, &routes);
        let index =
            |rows: &[usize]| x.constant(&HostTensor::indices(rows.iter().map(|row| *row as u32).collect()));
        let sorted = x.index_select(0, &index(routes.rows())?)?;
        let mut outputs = Vec::with_capacity(self.experts.len());
        for (expert, range) in self.experts.iter().zip(routes.ranges()).filter(|(_, range)| !range.is_empty())
        {
            let own: Vec<usize> = routes.rows()[range.clone()]
                .iter()
                .map(|row| match rows {
                    Rows::All => *row,
                    Rows::Only(rows) => rows[*row],
                })
                .collect();
            let input = sorted.narrow(0, range.start, range.len())?;
            outputs.push(expert.forward(&input, pass.noise(Rows::Only(&own)))?);
        }
        let outputs = Tensor::concat(&outputs.iter().collect::<Vec<_>>(), 0)?; // [rows · taken, width]
        let mut sum: Option<Tensor> = None;
        for slot in 0..self.taken {
            let places: Vec<usize> = (0..count).map(|row| routes.place(row, slot)).collect();
            let part = outputs.index_select(0, &index(&places)?)?.mul(&shares.narrow(1, slot, 1)?)?;
            sum = Some(match sum {
                Some(sum) => sum.add(&part)?,
                None => part,
            });
        }
        let mut sum = self.with_idle(sum.unwrap_or_else(|| x.clone()), &routes)?;
        if let Some(Shared { gate, network }) = &self.shared {
            let share = gate.forward(x, pass.noise(rows))?.unary(Unary::Sigmoid)?;
            sum = sum.add(&network.forward(x, pass.noise(rows))?.mul(&share)?)?;
        }
        Ok(sum)
    }

    /// Returns the same values, with zero gradients for the experts that no row used.
    fn with_idle(&self, sum: Tensor, routes: &Routes) -> Result<Tensor> {
        let mut idle = Vec::new();
        for (expert, _) in self.experts.iter().zip(routes.ranges()).filter(|(_, range)| range.is_empty()) {
            expert.trained(&mut idle);
        }
        if idle.is_empty() {
            return Ok(sum);
        }
        let operands: Vec<&Tensor> = std::iter::once(&sum).chain(&idle).collect();
        let zeros: Vec<Tensor> = idle.iter().map(Tensor::detach).collect();
        sum.detach().record(&operands, move |gradient, wanted| {
            let zero = |(of, wanted): (&Tensor, &bool)| {
                wanted.then(|| of.constant(&HostTensor::f32(of.shape(), vec![0.0; of.size()])?)).transpose()
            };
            let mut gradients = vec![Some(gradient.clone())];
            for pair in zeros.iter().zip(&wanted[1..]) {
                gradients.push(zero(pair)?);
            }
            Ok(gradients)
        })
    }
}
