//! Shared helpers: f32 arithmetic, and sums that suit a GPU.

use candle_core as ct;

/// Returns the tensor in f32, without a copy if it already is.
pub(crate) fn single(x: &ct::Tensor) -> ct::Result<ct::Tensor> {
    x.to_dtype(ct::DType::F32)
}

/// Computes scale·x + shift in f32: candle would round the two numbers to the tensor's own type, which in
/// bf16 shifts every element in the same direction.
pub(crate) fn affine(x: &ct::Tensor, scale: f64, shift: f64) -> ct::Result<ct::Tensor> {
    single(x)?.affine(scale, shift)?.to_dtype(x.dtype())
}

/// Sums over the rows of `[rows, width]`, giving `[width]`. A matrix product with ones reads memory in order,
/// while candle's reduction of the first dimension would jump.
pub(crate) fn column_sums(x: &ct::Tensor) -> ct::Result<ct::Tensor> {
    let (rows, width) = x.dims2()?;
    let ones = ct::Tensor::ones((1, rows), x.dtype(), x.device())?;
    ones.matmul(&x.contiguous()?)?.reshape(width)
}

/// Computes σ(x) = 1 / (1 + e⁻ˣ).
pub(crate) fn sigmoid(x: &ct::Tensor) -> ct::Result<ct::Tensor> {
    x.neg()?.exp()?.affine(1.0, 1.0)?.recip()
}

/// Returns the position of the first of the largest elements along `dim`, as u32; the last position if none
/// equals the largest, which is so among NaN. On CUDA, candle's own function returns an arbitrary one of them.
pub(crate) fn first_of_largest(x: &ct::Tensor, dim: usize) -> ct::Result<ct::Tensor> {
    let length = x.dim(dim)?;
    let mut shape = vec![1; x.rank()];
    shape[dim] = length;
    let from_the_end: Vec<f32> = (0..length).map(|at| (length - at) as f32).collect();
    let from_the_end = ct::Tensor::from_vec(from_the_end, shape, x.device())?;
    let largest = single(&x.broadcast_eq(&x.max_keepdim(dim)?)?)?;
    largest
        .broadcast_mul(&from_the_end)?
        .max_keepdim(dim)?
        // candle's kernels assert that positions are in the tensor, and a failed assertion makes the GPU unusable.
        .maximum(1.0)?
        .affine(-1.0, length as f64)?
        .to_dtype(ct::DType::U32)
}
