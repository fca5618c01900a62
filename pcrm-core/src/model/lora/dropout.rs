//! Counter-based dropout: a mask is a function of the seed, the step, the layer and the tokens up to a row.
//!
//! Resumed runs, layers that are recomputed for their gradients, and prompts shared by several answers get
//! the same masks as when computed alone, in any batch.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::error::Result;
use crate::host::HostTensor;
use crate::model::Rows;
use crate::tree::Packed;

/// Dropout of one forward pass.
#[derive(Debug)]
pub(in crate::model) struct Dropout {
    seed: u64,
    /// A key per row of the batch, from the tokens of its sequence up to the row.
    keys: Vec<u64>,
}

impl Dropout {
    pub fn new(seed: u64, step: u64, batch: &Packed) -> Self {
        let mut keys = vec![0; batch.ids.len()];
        for segment in batch.tree.segments() {
            let parent = segment.parent.map(|parent| batch.tree.segments()[parent].rows.end - 1);
            let mut key = parent.map_or(0, |row| keys[row]);
            for row in segment.rows.clone() {
                key = mixed(key ^ (u64::from(batch.ids[row]) + 1));
                keys[row] = key;
            }
        }
        Self { seed: mixed(seed ^ mixed(step + 1)), keys }
    }
}

/// The dropout of a layer, and the rows of the batch that the layer computes.
#[derive(Debug, Clone, Copy)]
pub(in crate::model) struct Noise<'a> {
    dropout: Option<&'a Dropout>,
    rows: Rows<'a>,
}

impl<'a> Noise<'a> {
    /// No dropout.
    pub const NONE: Noise<'static> = Noise { dropout: None, rows: Rows::All };

    pub fn new(dropout: Option<&'a Dropout>, rows: Rows<'a>) -> Self {
        Self { dropout, rows }
    }

    /// Returns the mask of a layer's input, `[rows, width]`: 0 with probability `p`, 1 / (1 − p) otherwise.
    /// `None`: no dropout.
    pub(super) fn mask(self, layer: &str, p: f64, width: usize) -> Result<Option<HostTensor>> {
        let Some(dropout) = self.dropout.filter(|_| p > 0.0) else { return Ok(None) };
        let layer = xxh3_64_with_seed(layer.as_bytes(), dropout.seed);
        let keys: Vec<u64> = match self.rows {
            Rows::All => dropout.keys.clone(),
            Rows::Only(rows) => rows.iter().map(|row| dropout.keys[*row]).collect(),
        };
        let (kept, limit) = ((1.0 / (1.0 - p)) as f32, (p * 2f64.powi(32)) as u64);
        let mut mask = Vec::with_capacity(keys.len() * width);
        for key in &keys {
            let row = mixed(key ^ layer);
            for at in 0..width {
                // Each number gives two draws of 32 bits.
                let draw = mixed(row.wrapping_add((at as u64 / 2).wrapping_mul(STEP))) >> (32 * (at % 2));
                mask.push(if draw & 0xffff_ffff < limit { 0.0 } else { kept });
            }
        }
        Ok(Some(HostTensor::f32([keys.len(), width], mask)?))
    }
}

/// The increment of SplitMix64 (Steele, Lea and Flood, 2014).
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of SplitMix64.
fn mixed(x: u64) -> u64 {
    let mut z = x.wrapping_add(STEP);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(dropout: &Dropout, layer: &str) -> Result<Vec<Vec<f32>>> {
        let mask = Noise::new(Some(dropout), Rows::All).mask(layer, 0.25, 64)?;
        Ok(mask.map_or_else(Vec::new, HostTensor::into_f32).chunks(64).map(<[f32]>::to_vec).collect())
    }

    /// Protects: a row's mask is the same alone, packed, after a shared prompt and among selected rows, and
    /// differs by layer, step and seed.
    #[test]
    fn masks_depend_on_a_rows_own_sequence() -> Result<()> {
        let mut shared = Packed::default();
        shared.push(&[9, 9], None)?;
        let prompt = shared.push(&[1, 2, 3], None)?;
        shared.push(&[4, 5], Some(prompt))?;
        shared.push(&[6], Some(prompt))?;
        let mut alone = Packed::default();
        alone.push(&[1, 2, 3, 6], None)?;
        let (shared, alone) = (Dropout::new(7, 3, &shared), Dropout::new(7, 3, &alone));
        let (packed, single) = (rows(&shared, "a")?, rows(&alone, "a")?);
        assert_eq!(single, [&packed[2..5], &packed[7..8]].concat());
        let chosen = Noise::new(Some(&shared), Rows::Only(&[3, 7])).mask("a", 0.25, 64)?;
        assert_eq!(chosen.map(HostTensor::into_f32), Some([&packed[3][..], &packed[7]].concat()));
        assert_ne!(packed[0], packed[1], "a repeated token has another mask");
        assert_ne!(rows(&shared, "b")?, packed);
        let mut batch = Packed::default();
        batch.push(&[1, 2, 3, 6], None)?;
        assert_ne!(rows(&Dropout::new(7, 4, &batch), "a")?, single);
        assert_ne!(rows(&Dropout::new(8, 3, &batch), "a")?, single);
        Ok(())
    }

    /// Protects: the dropped share is p, and the rest is scaled so that the mean is preserved.
    #[test]
    fn the_share_of_zeros_is_p() -> Result<()> {
        let mut batch = Packed::default();
        batch.push(&(0..2000).collect::<Vec<u32>>(), None)?;
        let all = rows(&Dropout::new(1, 1, &batch), "layer")?.concat();
        let zeros = all.iter().filter(|x| **x == 0.0).count() as f64 / all.len() as f64;
        assert!((zeros - 0.25).abs() < 0.005, "{zeros}");
        assert!(all.iter().all(|x| *x == 0.0 || (*x - 4.0 / 3.0).abs() < 1e-6));
        Ok(())
    }
}
