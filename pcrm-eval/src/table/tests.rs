use super::*;
use crate::answers::{AnswerSet, Labels};
use crate::bootstrap::Bootstrap;
use crate::evaluation::Evaluation;
use crate::reward::PairScore;

fn report(scale: f64, bound: Option<f64>, rewards: bool) -> RewardReport {
    let pairs: Vec<PairScore> = (0..200_usize)
        .map(|at| {
            let wave = (at as f64 * 0.7).sin();
            PairScore {
                chosen: scale * (0.8 + wave),
                rejected: scale * (at as f64 * 0.3).cos() * 0.5,
                chosen_tokens: 10 + at % 17,
                rejected_tokens: 10 + at % 13,
                bound,
                similarity: Some((at % 7) as f64 / 7.0),
                true_chosen: rewards.then_some(wave),
                true_rejected: rewards.then_some(-wave),
            }
        })
        .collect();
    RewardReport::new(&pairs).unwrap()
}

/// Builds a report with every table, and with names and numbers of maximum length.
fn everything() -> RewardReport {
    let mut evaluations = [Evaluation::default(), Evaluation::default()];
    for (scale, evaluation) in [0.01, 12_345.6].into_iter().zip(&mut evaluations) {
        for at in 0..60_usize {
            let wave = |step: f64| scale * (at as f64 * step).sin();
            let pair = PairScore {
                chosen: wave(0.7),
                rejected: wave(0.3),
                chosen_tokens: 1000 + at * at,
                rejected_tokens: 9000,
                similarity: Some(at as f64 / 60.0),
                ..PairScore::default()
            };
            let subset = ["safety-refuse-with-a-name-that-does-not-end", "Factuality"][at % 2];
            evaluation.add_pair(pair, Some(subset), None);
            let set = |labels| AnswerSet {
                id: at.to_string(),
                subset: None,
                prompt: None,
                scores: [0.1, 0.2, 0.5, 0.3, 0.4, 0.9].map(wave).to_vec(),
                lengths: vec![10, 20, 30, 40, 50, 60],
                labels,
            };
            let human = [1.0, 4.0, 3.0, 2.0, 5.0, 5.0].map(|score| score + (at % 3) as f64);
            evaluation.add_set(set(Labels::Human(human.to_vec()))).unwrap();
        }
    }
    let bootstrap = Bootstrap { resamples: 40, ..Bootstrap::default() };
    RewardReport::beside(&evaluations[0], &evaluations[1..], &bootstrap).unwrap()
}

const LONG: [&str; 2] =
    ["runs/2026-11-02/pythia-70m-helpful-length-ratio-20-0.001-15", "runs/2026-11-02/pythia-70m-none"];

fn widest(text: &str) -> usize {
    text.lines().map(|line| line.chars().count()).max().unwrap()
}

/// Protects: tables stay within 80 columns, even with long names, huge scores and many reports.
#[test]
fn tables_fit_eighty_columns() {
    let (small, huge) = (report(1.0, Some(3.0), true), report(-1e7, None, false));
    assert!(widest(&small.table(&[])) <= 80 && widest(&huge.table(&[])) <= 80);
    assert!(widest(&everything().table(&LONG)) <= 80, "{}", everything().table(&LONG));
    let name = "runs/2026-11-02/pythia-70m-helpful-length-ratio-20-0.001-15";
    for count in 1..=7 {
        let columns = vec![(name, &huge); count];
        let text = side_by_side(&columns);
        assert!(widest(&text) <= 80, "{count} columns:\n{text}");
        assert_eq!(text.matches("│ score and length: r ").count(), count.div_ceil(BESIDE), "{text}");
    }
}

/// Protects: rows that no report has are left out; a report that lacks a value beside others shows a
/// dash.
#[test]
fn absent_measures_are_left_out_or_dashed() {
    let (with, without) = (report(1.0, Some(3.0), true), report(1.0, None, false));
    let alone = without.table(&[]);
    assert!(!alone.contains("mean bound") && !alone.contains("true reward"), "{alone}");
    let both = side_by_side(&[("bt", &without), ("pcrm", &with)]);
    let row = both.lines().find(|line| line.contains("mean bound")).unwrap();
    assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["│", "mean", "bound", "–", "3.000", "│"]);
}

/// Protects: the histogram stays on one line, with 24 columns for two reports and 12 for three.
#[test]
fn histograms_keep_their_places() {
    let report = report(1.0, None, false);
    for (count, places) in [(1, 24), (2, 24), (3, 12)] {
        let text = side_by_side(&vec![("name", &report); count]);
        assert_eq!(text.matches(&report.histogram.sparkline(places)).count(), count, "{text}");
    }
}
