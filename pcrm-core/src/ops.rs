//! The primitive operations, by family: the requirements of a backend, with the behaviour in corner cases.

/// Element-wise functions of one tensor.
///
/// Corners, the same on every backend: relu'(0) = 0, |·|'(0) = 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unary {
    /// −x
    Neg,
    /// eˣ
    Exp,
    /// ln x
    Log,
    /// √x
    Sqrt,
    /// x²
    Square,
    /// |x|
    Abs,
    /// tanh x
    Tanh,
    /// σ(x) = 1 / (1 + e⁻ˣ)
    Sigmoid,
    /// ln(1 + eˣ), without overflow; −ln σ(x) is softplus(−x)
    Softplus,
    /// max(x, 0)
    Relu,
    /// x·σ(x)
    Silu,
    /// x·Φ(x) with the exact normal distribution function (`gelu` of Hugging Face)
    Gelu,
    /// ½x(1 + tanh(√(2/π)(x + 0.044715x³))) (`gelu_new`, `gelu_pytorch_tanh`)
    GeluTanh,
}

/// Element-wise functions of two tensors, with numpy's broadcasting.
///
/// Corners: where the operands of `Maximum` or `Minimum` are equal, each gets half of the gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    /// a + b
    Add,
    /// a − b
    Sub,
    /// a·b
    Mul,
    /// a / b
    Div,
    /// max(a, b)
    Maximum,
    /// min(a, b)
    Minimum,
}

/// Comparisons: 1 where true, 0 elsewhere, in the operands' type; no gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// a = b
    Eq,
    /// a < b
    Lt,
    /// a ≤ b
    Le,
    /// a > b
    Gt,
    /// a ≥ b
    Ge,
}

/// Reductions of one dimension, which keeps length 1.
///
/// Corners: elements that tie for `Max` share the gradient evenly; `ArgMax` takes the first and returns u32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduce {
    /// The sum.
    Sum,
    /// The largest element.
    Max,
    /// The position of the largest element, without gradient.
    ArgMax,
}

/// The same elements in another arrangement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View<'a> {
    /// Another shape of the same size.
    Reshape(&'a [usize]),
    /// Dimensions in another order: dimension i of the result is dimension `order[i]` of the operand.
    Permute(&'a [usize]),
    /// `len` positions of dimension `dim` from `start`.
    Narrow {
        /// The dimension.
        dim: usize,
        /// The first position.
        start: usize,
        /// The number of positions.
        len: usize,
    },
    /// Broadcast to a shape.
    Expand(&'a [usize]),
}
