//! Plots of named values with intervals, one below the other.

use pcrm_eval::Interval;

use super::values::beginning;
use crate::report::plot::{Axis, Ink, Layer, Mark, Plot, SERIES, Whisker};

/// The longest name beside a plot, in characters.
const NAME: usize = 24;
/// The distance between two models' marks in one row, in rows.
const APART: f64 = 0.32;

/// A value and its interval, if it has one.
pub type Value = (f64, Option<Interval>);

/// A row of a plot: its name and the values of each series.
pub struct WhiskerRow {
    /// The name.
    pub name: String,
    /// A value per series, if the series has one.
    pub values: Vec<Option<Value>>,
}

/// Returns a plot of rows from top to bottom, with a dashed grey line at `ground`.
pub fn plot(title: &str, x: Axis, series: &[&str], rows: &[WhiskerRow], ground: f64, meaning: &str) -> Plot {
    let names = rows.iter().rev().map(|row| beginning(&row.name, NAME)).collect();
    let mut layers = vec![Layer::new(meaning, Ink::Grey, Mark::Upright(ground))];
    for (at, (name, ink)) in series.iter().zip(SERIES).enumerate() {
        let aside = APART * ((series.len() as f64 - 1.0) / 2.0 - at as f64);
        let marks = rows.iter().rev().enumerate().filter_map(|(place, row)| {
            let (value, interval) = (*row.values.get(at)?)?;
            Some(Whisker::new((value, place as f64 + aside), interval))
        });
        layers.push(Layer::new(*name, ink, Mark::Lying(marks.collect())));
    }
    Plot { title: title.into(), about: String::new(), x, y: Axis::of_names(names), layers }
}
