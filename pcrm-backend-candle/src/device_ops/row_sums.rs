//! Segmented sums of rows, without atomics and in a fixed order.
//!
//! candle's `index_add` assigns a whole column to one thread, which then loops over all rows. Here the rows
//! of a target are gathered in groups of four and added, and so are the sums, until one is left: a few
//! launches, whatever the number of rows.

use candle_core as ct;
// candle's `index_select` returns zeros for the index NOTHING.
pub(crate) use pcrm_core::cuda::{NOTHING, by_target};

/// The number of rows that one round adds up.
const FAN: usize = 4;

/// The assignment of rows to targets, on the device.
pub(crate) struct RowSums {
    /// The rows that each round gathers, [`FAN`] per sum.
    rounds: Vec<ct::Tensor>,
    /// The position of every target's sum after the last round.
    places: ct::Tensor,
}

impl RowSums {
    /// Prepares sums that add row i to target `targets[i]`, which is below `count` or [`NOTHING`].
    pub(crate) fn new(targets: &[u32], count: usize, device: &ct::Device) -> ct::Result<Self> {
        let (starts, mut rows) = by_target(targets, count);
        let mut lengths: Vec<usize> = starts.windows(2).map(|ends| (ends[1] - ends[0]) as usize).collect();
        let mut rounds = Vec::new();
        while lengths.iter().any(|length| *length > 1) {
            let mut gathered = Vec::with_capacity(rows.len() * 2);
            let mut rest = rows.as_slice();
            for length in &mut lengths {
                let (mine, others) = rest.split_at(*length);
                gathered.extend_from_slice(mine);
                *length = length.div_ceil(FAN);
                gathered.resize(gathered.len() + *length * FAN - mine.len(), NOTHING);
                rest = others;
            }
            rows = (0..(gathered.len() / FAN) as u32).collect();
            rounds.push(index(gathered, device)?);
        }
        let mut left = rows.into_iter();
        let places = lengths.iter().map(|length| left.by_ref().take(*length).next().unwrap_or(NOTHING));
        Ok(Self { places: index(places.collect(), device)?, rounds })
    }

    /// Sums `[many, rows, width]` → `[many, count, width]`; a target without rows gets zeros.
    pub(crate) fn add_up(&self, x: &ct::Tensor) -> ct::Result<ct::Tensor> {
        let mut sums = x.contiguous()?;
        for round in &self.rounds {
            let gathered = sums.index_select(round, 1)?;
            let (many, rows, width) = gathered.dims3()?;
            sums = gathered.reshape((many, rows / FAN, FAN, width))?.sum(2)?;
        }
        sums.index_select(&self.places, 1)
    }
}

/// Uploads row indices.
pub(crate) fn index(rows: Vec<u32>, device: &ct::Device) -> ct::Result<ct::Tensor> {
    let length = rows.len();
    ct::Tensor::from_vec(rows, length, device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_added_up_to_their_targets() -> ct::Result<()> {
        let device = ct::Device::Cpu;
        let targets: Vec<u32> = (0..100).map(|row| [3, 3, 1, NOTHING, 3, 6][row % 6]).collect();
        let values: Vec<f32> = (0..400).map(|at| at as f32).collect();
        let x = ct::Tensor::from_slice(&values, (2, 100, 2), &device)?;
        let mut want = vec![0.0; 2 * 8 * 2];
        for (row, target) in targets.iter().enumerate().filter(|(_, target)| **target != NOTHING) {
            for (many, column) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                want[many * 16 + *target as usize * 2 + column] += values[many * 200 + row * 2 + column];
            }
        }
        let sums = RowSums::new(&targets, 8, &device)?;
        assert_eq!(sums.rounds.len(), 3);
        assert_eq!(sums.add_up(&x)?.flatten_all()?.to_vec1::<f32>()?, want);
        Ok(())
    }
}
