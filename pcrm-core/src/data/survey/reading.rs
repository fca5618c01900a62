//! Findings about reading: the records left out and the reasons.

use super::finding::{Finding, Severity, Tally, many, percent};
use crate::data::report::{ProblemKind, Report, Strictness};

/// The minimum share of malformed records for an error: the file probably has another format.
pub const TOO_MANY_MALFORMED: f64 = 0.1;

/// The maximum share of empty or identical answers for a mere note.
pub const FEW: f64 = 0.01;

/// Returns the findings of a report. Under [`Strictness::Refuse`], a record that training would refuse is an
/// error.
pub fn findings(report: &Report, strictness: Strictness) -> Vec<Finding> {
    let mut findings: Vec<Finding> = report
        .counts()
        .into_keys()
        .map(|kind| {
            let tally = tally(report, kind);
            let severity = match strictness {
                Strictness::Refuse if kind.is_refused() => Severity::Error,
                _ => severity(kind, tally.share(report.rows)),
            };
            let quoted = matches!(kind, ProblemKind::Malformed | ProblemKind::Unsupported);
            let example = report.problems.iter().find(|problem| quoted && problem.kind == kind);
            let found = format!(
                "{}{}",
                in_words(kind, tally.count, report.rows),
                example.map_or(String::new(), |problem| format!("; the first: {}", problem.message))
            );
            Finding::new(code(kind), severity, found, advice(kind)).tallied(&tally)
        })
        .collect();
    findings.extend(report.findings.iter().cloned());
    let mut schemas: Vec<String> =
        report.files.iter().filter_map(|file| file.schema).map(|schema| schema.to_string()).collect();
    schemas.sort();
    schemas.dedup();
    if schemas.len() > 1 {
        findings.push(Finding::new(
            "several_schemas",
            Severity::Note,
            format!("the files have {} schemas: {}", schemas.len(), schemas.join("; ")),
            "Each file is read by its own schema; if some hold plain text and some conversations, the model \
             sees two formats",
        ));
    }
    findings
}

fn tally(report: &Report, kind: ProblemKind) -> Tally {
    let mut tally = Tally::default();
    for file in &report.files {
        if let Some(left_out) = file.left_out.get(&kind) {
            tally.count += left_out.count;
            tally.first.get_or_insert_with(|| file.first(left_out));
        }
    }
    tally
}

fn code(kind: ProblemKind) -> &'static str {
    match kind {
        ProblemKind::Malformed => "malformed",
        ProblemKind::Tie => "tie",
        ProblemKind::TieInSet => "tie_in_set",
        ProblemKind::Identical => "identical",
        ProblemKind::Unranked => "unranked",
        ProblemKind::EmptyAnswer => "empty_answer",
        ProblemKind::Unsupported => "unsupported",
    }
}

fn severity(kind: ProblemKind, share: f64) -> Severity {
    match kind {
        ProblemKind::Malformed if share >= TOO_MANY_MALFORMED => Severity::Error,
        ProblemKind::Tie | ProblemKind::TieInSet | ProblemKind::Unranked => Severity::Note,
        ProblemKind::Identical | ProblemKind::EmptyAnswer if share < FEW => Severity::Note,
        _ => Severity::Warning,
    }
}

fn in_words(kind: ProblemKind, count: usize, rows: usize) -> String {
    let share = if rows == 0 { String::new() } else { format!(" ({})", percent(count as f64 / rows as f64)) };
    match kind {
        ProblemKind::Malformed => format!("{}{share} malformed", many(count, "record")),
        ProblemKind::Tie => format!("{}{share} with a tie", many(count, "record")),
        ProblemKind::TieInSet => format!("{} of answers that tie within ranked sets", many(count, "pair")),
        ProblemKind::Identical => format!("{} whose answers are the same text", many(count, "pair")),
        ProblemKind::Unranked => {
            format!("{}{share} without two answers that were ranked", many(count, "record"))
        }
        ProblemKind::EmptyAnswer => {
            format!("{}{share} with a blank answer", many(count, "record"))
        }
        ProblemKind::Unsupported => {
            format!("{}{share} that need unsupported features", many(count, "record"))
        }
    }
}

fn advice(kind: ProblemKind) -> &'static str {
    match kind {
        ProblemKind::Malformed => "They are left out (--strict refuses them); fix or remove them",
        ProblemKind::Tie | ProblemKind::TieInSet => {
            "They are left out; pcrm reward --ties davidson or rao-kupper learns from ties"
        }
        ProblemKind::Identical => "They are left out: nothing can be learned from them",
        ProblemKind::Unranked => "They are left out: they do not show which answer is better",
        ProblemKind::EmptyAnswer => {
            "They are left out; a missing answer is usually a fault of the program that wrote the file"
        }
        ProblemKind::Unsupported => "They are left out; remove tools and images, or train on other records",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{find, read};
    use super::*;

    /// Protects: each reason for leaving a record out is a finding with its count and first line, and valid
    /// files have no findings.
    #[test]
    fn what_was_left_out_is_found() {
        let good = json!({"prompt": "q", "chosen": "a", "rejected": "b"});
        assert_eq!(findings(&read(std::slice::from_ref(&good)).1, Strictness::Refuse), []);
        let mut records = vec![good; 20];
        records.push(json!({"prompt": "q", "chosen": "a"}));
        records.push(json!({"prompt": "q", "chosen": "a", "rejected": "a"}));
        records.push(json!({"prompt": "q", "chosen": "a", "rejected": " "}));
        records.push(
            json!({"prompt": "q", "chosen": "a", "rejected": "b", "score_chosen": 1, "score_rejected": 1}),
        );
        records.push(
            json!({"prompt": "q", "chosen": "a", "rejected": "c", "score_chosen": 1, "score_rejected": 1}),
        );
        let (_, report) = read(&records);
        let found = findings(&report, Strictness::Skip);
        for (code, severity, count, line) in [
            ("malformed", Severity::Warning, 1, 21),
            ("identical", Severity::Warning, 1, 22),
            ("empty_answer", Severity::Warning, 1, 23),
            ("tie", Severity::Note, 2, 24),
        ] {
            let finding = find(&found, code).unwrap();
            let first = finding.first.as_ref().unwrap().line;
            assert_eq!((finding.severity, finding.count, first), (severity, Some(count), line), "{code}");
        }
        assert!(find(&found, "malformed").unwrap().found.contains("no \"rejected\""), "{found:?}");
        let strict = findings(&report, Strictness::Refuse);
        assert!(strict.iter().all(|finding| finding.severity == Severity::Error), "{strict:?}");
    }

    /// Protects: a file with many malformed records is an error; a single malformed line is not.
    #[test]
    fn many_malformed_records_are_an_error() {
        let good = json!({"prompt": "q", "chosen": "a", "rejected": "b"});
        let severity = |bad: usize| {
            let mut records = vec![good.clone(); 10 - bad];
            records.extend(vec![json!({"prompt": 3}); bad]);
            findings(&read(&records).1, Strictness::Skip)[0].severity
        };
        assert_eq!(severity(1), Severity::Error);
        let mut records = vec![good.clone(); 10];
        records.push(json!({}));
        assert_eq!(findings(&read(&records).1, Strictness::Skip)[0].severity, Severity::Warning);
    }

    /// Protects: ties among ranked answers are never refused.
    #[test]
    fn ties_in_sets_stay_notes() {
        let (_, report) = read(&[json!({"prompt": "q", "responses": ["a", "b", "c"], "scores": [1, 2, 2]})]);
        let found = findings(&report, Strictness::Refuse);
        let tie = find(&found, "tie_in_set").unwrap();
        assert_eq!((tie.severity, tie.count), (Severity::Note, Some(1)));
    }
}
