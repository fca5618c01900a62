//! Curves as text, drawn in braille.

use textplots::{
    AxisBuilder, Chart, LabelBuilder, LabelFormat, LineStyle, Plot, Shape, TickDisplay, TickDisplayBuilder,
};

use crate::report::number;

/// Columns of the axis labels beside a curve.
const LABELS: usize = 10;
/// The height of a curve in dots, four per line.
const HEIGHT: u32 = 48;
/// The fewest columns a curve is drawn in.
const NARROWEST: usize = 20;

/// Draws the curve through these points in lines of at most `width` columns, with the labels of its vertical
/// axis on the right. Returns no lines for fewer than two points or a point that is not finite.
pub fn curve(points: &[(f64, f64)], width: usize) -> Vec<String> {
    let points: Vec<(f32, f32)> = points.iter().map(|(x, y)| (*x as f32, *y as f32)).collect();
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return Vec::new() };
    if points.len() < 2 || first.0 == last.0 || points.iter().any(|(x, y)| !(x.is_finite() && y.is_finite()))
    {
        return Vec::new();
    }
    let (low, high) =
        points.iter().fold((f32::MAX, f32::MIN), |(low, high), (_, y)| (low.min(*y), high.max(*y)));
    // A constant curve gets room on both sides.
    let room = if high > low { 0.0 } else { 0.5 * high.abs().max(1e-6) };
    let columns = width.saturating_sub(LABELS).max(NARROWEST) as u32;
    let label = || LabelFormat::Custom(Box::new(|value| number(f64::from(value))));
    let shape = Shape::Lines(&points);
    // The canvas is a column and a line larger than its dots.
    let mut chart =
        Chart::new_with_y_range(2 * (columns - 1), HEIGHT, first.0, last.0, low - room, high + room);
    let chart = chart
        .lineplot(&shape)
        .x_axis_style(LineStyle::None)
        .y_axis_style(LineStyle::None)
        .x_label_format(label())
        .y_label_format(label())
        .y_tick_display(TickDisplay::Sparse);
    chart.figures();
    chart.to_string().lines().map(|line| line.trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::*;

    fn dots(line: &str) -> usize {
        line.chars().filter(|c| ('\u{2801}'..='\u{28ff}').contains(c)).count()
    }

    /// Protects: a falling line starts at the top left and ends at the bottom right, is labelled with the
    /// ends of both axes, and keeps to the width.
    #[test]
    fn a_line_goes_where_its_points_are() {
        for width in [60, 80, 120] {
            let lines = curve(&[(0.0, 12.0), (1.0, 3.0)], width);
            assert!(lines.iter().all(|line| line.width() <= width), "{lines:#?}");
            let (top, bottom) = (&lines[0], &lines[lines.len() - 2]);
            assert!(top.ends_with("12") || top.ends_with("12.0"), "{top}");
            assert!(bottom.ends_with("3") || bottom.ends_with("3.00"), "{bottom}");
            let column =
                |line: &str| line.chars().position(|c| ('\u{2801}'..='\u{28ff}').contains(&c)).unwrap();
            assert_eq!(column(top), 0, "{lines:#?}");
            assert!(column(bottom) > width / 2, "{lines:#?}");
            let axis = lines.last().unwrap();
            assert!(axis.starts_with('0') && axis.ends_with('1') || axis.ends_with("1.00"), "{axis}");
        }
    }

    /// Protects: constant curves and curves of many points are drawn; points that form no curve give no
    /// lines.
    #[test]
    fn whatever_is_no_curve_is_nothing() {
        assert!(curve(&[(0.0, 3.0), (1.0, 3.0)], 80).iter().any(|line| dots(line) > 30));
        for points in
            [&[][..], &[(0.0, 1.0)], &[(0.0, 1.0), (1.0, f64::INFINITY)], &[(0.0, f64::NAN), (1.0, 1.0)]]
        {
            assert_eq!(curve(points, 80), Vec::<String>::new());
        }
    }
}
