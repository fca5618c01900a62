//! The angles of a model's rotary positions, computed once and cached.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Rope;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::tree::SequenceTree;

/// The unit of table growth, in positions.
const STEP: usize = 256;

/// cos and sin by position, each `[positions, dim / 2]`.
type Table = Arc<(Vec<f32>, Vec<f32>)>;

/// Rotary positions with their cached angles, up to the longest requested position.
#[derive(Debug, Clone)]
pub(in crate::model) struct Angles {
    rope: Rope,
    /// The angles within the trained context; those of longer sequences may depend on their length.
    kept: Arc<Mutex<Table>>,
}

impl Angles {
    pub fn new(rope: Rope) -> Self {
        Self { rope, kept: Arc::default() }
    }

    pub fn rope(&self) -> &Rope {
        &self.rope
    }

    /// Returns cos and sin of every row's angles, each `[rows, dim / 2]`.
    pub fn of(&self, tree: &SequenceTree) -> Result<[HostTensor; 2]> {
        self.turned(&tree.positions(), &self.rope.lengths(tree))
    }

    /// Returns cos and sin at these positions of sequences within the trained context, each
    /// `[rows, dim / 2]`.
    ///
    /// # Errors
    /// Fails if a position is beyond the trained context and angles depend on the length of the sequence.
    pub fn at(&self, positions: &[u32]) -> Result<[HostTensor; 2]> {
        let trained = self.rope.trained().unwrap_or(usize::MAX);
        if let Some(position) = positions.iter().find(|position| **position as usize >= trained) {
            let kind = self.rope.scaling.kind();
            let message = format!(
                "{kind}: position {position} is past the trained context of {trained}, where all angles \
                 change with the length of the sequence; cached keys cannot follow"
            );
            return Err(Error::invalid("rope_scaling", message));
        }
        self.turned(positions, &vec![0; positions.len()])
    }

    fn turned(&self, positions: &[u32], lengths: &[usize]) -> Result<[HostTensor; 2]> {
        let half = self.rope.dim / 2;
        let count = positions.iter().max().map_or(0, |last| *last as usize + 1);
        let mut tables: BTreeMap<usize, Table> = BTreeMap::new(); // by length
        let elements = positions.len() * half;
        let (mut cos, mut sin) = (Vec::with_capacity(elements), Vec::with_capacity(elements));
        // Rows of one sequence follow each other and have one length.
        let alike = positions.iter().zip(lengths).collect::<Vec<_>>();
        for rows in alike.chunk_by(|a, b| a.1 == b.1) {
            let table = tables.entry(*rows[0].1).or_insert_with(|| match *rows[0].1 {
                0 => self.table(count),
                length => Arc::new(self.rope.table(count, length).into_iter().unzip()),
            });
            for (position, _) in rows {
                let row = **position as usize * half..(**position as usize + 1) * half;
                cos.extend_from_slice(&table.0[row.clone()]);
                sin.extend_from_slice(&table.1[row]);
            }
        }
        let shape = [positions.len(), half];
        Ok([HostTensor::f32(shape, cos)?, HostTensor::f32(shape, sin)?])
    }

    /// Returns the cached table, recomputed if it has fewer than `count` positions.
    fn table(&self, count: usize) -> Table {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.0.len() < count * (self.rope.dim / 2) {
            *kept = Arc::new(self.rope.table(count.next_multiple_of(STEP), 0).into_iter().unzip());
        }
        Arc::clone(&kept)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Scaling;
    use super::*;

    /// Protects: cached tables have the same angles as new ones, before and after growth, and never contain
    /// lengths beyond the trained context.
    #[test]
    fn kept_angles_are_those_of_fresh_ones() -> Result<()> {
        let rope = Rope { theta: 100.0, dim: 8, scaling: Scaling::Dynamic { factor: 2.0, trained: 300 } };
        let angles = Angles::new(rope.clone());
        for rows in [3, 299, 301, 299, 700, 5] {
            let tree = SequenceTree::sequence(rows)?;
            assert_eq!(angles.of(&tree)?, Angles::new(rope.clone()).of(&tree)?, "{rows}");
        }
        let kept = angles.kept.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!([kept.0.len(), kept.1.len()], [4 * 512; 2]);
        Ok(())
    }
}
