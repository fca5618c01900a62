//! `pcrm eval comparisons`: merges comparisons, as more replicates of the same arms.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use pcrm_core::constraint::parse;
use serde_json::Value;

use crate::comparison::{ComparisonFile, FILE, RunMeasures};
use crate::warnings;

/// Options of `pcrm eval comparisons`.
#[derive(Debug, Clone, Args)]
pub struct EvalComparisonsArgs {
    /// Read these folders of `pcrm compare`, with other seeds, data or models; combine the constraints they
    /// all have
    #[arg(value_name = "DIR", required = true, num_args = 2..)]
    from: Vec<PathBuf>,
    /// Write the combined comparison to this folder
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

/// Combines comparisons. Each run of a folder is one replicate, paired with the runs of the same folder and
/// seed. Constraints that some folder lacks are left out and reported.
///
/// # Errors
/// Fails if a file cannot be read, fewer than two constraints are in common, a run counts twice, or the runs were
/// measured against the probabilities of different columns.
pub fn comparisons(args: &EvalComparisonsArgs) -> Result<()> {
    let mut all = Vec::new();
    for dir in &args.from {
        let same = |output: PathBuf| dir.canonicalize().is_ok_and(|dir| dir == output);
        ensure!(
            !args.output.canonicalize().is_ok_and(same),
            "--output {}: is one of the comparisons; name another folder",
            args.output.display()
        );
        let path = dir.join(FILE);
        let at = || path.display().to_string();
        let one: ComparisonFile =
            serde_json::from_str(&fs::read_to_string(&path).with_context(at)?).with_context(at)?;
        all.push(one);
    }
    let once = distinct(&args.from, &all).and_then(|()| one_column(&args.from, &all));
    let (whole, left_out) = in_common(all);
    ensure!(
        whole.labels.len() > 1,
        "the folders have {} in common, expected at least two constraints (not in all of them: {})",
        if whole.labels.is_empty() { "no constraint".to_owned() } else { whole.labels.join(", ") },
        left_out.join(", ")
    );
    once?;
    alike(&whole)?;
    if !left_out.is_empty() {
        warnings::print(&format!("{}: left out, as not all folders have them", left_out.join(", ")));
    }
    whole.finish(&args.output)
}

/// Checks that no run counts twice.
///
/// # Errors
/// Fails if two folders have a run of one constraint with the same seed, data and options.
fn distinct(from: &[PathBuf], all: &[ComparisonFile]) -> Result<()> {
    for (at, (dir, one)) in from.iter().zip(all).enumerate() {
        for (other, before) in from.iter().zip(all).take(at) {
            let same = |run: &&RunMeasures| {
                before
                    .runs
                    .iter()
                    .any(|old| (&old.label, old.seed, &old.question) == (&run.label, run.seed, &run.question))
            };
            if let Some(run) = one.runs.iter().find(same) {
                bail!(
                    "{} and {} both have the run of {} with seed {} on the same data; expected other seeds, data \
                     or models",
                    other.display(),
                    dir.display(),
                    run.label,
                    run.seed
                );
            }
        }
    }
    Ok(())
}

/// Checks that all runs with known probabilities were measured against one column.
///
/// # Errors
/// Fails with the columns of two runs that differ in them.
fn one_column(from: &[PathBuf], all: &[ComparisonFile]) -> Result<()> {
    let shown = |column: Option<&str>| column.map_or("unknown".to_owned(), |column| format!("{column:?}"));
    let mut first = None;
    for (dir, one) in from.iter().zip(all) {
        for column in one.runs.iter().filter_map(RunMeasures::known_by) {
            let (other, before) = *first.get_or_insert((dir, column));
            ensure!(
                before == column,
                "{} and {} were measured against the probabilities of different columns ({} and {}); compare with \
                 one --probability-field",
                other.display(),
                dir.display(),
                shown(before),
                shown(column)
            );
        }
    }
    Ok(())
}

/// Checks that each label names one constraint.
///
/// # Errors
/// Fails if two runs of one label have different constraints; those fitted by a run may have other numbers.
fn alike(whole: &ComparisonFile) -> Result<()> {
    for (at, run) in whole.runs.iter().enumerate() {
        let of_label = |other: &&RunMeasures| other.label == run.label;
        let Some(first) = whole.runs[..at].iter().find(of_label) else { continue };
        ensure!(
            is_same(&first.constraint, &run.constraint),
            "{} names different constraints, {} and {}; compare them under labels of their own \
             (--constraint LABEL=..)",
            run.label,
            first.constraint,
            run.constraint
        );
    }
    Ok(())
}

/// Returns true if two tagged constraints are equal up to the numbers that runs fit.
fn is_same(one: &Value, other: &Value) -> bool {
    let is_fitted =
        |kind: &Value| kind.as_str().is_some_and(|kind| parse(kind).is_ok_and(|plain| plain.is_unfitted()));
    match (one, other) {
        (Value::Object(a), Value::Object(b)) => {
            let (kind, same_kind) = (a.get("kind"), a.get("kind") == b.get("kind"));
            let same_value =
                |(key, value): (&String, &Value)| b.get(key).is_some_and(|of| is_same(value, of));
            same_kind && (kind.is_some_and(is_fitted) || (a.len() == b.len() && a.iter().all(same_value)))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
        }
        _ => one == other,
    }
}

/// Returns the runs of the constraints that all comparisons share, in the order of the first, and the names
/// of the other constraints.
fn in_common(all: Vec<ComparisonFile>) -> (ComparisonFile, Vec<String>) {
    let names: BTreeSet<&String> = all.iter().flat_map(|one| &one.labels).collect();
    let shared = |label: &String| all.iter().all(|one| one.labels.contains(label));
    let left_out = names.into_iter().filter(|label| !shared(label)).cloned().collect();
    let first = all.first().map_or(&[][..], |one| &one.labels);
    let labels: Vec<String> = first.iter().filter(|label| shared(label)).cloned().collect();
    let runs = all.into_iter().flat_map(|one| one.runs).filter(|run| labels.contains(&run.label));
    (ComparisonFile { runs: runs.collect(), labels: labels.clone() }, left_out)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use pcrm_rl::fingerprint::Fingerprint;
    use serde_json::json;

    use super::*;

    fn comparison(labels: &[&str]) -> ComparisonFile {
        let run = |label: &&str| RunMeasures {
            label: (*label).to_owned(),
            seed: 0,
            constraint: json!({"kind": label}),
            question: Fingerprint::new(),
            pairs: 10,
            measures: BTreeMap::new(),
            probability_field: None,
        };
        ComparisonFile {
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            runs: labels.iter().map(run).collect(),
        }
    }

    /// Protects: a folder that is named twice, or whose runs another folder has too, does not count twice.
    #[test]
    fn no_run_counts_twice() {
        let from = ["one", "two"].map(PathBuf::from);
        let mut all = [comparison(&["a", "b"]), comparison(&["b", "c"])];
        let said = distinct(&from, &all).unwrap_err().to_string();
        assert!(said.starts_with("one and two both have the run of b with seed 0"), "{said}");
        all[1].runs.iter_mut().for_each(|run| run.seed = 1);
        assert!(distinct(&from, &all).is_ok());
    }

    /// Protects: losses against the probabilities of different columns are not put into one table; runs without
    /// known probabilities have no such loss, and mix with all.
    #[test]
    fn known_probabilities_are_of_one_column() {
        let from = ["one", "two"].map(PathBuf::from);
        let with = |columns: [Option<&str>; 2]| {
            let of = |column: Option<&str>| {
                let mut one = comparison(&["a", "b"]);
                for run in one.runs.iter_mut().filter(|_| column.is_some()) {
                    run.measures.insert("cross_entropy".to_owned(), 0.5);
                    run.probability_field = column.filter(|name| !name.is_empty()).map(str::to_owned);
                }
                one
            };
            one_column(&from, &columns.map(of)).map_err(|error| error.to_string())
        };
        assert_eq!(with([Some("p"), Some("p")]), Ok(()));
        assert_eq!(with([Some("p"), None]), Ok(()));
        assert_eq!(with([Some(""), Some("")]), Ok(()));
        let said = with([Some("p"), Some("q")]).unwrap_err();
        assert!(
            said.starts_with("one and two were measured") && said.contains("(\"p\" and \"q\")"),
            "{said}"
        );
        assert!(with([Some(""), Some("q")]).unwrap_err().contains("(unknown and \"q\")"));
    }

    /// Protects: one label for two constraints is refused, unless a run fitted their numbers.
    #[test]
    fn a_label_names_one_constraint() {
        let with = |constraints: [Value; 2]| {
            let mut whole = comparison(&["a", "a"]);
            whole.runs.iter_mut().zip(constraints).for_each(|(run, constraint)| run.constraint = constraint);
            alike(&whole).map_err(|error| error.to_string())
        };
        let fixed = |bound: f64| json!({"kind": "fixed", "bound": bound});
        let both = |part: Value| json!({"kind": "combine", "how": "min", "of": [fixed(1.0), part]});
        let learned = |number: f64| json!({"kind": "learned", "number": number});
        assert!(with([fixed(3.0), fixed(3.0)]).is_ok());
        let said = with([fixed(3.0), fixed(4.0)]).unwrap_err();
        assert!(said.starts_with("a names different constraints"), "{said}");
        assert!(said.ends_with("under labels of their own (--constraint LABEL=..)"), "{said}");
        assert!(with([learned(1.0), learned(2.0)]).is_ok());
        assert!(with([both(learned(1.0)), both(learned(2.0))]).is_ok());
        assert!(with([both(fixed(1.0)), both(fixed(2.0))]).is_err());
        assert!(with([fixed(3.0), learned(3.0)]).is_err());
    }

    /// Protects: comparisons of different constraints are reduced to the shared ones, and the others are
    /// named.
    #[test]
    fn shared_constraints_are_combined() {
        let of = |all: &[&[&str]]| {
            let (whole, left_out) = in_common(all.iter().map(|labels| comparison(labels)).collect());
            let runs: Vec<String> = whole.runs.into_iter().map(|run| run.label).collect();
            (whole.labels.join(" "), runs.join(" "), left_out.join(" "))
        };
        let all = |labels: &str, runs: &str, left_out: &str| (labels.into(), runs.into(), left_out.into());
        assert_eq!(of(&[&["a", "b"], &["a", "b"]]), all("a b", "a b a b", ""));
        assert_eq!(of(&[&["a", "b", "c"], &["c", "d", "a"]]), all("a c", "a c c a", "b d"));
        assert_eq!(of(&[&["a"], &["b"]]), all("", "", "a b"));
    }
}
