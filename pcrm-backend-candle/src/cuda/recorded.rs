//! The fused operations by compiled kernels, recorded on the tape; `None` where no kernel serves the operands.

use candle_core as ct;
use pcrm_core::kernels::{AdamWStep, AdamWUpdate, Offloaded, QuantisedSlots, RandomBits, Vectors};
use pcrm_core::{Attention, Error, Result, Tensor, operands};

use super::attention::{Kernels, Plan};
use super::fused::Fused;
use super::update::Update;
use crate::NAME;
use crate::device_ops::attention::plan::Sizes;
use crate::ops::rotary::Turn;
use crate::tensor::{CandleTensor, record};

/// See [`pcrm_core::Kernels::attention`].
pub(crate) fn attention(
    qkv: [&Tensor; 3],
    tree: &pcrm_core::PlannedTree,
    how: &Attention<'_>,
    sizes: Sizes,
) -> Result<Option<Tensor>> {
    let err = || Error::backend(NAME, "attention");
    let [q, k, v] = operands::attention::<CandleTensor>(NAME, qkv)?;
    let Some(kernels): Option<&'static Kernels> = super::attention(&q.value, how) else { return Ok(None) };
    let plan = Plan::shared(tree, how, sizes, q.value.device()).map_err(err())?;
    let inputs = [q.value.clone(), k.value.clone(), v.value.clone()];
    let [value, totals] = kernels.forward(&plan, inputs.each_ref()).map_err(err())?;
    let attended = value.clone();
    Ok(Some(Tensor::new(record(value, &[q, k, v], move |gradient, _| {
        let gradients = kernels.backward(&plan, inputs.each_ref(), [&attended, gradient], &totals);
        Ok(gradients.map_err(err())?.map(Some).into())
    }))))
}

/// See [`pcrm_core::Kernels::rms_norm`].
pub(crate) fn rms_norm(x: &CandleTensor, weight: &CandleTensor, eps: f64) -> Result<Option<Tensor>> {
    let err = || Error::backend(NAME, "rms_norm");
    let (own_x, own_weight) = (x.value.clone(), weight.value.clone());
    let Some(fused) = super::fused(&own_x).filter(|_| Fused::norms(&own_x, &own_weight)) else {
        return Ok(None);
    };
    let [value, inverse] = fused.rms_norm(&own_x, None, &own_weight, eps).map_err(err())?;
    Ok(Some(Tensor::new(record(value, &[x, weight], move |gradient, _| {
        let gradients = fused.rms_norm_backward([&own_x, &own_weight, gradient], &inverse);
        Ok(gradients.map_err(err())?.map(Some).into())
    }))))
}

/// See [`pcrm_core::Kernels::add_rms_norm`].
pub(crate) fn add_rms_norm(
    [x, y]: [&CandleTensor; 2],
    weight: &CandleTensor,
    eps: f64,
) -> Result<Option<[Tensor; 2]>> {
    let err = || Error::backend(NAME, "add_rms_norm");
    let own_weight = weight.value.clone();
    let serves = |x: &CandleTensor| Fused::norms(&x.value, &own_weight);
    let fits = serves(x) && serves(y) && x.value.dims() == y.value.dims();
    let Some(fused) = super::fused(&x.value).filter(|_| fits) else { return Ok(None) };
    let [own_sum, value, inverse] =
        fused.add_rms_norm([&x.value, &y.value], &own_weight, eps).map_err(err())?;
    let sum = record(own_sum.clone(), &[x, y], |gradient, _| {
        Ok(vec![Some(gradient.clone()), Some(gradient.clone())])
    });
    let normed = record(value, &[&sum, weight], move |gradient, _| {
        let gradients = fused.rms_norm_backward([&own_sum, &own_weight, gradient], &inverse);
        Ok(gradients.map_err(err())?.map(Some).into())
    });
    Ok(Some([Tensor::new(sum), Tensor::new(normed)]))
}

/// See [`pcrm_core::Kernels::rotary`].
pub(crate) fn rotary([x, cos, sin]: [&CandleTensor; 3]) -> Result<Option<Tensor>> {
    let err = || Error::backend(NAME, "rotary");
    let half = cos.value.dims()[1];
    let Some(fused) = super::fused(&x.value) else { return Ok(None) };
    let turning = x.value.contiguous().map_err(err())?;
    let (cos, sin) = (cos.value.clone(), sin.value.clone());
    if !Fused::serves(&[&turning, &cos, &sin], half) {
        return Ok(None);
    }
    let value = fused.rotary([&turning, &cos, &sin], Turn::Forward).map_err(err())?;
    Ok(Some(Tensor::new(record(value, &[x], move |gradient, _| {
        let back = || fused.rotary([&gradient.contiguous()?, &cos, &sin], Turn::Back);
        Ok(vec![Some(back().map_err(err())?)])
    }))))
}

/// See [`pcrm_core::Kernels::swiglu`].
pub(crate) fn swiglu(gate: &CandleTensor, up: &CandleTensor) -> Result<Option<Tensor>> {
    let err = || Error::backend(NAME, "swiglu");
    let Some(fused) = super::fused(&gate.value) else { return Ok(None) };
    let own_gate = gate.value.contiguous().map_err(err())?;
    let own_up = up.value.contiguous().map_err(err())?;
    if !Fused::serves(&[&own_gate, &own_up], own_gate.elem_count()) {
        return Ok(None);
    }
    let value = fused.swiglu(&own_gate, &own_up).map_err(err())?;
    Ok(Some(Tensor::new(record(value, &[gate, up], move |gradient, _| {
        let gradients = fused.swiglu_backward([&own_gate, &own_up, gradient]);
        Ok(gradients.map_err(err())?.map(Some).into())
    }))))
}

/// Sums the slices of x along its first dimension into `count` slices: slice i is added to slice `targets[i]`.
pub(crate) fn row_sums(x: &ct::Tensor, targets: &[u32], count: usize) -> ct::Result<Option<ct::Tensor>> {
    let Some(fused) = super::fused(x) else { return Ok(None) };
    let x = x.contiguous()?;
    let fits = x.dims()[0] == targets.len() && targets.iter().all(|target| (*target as usize) < count);
    if !fits || !Fused::serves(&[&x], x.elem_count() / targets.len().max(1)) {
        return Ok(None);
    }
    let mut shape = x.dims().to_vec();
    shape[0] = count;
    Ok(Some(fused.row_sums(&x, targets, count)?.reshape(shape)?))
}

/// Adds a bias to a product's rows in place, which nothing else reads yet; returns whether a kernel did it.
pub(crate) fn add_bias(product: &ct::Tensor, bias: &ct::Tensor) -> ct::Result<bool> {
    let Some(fused) = super::fused(product) else { return Ok(false) };
    let serves = Fused::serves(&[product, bias], bias.elem_count());
    if serves {
        fused.add_bias(product, bias)?;
    }
    Ok(serves)
}

/// Sums x `[rows, width]` over its rows, giving `[width]`.
pub(crate) fn column_sums(x: &ct::Tensor) -> ct::Result<Option<ct::Tensor>> {
    let Some(fused) = super::fused(x) else { return Ok(None) };
    let x = x.contiguous()?;
    match Fused::serves(&[&x], x.dim(1)?) {
        true => fused.column_sums(&x, x.dtype()).map(Some),
        false => Ok(None),
    }
}

/// See [`pcrm_core::Kernels::adamw_all`]; returns whether a kernel did it.
pub(crate) fn adamw_all(updates: &[AdamWUpdate]) -> Result<bool> {
    let mut all: Vec<(&AdamWStep, [&ct::Tensor; 4])> = Vec::with_capacity(updates.len());
    for update in updates {
        let slots = operands::adamw::<CandleTensor>(NAME, &update.slots, &update.gradient)?;
        all.push((&update.step, slots.map(|slot| &slot.value)));
    }
    let Some(fused) = all.first().and_then(|(_, slots)| super::fused(slots[0])) else { return Ok(false) };
    if !all.iter().all(|(_, slots)| slots.iter().all(|x| whole(x))) {
        return Ok(false);
    }
    let all: Vec<Update<'_>> = all.into_iter().map(|(step, slots)| Update { step, slots }).collect();
    fused.adamw(&all).map_err(Error::backend(NAME, "adamw"))?;
    Ok(true)
}

/// See [`pcrm_core::Kernels::adamw_8bit`]; returns whether a kernel did it.
pub(crate) fn adamw_8bit(step: &AdamWStep, slots: &QuantisedSlots, gradient: &Tensor) -> Result<bool> {
    let operands = operands::adamw_8bit::<CandleTensor>(NAME, slots, gradient)?;
    let values = operands.map(|operand| &operand.value);
    let fits = values.iter().all(|x| x.is_contiguous() && x.elem_count() > 0);
    let Some(fused) = super::optimiser(values[0]).filter(|_| fits) else { return Ok(false) };
    fused.adamw_8bit(step, values).map_err(Error::backend(NAME, "adamw_8bit"))?;
    Ok(true)
}

/// See [`pcrm_core::Kernels::round_at_random`]; returns whether a kernel did it.
pub(crate) fn round_at_random(value: &Tensor, into: &Tensor, bits: &RandomBits) -> Result<bool> {
    let err = || Error::backend(NAME, "round_at_random");
    let [value, into] = operands::round_at_random::<CandleTensor>(NAME, value, into)?;
    let fits = into.value.is_contiguous() && into.value.elem_count() > 0;
    let Some(fused) = super::optimiser(&value.value).filter(|_| fits) else { return Ok(false) };
    let value = value.value.contiguous().map_err(err())?;
    fused.round_at_random(&value, &into.value, bits).map_err(err())?;
    Ok(true)
}

/// See [`pcrm_core::Kernels::offload`]; `None` on the CPU.
pub(crate) fn offload(like: &Tensor, parts: &[Vectors]) -> Result<Option<Box<dyn Offloaded>>> {
    let like = like.downcast::<CandleTensor>("offload", NAME)?.value.device();
    match like.is_cuda() {
        true => super::offload::open(like, parts).map(Some),
        false => Ok(None),
    }
}

/// See [`pcrm_core::Kernels::sum_of_squares`].
pub(crate) fn sum_of_squares(xs: &[&ct::Tensor]) -> ct::Result<Option<f64>> {
    let fused = xs.first().and_then(|x| super::fused(x)).filter(|_| xs.iter().all(|x| whole(x)));
    match fused {
        Some(fused) => Ok(Some(fused.sum_of_squares(xs)?.to_vec1::<f64>()?[0])),
        None => Ok(None),
    }
}

/// Returns true if the kernels over many tensors accept this one.
fn whole(x: &ct::Tensor) -> bool {
    x.dtype() == ct::DType::F32 && x.is_contiguous() && x.elem_count() > 0 && x.device().is_cuda()
}
