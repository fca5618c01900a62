//! Plots as axes and layers, independent of the drawing crate.

use serde::Serialize;

use crate::interval::Interval;

/// A plot with two axes and layers.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Plot {
    /// Title.
    pub title: String,
    /// How to read the plot, and what it leaves out; empty for none.
    pub about: String,
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// Layers, from the back to the front.
    pub layers: Vec<Layer>,
}

/// An axis of a plot.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Axis {
    /// Quantity, with its unit.
    pub label: String,
    /// Format of the numbers.
    pub ticks: Ticks,
    /// Linear or logarithmic scale.
    pub scale: Scale,
    /// Ends of the axis; from the layers if `None`. Values beyond are drawn at the end.
    pub range: Option<(f64, f64)>,
    /// Smallest span if the ends come from the layers, so that a difference in the third digit does not fill
    /// the plot. In units of the axis; 0 for any.
    pub least: f64,
    /// Names at the positions 0, 1, … from the origin; empty for an axis of numbers. A vertical axis of names
    /// grows with their number.
    pub names: Vec<String>,
}

/// The format of an axis's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ticks {
    /// Plain numbers.
    #[default]
    Number,
    /// Whole numbers.
    Count,
    /// Shares of 1, in per cent.
    Percent,
}

/// The scale of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Equal steps are equal differences.
    #[default]
    Linear,
    /// Equal steps are equal ratios; all values must be positive.
    Log,
}

/// A layer of a plot.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Layer {
    /// Name in the legend; empty to leave it out.
    pub name: String,
    /// Colour.
    pub ink: Ink,
    /// Marks.
    pub mark: Mark,
}

/// Colours that colour-blind readers can distinguish (Okabe and Ito, 2008), and a grey for the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ink {
    /// Blue.
    Blue,
    /// Orange.
    Orange,
    /// Bluish green.
    Green,
    /// Vermilion.
    Red,
    /// Reddish purple.
    Purple,
    /// Grey, for marks that are not a series.
    Grey,
}

/// The colours of series, in the order of assignment.
pub const SERIES: [Ink; 5] = [Ink::Blue, Ink::Orange, Ink::Green, Ink::Purple, Ink::Red];

/// The marks of a layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// A line through (x, y).
    Line(Vec<(f64, f64)>),
    /// A dashed line.
    Dashes(Vec<(f64, f64)>),
    /// A thin, pale line, for readings behind a smoothed line.
    Faint(Vec<(f64, f64)>),
    /// An area from low to high: (x, low, high).
    Band(Vec<(f64, f64, f64)>),
    /// Dots at (x, y).
    Dots(Vec<(f64, f64)>),
    /// Small, pale dots at (x, y), for many points.
    Crowd(Vec<(f64, f64)>),
    /// Dots with intervals along the vertical axis.
    Intervals(Vec<Whisker>),
    /// Dots with intervals along the horizontal axis.
    Lying(Vec<Whisker>),
    /// Bars from 0: (left, right, height).
    Bars(Vec<(f64, f64, f64)>),
    /// Shaded tiles with their numbers, on two axes of names: a heat map.
    Cells(Vec<Tile>),
    /// A dashed line across the plot at y.
    Across(f64),
    /// A dashed line from bottom to top at x.
    Upright(f64),
}

/// A tile of a heat map.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tile {
    /// Position among the names of both axes.
    pub at: (usize, usize),
    /// Shade: blue above 0, red below, stronger for larger values relative to the tiles of the layer.
    pub shade: f64,
    /// Text.
    pub text: String,
}

/// A dot with an optional interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Whisker {
    /// Position of the dot.
    pub at: (f64, f64),
    /// Ends of the interval.
    pub ends: Option<(f64, f64)>,
}

impl Whisker {
    /// Creates a dot with its interval.
    pub fn new(at: (f64, f64), interval: Option<Interval>) -> Self {
        Self { at, ends: interval.map(|interval| (interval.low(), interval.high())) }
    }
}

impl Axis {
    /// Creates a linear axis of plain numbers.
    pub fn new(label: impl Into<String>) -> Self {
        Self { label: label.into(), ..Self::default() }
    }

    /// Creates an axis of whole numbers.
    pub fn counts(label: impl Into<String>) -> Self {
        Self { label: label.into(), ticks: Ticks::Count, ..Self::default() }
    }

    /// Creates an axis of shares.
    pub fn shares(label: impl Into<String>) -> Self {
        Self { label: label.into(), ticks: Ticks::Percent, ..Self::default() }
    }

    /// Creates an axis of names at 0, 1, …, with room for half a position at both ends.
    pub fn of_names(names: Vec<String>) -> Self {
        let range = Some((-0.5, names.len().max(1) as f64 - 0.5));
        Self { names, range, ..Self::default() }
    }

    /// Sets the ends to `low` and `high`.
    #[must_use]
    pub fn within(self, low: f64, high: f64) -> Self {
        Self { range: Some((low, high)), ..self }
    }

    /// Sets the smallest span.
    #[must_use]
    pub fn spanning(self, least: f64) -> Self {
        Self { least, ..self }
    }

    /// Makes the scale logarithmic.
    #[must_use]
    pub fn logarithmic(self) -> Self {
        Self { scale: Scale::Log, ..self }
    }
}

impl Layer {
    /// Creates a layer with a name in the legend.
    pub fn new(name: impl Into<String>, ink: Ink, mark: Mark) -> Self {
        Self { name: name.into(), ink, mark }
    }

    /// Creates a layer that the legend leaves out.
    pub fn unnamed(ink: Ink, mark: Mark) -> Self {
        Self::new("", ink, mark)
    }

    /// Returns true if nothing is drawn.
    pub fn is_empty(&self) -> bool {
        match &self.mark {
            Mark::Line(points)
            | Mark::Dashes(points)
            | Mark::Faint(points)
            | Mark::Dots(points)
            | Mark::Crowd(points) => points.is_empty(),
            Mark::Band(points) | Mark::Bars(points) => points.is_empty(),
            Mark::Intervals(points) | Mark::Lying(points) => points.is_empty(),
            Mark::Cells(tiles) => tiles.is_empty(),
            Mark::Across(_) | Mark::Upright(_) => false,
        }
    }
}
