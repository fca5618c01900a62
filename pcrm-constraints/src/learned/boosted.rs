//! f as a sum of small trees, monotone where requested.
//!
//! Gradient boosting with second-order leaves and monotone splits as in XGBoost (T. Chen, C. Guestrin, arXiv
//! 1603.02754, §2 and §3.2): of the splits whose leaves are in the requested order, the one that lowers the
//! loss most is taken, and the branches below it stay on their side of the midpoint. The curvature is
//! Fisher's information, because the loss is not convex in f.

use pcrm_core::constraint::Direction;
use serde::Serialize;

use super::likelihood::slope_and_information;
use super::linear;
use super::table::FitData;
use super::tree::{Split, Tree};

/// f(x) = intercept + Σ treeᵢ(x).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Boosted {
    /// f before any tree.
    pub intercept: f64,
    /// The names of the features, in the order of the trees' indices.
    pub inputs: Vec<String>,
    /// The trees in the order of growth; held-out likelihood chose their number.
    pub trees: Vec<Tree>,
}

/// The maximum number of trees.
pub(super) const TREES: usize = 100;
const DEPTH: usize = 2;
/// The learning rate: the factor on every leaf's best value.
const RATE: f64 = 0.1;
/// The minimum number of pairs in a leaf.
const FEWEST: usize = 20;
/// The L2 penalty of a leaf's value.
const PENALTY: f64 = 1.0;
/// The largest value of a leaf, before the learning rate.
const LARGEST: f64 = 4.0;
/// The maximum number of cuts of a feature.
const CUTS: usize = 31;

impl Boosted {
    /// Computes f from a pair's features.
    pub fn at(&self, x: &[f64]) -> f64 {
        self.intercept + self.trees.iter().map(|tree| tree.at(x)).sum::<f64>()
    }

    /// Fits `trees` trees to these rows.
    pub(super) fn fit(
        table: &FitData,
        names: &[&str],
        directions: &[Direction],
        rows: &[usize],
        trees: usize,
    ) -> Self {
        let intercept = linear::constant(table, rows);
        let binned: Vec<Binned> = table.columns.iter().map(|column| Binned::new(column, rows)).collect();
        let x: Vec<Vec<f64>> = rows.iter().map(|&row| table.row(row)).collect();
        let mut f = vec![intercept; rows.len()];
        let mut grown = Vec::with_capacity(trees);
        for _ in 0..trees {
            let step = |(&f, &row): (&f64, &usize)| {
                let (slope, information) = slope_and_information(f, table.wins[row]);
                Sums { slope, information, pairs: 1 }
            };
            let steps: Vec<Sums> = f.iter().zip(rows).map(step).collect();
            let grower = Grower { binned: &binned, directions, steps: &steps };
            let all = (0..rows.len()).collect();
            let tree = grower.grow(all, DEPTH, (-LARGEST, LARGEST)).scaled(RATE);
            f.iter_mut().zip(&x).for_each(|(f, x)| *f += tree.at(x));
            grown.push(tree);
        }
        Self { intercept, inputs: names.iter().map(|name| (*name).to_owned()).collect(), trees: grown }
    }
}

/// A feature with its values assigned to bins: bin b is below cut b and not below cut b − 1.
struct Binned {
    cuts: Vec<f64>,
    bins: Vec<u8>,
}

impl Binned {
    fn new(column: &[f64], rows: &[usize]) -> Self {
        let mut sorted: Vec<f64> = rows.iter().map(|&row| column[row]).collect();
        sorted.sort_by(f64::total_cmp);
        let mut cuts: Vec<f64> = (1..=CUTS)
            .map(|at| sorted[at * (sorted.len() - 1) / (CUTS + 1)])
            .filter_map(|value| {
                let next = sorted[sorted.partition_point(|other| *other <= value)..].first()?;
                // Rounding may make the midpoint equal the lower of two neighbours, which must be below it.
                Some((value + (next - value) / 2.0).max(value.next_up()))
            })
            .collect();
        cuts.dedup();
        let bin = |&row: &usize| cuts.partition_point(|cut| *cut <= column[row]) as u8;
        Self { bins: rows.iter().map(bin).collect(), cuts }
    }
}

/// Sums over a set of pairs.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    slope: f64,
    information: f64,
    pairs: usize,
}

impl Sums {
    fn plus(self, other: Self) -> Self {
        Self {
            slope: self.slope + other.slope,
            information: self.information + other.information,
            pairs: self.pairs + other.pairs,
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            slope: self.slope - other.slope,
            information: self.information - other.information,
            pairs: self.pairs - other.pairs,
        }
    }

    /// Returns the best value of a leaf between these ends.
    fn leaf(self, (low, high): (f64, f64)) -> f64 {
        (-self.slope / (self.information + PENALTY)).clamp(low, high)
    }

    /// Returns the decrease in loss from a leaf of this value.
    fn gain(self, leaf: f64) -> f64 {
        -(self.slope * leaf + (self.information + PENALTY) / 2.0 * leaf * leaf)
    }
}

/// Grows one tree.
struct Grower<'a> {
    binned: &'a [Binned],
    directions: &'a [Direction],
    steps: &'a [Sums],
}

impl Grower<'_> {
    fn grow(&self, rows: Vec<usize>, depth: usize, ends: (f64, f64)) -> Tree {
        let all = rows.iter().fold(Sums::default(), |sums, &row| sums.plus(self.steps[row]));
        let leaf = all.leaf(ends);
        let best = if depth == 0 { None } else { self.best(&rows, all, ends, all.gain(leaf)) };
        let Some((feature, cut)) = best else { return Tree::Leaf(leaf) };
        let (below, above): (Vec<usize>, Vec<usize>) =
            rows.into_iter().partition(|&row| usize::from(self.binned[feature].bins[row]) <= cut);
        let [left, right] = [&below, &above].map(|rows| {
            rows.iter().fold(Sums::default(), |sums, &row| sums.plus(self.steps[row])).leaf(ends)
        });
        let middle = (left + right) / 2.0;
        let (low, high) = ends;
        let [below_ends, above_ends] = match self.directions[feature] {
            Direction::Free => [ends, ends],
            Direction::Increasing => [(low, middle), (middle, high)],
            Direction::Decreasing => [(middle, high), (low, middle)],
        };
        Tree::Split(Box::new(Split {
            feature,
            at: self.binned[feature].cuts[cut],
            below: self.grow(below, depth - 1, below_ends),
            above: self.grow(above, depth - 1, above_ends),
        }))
    }

    /// Returns the feature and the cut that lower the loss most, if any do; the first of equals.
    fn best(&self, rows: &[usize], all: Sums, ends: (f64, f64), without: f64) -> Option<(usize, usize)> {
        let mut best = (without + 1e-9, None);
        for (feature, binned) in self.binned.iter().enumerate() {
            let mut bins = vec![Sums::default(); binned.cuts.len() + 1];
            for &row in rows {
                let bin = &mut bins[usize::from(binned.bins[row])];
                *bin = bin.plus(self.steps[row]);
            }
            let mut below = Sums::default();
            for (cut, &bin) in bins[..binned.cuts.len()].iter().enumerate() {
                below = below.plus(bin);
                let above = all.minus(below);
                if below.pairs.min(above.pairs) < FEWEST {
                    continue;
                }
                let (left, right) = (below.leaf(ends), above.leaf(ends));
                let in_order = match self.directions[feature] {
                    Direction::Free => true,
                    Direction::Increasing => left <= right,
                    Direction::Decreasing => left >= right,
                };
                let gain = below.gain(left) + above.gain(right);
                if in_order && gain > best.0 {
                    best = (gain, Some((feature, cut)));
                }
            }
        }
        best.1
    }
}
