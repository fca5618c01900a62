//! Fused operations. Every method has a default, the composed reference; backends override those they speed
//! up.
//!
//! An override must equal the reference in value and in the gradient of every float operand; the test suite
//! compares each with [`crate::composed`] on every registered backend.

mod ask;
mod cache;
mod coded;
mod offload;
mod plans;
mod quantised;
mod rounding;
mod sample;

pub use ask::{Ask, Asked, NO_QUESTION, TokenStats};
pub use cache::{BLOCK, CacheShape, CachedRow, CachedRows, LayerCache};
pub use coded::Coded;
pub use offload::{Offloaded, Vectors, Visit};
pub use plans::PlannedTree;
pub use quantised::{QuantisedMoment, QuantisedSlots};
pub use rounding::RandomBits;
pub use sample::{Draw, Drawn, Filters};

use crate::composed;
use crate::error::Result;
use crate::tensor::{Tensor, Unary};

/// The parameters of attention.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention<'a> {
    /// The factor on q·k.
    pub scale: f64,
    /// The soft cap: scores s, after the factor, become c·tanh(s / c) (Gemma 2, arXiv 2408.00118); `None`
    /// for no cap.
    pub cap: Option<f64>,
    /// The visible rows.
    pub mask: Mask,
    /// The querying rows of the tree, ascending; q has only these rows. `None` for all rows. The last layer
    /// of a reward model queries only the scored rows.
    pub queries: Option<&'a [usize]>,
}

/// The rows of its chain (its segment and all ancestors of the segment) that a row sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mask {
    /// Rows up to the row itself, as in a decoder.
    Causal {
        /// The number of visible positions, including the row's own (sliding window); `None` for all.
        window: Option<usize>,
    },
    /// All rows, as in an encoder. A flat tree is a batch of texts, and each token sees its whole text.
    Full,
    /// Rows at most `reach` positions away on either side, as in local layers of an encoder.
    Around {
        /// The largest visible distance.
        reach: usize,
    },
}

/// One step of AdamW for one parameter (Loshchilov & Hutter, arXiv 1711.05101, algorithm 2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWStep {
    /// Learning rate η.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// ε in the denominator, added after the root.
    pub eps: f64,
    /// Decoupled weight decay λ: θ ← θ − ηλθ.
    pub weight_decay: f64,
    /// The step's number, from 1, for bias correction.
    pub step: u64,
    /// The factor on the gradient (clipping, averaging).
    pub grad_scale: f64,
}

/// A parameter and its moments, all f32, updated in place.
#[derive(Debug, Clone)]
pub struct Slots {
    /// The parameter θ (the fp32 master).
    pub param: Tensor,
    /// First moment m.
    pub mean: Tensor,
    /// Second moment v.
    pub variance: Tensor,
}

/// One step of AdamW for one of many parameters.
#[derive(Debug, Clone)]
pub struct AdamWUpdate {
    /// The step. The steps of one call differ in weight decay alone.
    pub step: AdamWStep,
    /// The parameter and its moments.
    pub slots: Slots,
    /// The gradient, f32.
    pub gradient: Tensor,
}

/// A backend's fused operations. Only [`Kernels::name`] is required.
pub trait Kernels: Sync {
    /// Returns the backend's name, for messages.
    fn name(&self) -> &'static str;

    /// Computes x·Wᵀ + b: x `[rows, in]`, W `[out, in]`, b `[out]` → `[rows, out]`.
    fn linear(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        composed::linear(x, weight, bias)
    }

    /// Computes g·W, the gradient of the input of [`Kernels::linear`]: g `[rows, out]`, W `[out, in]` →
    /// `[rows, in]`, without history.
    fn linear_input(&self, gradient: &Tensor, weight: &Tensor) -> Result<Tensor> {
        composed::linear_input(gradient, weight)
    }

    /// Decodes floats that are stored as bytes, f32 `[len]`, without history.
    fn dequantise(&self, coded: &Coded<'_>) -> Result<Tensor> {
        composed::dequantise(coded)
    }

    /// Computes softmax attention over a sequence tree: q `[queries, heads, dim]`, k and v
    /// `[rows, kv_heads, dim]`, heads a multiple of kv_heads (head h reads kv head h / (heads / kv_heads)) →
    /// `[queries, heads, dim]`. The tree stores an override's plan for the other layers of the pass.
    fn attention(&self, qkv: [&Tensor; 3], tree: &PlannedTree, how: &Attention<'_>) -> Result<Tensor> {
        composed::attention(qkv, tree, how)
    }

    /// Allocates a cache for the keys and values of one layer, on the device of `like`. An override chooses
    /// the layout that its [`LayerCache::attend`] reads.
    fn cache(&self, like: &Tensor, shape: CacheShape) -> Result<Box<dyn LayerCache>> {
        composed::cache(like, shape)
    }

    /// Computes x / √(mean(x²) + eps) · w over the last dimension (arXiv 1910.07467): x `[rows, width]`, w
    /// `[width]`.
    fn rms_norm(&self, x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
        composed::rms_norm(x, weight, eps)
    }

    /// Computes s = x + y and [`Kernels::rms_norm`] of s: `[s, norm]`.
    fn add_rms_norm(&self, x: &Tensor, y: &Tensor, weight: &Tensor, eps: f64) -> Result<[Tensor; 2]> {
        let sum = x.add(y)?;
        let normed = self.rms_norm(&sum, weight, eps)?;
        Ok([sum, normed])
    }

    /// Computes (x − mean) / √(var + eps) · w + b over the last dimension (arXiv 1607.06450).
    fn layer_norm(&self, x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
        composed::layer_norm(x, weight, bias, eps)
    }

    /// Applies rotary positions (arXiv 2104.09864), with pairs half a head apart as in Hugging Face: x
    /// `[rows, heads, dim]`, cos and sin `[rows, dim / 2]`; (a, b) → (a·cos − b·sin, b·cos + a·sin).
    fn rotary(&self, x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
        composed::rotary(x, cos, sin)
    }

    /// Computes silu(gate)·up (arXiv 2002.05202), element by element.
    fn swiglu(&self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        composed::swiglu(gate, up)
    }

    /// Computes GELU, exact or by tanh: `op` is [`Unary::Gelu`] or [`Unary::GeluTanh`].
    fn gelu(&self, x: &Tensor, op: Unary) -> Result<Tensor> {
        x.unary(op)
    }

    /// Looks up rows of a table: table `[vocabulary, width]`, ids u32 `[rows]` → `[rows, width]`.
    fn embedding(&self, table: &Tensor, ids: &Tensor) -> Result<Tensor> {
        composed::embedding(table, ids)
    }

    /// Samples a token for every row of hidden `[rows, width]` from softmax(hidden·headᵀ), capped, divided by
    /// the temperature and filtered as `how` specifies; head `[vocabulary, width]`. A row's token depends on
    /// its own logits and its own random number alone. Unfiltered log-probabilities equal those of
    /// [`Kernels::token_stats`].
    fn sample(&self, hidden: &Tensor, head: &Tensor, how: &Draw<'_>) -> Result<Vec<Drawn>> {
        composed::sample(hidden, head, how)
    }

    /// Computes log-probabilities, and on request entropies, of softmax(logits) with logits = hidden·headᵀ,
    /// capped and divided by the temperature as `ask` specifies: hidden `[rows, width]`, head
    /// `[vocabulary, width]`. Overrides never materialise `[rows, vocabulary]`. Gradients flow from both
    /// statistics to hidden and to the head, each computed only if wanted.
    fn token_stats(&self, hidden: &Tensor, head: &Tensor, ask: &Ask<'_>) -> Result<TokenStats> {
        composed::token_stats(hidden, head, ask)
    }

    /// Updates a parameter and its moments in place.
    fn adamw(&self, step: &AdamWStep, slots: &Slots, grad: &Tensor) -> Result<()> {
        composed::adamw(step, slots, grad)
    }

    /// Updates many parameters and their moments in place, as [`Kernels::adamw`] does one.
    fn adamw_all(&self, updates: &[AdamWUpdate]) -> Result<()> {
        updates.iter().try_for_each(|update| self.adamw(&update.step, &update.slots, &update.gradient))
    }

    /// Updates a parameter and its 8-bit moments in place, as AdamW8bit of bitsandbytes does. Overrides match
    /// the reference bit for bit; it computes on the host, so moments move freely between devices.
    fn adamw_8bit(&self, step: &AdamWStep, slots: &QuantisedSlots, grad: &Tensor) -> Result<()> {
        composed::adamw_8bit(step, slots, grad)
    }

    /// Rounds f32 values to bf16 at random and writes them to `into`, of the same shape. Overrides match the
    /// reference bit for bit.
    fn round_at_random(&self, value: &Tensor, into: &Tensor, bits: &RandomBits) -> Result<()> {
        composed::round_at_random(value, into, bits)
    }

    /// Allocates vectors of zeros in host memory, for the device of `like`.
    fn offload(&self, like: &Tensor, parts: &[Vectors]) -> Result<Box<dyn Offloaded>> {
        composed::offload(like, parts)
    }

    /// Computes Σ x² over all elements of all tensors; overrides read the device only once.
    fn sum_of_squares(&self, tensors: &[&Tensor]) -> Result<f64> {
        let squares = tensors.iter().map(|x| Ok(f64::from(x.square()?.sum_all()?.read_scalar()?)));
        squares.sum()
    }
}

/// The reference as a set of kernels: overrides nothing.
#[derive(Debug, Clone, Copy)]
pub struct Composed;

impl Kernels for Composed {
    fn name(&self) -> &'static str {
        "composed"
    }
}
