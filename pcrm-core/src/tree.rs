//! Packed batches: a stream of rows without padding, and the tree that defines which rows see which.
//!
//! A pair is `prompt ← chosen, prompt ← rejected`; K answers are one prompt with K children; a plain text is
//! one segment. A row sees its own segment up to itself and every ancestor in full; its position is its
//! depth. A prompt shared by several answers is computed once, and the result equals that of separate
//! sequences exactly.

use std::ops::Range;

use crate::error::{Error, Result};

/// Consecutive rows that continue `parent`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The rows of the stream.
    pub rows: Range<usize>,
    /// The parent segment; `None` starts a sequence.
    pub parent: Option<usize>,
}

/// The querying rows of one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asking {
    /// The segment.
    pub segment: usize,
    /// The index of its tree, in the order of [`SequenceTree::trees`].
    pub tree: usize,
    /// Its rows of q, which holds all querying rows in order.
    pub rows: Range<usize>,
    /// The position of each row, ascending.
    pub positions: Vec<usize>,
}

/// Segments that cover `0..rows` in order. Every parent precedes its children.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SequenceTree {
    segments: Vec<Segment>,
    starts: Vec<usize>,
}

impl SequenceTree {
    /// Creates a tree of these segments.
    ///
    /// # Errors
    /// Fails if segments leave a gap or are empty, and if a parent does not precede its child.
    pub fn new(segments: Vec<Segment>) -> Result<Self> {
        let mut tree = Self::default();
        for segment in segments {
            if segment.rows.start != tree.rows() {
                let message = format!("segment {} begins at {}", tree.segments.len(), segment.rows.start);
                return Err(Error::shape("sequence tree", message, &[&[tree.rows()]]));
            }
            tree.push(segment.rows.len(), segment.parent)?;
        }
        Ok(tree)
    }

    /// Creates a single sequence of `rows` rows.
    ///
    /// # Errors
    /// Fails without rows.
    pub fn sequence(rows: usize) -> Result<Self> {
        Self::new(vec![Segment { rows: 0..rows, parent: None }])
    }

    /// Appends a segment of `length` rows and returns its index.
    ///
    /// # Errors
    /// Fails without rows, and if the parent does not exist yet.
    pub fn push(&mut self, length: usize, parent: Option<usize>) -> Result<usize> {
        let index = self.segments.len();
        if length == 0 {
            return Err(Error::shape("sequence tree", format!("segment {index} is empty"), &[]));
        }
        let start = match parent {
            Some(parent) if parent >= index => {
                return Err(Error::shape(
                    "sequence tree",
                    format!("segment {index} has parent {parent}"),
                    &[],
                ));
            }
            Some(parent) => self.starts[parent] + self.segments[parent].rows.len(),
            None => 0,
        };
        let rows = self.rows();
        self.segments.push(Segment { rows: rows..rows + length, parent });
        self.starts.push(start);
        Ok(index)
    }

    /// Returns the segments, in order of rows.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Returns the number of rows.
    pub fn rows(&self) -> usize {
        self.segments.last().map_or(0, |segment| segment.rows.end)
    }

    /// Returns the position (depth) of the first row of a segment.
    pub fn start(&self, segment: usize) -> usize {
        self.starts[segment]
    }

    /// Returns the position of every row: its depth in its tree.
    pub fn positions(&self) -> Vec<u32> {
        let starts = self.segments.iter().zip(&self.starts);
        starts
            .flat_map(|(segment, start)| (0..segment.rows.len()).map(move |row| (start + row) as u32))
            .collect()
    }

    /// Returns the rows that a segment's last row sees: its ancestors from the root down, and itself last.
    pub fn chain(&self, segment: usize) -> Vec<Range<usize>> {
        let mut chain = Vec::new();
        let mut next = Some(segment);
        while let Some(index) = next {
            chain.push(self.segments[index].rows.clone());
            next = self.segments[index].parent;
        }
        chain.reverse();
        chain
    }

    /// Returns the querying rows by segment: `queries`, ascending, or all rows. Segments without any are
    /// omitted.
    pub fn asking(&self, queries: Option<&[usize]>) -> Vec<Asking> {
        let mut all = Vec::with_capacity(self.segments.len());
        let (mut trees, mut roots): (usize, Vec<usize>) = (0, Vec::with_capacity(self.segments.len()));
        let mut next = 0;
        for (index, segment) in self.segments.iter().enumerate() {
            let tree = match segment.parent {
                Some(parent) => roots[parent],
                None => {
                    trees += 1;
                    trees - 1
                }
            };
            roots.push(tree);
            let position = |row: usize| self.starts[index] + row - segment.rows.start;
            let positions: Vec<usize> = match queries {
                None => segment.rows.clone().map(position).collect(),
                Some(queries) => {
                    let rest = queries[next..].iter();
                    rest.take_while(|row| **row < segment.rows.end).map(|row| position(*row)).collect()
                }
            };
            let rows = next..next + positions.len();
            next = rows.end;
            if !positions.is_empty() {
                all.push(Asking { segment: index, tree, rows, positions });
            }
        }
        all
    }

    /// Returns the querying rows of every tree that has any; trees share no rows.
    pub fn asking_by_tree(&self, queries: Option<&[usize]>) -> Vec<Vec<Asking>> {
        let roots = self.segments.iter().filter(|segment| segment.parent.is_none()).count();
        let mut trees = vec![Vec::new(); roots];
        self.asking(queries).into_iter().for_each(|asking| trees[asking.tree].push(asking));
        trees.retain(|asking| !asking.is_empty());
        trees
    }

    /// Returns the segments of every tree (a root with all its descendants), each in order of rows.
    pub fn trees(&self) -> Vec<Vec<usize>> {
        let mut roots = Vec::with_capacity(self.segments.len());
        let mut trees: Vec<Vec<usize>> = Vec::new();
        for (index, segment) in self.segments.iter().enumerate() {
            let tree = match segment.parent {
                Some(parent) => roots[parent],
                None => {
                    trees.push(Vec::new());
                    trees.len() - 1
                }
            };
            roots.push(tree);
            trees[tree].push(index);
        }
        trees
    }

    /// Returns the number of rows that separate sequences would take: every leaf with all its ancestors.
    pub fn unshared_rows(&self) -> usize {
        let mut leaf = vec![true; self.segments.len()];
        for segment in &self.segments {
            if let Some(parent) = segment.parent {
                leaf[parent] = false;
            }
        }
        let leaves = (0..self.segments.len()).filter(|index| leaf[*index]);
        leaves.map(|index| self.starts[index] + self.segments[index].rows.len()).sum()
    }
}

/// A batch: token ids and their tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Packed {
    /// Token ids, `[rows]`.
    pub ids: Vec<u32>,
    /// The tree of the rows.
    pub tree: SequenceTree,
}

impl Packed {
    /// Appends a segment of tokens and returns its index.
    ///
    /// # Errors
    /// Fails as [`SequenceTree::push`] does.
    pub fn push(&mut self, ids: &[u32], parent: Option<usize>) -> Result<usize> {
        let segment = self.tree.push(ids.len(), parent)?;
        self.ids.extend_from_slice(ids);
        Ok(segment)
    }
}

/// Splits items into runs of at most `budget` tokens; an oversized item gets a run of its own.
pub fn within_budget<T>(items: &[T], budget: usize, tokens: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let mut runs = Vec::new();
    let (mut start, mut sum) = (0, 0);
    for (at, item) in items.iter().enumerate() {
        let size = tokens(item);
        if at > start && sum + size > budget {
            runs.push(&items[start..at]);
            (start, sum) = (at, 0);
        }
        sum += size;
    }
    if start < items.len() {
        runs.push(&items[start..]);
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_depths_and_chains_run_from_the_root() -> Result<()> {
        let mut packed = Packed::default();
        let prompt = packed.push(&[1, 2, 3], None)?;
        packed.push(&[4], Some(prompt))?;
        let rejected = packed.push(&[5, 6], Some(prompt))?;
        packed.push(&[7, 8], None)?;
        assert_eq!(packed.tree.positions(), [0, 1, 2, 3, 3, 4, 0, 1]);
        assert_eq!(packed.tree.chain(rejected), [0..3, 4..6]);
        assert_eq!(packed.tree.trees(), [vec![0, 1, 2], vec![3]]);
        assert_eq!(packed.tree.unshared_rows(), 4 + 5 + 2);
        Ok(())
    }

    #[test]
    fn asking_rows_are_counted_in_order_and_stand_at_their_depth() -> Result<()> {
        let mut packed = Packed::default();
        let prompt = packed.push(&[1, 2, 3], None)?;
        packed.push(&[4, 5], Some(prompt))?;
        packed.push(&[6, 7], Some(prompt))?;
        packed.push(&[8, 9], None)?;
        let of = |segment, tree, rows, positions: &[usize]| Asking {
            segment,
            tree,
            rows,
            positions: positions.into(),
        };
        let all = [
            of(0, 0, 0..3, &[0, 1, 2]),
            of(1, 0, 3..5, &[3, 4]),
            of(2, 0, 5..7, &[3, 4]),
            of(3, 1, 7..9, &[0, 1]),
        ];
        assert_eq!(packed.tree.asking(None), all);
        let some = [of(0, 0, 0..1, &[2]), of(2, 0, 1..3, &[3, 4]), of(3, 1, 3..4, &[0])];
        assert_eq!(packed.tree.asking(Some(&[2, 5, 6, 7])), some);
        assert!(packed.tree.asking(Some(&[])).is_empty());
        Ok(())
    }

    #[test]
    fn impossible_trees_are_refused() {
        assert!(SequenceTree::sequence(0).is_err());
        assert!(SequenceTree::new(vec![Segment { rows: 1..2, parent: None }]).is_err());
        assert!(SequenceTree::new(vec![Segment { rows: 0..2, parent: Some(0) }]).is_err());
    }

    /// Protects: runs keep the budget unless a single item exceeds it, and no item is lost.
    #[test]
    fn budgets_are_kept_and_no_item_is_lost() {
        let sizes = [3, 3, 5, 9, 1, 1];
        let runs = within_budget(&sizes, 8, |size| *size);
        assert_eq!(runs, [&[3, 3][..], &[5], &[9], &[1, 1]]);
        assert!(within_budget(&[] as &[usize], 8, |size| *size).is_empty());
    }
}
