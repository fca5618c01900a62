//! Pooling: from one vector per token to one per text, as in sentence-transformers.

use serde::{Deserialize, Serialize};

/// The way the token vectors h_1 .. h_n of a text, without padding, become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// h_1, the vector of `[CLS]` if the tokenizer puts one first.
    Cls,
    /// (h_1 + .. + h_n) / n, special tokens included.
    Mean,
    /// The maximum of each component.
    Max,
    /// h_n.
    LastToken,
}

impl Pooling {
    /// Pools a text's token vectors, `rows` \[tokens, width\] in row-major order.
    ///
    /// # Panics
    /// Panics without rows, and if `rows` is not a multiple of `width` long.
    pub fn of(self, rows: &[f32], width: usize) -> Vec<f32> {
        assert!(width > 0 && !rows.is_empty() && rows.len().is_multiple_of(width), "rows of width {width}");
        match self {
            Self::Cls => rows[..width].to_vec(),
            Self::LastToken => rows[rows.len() - width..].to_vec(),
            Self::Mean => {
                let count = (rows.len() / width) as f32;
                fold(rows, width, |sum, x| sum + x).into_iter().map(|sum| sum / count).collect()
            }
            // NaN must win over numbers, so that it is not lost.
            Self::Max => fold(rows, width, |most, x| if x > most || x.is_nan() { x } else { most }),
        }
    }
}

/// Divides a vector by its length, which counts as at least 1e-12, like sentence-transformers' `Normalize`.
pub fn normalize(vector: &mut [f32]) {
    let norm = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt().max(1e-12);
    vector.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
}

fn fold(rows: &[f32], width: usize, with: impl Fn(f32, f32) -> f32) -> Vec<f32> {
    let (first, others) = rows.split_at(width);
    let mut folded = first.to_vec();
    for row in others.chunks_exact(width) {
        folded.iter_mut().zip(row).for_each(|(so_far, &x)| *so_far = with(*so_far, x));
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: each pooling, on numbers for which they differ, and on a text of one token.
    #[test]
    fn each_pooling_by_hand() {
        let rows = [1.0, -2.0, 4.0, 0.0, -8.0, -1.0];
        assert_eq!(Pooling::Cls.of(&rows, 2), [1.0, -2.0]);
        assert_eq!(Pooling::Mean.of(&rows, 2), [-1.0, -1.0]);
        assert_eq!(Pooling::Max.of(&rows, 2), [4.0, 0.0]);
        assert_eq!(Pooling::LastToken.of(&rows, 2), [-8.0, -1.0]);
        for pooling in [Pooling::Cls, Pooling::Mean, Pooling::Max, Pooling::LastToken] {
            assert_eq!(pooling.of(&rows[..2], 2), [1.0, -2.0]);
        }
    }

    /// Protects: NaN in a token's vector reaches the text's vector, where it is refused.
    #[test]
    fn nan_is_not_pooled_away() {
        for rows in [[1.0, f32::NAN, 2.0], [f32::NAN, 1.0, 2.0]] {
            assert!(Pooling::Max.of(&rows, 1)[0].is_nan());
            assert!(Pooling::Mean.of(&rows, 1)[0].is_nan());
        }
    }

    /// Protects: vectors get length 1, even with very large and very small numbers; zeros stay zeros.
    #[test]
    fn normalised_vectors_have_length_one() {
        let mut vector = [3.0, 0.0, -4.0];
        normalize(&mut vector);
        assert_eq!(vector, [0.6, 0.0, -0.8]);
        let mut great = [3e30, 4e30];
        normalize(&mut great);
        assert!((great[0] - 0.6).abs() < 1e-6 && (great[1] - 0.8).abs() < 1e-6, "{great:?}");
        let mut zeros = [0.0; 3];
        normalize(&mut zeros);
        assert_eq!(zeros, [0.0; 3]);
    }
}
