//! Plots as axes and layers, independent of the crate that draws them.

use serde::Serialize;

use crate::interval::Interval;

/// A plot.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Plot {
    /// Its title.
    pub title: String,
    /// How to read it, and what it leaves out; empty for none.
    pub about: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// Its layers, the lowest first.
    pub layers: Vec<Layer>,
}

/// An axis.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Axis {
    /// The quantity, with its unit.
    pub label: String,
    /// The format of its numbers.
    pub ticks: Ticks,
    /// The meaning of equal steps.
    pub scale: Scale,
    /// Its ends; from the layers if none. Values beyond are drawn at the end.
    pub range: Option<(f64, f64)>,
    /// The least span where the ends come from the layers: a difference in the third digit must not fill the
    /// plot. In units of the axis, 0 for any.
    pub least: f64,
    /// Names that stand for the numbers 0, 1, … from the origin on; none for an axis of numbers. A vertical
    /// axis of names is as high as they need.
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

/// The meaning of equal steps along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Differences.
    #[default]
    Linear,
    /// Ratios; everything must be positive.
    Log,
}

/// A layer of a plot.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Layer {
    /// Its name in the legend; empty to leave it out.
    pub name: String,
    /// Its colour.
    pub ink: Ink,
    /// Its marks.
    pub mark: Mark,
}

/// Colours that colour-blind readers tell apart (Okabe and Ito, 2008), and shades for what stands behind.
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
    /// Grey, for what is no series.
    Grey,
}

/// The colours of series, in the order in which they are given out.
pub const SERIES: [Ink; 5] = [Ink::Blue, Ink::Orange, Ink::Green, Ink::Purple, Ink::Red];

/// The marks of a layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// A line through (x, y).
    Line(Vec<(f64, f64)>),
    /// A dashed one.
    Dashes(Vec<(f64, f64)>),
    /// A thin, pale one: readings behind a smoothed line.
    Faint(Vec<(f64, f64)>),
    /// An area from low to high: (x, low, high).
    Band(Vec<(f64, f64, f64)>),
    /// Dots at (x, y).
    Dots(Vec<(f64, f64)>),
    /// Small, pale dots at (x, y), for crowds.
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
    /// Its place among the names of either axis.
    pub at: (usize, usize),
    /// Its shade: blue above 0, red below, the stronger the further from 0 among the tiles of its layer.
    pub shade: f64,
    /// Its text.
    pub text: String,
}

/// A dot and its interval; without an interval it is a dot alone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Whisker {
    /// The dot.
    pub at: (f64, f64),
    /// The ends of the interval.
    pub ends: Option<(f64, f64)>,
}

impl Whisker {
    /// A dot with its interval.
    pub fn new(at: (f64, f64), interval: Option<Interval>) -> Self {
        Self { at, ends: interval.map(|interval| (interval.low(), interval.high())) }
    }
}

impl Axis {
    /// A linear axis of plain numbers.
    pub fn new(label: impl Into<String>) -> Self {
        Self { label: label.into(), ..Self::default() }
    }

    /// An axis of whole numbers.
    pub fn counts(label: impl Into<String>) -> Self {
        Self { label: label.into(), ticks: Ticks::Count, ..Self::default() }
    }

    /// An axis of shares.
    pub fn shares(label: impl Into<String>) -> Self {
        Self { label: label.into(), ticks: Ticks::Percent, ..Self::default() }
    }

    /// An axis of names, one a whole number from 0 on, with half a place of room at the ends.
    pub fn of_names(names: Vec<String>) -> Self {
        let range = Some((-0.5, names.len().max(1) as f64 - 0.5));
        Self { names, range, ..Self::default() }
    }

    /// The same from `low` to `high`.
    #[must_use]
    pub fn within(self, low: f64, high: f64) -> Self {
        Self { range: Some((low, high)), ..self }
    }

    /// The same, spanning at least so much.
    #[must_use]
    pub fn spanning(self, least: f64) -> Self {
        Self { least, ..self }
    }

    /// The same with equal ratios.
    #[must_use]
    pub fn logarithmic(self) -> Self {
        Self { scale: Scale::Log, ..self }
    }
}

impl Layer {
    /// A layer with a name in the legend.
    pub fn new(name: impl Into<String>, ink: Ink, mark: Mark) -> Self {
        Self { name: name.into(), ink, mark }
    }

    /// A layer that the legend leaves out.
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
