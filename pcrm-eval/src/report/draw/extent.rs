//! The ends of a plot's axes, their ticks, and the numbers that they must hold.

use plotters::coord::ranged1d::{BoldPoints, DefaultFormatting, KeyPointHint, Ranged};
use plotters::coord::types::RangedCoordf64;

use super::TICKS;
use crate::report::number::tick;
use crate::report::plot::{Axis, Layer, Mark, Plot, Scale, Ticks};

/// An axis with labels and grid lines at given positions.
pub(super) struct Places {
    pub along: RangedCoordf64,
    pub places: Vec<f64>,
}

impl Ranged for Places {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        self.along.map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.places.clone() }
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.along.range()
    }
}

impl Ticks {
    /// Returns the span of an axis whose values are all 0, in the axis's own units.
    fn least_span(self) -> f64 {
        match self {
            Self::Percent => 0.05,
            Self::Number | Self::Count => 1.0,
        }
    }
}

/// The ends of an axis in drawing units: logarithms on a logarithmic axis.
pub(super) struct Extent<'a> {
    pub low: f64,
    pub high: f64,
    scale: Scale,
    ticks: Ticks,
    names: &'a [String],
}

impl<'a> Extent<'a> {
    pub fn of(axis: &'a Axis, plot: &Plot, values: fn(&Layer, &mut dyn FnMut(f64))) -> Self {
        let scaled = |value: f64| match axis.scale {
            Scale::Linear => value,
            Scale::Log => value.log2(),
        };
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for layer in &plot.layers {
            values(layer, &mut |value| {
                let value = scaled(value);
                if value.is_finite() {
                    (low, high) = (low.min(value), high.max(value));
                }
            });
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        // Leave room around the layers, but keep a lower end of 0 and do not let shares exceed 1.
        let room = match high - low {
            0.0 if low == 0.0 => axis.ticks.least_span(),
            0.0 => 0.5 * low.abs(),
            span => 0.05 * span,
        };
        let room = room.max((axis.least - (high - low)) / 2.0);
        let grounded = low == 0.0 && axis.scale == Scale::Linear;
        let (lowest, highest) = (low, high);
        (low, high) = (if grounded { 0.0 } else { low - room }, high + room);
        if axis.ticks == Ticks::Percent {
            (low, high) = (low.max(lowest.min(0.0)), high.min(highest.max(1.0)));
        }
        if let Some((from, to)) = axis.range {
            (low, high) = (scaled(from), scaled(to));
        }
        Self { low, high, scale: axis.scale, ticks: axis.ticks, names: &axis.names }
    }

    pub fn range(&self) -> std::ops::Range<f64> {
        self.low..self.high
    }

    pub fn place(&self, value: f64) -> f64 {
        let value = match self.scale {
            Scale::Linear => value,
            Scale::Log => value.log2(),
        };
        value.clamp(self.low, self.high)
    }

    /// Returns the positions of labels and grid lines: about `ticks` of them, or one at every name.
    pub fn places(&self, ticks: usize) -> Vec<f64> {
        match self.names.len() {
            0 => RangedCoordf64::from(self.range()).key_points(BoldPoints(ticks)),
            names => (0..names).map(|at| at as f64).collect(),
        }
    }

    pub fn tick(&self, value: f64) -> String {
        if !self.names.is_empty() {
            return self.names.get(value.round().max(0.0) as usize).cloned().unwrap_or_default();
        }
        let step = (self.high - self.low) / TICKS as f64;
        match self.scale {
            Scale::Linear => tick(value, step, self.ticks),
            // A whole number below 10 would label a different position.
            Scale::Log if self.ticks == Ticks::Number && value.exp2() < 9.5 => {
                tick(value.exp2(), value.exp2() / 10.0, self.ticks)
            }
            Scale::Log => tick(value.exp2().round(), 1.0, self.ticks),
        }
    }

    /// Returns the pixels that the labels of a vertical axis need.
    pub fn label_width(&self) -> u32 {
        let longest =
            self.places(TICKS).iter().map(|place| self.tick(*place).chars().count()).max().unwrap_or(0);
        (7 * longest as u32 + 14).max(28)
    }
}

/// Passes the horizontal numbers of a layer to `take`.
pub(super) fn xs(layer: &Layer, take: &mut dyn FnMut(f64)) {
    match &layer.mark {
        Mark::Line(points)
        | Mark::Dashes(points)
        | Mark::Faint(points)
        | Mark::Dots(points)
        | Mark::Crowd(points) => points.iter().for_each(|(x, _)| take(*x)),
        Mark::Band(points) => points.iter().for_each(|(x, ..)| take(*x)),
        Mark::Intervals(points) => points.iter().for_each(|point| take(point.at.0)),
        Mark::Lying(points) => points.iter().for_each(|point| reach(point.at.0, point.ends, take)),
        Mark::Bars(bars) => {
            bars.iter().for_each(|(left, right, _)| [*left, *right].into_iter().for_each(&mut *take));
        }
        Mark::Cells(tiles) => tiles.iter().for_each(|tile| take(tile.at.0 as f64)),
        Mark::Across(_) => {}
        Mark::Upright(x) => take(*x),
    }
}

/// Passes the vertical numbers of a layer to `take`.
pub(super) fn ys(layer: &Layer, take: &mut dyn FnMut(f64)) {
    match &layer.mark {
        Mark::Line(points)
        | Mark::Dashes(points)
        | Mark::Faint(points)
        | Mark::Dots(points)
        | Mark::Crowd(points) => points.iter().for_each(|(_, y)| take(*y)),
        Mark::Band(points) => points.iter().for_each(|(_, low, high)| {
            take(*low);
            take(*high);
        }),
        Mark::Intervals(points) => points.iter().for_each(|point| reach(point.at.1, point.ends, take)),
        Mark::Lying(points) => points.iter().for_each(|point| take(point.at.1)),
        Mark::Bars(bars) => {
            take(0.0);
            bars.iter().for_each(|(.., height)| take(*height));
        }
        Mark::Cells(tiles) => tiles.iter().for_each(|tile| take(tile.at.1 as f64)),
        Mark::Across(y) => take(*y),
        Mark::Upright(_) => {}
    }
}

/// Passes a dot's position and the ends of its interval to `take`.
fn reach(place: f64, ends: Option<(f64, f64)>, take: &mut dyn FnMut(f64)) {
    take(place);
    if let Some((low, high)) = ends {
        take(low);
        take(high);
    }
}
