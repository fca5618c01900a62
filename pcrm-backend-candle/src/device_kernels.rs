//! The fused operations on any device and in any float type, recorded on the tape.

use std::sync::Arc;

use pcrm_core::composed::{self, TensorCache};
use pcrm_core::kernels::{AdamWStep, AdamWUpdate, Ask, Asked, CacheShape, LayerCache, Slots, TokenStats};
#[cfg(feature = "cuda")]
use pcrm_core::kernels::{Offloaded, QuantisedSlots, RandomBits, Vectors};
use pcrm_core::tensor::Unary;
use pcrm_core::{Attention, Error, Kernels, PlannedTree, Result, Tensor, operands};

use crate::NAME;
use crate::device_ops::attention;
use crate::device_ops::attention::plan::{GroupedPlan, Sizes};
use crate::device_ops::token_stats::Answers;
use crate::device_ops::{adamw, elementwise, embedding, linear, norm, rotary, token_stats};
use crate::ops::norm::Norm;
use crate::ops::rotary::Turn;
use crate::ops::slices::dense;
use crate::tensor::{CandleTensor, record};

/// The fused operations, built from candle's tensor operations.
#[derive(Debug)]
pub(crate) struct DeviceKernels;

/// Computes attention according to a plan; the operands must have been checked.
pub(crate) fn attend(qkv: [&Tensor; 3], plan: Arc<GroupedPlan>) -> Result<Tensor> {
    const OP: &str = "attention";
    let err = || Error::backend(NAME, OP);
    let [q, k, v] = operands::attention::<CandleTensor>(NAME, qkv)?;
    let inputs = [q.value.clone(), k.value.clone(), v.value.clone()];
    let (value, totals) = attention::forward(&plan, inputs.each_ref()).map_err(err())?;
    let attended = value.clone();
    Ok(Tensor::new(record(value, &[q, k, v], move |gradient, _| {
        let gradients = attention::backward(&plan, inputs.each_ref(), [&attended, gradient], &totals);
        Ok(gradients.map_err(err())?.map(Some).into())
    })))
}

impl Kernels for DeviceKernels {
    fn name(&self) -> &'static str {
        NAME
    }

    fn linear(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        const OP: &str = "linear";
        let (x, weight, bias) = operands::linear::<CandleTensor>(NAME, x, weight, bias)?;
        let (dense_x, dense_w) = (dense(OP, &x.value)?, dense(OP, &weight.value)?);
        let err = || Error::backend(NAME, OP);
        let value = linear::forward(&dense_x, &dense_w, bias.map(|bias| &bias.value)).map_err(err())?;
        let mut operands = vec![x, weight];
        operands.extend(bias);
        let has_bias = bias.is_some();
        // A frozen weight's gradient is never computed, so its input is freed.
        let kept_x = weight.node.is_some().then_some(dense_x);
        Ok(Tensor::new(record(value, &operands, move |gradient, wanted| {
            let mut gradients = vec![
                wanted.then(0, || linear::backward_x(gradient, &dense_w).map_err(err()))?,
                kept_x.map(|x| linear::backward_weight(gradient, &x).map_err(err())).transpose()?,
            ];
            if has_bias {
                gradients.push(wanted.then(2, || linear::backward_bias(gradient).map_err(err()))?);
            }
            Ok(gradients)
        })))
    }

    fn attention(&self, qkv: [&Tensor; 3], tree: &PlannedTree, how: &Attention<'_>) -> Result<Tensor> {
        const OP: &str = "attention";
        let (heads, kv_heads) = composed::attention_heads(qkv, tree, how)?;
        if how.cap.is_some() {
            return composed::attention(qkv, tree, how);
        }
        let sizes = Sizes { kv_heads, group: heads / kv_heads, dim: qkv[0].shape()[2] };
        let q = &qkv[0].downcast::<CandleTensor>(OP, NAME)?.value;
        #[cfg(feature = "cuda")]
        if let Some(attended) = crate::cuda::recorded::attention(qkv, tree, how, sizes)? {
            return Ok(attended);
        }
        let plan = GroupedPlan::shared(tree, how, sizes, q.device());
        attend(qkv, plan.map_err(Error::backend(NAME, OP))?)
    }

    fn cache(&self, like: &Tensor, shape: CacheShape) -> Result<Box<dyn LayerCache>> {
        Ok(Box::new(TensorCache::of_backend(like, shape)?))
    }

    fn rms_norm(&self, x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
        let err = || Error::backend(NAME, "rms_norm");
        let [x, weight] = operands::rms_norm::<CandleTensor>(NAME, x, weight)?;
        #[cfg(feature = "cuda")]
        if let Some(normal) = crate::cuda::recorded::rms_norm(x, weight, eps)? {
            return Ok(normal);
        }
        let (own_x, own_w) = (x.value.clone(), weight.value.clone());
        let value = norm::forward(Norm::Rms, &own_x, &own_w, None, eps).map_err(err())?;
        Ok(Tensor::new(record(value, &[x, weight], move |gradient, _| {
            let gradients = norm::backward(Norm::Rms, &own_x, &own_w, gradient, eps).map_err(err())?;
            Ok(gradients.into_iter().take(2).map(Some).collect())
        })))
    }

    fn add_rms_norm(&self, x: &Tensor, y: &Tensor, weight: &Tensor, eps: f64) -> Result<[Tensor; 2]> {
        #[cfg(feature = "cuda")]
        {
            let [own_x, own_weight] = operands::rms_norm::<CandleTensor>(NAME, x, weight)?;
            let own_y = y.downcast::<CandleTensor>("add_rms_norm", NAME)?;
            let done = crate::cuda::recorded::add_rms_norm([own_x, own_y], own_weight, eps)?;
            if let Some(done) = done {
                return Ok(done);
            }
        }
        let sum = x.add(y)?;
        let normed = self.rms_norm(&sum, weight, eps)?;
        Ok([sum, normed])
    }

    fn layer_norm(&self, x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
        let err = || Error::backend(NAME, "layer_norm");
        let [x, weight, bias] = operands::layer_norm::<CandleTensor>(NAME, x, weight, bias)?;
        let (own_x, own_w) = (x.value.clone(), weight.value.clone());
        let value = norm::forward(Norm::Layer, &own_x, &own_w, Some(&bias.value), eps).map_err(err())?;
        Ok(Tensor::new(record(value, &[x, weight, bias], move |gradient, _| {
            let gradients = norm::backward(Norm::Layer, &own_x, &own_w, gradient, eps).map_err(err())?;
            Ok(gradients.map(Some).into())
        })))
    }

    fn rotary(&self, x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
        let err = || Error::backend(NAME, "rotary");
        let [x, cos, sin] = operands::rotary::<CandleTensor>(NAME, x, cos, sin)?;
        #[cfg(feature = "cuda")]
        if let Some(turned) = crate::cuda::recorded::rotary([x, cos, sin])? {
            return Ok(turned);
        }
        let (cos, sin) = (cos.value.clone(), sin.value.clone());
        let value = rotary::rotate(&x.value, &cos, &sin, Turn::Forward).map_err(err())?;
        Ok(Tensor::new(record(value, &[x], move |gradient, _| {
            Ok(vec![Some(rotary::rotate(gradient, &cos, &sin, Turn::Back).map_err(err())?)])
        })))
    }

    fn swiglu(&self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        let err = || Error::backend(NAME, "swiglu");
        let [gate, up] = operands::swiglu::<CandleTensor>(NAME, gate, up)?;
        #[cfg(feature = "cuda")]
        if let Some(gated) = crate::cuda::recorded::swiglu(gate, up)? {
            return Ok(gated);
        }
        let (own_gate, own_up) = (gate.value.clone(), up.value.clone());
        let value = elementwise::swiglu(&own_gate, &own_up).map_err(err())?;
        Ok(Tensor::new(record(value, &[gate, up], move |gradient, _| {
            let gradients = elementwise::swiglu_backward(&own_gate, &own_up, gradient).map_err(err())?;
            Ok(gradients.map(Some).into())
        })))
    }

    fn gelu(&self, x: &Tensor, op: Unary) -> Result<Tensor> {
        let err = || Error::backend(NAME, "gelu");
        let x = x.downcast::<CandleTensor>("gelu", NAME)?;
        let own_x = x.value.clone();
        let value = elementwise::unary(op, &own_x).map_err(err())?;
        Ok(Tensor::new(record(value, &[x], move |gradient, _| {
            Ok(vec![Some(elementwise::unary_backward(op, &own_x, gradient).map_err(err())?)])
        })))
    }

    fn embedding(&self, table: &Tensor, ids: &Tensor) -> Result<Tensor> {
        const OP: &str = "embedding";
        let [table, ids] = operands::embedding::<CandleTensor>(NAME, table, ids)?;
        let host_ids = ids.indices(OP)?;
        let vocabulary = table.value.dims()[0];
        if let Some(id) = host_ids.iter().find(|id| **id as usize >= vocabulary) {
            return Err(Error::shape(OP, format!("id {id} is outside the table"), &[table.value.dims()]));
        }
        let err = || Error::backend(NAME, OP);
        let value = embedding::forward(&dense(OP, &table.value)?, &ids.value).map_err(err())?;
        Ok(Tensor::new(record(value, &[table], move |gradient, _| {
            Ok(vec![Some(embedding::backward(gradient, &host_ids, vocabulary).map_err(err())?)])
        })))
    }

    fn token_stats(&self, hidden: &Tensor, head: &Tensor, ask: &Ask<'_>) -> Result<TokenStats> {
        const OP: &str = "token_stats";
        let err = || Error::backend(NAME, OP);
        let operands = operands::token_stats::<CandleTensor>(NAME, hidden, head, ask)?;
        let [hidden, head] = [dense(OP, &operands[0].value)?, dense(OP, &operands[1].value)?];
        let asked = Asked::new(ask);
        let Answers { joint, correct, rows } = token_stats::forward(&hidden, &head, &asked).map_err(err())?;
        let joint = record(joint, &operands, move |gradient, wanted| {
            let wanted = [wanted.operand(0), wanted.operand(1)];
            let gradients = token_stats::backward([&hidden, &head, gradient], &asked, &rows, wanted);
            Ok(gradients.map_err(err())?.into())
        });
        TokenStats::of_joint(&Tensor::new(joint), Tensor::new(CandleTensor::constant(correct)))
    }

    fn adamw(&self, step: &AdamWStep, slots: &Slots, grad: &Tensor) -> Result<()> {
        let [param, mean, variance, grad] = operands::adamw::<CandleTensor>(NAME, slots, grad)?;
        let slots = [&param.value, &mean.value, &variance.value];
        adamw::step(step, slots, &grad.value).map_err(Error::backend(NAME, "adamw"))
    }

    fn adamw_all(&self, updates: &[AdamWUpdate]) -> Result<()> {
        #[cfg(feature = "cuda")]
        if crate::cuda::recorded::adamw_all(updates)? {
            return Ok(());
        }
        updates.iter().try_for_each(|update| self.adamw(&update.step, &update.slots, &update.gradient))
    }

    #[cfg(feature = "cuda")]
    fn adamw_8bit(&self, step: &AdamWStep, slots: &QuantisedSlots, grad: &Tensor) -> Result<()> {
        match crate::cuda::recorded::adamw_8bit(step, slots, grad)? {
            true => Ok(()),
            false => composed::adamw_8bit(step, slots, grad),
        }
    }

    #[cfg(feature = "cuda")]
    fn round_at_random(&self, value: &Tensor, into: &Tensor, bits: &RandomBits) -> Result<()> {
        match crate::cuda::recorded::round_at_random(value, into, bits)? {
            true => Ok(()),
            false => composed::round_at_random(value, into, bits),
        }
    }

    #[cfg(feature = "cuda")]
    fn offload(&self, like: &Tensor, parts: &[Vectors]) -> Result<Box<dyn Offloaded>> {
        match crate::cuda::recorded::offload(like, parts)? {
            Some(offloaded) => Ok(offloaded),
            None => composed::offload(like, parts),
        }
    }

    fn sum_of_squares(&self, xs: &[&Tensor]) -> Result<f64> {
        const OP: &str = "sum_of_squares";
        let values = xs
            .iter()
            .map(|x| Ok(&x.downcast::<CandleTensor>(OP, NAME)?.value))
            .collect::<Result<Vec<_>>>()?;
        #[cfg(feature = "cuda")]
        if let Some(sum) = crate::cuda::recorded::sum_of_squares(&values).map_err(Error::backend(NAME, OP))? {
            return Ok(sum);
        }
        adamw::sum_of_squares(values.into_iter()).map_err(Error::backend(NAME, OP))
    }
}
