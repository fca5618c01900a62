//! The kernels of [`pcrm_core::cuda::TRAINING`] on candle's tensors.

#![allow(unsafe_code, reason = "a kernel gets bare addresses")]

use candle_core as ct;
use ct::cuda_backend::CudaDevice;
use pcrm_core::cuda::{Argument, PACK, TRAINING, WIDEST, row_threads};

use super::module::{Grid, Module, address, device_of, room};
use crate::device_ops::row_sums::by_target;
use crate::ops::rotary::Turn;

/// The kernels that this backend launches.
const KERNELS: [&str; 22] = [
    "rms_norm_f32",
    "rms_norm_bf16",
    "rms_norm_backward_f32",
    "rms_norm_backward_bf16",
    "rotary_f32",
    "rotary_bf16",
    "swiglu_f32",
    "swiglu_bf16",
    "swiglu_backward_f32",
    "swiglu_backward_bf16",
    "row_sums_f32",
    "row_sums_bf16",
    "sum_of_squares_f32",
    "adamw",
    "adamw_8bit",
    "round_at_random",
    "add_bias_f32",
    "add_bias_bf16",
    "column_parts_f32",
    "column_parts_bf16",
    "column_sums_f32",
    "column_sums_bf16",
];

/// The compiled kernels of one GPU.
pub(crate) struct Fused(pub(super) Module);

impl Fused {
    /// Compiles the kernels for this GPU.
    pub(crate) fn compile(device: &CudaDevice) -> Result<Self, String> {
        Module::compile(TRAINING, &[], &KERNELS.map(|name| (name, 0)), device).map(Self)
    }

    /// Returns whether the kernels serve tensors of `width` elements in a row.
    pub(crate) fn serves(tensors: &[&ct::Tensor], width: usize) -> bool {
        let Some(first) = tensors.first() else { return false };
        let dtype = first.dtype();
        let fits = |x: &&ct::Tensor| {
            let start = x.layout().start_offset() * dtype.size_in_bytes();
            x.dtype() == dtype && x.is_contiguous() && x.elem_count() > 0 && start.is_multiple_of(PACK)
        };
        matches!(dtype, ct::DType::F32 | ct::DType::BF16)
            && width > 0
            && (width * dtype.size_in_bytes()).is_multiple_of(PACK)
            && tensors.iter().all(fits)
    }

    /// Returns whether the norms serve rows of this width.
    pub(crate) fn norms(x: &ct::Tensor, weight: &ct::Tensor) -> bool {
        let width = weight.elem_count();
        width <= WIDEST && Self::serves(&[x, weight], width)
    }

    /// Normalises rows of x, or of the sum x + addend, which is written to `sum`; returns y and
    /// 1 / √(mean(x²) + eps) of every row, f32 `[rows]`.
    pub(crate) fn rms_norm(
        &self,
        x: &ct::Tensor,
        added: Option<[&ct::Tensor; 2]>,
        weight: &ct::Tensor,
        eps: f64,
    ) -> ct::Result<[ct::Tensor; 2]> {
        let width = weight.elem_count();
        let rows = x.elem_count() / width;
        let y = room(x.shape(), x.dtype(), x.device())?;
        let inverse = room(rows, ct::DType::F32, x.device())?;
        let [addend, sum] = match added {
            Some([addend, sum]) => [address(addend)?, address(sum)?],
            None => [Argument::Address(0), Argument::Address(0)],
        };
        let arguments = [
            address(x)?,
            addend,
            address(weight)?,
            sum,
            address(&y)?,
            address(&inverse)?,
            Argument::I32(width as i32),
            Argument::F32(eps as f32),
        ];
        // SAFETY: the arguments match the kernel's parameters; `norms` holds.
        unsafe { self.launch(x, "rms_norm", Grid::line(rows, threads(x, width), 0), &arguments) }?;
        Ok([y, inverse])
    }

    /// Computes s = x + y and the norm of s: s, and the results of [`Fused::rms_norm`].
    pub(crate) fn add_rms_norm(
        &self,
        [x, y]: [&ct::Tensor; 2],
        weight: &ct::Tensor,
        eps: f64,
    ) -> ct::Result<[ct::Tensor; 3]> {
        let sum = room(x.shape(), x.dtype(), x.device())?;
        let [value, inverse] = self.rms_norm(x, Some([y, &sum]), weight, eps)?;
        Ok([sum, value, inverse])
    }

    /// Computes the gradients of x and of the weight.
    pub(crate) fn rms_norm_backward(
        &self,
        [x, weight, gradient]: [&ct::Tensor; 3],
        inverse: &ct::Tensor,
    ) -> ct::Result<[ct::Tensor; 2]> {
        let width = weight.elem_count();
        let rows = x.elem_count() / width;
        let blocks = rows.min(8 * self.0.processors());
        let gradient = gradient.contiguous()?;
        let d_x = room(x.shape(), x.dtype(), x.device())?;
        let parts = room((blocks, width), ct::DType::F32, x.device())?;
        let arguments = [
            address(x)?,
            address(weight)?,
            address(&gradient)?,
            address(inverse)?,
            Argument::Address(0),
            address(&d_x)?,
            address(&parts)?,
            Argument::I32(rows as i32),
            Argument::I32(width as i32),
        ];
        let grid = Grid::line(blocks, threads(x, width), 4 * width);
        // SAFETY: the arguments match the kernel's parameters; `norms` holds, and gradients are made contiguous and
        // have x's type.
        unsafe { self.launch(x, "rms_norm_backward", grid, &arguments) }?;
        Ok([d_x, self.column_sums(&parts, weight.dtype())?])
    }

    /// Turns x `[rows, heads, dim]` by cos and sin `[rows, dim / 2]`.
    pub(crate) fn rotary(&self, [x, cos, sin]: [&ct::Tensor; 3], turn: Turn) -> ct::Result<ct::Tensor> {
        let (rows, heads, dim) = x.dims3()?;
        let y = room(x.shape(), x.dtype(), x.device())?;
        let arguments = [
            address(x)?,
            address(cos)?,
            address(sin)?,
            address(&y)?,
            Argument::I64(rows as i64),
            Argument::I32(heads as i32),
            Argument::I32((dim / 2) as i32),
            Argument::I64((heads * dim) as i64),
            Argument::F32(match turn {
                Turn::Forward => 1.0,
                Turn::Back => -1.0,
            }),
        ];
        // SAFETY: the arguments match the kernel's parameters; `serves` holds for x, cos and sin.
        unsafe { self.launch(x, "rotary", self.spread(packs(x) / 2), &arguments) }?;
        Ok(y)
    }

    /// Computes silu(gate)·up.
    pub(crate) fn swiglu(&self, gate: &ct::Tensor, up: &ct::Tensor) -> ct::Result<ct::Tensor> {
        let y = room(gate.shape(), gate.dtype(), gate.device())?;
        let count = Argument::I64(gate.elem_count() as i64);
        let arguments = [address(gate)?, address(up)?, address(&y)?, count];
        // SAFETY: the arguments match the kernel's parameters; `serves` holds.
        unsafe { self.launch(gate, "swiglu", self.spread(packs(gate)), &arguments) }?;
        Ok(y)
    }

    /// Computes the gradients of gate and up.
    pub(crate) fn swiglu_backward(
        &self,
        [gate, up, gradient]: [&ct::Tensor; 3],
    ) -> ct::Result<[ct::Tensor; 2]> {
        let gradient = gradient.contiguous()?;
        let [d_gate, d_up] =
            [room(gate.shape(), gate.dtype(), gate.device())?, room(up.shape(), up.dtype(), up.device())?];
        let arguments = [
            address(gate)?,
            address(up)?,
            address(&gradient)?,
            address(&d_gate)?,
            address(&d_up)?,
            Argument::I64(gate.elem_count() as i64),
        ];
        // SAFETY: the arguments match the kernel's parameters; `serves` holds.
        unsafe { self.launch(gate, "swiglu_backward", self.spread(packs(gate)), &arguments) }?;
        Ok([d_gate, d_up])
    }

    /// Adds a bias `[width]` to every row of x `[rows, width]`, in place.
    pub(crate) fn add_bias(&self, x: &ct::Tensor, bias: &ct::Tensor) -> ct::Result<()> {
        let count = Argument::I64(x.elem_count() as i64);
        let arguments = [address(x)?, address(bias)?, count, Argument::I32(bias.elem_count() as i32)];
        // SAFETY: the arguments match the kernel's parameters; `serves` holds.
        unsafe { self.launch(x, "add_bias", self.spread(packs(x)), &arguments) }
    }

    /// Sums x `[rows, width]` over its rows, giving `[width]` in this type.
    pub(crate) fn column_sums(&self, x: &ct::Tensor, dtype: ct::DType) -> ct::Result<ct::Tensor> {
        let (rows, width) = x.dims2()?;
        let count = rows.div_ceil(64).clamp(1, 128);
        let parts = room((count, width), ct::DType::F32, x.device())?;
        let sums = room(width, dtype, x.device())?;
        let across = |x: &ct::Tensor| (width * x.dtype().size_in_bytes() / PACK).div_ceil(32);
        let sizes = |rows: usize| [rows, width].map(|size| Argument::I32(size as i32));
        let grid = Grid { blocks: [across(x), count, 1], threads: 256, shared: 0 };
        let arguments: Vec<_> = [address(x)?, address(&parts)?].into_iter().chain(sizes(rows)).collect();
        // SAFETY: the arguments match the kernel's parameters; `serves` holds for x, and the parts are whole.
        unsafe { self.launch(x, "column_parts", grid, &arguments) }?;
        let grid = Grid { blocks: [across(&parts), 1, 1], threads: 256, shared: 0 };
        let arguments: Vec<_> = [address(&parts)?, address(&sums)?].into_iter().chain(sizes(count)).collect();
        // SAFETY: as above.
        unsafe { self.launch(&sums, "column_sums", grid, &arguments) }?;
        Ok(sums)
    }

    /// Sums rows of x `[rows, width]` to `[targets.len(), width]`: row i is added to row `targets[i]` of `count`
    /// rows, in order; a target without rows gets zeros.
    pub(crate) fn row_sums(&self, x: &ct::Tensor, targets: &[u32], count: usize) -> ct::Result<ct::Tensor> {
        let width = x.elem_count() / targets.len();
        let (offsets, places) = by_target(targets, count);
        let (first, length) = (offsets.len(), offsets.len() + places.len());
        let index = ct::Tensor::from_vec([offsets, places].concat(), length, x.device())?;
        let y = room((count, width), x.dtype(), x.device())?;
        let arguments = [
            address(x)?,
            address(&index)?,
            address(&index.narrow(0, first, targets.len())?)?,
            address(&y)?,
            Argument::I32(width as i32),
        ];
        // SAFETY: the arguments match the kernel's parameters; `serves` holds, and places are rows of x.
        unsafe { self.launch(x, "row_sums", Grid::line(count, threads(x, width), 0), &arguments) }?;
        Ok(y)
    }

    /// Launches the kernel of this name for the type of x.
    ///
    /// # Safety
    /// See [`Module::launch`].
    pub(super) unsafe fn launch(
        &self,
        x: &ct::Tensor,
        name: &str,
        grid: Grid,
        arguments: &[Argument],
    ) -> ct::Result<()> {
        let Some(device) = device_of(x) else { ct::bail!("{name} needs a GPU") };
        let dtype = if x.dtype() == ct::DType::F32 { "f32" } else { "bf16" };
        // SAFETY: the caller's promise.
        unsafe { self.0.launch(device, &format!("{name}_{dtype}"), grid, arguments) }
    }

    /// Returns the launch of an element-wise kernel over this many packs.
    pub(super) fn spread(&self, packs: usize) -> Grid {
        Grid::line(packs.div_ceil(256).clamp(1, 16 * self.0.processors()), 256, 0)
    }
}

/// Returns the number of packs of a tensor.
fn packs(x: &ct::Tensor) -> usize {
    x.elem_count() * x.dtype().size_in_bytes() / PACK
}

/// Returns the threads of a block that processes rows of this width.
fn threads(x: &ct::Tensor, width: usize) -> usize {
    row_threads(width * x.dtype().size_in_bytes() / PACK)
}
