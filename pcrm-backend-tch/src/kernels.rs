//! The fused operations that this backend overrides, recorded on the tape.

use pcrm_core::composed;
use pcrm_core::kernels::{
    AdamWStep, AdamWUpdate, Ask, Asked, CacheShape, Coded, Draw, Drawn, LayerCache, Offloaded,
    QuantisedSlots, RandomBits, Slots, TokenStats, Vectors,
};
use pcrm_core::slices::HostCache;
use pcrm_core::slices::attention::Sizes;
use pcrm_core::tensor::Unary;
use pcrm_core::{Attention, Kernels, PlannedTree, Result, Tensor, operands};
use tch::{Device, Tensor as Torch};

use crate::cuda::{self, decode};
use crate::ops::norm::Norm;
use crate::ops::rotary::Turn;
use crate::ops::slices::Workers;
use crate::ops::token_stats::Answers;
use crate::ops::{
    Torched, adamw, attention, coded, elementwise, embedding, linear, norm, rotary, token_stats,
};
use crate::tensor::{TchTensor, record};
use crate::{NAME, failed};

/// The fused operations on libtorch.
#[derive(Debug)]
pub(crate) struct TchKernels;

/// Returns whether an operation must record its history.
fn keeps(operands: &[&TchTensor]) -> bool {
    operands.iter().any(|operand| operand.node.is_some())
}

/// Wraps the gradients of all operands.
fn all(op: &'static str, gradients: Torched<impl IntoIterator<Item = Torch>>) -> Result<Vec<Option<Torch>>> {
    Ok(gradients.map_err(failed(op))?.into_iter().map(Some).collect())
}

/// Computes the gradients of all operands from the saved state of the forward.
fn of_saved(
    op: &'static str,
    gradients: Option<Torched<impl IntoIterator<Item = Torch>>>,
) -> Result<Vec<Option<Torch>>> {
    gradients.map_or_else(|| Ok(Vec::new()), |gradients| all(op, gradients))
}

impl Kernels for TchKernels {
    fn name(&self) -> &'static str {
        NAME
    }

    fn linear(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        const OP: &str = "linear";
        let (x, weight, bias) = operands::linear::<TchTensor>(NAME, x, weight, bias)?;
        let value =
            linear::forward(&x.value, &weight.value, bias.map(|bias| &bias.value)).map_err(failed(OP))?;
        let mut operands = vec![x, weight];
        operands.extend(bias);
        let has_bias = bias.is_some();
        // A frozen weight's gradient is never computed, so its input is freed.
        let kept_x = weight.node.is_some().then(|| x.value.shallow_clone());
        let weight = weight.value.shallow_clone();
        Ok(record(value, &operands, move |gradient, wanted| {
            let mut gradients = vec![
                wanted.then(0, || linear::backward_x(gradient, &weight).map_err(failed(OP)))?,
                kept_x.map(|x| linear::backward_weight(gradient, &x).map_err(failed(OP))).transpose()?,
            ];
            if has_bias {
                gradients.push(wanted.then(2, || linear::backward_bias(gradient).map_err(failed(OP)))?);
            }
            Ok(gradients)
        }))
    }

    fn linear_input(&self, gradient: &Tensor, weight: &Tensor) -> Result<Tensor> {
        const OP: &str = "linear_input";
        let [gradient, weight] = operands::linear_input::<TchTensor>(NAME, gradient, weight)?;
        let value = linear::backward_x(&gradient.value, &weight.value).map_err(failed(OP))?;
        Ok(Tensor::new(TchTensor::constant(value)))
    }

    fn dequantise(&self, coded: &Coded<'_>) -> Result<Tensor> {
        let operands = operands::dequantise::<TchTensor>(NAME, coded)?;
        let [codes, table, scales] = operands.map(|operand| &operand.value);
        match codes.device() {
            Device::Cpu => {
                let value = coded::forward([codes, table, scales], coded.block, coded.len)?;
                Ok(Tensor::new(TchTensor::constant(value)))
            }
            _ => composed::dequantise(coded),
        }
    }

    fn attention(&self, qkv: [&Tensor; 3], tree: &PlannedTree, how: &Attention<'_>) -> Result<Tensor> {
        let (heads, kv_heads) = composed::attention_heads(qkv, tree, how)?;
        let sizes = Sizes { heads, kv_heads, dim: qkv[0].shape()[2] };
        let operands = operands::attention::<TchTensor>(NAME, qkv)?;
        // libtorch's own kernels, which compute attention off the CPU, do not support capped scores.
        if how.cap.is_some() && operands[0].value.device() != Device::Cpu {
            return composed::attention(qkv, tree, how);
        }
        let inputs = operands.map(|operand| operand.value.shallow_clone());
        let (value, saved) = attention::forward(inputs.each_ref(), tree, how, sizes, keeps(&operands))?;
        Ok(record(value, &operands, move |gradient, _| match saved {
            Some(saved) => Ok(attention::backward(saved, inputs.each_ref(), gradient)?.map(Some).into()),
            None => Ok(Vec::new()),
        }))
    }

    fn cache(&self, like: &Tensor, shape: CacheShape) -> Result<Box<dyn LayerCache>> {
        if like.downcast::<TchTensor>("cache", NAME)?.value.device() == Device::Cpu {
            return Ok(Box::new(HostCache::new(shape, Workers)));
        }
        decode::cache(like, shape)
    }

    fn rms_norm(&self, x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
        const OP: &str = "rms_norm";
        let operands = operands::rms_norm::<TchTensor>(NAME, x, weight)?;
        let [x, weight] = operands.map(|operand| operand.value.shallow_clone());
        let (value, saved) =
            norm::forward(Norm::Rms(&weight), &x, eps, keeps(&operands)).map_err(failed(OP))?;
        Ok(record(value, &operands, move |gradient, _| {
            of_saved(OP, saved.map(|saved| norm::backward(saved, Norm::Rms(&weight), &x, gradient)))
        }))
    }

    fn add_rms_norm(&self, x: &Tensor, y: &Tensor, weight: &Tensor, eps: f64) -> Result<[Tensor; 2]> {
        const OP: &str = "rms_norm";
        let [own_x, own_weight] = operands::rms_norm::<TchTensor>(NAME, x, weight)?;
        let own_y = y.downcast::<TchTensor>(OP, NAME)?;
        let inputs = [&own_x.value, &own_y.value];
        let keeps = keeps(&[own_x, own_y, own_weight]);
        let fused = norm::forward_sum(inputs, &own_weight.value, eps, keeps).map_err(failed(OP))?;
        let Some(([sum, value], saved)) = fused else {
            let sum = x.add(y)?;
            let normed = self.rms_norm(&sum, weight, eps)?;
            return Ok([sum, normed]);
        };
        let sum = record(sum, &[own_x, own_y], |gradient, _| {
            Ok(vec![Some(gradient.shallow_clone()), Some(gradient.shallow_clone())])
        });
        let own_sum = sum.downcast::<TchTensor>(OP, NAME)?;
        let [of_sum, weight] = [own_sum.value.shallow_clone(), own_weight.value.shallow_clone()];
        let normed = record(value, &[own_sum, own_weight], move |gradient, _| {
            of_saved(OP, saved.map(|saved| norm::backward(saved, Norm::Rms(&weight), &of_sum, gradient)))
        });
        Ok([sum, normed])
    }

    fn layer_norm(&self, x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
        const OP: &str = "layer_norm";
        let operands = operands::layer_norm::<TchTensor>(NAME, x, weight, bias)?;
        let [x, weight, bias] = operands.map(|operand| operand.value.shallow_clone());
        let (value, saved) =
            norm::forward(Norm::Layer(&weight, &bias), &x, eps, keeps(&operands)).map_err(failed(OP))?;
        Ok(record(value, &operands, move |gradient, _| {
            of_saved(OP, saved.map(|saved| norm::backward(saved, Norm::Layer(&weight, &bias), &x, gradient)))
        }))
    }

    fn rotary(&self, x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
        const OP: &str = "rotary";
        let [x, cos, sin] = operands::rotary::<TchTensor>(NAME, x, cos, sin)?;
        let (cos, sin) = (cos.value.shallow_clone(), sin.value.shallow_clone());
        let value = rotary::rotate(&x.value, &cos, &sin, Turn::Forward).map_err(failed(OP))?;
        Ok(record(value, &[x], move |gradient, _| {
            all(OP, rotary::rotate(gradient, &cos, &sin, Turn::Back).map(|d_x| [d_x]))
        }))
    }

    fn swiglu(&self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        const OP: &str = "swiglu";
        let operands = operands::swiglu::<TchTensor>(NAME, gate, up)?;
        let [gate, up] = operands.map(|operand| operand.value.shallow_clone());
        let value = elementwise::swiglu(&gate, &up).map_err(failed(OP))?;
        Ok(record(value, &operands, move |gradient, _| {
            all(OP, elementwise::swiglu_backward(&gate, &up, gradient))
        }))
    }

    fn gelu(&self, x: &Tensor, op: Unary) -> Result<Tensor> {
        x.unary(op) // libtorch's own, fused, forward and backward
    }

    fn embedding(&self, table: &Tensor, ids: &Tensor) -> Result<Tensor> {
        const OP: &str = "embedding";
        let [table, ids] = operands::embedding::<TchTensor>(NAME, table, ids)?;
        let ids = ids.value.shallow_clone();
        let vocabulary = table.value.size()[0];
        let value = embedding::forward(&table.value, &ids).map_err(failed(OP))?;
        Ok(record(value, &[table], move |gradient, _| {
            all(OP, embedding::backward(gradient, &ids, vocabulary).map(|d_table| [d_table]))
        }))
    }

    fn sample(&self, hidden: &Tensor, head: &Tensor, how: &Draw<'_>) -> Result<Vec<Drawn>> {
        let [of_hidden, of_head] = operands::sample::<TchTensor>(NAME, hidden, head, how)?;
        let is_plain = !how.filters.is_filtered() && !how.uniforms.is_empty();
        match (of_hidden.value.device(), cuda::fused(&of_hidden.value)) {
            (Device::Cpu, _) => token_stats::sample(&of_hidden.value, &of_head.value, how),
            (_, Some(fused)) if is_plain => decode::sample(fused, &of_hidden.value, &of_head.value, how),
            _ => composed::sample(hidden, head, how),
        }
    }

    fn token_stats(&self, hidden: &Tensor, head: &Tensor, ask: &Ask<'_>) -> Result<TokenStats> {
        const OP: &str = "token_stats";
        let operands = operands::token_stats::<TchTensor>(NAME, hidden, head, ask)?;
        let [hidden, head] = operands.map(|operand| operand.value.shallow_clone());
        let asked = Asked::new(ask);
        let kernels = token_stats::kernels(&hidden);
        let Answers { joint, correct, rows } =
            token_stats::forward(&hidden, &head, &asked, kernels).map_err(failed(OP))?;
        let joint = record(joint, &operands, move |gradient, wanted| {
            let wanted = [wanted.operand(0), wanted.operand(1)];
            let gradients = token_stats::backward([&hidden, &head, gradient], &asked, &rows, wanted, kernels);
            Ok(gradients.map_err(failed(OP))?.into())
        });
        TokenStats::of_joint(&joint, Tensor::new(TchTensor::constant(correct)))
    }

    fn adamw(&self, step: &AdamWStep, slots: &Slots, grad: &Tensor) -> Result<()> {
        const OP: &str = "adamw";
        let [param, mean, variance, grad] = operands::adamw::<TchTensor>(NAME, slots, grad)?;
        adamw::step(step, [&param.value, &mean.value, &variance.value], &grad.value).map_err(failed(OP))
    }

    fn adamw_all(&self, updates: &[AdamWUpdate]) -> Result<()> {
        const OP: &str = "adamw";
        let (mut steps, mut slots, mut gradients) = (Vec::new(), Vec::new(), Vec::new());
        for update in updates {
            let [param, mean, variance, gradient] =
                operands::adamw::<TchTensor>(NAME, &update.slots, &update.gradient)?;
            steps.push(&update.step);
            slots.push([&param.value, &mean.value, &variance.value]);
            gradients.push(gradient.value.shallow_clone());
        }
        adamw::step_all(&steps, &slots, &gradients).map_err(failed(OP))
    }

    fn adamw_8bit(&self, step: &AdamWStep, slots: &QuantisedSlots, grad: &Tensor) -> Result<()> {
        const OP: &str = "adamw_8bit";
        let operands = operands::adamw_8bit::<TchTensor>(NAME, slots, grad)?;
        match adamw::step_8bit(step, operands.map(|operand| &operand.value)).map_err(failed(OP))? {
            true => Ok(()),
            false => composed::adamw_8bit(step, slots, grad),
        }
    }

    fn round_at_random(&self, value: &Tensor, into: &Tensor, bits: &RandomBits) -> Result<()> {
        const OP: &str = "round_at_random";
        let operands = operands::round_at_random::<TchTensor>(NAME, value, into)?;
        let [own_value, own_into] = operands.map(|operand| &operand.value);
        match adamw::round_at_random(own_value, own_into, bits).map_err(failed(OP))? {
            true => Ok(()),
            false => composed::round_at_random(value, into, bits),
        }
    }

    fn offload(&self, like: &Tensor, parts: &[Vectors]) -> Result<Box<dyn Offloaded>> {
        match like.downcast::<TchTensor>("offload", NAME)?.value.device() {
            Device::Cuda(index) => cuda::offload::open(index, parts),
            _ => composed::offload(like, parts),
        }
    }

    fn sum_of_squares(&self, tensors: &[&Tensor]) -> Result<f64> {
        const OP: &str = "sum_of_squares";
        let mut values = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            values.push(&tensor.downcast::<TchTensor>(OP, NAME)?.value);
        }
        adamw::sum_of_squares(&values).map_err(failed(OP))
    }
}
