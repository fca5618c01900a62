//! Sums of rows that belong together, without atomics and in a fixed order.
//!
//! candle's `index_add` gives a whole column to one thread, which then walks over all rows. Here the rows of a target
//! are gathered by fours and added, and the sums again, until one is left: a few launches, whatever the number of rows.

use candle_core as ct;

/// The index that candle's `index_select` answers with zeros.
pub(crate) const NOTHING: u32 = u32::MAX;

/// How many rows one round adds up.
const FAN: usize = 4;

/// Which rows are added up to which targets, on the device.
pub(crate) struct RowSums {
    /// Of every round, the rows it gathers, [`FAN`] for each sum.
    rounds: Vec<ct::Tensor>,
    /// Of every target, where its sum stands after the last round.
    places: ct::Tensor,
}

impl RowSums {
    /// Row i is added to target `targets[i]`, which is below `count` or [`NOTHING`].
    pub(crate) fn new(targets: &[u32], count: usize, device: &ct::Device) -> ct::Result<Self> {
        let mut lengths = vec![0usize; count];
        targets.iter().filter(|target| **target != NOTHING).for_each(|target| lengths[*target as usize] += 1);
        let mut next = 0;
        let mut starts: Vec<usize> = Vec::with_capacity(count);
        for length in &lengths {
            starts.push(next);
            next += length;
        }
        let mut rows = vec![NOTHING; next];
        for (row, target) in targets.iter().enumerate().filter(|(_, target)| **target != NOTHING) {
            let start = &mut starts[*target as usize];
            rows[*start] = row as u32;
            *start += 1;
        }

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

    /// `[many, rows, width]` → `[many, count, width]`; a target that no row has gets zeros.
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

/// Row indices on the device.
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
