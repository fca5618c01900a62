//! Sums and exponentials over slices, in a fixed number of lanes: the compiler vectorises the lanes, and the
//! order of additions does not depend on the machine.

const LANES: usize = 16;

/// Computes Σ f(a, b) over two slices of equal length, in 16 running sums.
#[inline(always)]
pub fn fold2(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (heads_a, tail_a) = a.as_chunks::<LANES>();
    let (heads_b, tail_b) = b.as_chunks::<LANES>();
    for (x, y) in heads_a.iter().zip(heads_b) {
        for lane in 0..LANES {
            sums[lane] += f(x[lane], y[lane]);
        }
    }
    for (lane, (x, y)) in tail_a.iter().zip(tail_b).enumerate() {
        sums[lane] += f(*x, *y);
    }
    halve(sums)
}

/// Computes Σ f(a) over a slice.
#[inline(always)]
pub fn fold(a: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    fold2(a, a, |x, _| f(x))
}

/// Returns the largest element; −∞ for an empty slice.
#[inline(always)]
pub fn largest(a: &[f32]) -> f32 {
    let mut tops = [f32::NEG_INFINITY; LANES];
    let (heads, tail) = a.as_chunks::<LANES>();
    for x in heads {
        for lane in 0..LANES {
            tops[lane] = if x[lane] > tops[lane] { x[lane] } else { tops[lane] };
        }
    }
    tops.into_iter().chain(tail.iter().copied()).fold(f32::NEG_INFINITY, f32::max)
}

#[inline(always)]
fn halve(mut sums: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0]
}

/// Computes eˣ within two units in the last place, without branches (Cephes' reduction and polynomial): 0
/// below −87.3, and the largest finite values above 88.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³: adding it rounds to an integer
    let clamped = x.clamp(-87.3, 88.0);
    let power = clamped * LOG2_E + ROUND;
    let whole = power - ROUND;
    let rest = clamped - whole * LN2_HIGH - whole * LN2_LOW;
    let mut sum = 1.987_569_1e-4f32;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        sum = sum * rest + coefficient;
    }
    let mantissa = sum * rest * rest + rest + 1.0;
    let scale = f32::from_bits((power.to_bits().wrapping_add(127)) << 23);
    let value = mantissa * scale;
    if x < -87.3 { 0.0 } else { value }
}

/// Computes 1 / (1 + e⁻ˣ).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Computes tanh x = 1 − 2 / (e²ˣ + 1), with a short series where that would cancel.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let square = x * x;
    let series = x * (1.0 + square * (-1.0 / 3.0 + square * (2.0 / 15.0 - square * (17.0 / 315.0))));
    let value = 1.0 - 2.0 / (exp(2.0 * x) + 1.0);
    if x.abs() < 0.15 { series } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_sigmoid_and_tanh_are_as_exact_as_f32_allows() {
        for step in -8700..8700 {
            let x = step as f32 * 0.01;
            let truth = f64::from(x).exp();
            assert!((f64::from(exp(x)) - truth).abs() <= 3e-7 * truth, "exp {x}");
            assert!((f64::from(tanh(x)) - f64::from(x).tanh()).abs() <= 2e-7, "tanh {x}");
            let sigma = 1.0 / (1.0 + (-f64::from(x)).exp());
            assert!((f64::from(sigmoid(x)) - sigma).abs() <= 3e-7 * sigma.max(1e-30) + 1e-37, "sigmoid {x}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-1e30), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn lanes_add_up_whatever_the_length() {
        for length in 0..70usize {
            let values: Vec<f32> = (0..length).map(|at| at as f32).collect();
            assert_eq!(fold(&values, |x| x), (0..length).sum::<usize>() as f32);
            let top = values.last().copied().unwrap_or(f32::NEG_INFINITY);
            assert_eq!(largest(&values), top);
        }
    }
}
