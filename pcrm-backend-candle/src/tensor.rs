//! The primitives on candle's tensors, each with its gradient.

use candle_core as ct;
use pcrm_core::tape::{self, History, Node, Wanted};
use pcrm_core::tensor::{Binary, Compare, RawTensor, Reduce, Unary, View};
use pcrm_core::{DType, Error, HostData, HostTensor, Kernels, Result, Tensor};

use crate::NAME;
use crate::kernels::CandleKernels;
use crate::ops::{adamw, elementwise};

/// A candle tensor and its place on the tape.
#[derive(Debug, Clone)]
pub(crate) struct CandleTensor {
    pub(crate) value: ct::Tensor,
    pub(crate) node: History<ct::Tensor>,
}

impl CandleTensor {
    /// A tensor without history.
    pub(crate) fn constant(value: ct::Tensor) -> Self {
        Self { value, node: None }
    }
}

/// The result of an operation, put on the tape if any operand is on it.
pub(crate) fn record(
    value: ct::Tensor,
    operands: &[&CandleTensor],
    backward: impl FnOnce(&ct::Tensor, Wanted<'_, ct::Tensor>) -> Result<Vec<Option<ct::Tensor>>> + Send + 'static,
) -> CandleTensor {
    let node = tape::record(operands.iter().map(|operand| operand.node.clone()).collect(), backward);
    CandleTensor { value, node }
}

/// A tensor with these elements in this type.
pub(crate) fn upload(host: &HostTensor, dtype: DType) -> Result<Tensor> {
    let err = |e| Error::backend(NAME, "upload")(e);
    let value = match (dtype, host.data()) {
        (DType::U32, HostData::U32(ids)) => ct::Tensor::from_slice(ids, host.shape(), &ct::Device::Cpu),
        (DType::F32, _) => ct::Tensor::from_vec(host.to_f32(), host.shape(), &ct::Device::Cpu),
        (dtype, _) => {
            return Err(Error::Unsupported(format!(
                "the candle backend serves f32 on the device cpu, not {} as {dtype}",
                host.dtype()
            )));
        }
    };
    Ok(Tensor::new(CandleTensor::constant(value.map_err(err)?)))
}

fn other<'a>(op: &'static str, tensor: &'a Tensor) -> Result<&'a CandleTensor> {
    tensor.downcast(op, NAME)
}

/// Adds up what broadcasting repeated, back to `shape`.
fn reduce_to(gradient: &ct::Tensor, shape: &[usize]) -> Result<ct::Tensor> {
    let reduce = || -> ct::Result<ct::Tensor> {
        let mut sum = gradient.clone();
        while sum.rank() > shape.len() {
            sum = sum.sum(0)?;
        }
        for (dim, length) in shape.iter().enumerate() {
            if *length == 1 && sum.dims()[dim] != 1 {
                sum = sum.sum_keepdim(dim)?;
            }
        }
        Ok(sum)
    };
    reduce().map_err(Error::backend(NAME, "broadcast backward"))
}

fn binary_gradients(op: Binary, [a, b]: [&ct::Tensor; 2], g: &ct::Tensor) -> ct::Result<[ct::Tensor; 2]> {
    // Where the two are equal each gets half.
    let share = |first: ct::Tensor, tie: ct::Tensor| -> ct::Result<ct::Tensor> {
        let ties = tie.to_dtype(g.dtype())?.affine(0.5, 0.0)?;
        g.mul(&first.to_dtype(g.dtype())?.add(&ties)?)
    };
    Ok(match op {
        Binary::Add => [g.clone(), g.clone()],
        Binary::Sub => [g.clone(), g.neg()?],
        Binary::Mul => [g.broadcast_mul(b)?, g.broadcast_mul(a)?],
        Binary::Div => {
            let over = g.broadcast_div(b)?;
            let d_b = over.broadcast_mul(a)?.broadcast_div(b)?.neg()?;
            [over, d_b]
        }
        Binary::Maximum => {
            let tie = a.broadcast_eq(b)?;
            [share(a.broadcast_gt(b)?, tie.clone())?, share(a.broadcast_lt(b)?, tie)?]
        }
        Binary::Minimum => {
            let tie = a.broadcast_eq(b)?;
            [share(a.broadcast_lt(b)?, tie.clone())?, share(a.broadcast_gt(b)?, tie)?]
        }
    })
}

impl RawTensor for CandleTensor {
    fn kernels(&self) -> &'static dyn Kernels {
        &CandleKernels
    }

    fn share(&self) -> Box<dyn RawTensor> {
        Box::new(self.clone())
    }

    fn shape(&self) -> Vec<usize> {
        self.value.dims().to_vec()
    }

    fn dtype(&self) -> DType {
        match self.value.dtype() {
            ct::DType::U32 => DType::U32,
            ct::DType::BF16 => DType::BF16,
            _ => DType::F32,
        }
    }

    fn unary(&self, op: Unary) -> Result<Tensor> {
        let value = elementwise::unary(op, &self.value)?;
        let x = self.value.clone();
        Ok(Tensor::new(record(value, &[self], move |gradient, _| {
            Ok(vec![Some(elementwise::unary_backward(op, &x, gradient)?)])
        })))
    }

    fn binary(&self, op: Binary, rhs: &Tensor) -> Result<Tensor> {
        let rhs = other("binary", rhs)?;
        let (a, b) = (self.value.clone(), rhs.value.clone());
        let value = match op {
            Binary::Add if a.dims() == b.dims() => elementwise::add(&a, &b)?,
            _ => match op {
                Binary::Add => a.broadcast_add(&b),
                Binary::Sub => a.broadcast_sub(&b),
                Binary::Mul => a.broadcast_mul(&b),
                Binary::Div => a.broadcast_div(&b),
                Binary::Maximum => a.broadcast_maximum(&b),
                Binary::Minimum => a.broadcast_minimum(&b),
            }
            .map_err(Error::backend(NAME, "binary"))?,
        };
        Ok(Tensor::new(record(value, &[self, rhs], move |gradient, wanted| {
            let [d_a, d_b] =
                binary_gradients(op, [&a, &b], gradient).map_err(Error::backend(NAME, "binary backward"))?;
            Ok(vec![
                wanted.then(0, || reduce_to(&d_a, a.dims()))?,
                wanted.then(1, || reduce_to(&d_b, b.dims()))?,
            ])
        })))
    }

    fn compare(&self, op: Compare, rhs: &Tensor) -> Result<Tensor> {
        let rhs = &other("compare", rhs)?.value;
        let value = match op {
            Compare::Eq => self.value.broadcast_eq(rhs),
            Compare::Lt => self.value.broadcast_lt(rhs),
            Compare::Le => self.value.broadcast_le(rhs),
            Compare::Gt => self.value.broadcast_gt(rhs),
            Compare::Ge => self.value.broadcast_ge(rhs),
        };
        let value = value.and_then(|mask| mask.to_dtype(self.value.dtype()));
        Ok(Tensor::new(Self::constant(value.map_err(Error::backend(NAME, "compare"))?)))
    }

    fn affine(&self, scale: f64, shift: f64) -> Result<Tensor> {
        let err = || Error::backend(NAME, "affine");
        let value = self.value.affine(scale, shift).map_err(err())?;
        Ok(Tensor::new(record(value, &[self], move |gradient, _| {
            Ok(vec![Some(gradient.affine(scale, 0.0).map_err(err())?)])
        })))
    }

    fn reduce(&self, op: Reduce, dim: usize) -> Result<Tensor> {
        let err = || Error::backend(NAME, "reduce");
        let x = self.value.clone();
        let shape = x.dims().to_vec();
        match op {
            Reduce::Sum => {
                let value = x.sum_keepdim(dim).map_err(err())?;
                Ok(Tensor::new(record(value, &[self], move |gradient, _| {
                    Ok(vec![Some(gradient.broadcast_as(shape).map_err(err())?)])
                })))
            }
            Reduce::Max => {
                let value = x.max_keepdim(dim).map_err(err())?;
                let top = value.clone();
                let spread = move |gradient: &ct::Tensor| -> ct::Result<ct::Tensor> {
                    let ties = x.broadcast_eq(&top)?.to_dtype(gradient.dtype())?;
                    let each = gradient.broadcast_div(&ties.sum_keepdim(dim)?)?;
                    ties.broadcast_mul(&each)
                };
                Ok(Tensor::new(record(value, &[self], move |gradient, _| {
                    Ok(vec![Some(spread(gradient).map_err(err())?)])
                })))
            }
            Reduce::ArgMax => Ok(Tensor::new(Self::constant(x.argmax_keepdim(dim).map_err(err())?))),
        }
    }

    fn matmul(&self, rhs: &Tensor) -> Result<Tensor> {
        let err = || Error::backend(NAME, "matmul");
        let rhs = other("matmul", rhs)?;
        let (a, b) = (self.value.clone(), rhs.value.clone());
        let product = |a: &ct::Tensor, b: &ct::Tensor| -> ct::Result<ct::Tensor> {
            a.contiguous()?.matmul(&b.contiguous()?)
        };
        let value = product(&a, &b).map_err(err())?;
        let last = a.rank() - 1;
        Ok(Tensor::new(record(value, &[self, rhs], move |gradient, wanted| {
            let turned = |x: &ct::Tensor| x.transpose(last - 1, last);
            Ok(vec![
                wanted.then(0, || turned(&b).and_then(|b| product(gradient, &b)).map_err(err()))?,
                wanted.then(1, || turned(&a).and_then(|a| product(&a, gradient)).map_err(err()))?,
            ])
        })))
    }

    fn view(&self, view: View<'_>) -> Result<Tensor> {
        let err = || Error::backend(NAME, "view");
        let x = &self.value;
        let shape = x.dims().to_vec();
        Ok(Tensor::new(match view {
            View::Reshape(to) => record(x.reshape(to).map_err(err())?, &[self], move |gradient, _| {
                Ok(vec![Some(gradient.reshape(shape).map_err(err())?)])
            }),
            View::Permute(order) => {
                let mut back = vec![0; order.len()];
                order.iter().enumerate().for_each(|(at, dim)| back[*dim] = at);
                record(x.permute(order).map_err(err())?, &[self], move |gradient, _| {
                    Ok(vec![Some(gradient.permute(back).map_err(err())?)])
                })
            }
            View::Narrow { dim, start, len } => {
                let after = shape.get(dim).map_or(0, |length| length.saturating_sub(start + len));
                record(x.narrow(dim, start, len).map_err(err())?, &[self], move |gradient, _| {
                    Ok(vec![Some(gradient.pad_with_zeros(dim, start, after).map_err(err())?)])
                })
            }
            View::Expand(to) => record(x.broadcast_as(to).map_err(err())?, &[self], move |gradient, _| {
                Ok(vec![Some(reduce_to(gradient, &shape)?)])
            }),
        }))
    }

    fn concat(&self, rest: &[&Tensor], dim: usize) -> Result<Tensor> {
        let err = || Error::backend(NAME, "concat");
        let mut parts = vec![self];
        for tensor in rest {
            parts.push(other("concat", tensor)?);
        }
        let values: Vec<&ct::Tensor> = parts.iter().map(|part| &part.value).collect();
        let lengths: Vec<usize> =
            values.iter().map(|value| value.dims().get(dim).copied().unwrap_or(0)).collect();
        let value = ct::Tensor::cat(&values, dim).map_err(err())?;
        Ok(Tensor::new(record(value, &parts, move |gradient, wanted| {
            let mut start = 0;
            let cut = lengths.iter().enumerate().map(|(index, length)| {
                let from = start;
                start += length;
                wanted.then(index, || gradient.narrow(dim, from, *length).map_err(err()))
            });
            cut.collect()
        })))
    }

    fn gather(&self, dim: usize, index: &Tensor) -> Result<Tensor> {
        let err = || Error::backend(NAME, "gather");
        let index = other("gather", index)?.value.contiguous().map_err(err())?;
        let x = self.value.contiguous().map_err(err())?;
        let value = x.gather(&index, dim).map_err(err())?;
        Ok(Tensor::new(record(value, &[self], move |gradient, _| {
            let scattered = || -> ct::Result<ct::Tensor> {
                x.zeros_like()?.scatter_add(&index, &gradient.contiguous()?, dim)
            };
            Ok(vec![Some(scattered().map_err(err())?)])
        })))
    }

    fn index_select(&self, dim: usize, index: &Tensor) -> Result<Tensor> {
        let err = || Error::backend(NAME, "index_select");
        let index = other("index_select", index)?.value.contiguous().map_err(err())?;
        let x = self.value.contiguous().map_err(err())?;
        let value = x.index_select(&index, dim).map_err(err())?;
        Ok(Tensor::new(record(value, &[self], move |gradient, _| {
            let added = || -> ct::Result<ct::Tensor> {
                x.zeros_like()?.index_add(&index, &gradient.contiguous()?, dim)
            };
            Ok(vec![Some(added().map_err(err())?)])
        })))
    }

    fn cast(&self, to: DType) -> Result<Tensor> {
        match to == self.dtype() {
            true => Ok(Tensor::new(self.clone())),
            false => {
                Err(Error::DType { op: "cast", found: to, expected: "f32 (the candle backend on the CPU)" })
            }
        }
    }

    fn detach(&self) -> Tensor {
        Tensor::new(Self::constant(self.value.clone()))
    }

    fn variable(&self) -> Tensor {
        Tensor::new(Self { value: self.value.clone(), node: Some(Node::leaf()) })
    }

    fn assign(&self, value: &Tensor) -> Result<()> {
        let value = &other("assign", value)?.value;
        match value.dims() == self.value.dims() {
            true => adamw::assign(&self.value, value),
            false => Err(Error::shape("assign", "one shape is needed", &[self.value.dims(), value.dims()])),
        }
    }

    fn constant(&self, host: &HostTensor) -> Result<Tensor> {
        upload(host, if host.dtype() == DType::U32 { DType::U32 } else { DType::F32 })
    }

    fn read(&self) -> Result<HostTensor> {
        let err = || Error::backend(NAME, "read");
        let flat = self.value.flatten_all().map_err(err())?;
        let data = match self.value.dtype() {
            ct::DType::U32 => HostData::U32(flat.to_vec1().map_err(err())?),
            _ => HostData::F32(flat.to_vec1().map_err(err())?),
        };
        HostTensor::new(self.value.dims(), data)
    }
}
