//! Draws plots as SVG with plotters. The colours are keys that the page's style sheet replaces, for light and
//! dark mode.

mod extent;

use plotters::chart::ChartContext;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use self::extent::{Extent, Places, xs, ys};
use super::plot::{Ink, Layer, Mark, Plot, Whisker};
use crate::error::{Error, Result};

/// Size of a plot in the page's pixels, about the width of a phone's column.
const SIZE: (u32, u32) = (400, 260);
/// Scale of the drawing: plotters writes whole numbers, so it draws larger and the page scales down.
const FINE: u32 = 8;
/// Font size. plotters takes the height of the text box, so letters are a fifth smaller.
const TEXT: u32 = 15;
const TEXT_COLOUR: RGBColor = RGBColor(0x59, 0x59, 0x59);
const GRID_COLOUR: RGBColor = RGBColor(0xE2, 0xE2, 0xE2);
const TICKS: usize = 5;
/// Pixels between two names of a vertical axis, and for the space above and below them.
const NAME_STEP: u32 = 21;
const AROUND_NAMES: u32 = 56;

type Canvas<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<Places, Places>>;

impl Ink {
    /// Returns the colour that the style sheet replaces.
    pub(super) fn key(self) -> RGBColor {
        match self {
            Self::Blue => RGBColor(0x00, 0x72, 0xB2),
            Self::Orange => RGBColor(0xE6, 0x9F, 0x00),
            Self::Green => RGBColor(0x00, 0x9E, 0x73),
            Self::Red => RGBColor(0xD5, 0x5E, 0x00),
            Self::Purple => RGBColor(0xCC, 0x79, 0xA7),
            Self::Grey => RGBColor(0x80, 0x80, 0x80),
        }
    }
}

/// Draws a plot as an SVG element, without its title and legend.
pub fn svg(plot: &Plot) -> Result<String> {
    let mut text = String::new();
    paint(&mut text, plot).map_err(|error| Error::Page {
        part: format!("plot {:?}", plot.title),
        message: error.to_string(),
    })?;
    Ok(text.replace(">\n", ">").replace("\n<", "<"))
}

type Drawing = Result<(), Box<dyn std::error::Error>>;

fn paint(text: &mut String, plot: &Plot) -> Drawing {
    let (x, y) = (Extent::of(&plot.x, plot, xs), Extent::of(&plot.y, plot, ys));
    let height = match plot.y.names.len() as u32 {
        0 => SIZE.1,
        names => AROUND_NAMES + NAME_STEP * names,
    };
    let area = SVGBackend::with_string(text, (SIZE.0 * FINE, height * FINE)).into_drawing_area();
    let labels = (TEXT * FINE, TEXT_COLOUR);
    let style = || TextStyle::from(("sans-serif", f64::from(labels.0)).into_font()).color(&labels.1);
    let mut chart = ChartBuilder::on(&area)
        .margin_top(8 * FINE)
        .margin_right(18 * FINE)
        .set_label_area_size(LabelAreaPosition::Left, y.label_width() * FINE)
        .set_label_area_size(LabelAreaPosition::Bottom, 44 * FINE)
        .build_cartesian_2d(
            Places { along: x.range().into(), places: x.places(TICKS + 1) },
            Places { along: y.range().into(), places: y.places(TICKS) },
        )?;
    chart
        .configure_mesh()
        .x_label_formatter(&|value| x.tick(*value))
        .y_label_formatter(&|value| y.tick(*value))
        .x_desc(&plot.x.label)
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID_COLOUR.stroke_width(FINE))
        .axis_style(GRID_COLOUR.stroke_width(FINE))
        .set_all_tick_mark_size(5 * FINE)
        .label_style(style())
        .axis_desc_style(style())
        .draw()?;
    for layer in &plot.layers {
        let at = |(across, up): (f64, f64)| (x.place(across), y.place(up));
        draw_layer(&mut chart, layer, &at, (&x, &y))?;
    }
    drop(chart);
    area.present()?;
    drop(area);
    Ok(())
}

fn draw_layer(
    chart: &mut Canvas<'_>,
    layer: &Layer,
    at: &dyn Fn((f64, f64)) -> (f64, f64),
    (x, y): (&Extent<'_>, &Extent<'_>),
) -> Drawing {
    let ink = layer.ink.key();
    let finite = |points: &[(f64, f64)]| -> Vec<(f64, f64)> {
        points.iter().filter(|(x, y)| x.is_finite() && y.is_finite()).map(|point| at(*point)).collect()
    };
    let line = ink.stroke_width(2 * FINE);
    let dashes = |points: Vec<(f64, f64)>, width: u32| {
        DashedLineSeries::new(points, 6 * FINE, 4 * FINE, ink.stroke_width(width))
    };
    let whisker = |[low, high]: [(f64, f64); 2]| {
        PathElement::new(vec![at(low), at(high)], ink.stroke_width(FINE * 3 / 2))
    };
    let dot = |point: &Whisker| Circle::new(at(point.at), 4 * FINE, ink.filled());
    match &layer.mark {
        Mark::Line(points) => {
            chart.draw_series(LineSeries::new(finite(points), line))?;
        }
        Mark::Faint(points) => {
            chart.draw_series(LineSeries::new(finite(points), ink.mix(0.35).stroke_width(FINE)))?;
        }
        Mark::Dashes(points) => {
            chart.draw_series(dashes(finite(points), 2 * FINE))?;
        }
        Mark::Across(height) => {
            let points = vec![(x.low, y.place(*height)), (x.high, y.place(*height))];
            chart.draw_series(dashes(points, FINE * 3 / 2))?;
        }
        Mark::Upright(place) => {
            let points = vec![(x.place(*place), y.low), (x.place(*place), y.high)];
            chart.draw_series(dashes(points, FINE * 3 / 2))?;
        }
        Mark::Band(points) => {
            let high = points.iter().map(|(x, _, high)| at((*x, *high)));
            let low = points.iter().rev().map(|(x, low, _)| at((*x, *low)));
            let outline: Vec<_> = high.chain(low).collect();
            chart.draw_series([Polygon::new(outline, ink.mix(0.18))])?;
        }
        Mark::Dots(points) => {
            let dot = |point| Circle::new(point, 7 * FINE / 2, ink.filled());
            chart.draw_series(finite(points).into_iter().map(dot))?;
        }
        Mark::Crowd(points) => {
            let dot = |point| Circle::new(point, 3 * FINE / 2, ink.mix(0.4).filled());
            chart.draw_series(finite(points).into_iter().map(dot))?;
        }
        Mark::Intervals(points) => {
            let line = |point: &Whisker| {
                Some((point.at.0, point.ends?)).map(|(x, (low, high))| [(x, low), (x, high)])
            };
            chart.draw_series(points.iter().filter_map(line).map(whisker))?;
            chart.draw_series(points.iter().map(dot))?;
        }
        Mark::Lying(points) => {
            let line = |point: &Whisker| {
                Some((point.at.1, point.ends?)).map(|(y, (low, high))| [(low, y), (high, y)])
            };
            chart.draw_series(points.iter().filter_map(line).map(whisker))?;
            chart.draw_series(points.iter().map(dot))?;
        }
        Mark::Cells(tiles) => {
            let most = tiles
                .iter()
                .map(|tile| tile.shade.abs())
                .filter(|shade| shade.is_finite())
                .fold(0.0, f64::max);
            for tile in tiles {
                let (across, up) = (tile.at.0 as f64, tile.at.1 as f64);
                let ends = [at((across - 0.48, up - 0.48)), at((across + 0.48, up + 0.48))];
                let ink = if tile.shade < 0.0 { Ink::Red } else { Ink::Blue }.key();
                let strength =
                    if most > 0.0 && tile.shade.is_finite() { tile.shade.abs() / most } else { 0.0 };
                chart.draw_series([Rectangle::new(ends, ink.mix(0.06 + 0.54 * strength).filled())])?;
                let style = TextStyle::from(("sans-serif", f64::from(TEXT * FINE)).into_font())
                    .color(&TEXT_COLOUR)
                    .pos(Pos::new(HPos::Center, VPos::Center));
                chart.draw_series([Text::new(tile.text.clone(), at((across, up)), style)])?;
            }
        }
        Mark::Bars(bars) => {
            // A thin gap between bars.
            let hair = (x.high - x.low) / f64::from(SIZE.0);
            let bar = |(left, right, height): &(f64, f64, f64)| {
                let ((left, top), (right, ground)) = (at((*left, *height)), at((*right, 0.0)));
                Rectangle::new([(left, top), ((right - hair).max(left), ground)], ink.mix(0.75).filled())
            };
            chart.draw_series(bars.iter().filter(|(.., height)| *height > 0.0).map(bar))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
