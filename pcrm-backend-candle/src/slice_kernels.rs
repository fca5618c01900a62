//! The fused operations on host slices (f32 on the CPU), recorded on the tape.

use pcrm_core::composed;
use pcrm_core::kernels::{
    AdamWStep, Ask, Asked, CacheShape, Coded, Draw, Drawn, LayerCache, Slots, TokenStats,
};
use pcrm_core::slices::HostCache;
use pcrm_core::slices::attention::{AttentionPlan, Sizes};
use pcrm_core::{Attention, Kernels, PlannedTree, Result, Tensor, operands};

use crate::NAME;
use crate::ops::norm::Norm;
use crate::ops::rotary::Turn;
use crate::ops::slices::{Pool, dense, indices};
use crate::ops::token_stats::Answers;
use crate::ops::{adamw, attention, coded, elementwise, embedding, linear, norm, rotary, token_stats};
use crate::tensor::{CandleTensor, record};

/// The fused operations on slices.
#[derive(Debug)]
pub(crate) struct SliceKernels;

impl Kernels for SliceKernels {
    fn name(&self) -> &'static str {
        NAME
    }

    fn linear(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        const OP: &str = "linear";
        let (x, weight, bias) = operands::linear::<CandleTensor>(NAME, x, weight, bias)?;
        let (dense_x, dense_w) = (dense(OP, &x.value)?, dense(OP, &weight.value)?);
        let value = linear::forward(&dense_x, &dense_w, bias.map(|bias| &bias.value))?;
        let mut operands = vec![x, weight];
        operands.extend(bias);
        let has_bias = bias.is_some();
        // A frozen weight's gradient is never computed, so its input is freed.
        let kept_x = weight.node.is_some().then_some(dense_x);
        Ok(Tensor::new(record(value, &operands, move |gradient, wanted| {
            let mut gradients = vec![
                wanted.then(0, || linear::backward_x(gradient, &dense_w))?,
                kept_x.map(|x| linear::backward_weight(gradient, &x)).transpose()?,
            ];
            if has_bias {
                gradients.push(wanted.then(2, || linear::backward_bias(gradient))?);
            }
            Ok(gradients)
        })))
    }

    fn linear_input(&self, gradient: &Tensor, weight: &Tensor) -> Result<Tensor> {
        const OP: &str = "linear_input";
        let [gradient, weight] = operands::linear_input::<CandleTensor>(NAME, gradient, weight)?;
        let value = linear::backward_x(&gradient.value, &dense(OP, &weight.value)?)?;
        Ok(Tensor::new(CandleTensor::constant(value)))
    }

    fn dequantise(&self, coded: &Coded<'_>) -> Result<Tensor> {
        let operands = operands::dequantise::<CandleTensor>(NAME, coded)?;
        let [codes, table, scales] = operands.map(|operand| &operand.value);
        let value = coded::forward([codes, table, scales], coded.block, coded.len)?;
        Ok(Tensor::new(CandleTensor::constant(value)))
    }

    fn attention(&self, qkv: [&Tensor; 3], tree: &PlannedTree, how: &Attention<'_>) -> Result<Tensor> {
        const OP: &str = "attention";
        let (heads, kv_heads) = composed::attention_heads(qkv, tree, how)?;
        let dim = qkv[0].shape()[2];
        let [q, k, v] = operands::attention::<CandleTensor>(NAME, qkv)?;
        let inputs = [dense(OP, &q.value)?, dense(OP, &k.value)?, dense(OP, &v.value)?];
        let plan = AttentionPlan::shared(tree, how, Sizes { heads, kv_heads, dim });
        let (value, totals) = attention::forward(&plan, inputs.each_ref())?;
        let attended = value.clone();
        Ok(Tensor::new(record(value, &[q, k, v], move |gradient, _| {
            let gradients = attention::backward(&plan, inputs.each_ref(), [&attended, gradient], &totals)?;
            Ok(gradients.map(Some).into())
        })))
    }

    fn cache(&self, like: &Tensor, shape: CacheShape) -> Result<Box<dyn LayerCache>> {
        like.downcast::<CandleTensor>("cache", NAME)?;
        Ok(Box::new(HostCache::new(shape, Pool)))
    }

    fn rms_norm(&self, x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
        const OP: &str = "rms_norm";
        let [x, weight] = operands::rms_norm::<CandleTensor>(NAME, x, weight)?;
        let (dense_x, dense_w) = (dense(OP, &x.value)?, dense(OP, &weight.value)?);
        let value = norm::forward(Norm::Rms, &dense_x, &dense_w, None, eps as f32)?;
        Ok(Tensor::new(record(value, &[x, weight], move |gradient, _| {
            let [d_x, d_weight, _] = norm::backward(Norm::Rms, &dense_x, &dense_w, gradient, eps as f32)?;
            Ok(vec![Some(d_x), Some(d_weight)])
        })))
    }

    fn layer_norm(&self, x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
        const OP: &str = "layer_norm";
        let [x, weight, bias] = operands::layer_norm::<CandleTensor>(NAME, x, weight, bias)?;
        let (dense_x, dense_w) = (dense(OP, &x.value)?, dense(OP, &weight.value)?);
        let value = norm::forward(Norm::Layer, &dense_x, &dense_w, Some(&bias.value), eps as f32)?;
        Ok(Tensor::new(record(value, &[x, weight, bias], move |gradient, _| {
            Ok(norm::backward(Norm::Layer, &dense_x, &dense_w, gradient, eps as f32)?.map(Some).into())
        })))
    }

    fn rotary(&self, x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
        const OP: &str = "rotary";
        let [x, cos, sin] = operands::rotary::<CandleTensor>(NAME, x, cos, sin)?;
        let (cos, sin) = (dense(OP, &cos.value)?, dense(OP, &sin.value)?);
        let value = rotary::rotate(&x.value, &cos, &sin, Turn::Forward)?;
        Ok(Tensor::new(record(value, &[x], move |gradient, _| {
            Ok(vec![Some(rotary::rotate(gradient, &cos, &sin, Turn::Back)?)])
        })))
    }

    fn swiglu(&self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        const OP: &str = "swiglu";
        let [gate, up] = operands::swiglu::<CandleTensor>(NAME, gate, up)?;
        let (dense_gate, dense_up) = (dense(OP, &gate.value)?, dense(OP, &up.value)?);
        let value = elementwise::swiglu(&dense_gate, &dense_up)?;
        Ok(Tensor::new(record(value, &[gate, up], move |gradient, _| {
            let (d_gate, d_up) = elementwise::swiglu_backward(&dense_gate, &dense_up, gradient)?;
            Ok(vec![Some(d_gate), Some(d_up)])
        })))
    }

    fn embedding(&self, table: &Tensor, ids: &Tensor) -> Result<Tensor> {
        const OP: &str = "embedding";
        let [table, ids] = operands::embedding::<CandleTensor>(NAME, table, ids)?;
        let ids = indices(OP, &ids.value)?;
        let vocabulary = table.value.dims()[0];
        let value = embedding::forward(&dense(OP, &table.value)?, &ids)?;
        Ok(Tensor::new(record(value, &[table], move |gradient, _| {
            Ok(vec![Some(embedding::backward(gradient, &ids, vocabulary)?)])
        })))
    }

    fn sample(&self, hidden: &Tensor, head: &Tensor, how: &Draw<'_>) -> Result<Vec<Drawn>> {
        const OP: &str = "sample";
        let [hidden, head] = operands::sample::<CandleTensor>(NAME, hidden, head, how)?;
        token_stats::sample(&dense(OP, &hidden.value)?, &dense(OP, &head.value)?, how)
    }

    fn token_stats(&self, hidden: &Tensor, head: &Tensor, ask: &Ask<'_>) -> Result<TokenStats> {
        const OP: &str = "token_stats";
        let operands = operands::token_stats::<CandleTensor>(NAME, hidden, head, ask)?;
        let [hidden, head] = [dense(OP, &operands[0].value)?, dense(OP, &operands[1].value)?];
        let asked = Asked::new(ask);
        let Answers { joint, correct, rows } = token_stats::forward(&hidden, &head, &asked)?;
        let joint = record(joint, &operands, move |gradient, wanted| {
            let wanted = [wanted.operand(0), wanted.operand(1)];
            Ok(token_stats::backward([&hidden, &head, gradient], &asked, &rows, wanted)?.into())
        });
        TokenStats::of_joint(&Tensor::new(joint), Tensor::new(CandleTensor::constant(correct)))
    }

    fn adamw(&self, step: &AdamWStep, slots: &Slots, grad: &Tensor) -> Result<()> {
        let [param, mean, variance, grad] = operands::adamw::<CandleTensor>(NAME, slots, grad)?;
        adamw::step(step, [&param.value, &mean.value, &variance.value], &grad.value)
    }

    fn sum_of_squares(&self, tensors: &[&Tensor]) -> Result<f64> {
        tensors
            .iter()
            .map(|x| adamw::sum_of_squares(&x.downcast::<CandleTensor>("sum_of_squares", NAME)?.value))
            .sum()
    }
}
