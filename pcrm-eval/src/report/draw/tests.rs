use super::*;
use crate::report::plot::Axis;

fn plot(mark: Mark) -> Plot {
    Plot { layers: vec![Layer::unnamed(Ink::Blue, mark)], ..Plot::default() }
}

fn dot(at: (f64, f64), ends: Option<(f64, f64)>) -> Whisker {
    Whisker { at, ends }
}

/// Protects: any data can be drawn: none, one point, constants, non-finite values.
#[test]
fn every_mark_draws_whatever_its_numbers() {
    let pairs = [vec![], vec![(1.0, 2.0)], vec![(1.0, f64::NAN), (2.0, f64::INFINITY)], vec![(1.0, 0.0); 3]];
    for points in pairs {
        let triples: Vec<_> = points.iter().map(|(x, y)| (*x, *y, y + 1.0)).collect();
        let marks = [
            Mark::Line(points.clone()),
            Mark::Dashes(points.clone()),
            Mark::Faint(points.clone()),
            Mark::Dots(points.clone()),
            Mark::Crowd(points.clone()),
            Mark::Band(triples.clone()),
            Mark::Bars(triples),
            Mark::Intervals(points.iter().map(|(x, y)| dot((*x, *y), Some((y - 1.0, y + 1.0)))).collect()),
            Mark::Intervals(points.iter().map(|at| dot(*at, None)).collect()),
            Mark::Lying(points.iter().map(|(x, y)| dot((*x, *y), Some((x - 1.0, x + 1.0)))).collect()),
            Mark::Across(1.0),
            Mark::Upright(1.0),
        ];
        for mark in marks {
            let text = svg(&plot(mark.clone())).unwrap();
            assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"), "{mark:?}: {text}");
        }
    }
}

/// Protects: a line is drawn at its values: its ends match the axes, with y pointing up.
#[test]
fn lines_go_where_their_points_are() {
    let mut line = plot(Mark::Line(vec![(0.0, 0.0), (10.0, 1.0)]));
    (line.x, line.y) = (Axis::counts("step").within(0.0, 10.0), Axis::shares("").within(0.0, 1.0));
    let text = svg(&line).unwrap();
    let points = text.split("stroke=\"#0072B2\"").nth(1).unwrap().split("points=\"").nth(1).unwrap();
    let numbers: Vec<i32> =
        points.split('"').next().unwrap().split([',', ' ']).filter_map(|n| n.parse().ok()).collect();
    let [left, bottom, right, top] = numbers[..] else { panic!("{points}") };
    assert!(left < 60 * 8 && right > 370 * 8 && top < 20 * 8 && bottom > 210 * 8, "{numbers:?}");
    for label in ["100 %", "0 %", "10", "step"] {
        assert!(text.contains(&format!(">{label}<")), "{label}: {text}");
    }
}

/// Protects: an axis of zeros has readable ticks, shares stay between 0 and 100 %, and a difference in
/// the third digit does not fill a plot that sets a least span.
#[test]
fn axes_have_a_sensible_span() {
    let labels = |x: Axis, values: &[f64]| -> Vec<String> {
        let dots = values.iter().enumerate().map(|(at, value)| dot((*value, at as f64), None)).collect();
        let text = svg(&Plot { x, ..plot(Mark::Lying(dots)) }).unwrap();
        let texts = text.split("<text").skip(1).filter_map(|part| part.split_once('>'));
        texts.map(|(_, rest)| rest.split('<').next().unwrap().trim().to_owned()).collect()
    };
    let zeros = labels(Axis::shares(""), &[0.0, 0.0]);
    assert!(zeros.contains(&"0 %".to_owned()) && !zeros.iter().any(|label| label.contains('e')), "{zeros:?}");
    let whole = labels(Axis::shares(""), &[0.9, 1.0]);
    assert!(!whole.iter().any(|label| label.starts_with("10") && label != "100 %"), "{whole:?}");
    let near = labels(Axis::new("").spanning(0.05), &[0.2465, 0.2475]);
    assert!(near.iter().any(|label| label == "0.26") && near.iter().all(|label| label.len() < 6), "{near:?}");
}

/// Protects: each name appears once beside its mark, as escaped text, in a plot that is high enough for
/// all names.
#[test]
fn names_stand_beside_their_marks() {
    let names: Vec<String> = (0..12).map(|at| format!("<name {at}>")).collect();
    let mut named =
        plot(Mark::Lying((0..12).map(|at| dot((0.5, f64::from(at)), Some((0.4, 0.6)))).collect()));
    named.y = Axis::of_names(names);
    let text = svg(&named).unwrap();
    let height_of = |part: &str, key: &str| -> i32 {
        let (_, rest) = part.rsplit_once(key).unwrap();
        rest.split('"').next().unwrap().parse().unwrap()
    };
    let dots: Vec<i32> = text
        .split("<circle")
        .skip(1)
        .map(|part| height_of(part.split("/>").next().unwrap(), "cy=\""))
        .collect();
    assert_eq!(dots.len(), 12);
    for (at, dot) in dots.iter().enumerate() {
        let (before, _) = text.split_once(&format!("&lt;name {at}&gt;")).unwrap();
        let label = height_of(before, " y=\"");
        assert!((label - dot).abs() < 8 * 8, "name {at} at {label}, dot at {dot}");
    }
    assert!(dots.windows(2).all(|two| two[0] - two[1] >= 18 * 8), "{dots:?}");
    assert!(!text.contains("<name"));
}
