//! The kernels of [`pcrm_core::cuda::FUSED`] on libtorch's tensors.

#![allow(unsafe_code, reason = "a kernel gets bare addresses")]

use pcrm_core::cuda::{self, Argument, FUSED, WIDEST};
use tch::{Kind, Tensor as Torch};

use super::module::{Grid, Module, address, address_or_null};
use crate::ops::Torched;
use crate::ops::rotary::Turn;

/// See [`cuda::PACK`].
const PACK: i64 = cuda::PACK as i64;

/// The kernels that this backend launches.
const KERNELS: [&str; 35] = [
    "adamw",
    "adamw_8bit",
    "round_at_random",
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
    "column_parts_f32",
    "column_parts_bf16",
    "column_sums_f32",
    "column_sums_bf16",
    "sum_of_squares_f32",
    "sum_of_squares_bf16",
    "write_slots_f32",
    "write_slots_bf16",
    "attend_blocks_2_f32",
    "attend_blocks_2_bf16",
    "attend_blocks_4_f32",
    "attend_blocks_4_bf16",
    "attend_blocks_8_f32",
    "attend_blocks_8_bf16",
    "sample_f32",
    "sample_bf16",
    "token_stats_f32",
    "token_stats_bf16",
    "token_stats_backward_f32",
    "token_stats_backward_bf16",
];

/// The compiled kernels of one GPU.
pub(crate) struct Fused(pub(super) Module);

impl Fused {
    /// Compiles the kernels for this GPU.
    pub(crate) fn compile(index: usize) -> Result<Self, String> {
        Module::compile(FUSED, &KERNELS, index).map(Self)
    }

    /// Returns whether the kernels serve tensors of `width` elements in a row.
    pub(crate) fn serves(tensors: &[&Torch], width: i64) -> bool {
        let Some(first) = tensors.first() else { return false };
        let kind = first.kind();
        matches!(kind, Kind::Float | Kind::BFloat16)
            && width > 0
            && width * bytes(kind) % PACK == 0
            && tensors.iter().all(|x| {
                x.kind() == kind && x.is_contiguous() && x.numel() > 0 && x.data_ptr() as i64 % PACK == 0
            })
    }

    /// Returns whether the norms serve rows of this width.
    pub(crate) fn norms(x: &Torch, weight: &Torch) -> bool {
        let width = weight.size()[0];
        width <= WIDEST as i64 && Self::serves(&[x, weight], width)
    }

    /// Normalises rows of x, or of the sum x + addend, which is written to `sum`; returns y and 1/σ of every row,
    /// f32 `[rows]`.
    pub(crate) fn rms_norm(
        &self,
        x: &Torch,
        added: Option<[&Torch; 2]>,
        weight: &Torch,
        eps: f64,
    ) -> Torched<(Torch, Torch)> {
        let width = weight.size()[0];
        let rows = x.numel() as i64 / width;
        let y = x.f_empty_like()?;
        let inverse = Torch::f_empty([rows], (Kind::Float, x.device()))?;
        // SAFETY: the arguments match the kernel's parameters; `norms` holds.
        unsafe {
            self.0.launch(
                &named("rms_norm", x),
                Grid::new(rows as usize, threads(x, width)),
                &[
                    address(x),
                    address_or_null(added.map(|[addend, _]| addend)),
                    address(weight),
                    address_or_null(added.map(|[_, sum]| sum)),
                    address(&y),
                    address(&inverse),
                    Argument::I32(width as i32),
                    Argument::F32(eps as f32),
                ],
            )?;
        }
        Ok((y, inverse))
    }

    /// Returns the most blocks of the norms' backward; further rows are further turns of the blocks.
    pub(super) fn most_norm_blocks(&self) -> i64 {
        8 * self.0.processors() as i64
    }

    /// Computes the gradients of x and of the weight.
    pub(crate) fn rms_norm_backward(
        &self,
        x: &Torch,
        weight: &Torch,
        gradient: &Torch,
        inverse: &Torch,
    ) -> Torched<[Torch; 2]> {
        let width = weight.size()[0];
        let rows = x.numel() as i64 / width;
        let blocks = rows.min(self.most_norm_blocks());
        let gradient = gradient.f_contiguous()?;
        let d_x = x.f_empty_like()?;
        let parts = Torch::f_empty([blocks, width], (Kind::Float, x.device()))?;
        // SAFETY: the arguments match the kernel's parameters; `norms` holds, and gradients are made contiguous and
        // have x's type.
        unsafe {
            self.0.launch(
                &named("rms_norm_backward", x),
                Grid { shared: 4 * width as usize, ..Grid::new(blocks as usize, threads(x, width)) },
                &[
                    address(x),
                    address(weight),
                    address(&gradient),
                    address(inverse),
                    Argument::Address(0),
                    address(&d_x),
                    address(&parts),
                    Argument::I32(rows as i32),
                    Argument::I32(width as i32),
                ],
            )?;
        }
        Ok([d_x, parts.f_sum_dim_intlist(0i64, false, None)?.f_to_kind(weight.kind())?])
    }

    /// Returns whether [`Fused::rotary`] serves x `[rows, heads, dim]`.
    pub(crate) fn rotates(x: &Torch, cos: &Torch, sin: &Torch) -> bool {
        let (size, stride) = (x.size(), x.stride());
        let half = cos.size()[1];
        let bytes = bytes(x.kind());
        Self::serves(&[cos, sin], half)
            && x.kind() == cos.kind()
            && x.numel() > 0
            && x.data_ptr() as i64 % PACK == 0
            && size[2] == 2 * half
            && stride[2] == 1
            && stride[1] == size[2]
            && stride[0] * bytes % PACK == 0
    }

    /// Turns x `[rows, heads, dim]` by cos and sin `[rows, dim / 2]`.
    pub(crate) fn rotary(&self, x: &Torch, cos: &Torch, sin: &Torch, turn: Turn) -> Torched {
        let size = x.size();
        let half = cos.size()[1];
        let y = Torch::f_empty(&size, (x.kind(), x.device()))?;
        let count = x.numel() as i64 * bytes(x.kind()) / PACK / 2;
        // SAFETY: the arguments match the kernel's parameters; `rotates` holds.
        unsafe {
            self.0.launch(
                &named("rotary", x),
                self.spread(count),
                &[
                    address(x),
                    address(cos),
                    address(sin),
                    address(&y),
                    Argument::I64(size[0]),
                    Argument::I32(size[1] as i32),
                    Argument::I32(half as i32),
                    Argument::I64(x.stride()[0]),
                    Argument::F32(match turn {
                        Turn::Forward => 1.0,
                        Turn::Back => -1.0,
                    }),
                ],
            )?;
        }
        Ok(y)
    }

    /// Computes silu(gate)·up.
    pub(crate) fn swiglu(&self, gate: &Torch, up: &Torch) -> Torched {
        let y = gate.f_empty_like()?;
        let count = gate.numel() as i64;
        // SAFETY: the arguments match the kernel's parameters; `serves` holds.
        unsafe {
            self.0.launch(
                &named("swiglu", gate),
                self.spread(count * bytes(gate.kind()) / PACK),
                &[address(gate), address(up), address(&y), Argument::I64(count)],
            )?;
        }
        Ok(y)
    }

    /// Computes the gradients of gate and up.
    pub(crate) fn swiglu_backward(&self, gate: &Torch, up: &Torch, gradient: &Torch) -> Torched<[Torch; 2]> {
        let (d_gate, d_up) = (gate.f_empty_like()?, up.f_empty_like()?);
        let count = gate.numel() as i64;
        // SAFETY: the arguments match the kernel's parameters; `serves` holds.
        unsafe {
            self.0.launch(
                &named("swiglu_backward", gate),
                self.spread(count * bytes(gate.kind()) / PACK),
                &[
                    address(gate),
                    address(up),
                    address(gradient),
                    address(&d_gate),
                    address(&d_up),
                    Argument::I64(count),
                ],
            )?;
        }
        Ok([d_gate, d_up])
    }

    /// Sums slices of x `[places, ..]` to rows: row r is the sum of `places[offsets[r]..offsets[r + 1]]`, int32.
    pub(crate) fn row_sums(&self, x: &Torch, offsets: &Torch, places: &Torch) -> Torched {
        let mut size = x.size();
        let width = x.numel() as i64 / size[0];
        size[0] = offsets.size()[0] - 1;
        let y = Torch::f_empty(&size, (x.kind(), x.device()))?;
        // SAFETY: the arguments match the kernel's parameters; `serves` holds, and places are rows of x.
        unsafe {
            self.0.launch(
                &named("row_sums", x),
                Grid::new(size[0] as usize, threads(x, width)),
                &[address(x), address(offsets), address(places), address(&y), Argument::I32(width as i32)],
            )?;
        }
        Ok(y)
    }

    /// Sums the columns of x `[rows, width]` → `[width]`, in the type of x.
    pub(crate) fn column_sums(&self, x: &Torch) -> Torched {
        let size = x.size();
        let (rows, width) = (size[0], size[1]);
        let parts = (rows / 64).clamp(1, 64);
        let sums = Torch::f_empty([parts, width], (Kind::Float, x.device()))?;
        let y = Torch::f_empty([width], (x.kind(), x.device()))?;
        // A block is 32 packs wide.
        let blocks = |pack: i64| ((width / pack) as usize).div_ceil(32);
        // SAFETY: the arguments match the kernels' parameters; `serves` holds.
        unsafe {
            self.0.launch(
                &named("column_parts", x),
                Grid { parts: parts as usize, ..Grid::new(blocks(PACK / bytes(x.kind())), 256) },
                &[address(x), address(&sums), Argument::I32(rows as i32), Argument::I32(width as i32)],
            )?;
            self.0.launch(
                &named("column_sums", x),
                Grid::new(blocks(PACK / 4), 256),
                &[address(&sums), address(&y), Argument::I32(parts as i32), Argument::I32(width as i32)],
            )?;
        }
        Ok(y)
    }

    /// Returns the launch of an element-wise kernel over this many packs.
    pub(super) fn spread(&self, packs: i64) -> Grid {
        let blocks = (packs as usize).div_ceil(256).clamp(1, 16 * self.0.processors());
        Grid::new(blocks, 256)
    }
}

pub(super) fn bytes(kind: Kind) -> i64 {
    if kind == Kind::Float { 4 } else { 2 }
}

/// Returns the threads of a block that processes rows of this width.
fn threads(x: &Torch, width: i64) -> usize {
    cuda::row_threads((width * bytes(x.kind()) / PACK) as usize)
}

/// Returns the kernel's name for the type of x.
pub(super) fn named(name: &str, x: &Torch) -> String {
    format!("{name}_{}", if x.kind() == Kind::Float { "f32" } else { "bf16" })
}
