//! Matrix products on slices, with the gemm crate.

#![allow(unsafe_code, reason = "gemm takes pointers")]

use std::mem::MaybeUninit;

/// A matrix inside a slice: element (r, c) is at `r * rows_apart + c * columns_apart`.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    rows_apart: usize,
    columns_apart: usize,
}

impl<'a> Matrix<'a> {
    /// Wraps a row-major matrix.
    ///
    /// # Panics
    /// Panics if there are too few values.
    pub fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        assert!(
            values.len() >= rows * columns,
            "{} elements, expected a {rows} × {columns} matrix",
            values.len()
        );
        Self { values, rows, columns, rows_apart: columns, columns_apart: 1 }
    }

    /// Returns `count` columns from `start`, without a copy.
    ///
    /// # Panics
    /// Panics if the matrix does not have these columns, and if it is transposed.
    pub fn columns(self, start: usize, count: usize) -> Self {
        assert!(
            self.columns_apart == 1 && start + count <= self.columns,
            "columns {start}..{} of {}",
            start + count,
            self.columns
        );
        Self { values: &self.values[start..], columns: count, ..self }
    }

    /// Returns the transposed matrix, without a copy.
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            rows_apart: self.columns_apart,
            columns_apart: self.rows_apart,
            ..self
        }
    }
}

/// Returns the fewest rows for which a product of this many columns gives a row the same bits at any height.
/// The gemm crate takes other paths, with another order of additions, for a single row, for up to 256
/// elements, and for up to 64 × 64.
pub fn steady_rows(columns: usize) -> usize {
    if columns <= 64 { 65 } else { 8 }
}

/// The cores that a product may use.
#[derive(Clone, Copy)]
pub enum Cores {
    /// One core: the caller is parallel already.
    One,
    /// All threads of the pool.
    All,
}

/// The treatment of the target's existing elements.
#[derive(Clone, Copy)]
pub enum Into {
    /// target ← scale·a·b
    Replace,
    /// target ← target + scale·a·b
    Add,
}

/// Computes target ← scale·a·b, or adds to it; the target is row-major.
///
/// # Panics
/// Panics if shapes do not match.
pub fn multiply(target: &mut [f32], into: Into, scale: f32, a: Matrix<'_>, b: Matrix<'_>, cores: Cores) {
    assert!(a.columns == b.rows && target.len() >= a.rows * b.columns, "product: shapes do not fit");
    let keep = matches!(into, Into::Add);
    // SAFETY: the target is initialised and holds a.rows × b.columns elements.
    unsafe { gemm_into(target.as_mut_ptr(), keep, scale, a, b, cores) }
}

/// Returns a·b, row-major.
///
/// # Panics
/// Panics if shapes do not match.
pub fn product(a: Matrix<'_>, b: Matrix<'_>, cores: Cores) -> Vec<f32> {
    assert!(a.columns == b.rows, "product: shapes do not fit");
    let size = a.rows * b.columns;
    if a.columns == 0 {
        return vec![0.0; size];
    }
    let mut values: Vec<MaybeUninit<f32>> = Vec::with_capacity(size);
    // SAFETY: gemm without `keep` writes all elements (the inner dimension is not empty) before anything
    // reads them, and MaybeUninit<f32> has the layout of f32.
    unsafe {
        gemm_into(values.as_mut_ptr().cast(), false, 1.0, a, b, cores);
        values.set_len(size);
        let mut values = std::mem::ManuallyDrop::new(values);
        Vec::from_raw_parts(values.as_mut_ptr().cast(), size, values.capacity())
    }
}

/// # Safety
/// `target` must be valid for writes of a.rows × b.columns elements, and for reads if `keep`.
unsafe fn gemm_into(target: *mut f32, keep: bool, scale: f32, a: Matrix<'_>, b: Matrix<'_>, cores: Cores) {
    let threads = match cores {
        Cores::One => 1,
        Cores::All => rayon::current_num_threads(),
    };
    let parallelism = if threads > 1 { gemm::Parallelism::Rayon(threads) } else { gemm::Parallelism::None };
    // SAFETY: the matrices are inside their slices (asserted at construction), and the caller guarantees the
    // target.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            target,
            1,
            b.columns as isize,
            keep,
            a.values.as_ptr(),
            a.columns_apart as isize,
            a.rows_apart as isize,
            b.values.as_ptr(),
            b.columns_apart as isize,
            b.rows_apart as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}
