//! Plots of named values with their intervals, one below the other.

use pcrm_eval::Interval;

use super::values::beginning;
use crate::report::plot::{Axis, Ink, Layer, Mark, Plot, SERIES, Whisker};

/// The most characters of a name beside a plot.
const NAME: usize = 24;
/// How far apart two models' marks of one name stand, in places of names.
const APART: f64 = 0.32;

/// A value and its interval, where it has one.
pub type Value = (f64, Option<Interval>);

/// A name and what each series has for it.
pub struct Row {
    /// The name.
    pub name: String,
    /// A value per series, where the series has one.
    pub values: Vec<Option<Value>>,
}

/// A plot of rows from above to below, with a dashed grey line at `ground`.
pub fn plot(title: &str, x: Axis, series: &[&str], rows: &[Row], (ground, meaning): (f64, &str)) -> Plot {
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
