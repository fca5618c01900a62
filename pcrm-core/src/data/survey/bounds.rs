//! Surveys a constraint's bounds Δ* on the data: loose bounds, tight bounds, and bounds that depend on
//! length.
//!
//! The loss of a pair, −ln σ(Δ) − ln σ(Δ* − Δ), has its minimum at Δ = Δ*/2 (arXiv 2404.00978, §4.1), so a
//! bound pulls P(y_w ≻ y_l) towards σ(Δ*/2): see [`sureness`].

use std::cmp::Ordering;

use serde::Serialize;

use super::finding::{Finding, Severity, Tally, many, percent};
use crate::data::answer_set::Verdict;
use crate::data::encode::{EncodedPair, EncodedSet, pairs};

/// The sureness above which a bound never acts on a margin that training reaches.
pub const LOOSE: f64 = 0.999;

/// The sureness below which a bound leaves almost nothing to learn.
pub const TIGHT: f64 = 0.6;

/// Returns the sureness that a bound allows: σ(Δ*/2), where the pair's loss has its minimum.
pub fn sureness(bound: f64) -> f64 {
    1.0 / (1.0 + (-bound / 2.0).exp())
}

/// The bounds of pairs. Ties have no bound and are not counted.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Bounds {
    /// The number of pairs.
    pub pairs: usize,
    /// Pairs without a bound.
    pub unbounded: usize,
    /// Pairs whose bound never acts.
    pub loose: Tally,
    /// Pairs whose bound leaves almost nothing to learn.
    pub tight: Tally,
    /// Bounds by the longer answer; `None` if one of the two groups is empty.
    pub by_length: Option<ByLength>,
    /// The finite bounds Δ*.
    #[serde(skip)]
    pub bounds: Vec<f64>,
    /// The prior s of every bound, if the constraint has one.
    #[serde(skip)]
    pub similarities: Option<Vec<f64>>,
}

/// Bounds of pairs whose longer answer is preferred, compared with those of the other pairs.
///
/// Lengths are counted in tokens after the common prefix; pairs of equal length are in neither group.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ByLength {
    /// Pairs whose longer answer is preferred.
    pub longer: usize,
    /// Pairs whose shorter answer is preferred.
    pub shorter: usize,
    /// Median sureness σ(Δ*/2) of the first group.
    pub sure_of_longer: f64,
    /// Median sureness of the second group.
    pub sure_of_shorter: f64,
    /// The probability that a pair of the first group has a looser bound than one of the second (Mann–Whitney
    /// U over the number of comparisons, ties half); 0.5 if bounds do not depend on which answer is longer.
    pub looser_for_longer: f64,
}

/// The minimum size of a group for a finding.
const FEWEST: usize = 20;

/// The distance of [`ByLength::looser_for_longer`] from 0.5 that causes a warning.
const LEAN: f64 = 0.1;

/// The distance of the two median sureness values that causes a warning.
const APART: f64 = 0.05;

impl ByLength {
    fn of(longer: Vec<f64>, shorter: Vec<f64>) -> Option<Self> {
        if longer.is_empty() || shorter.is_empty() {
            return None;
        }
        let mut all: Vec<(f64, bool)> = longer.iter().map(|bound| (*bound, true)).collect();
        all.extend(shorter.iter().map(|bound| (*bound, false)));
        all.sort_by(|left, right| left.0.total_cmp(&right.0));
        let (mut wins, mut below) = (0.0, 0.0);
        for tied in all.chunk_by(|left, right| left.0 == right.0) {
            let of_longer = tied.iter().filter(|(_, is_longer)| *is_longer).count() as f64;
            let of_shorter = tied.len() as f64 - of_longer;
            wins += of_longer * (below + of_shorter / 2.0);
            below += of_shorter;
        }
        Some(Self {
            longer: longer.len(),
            shorter: shorter.len(),
            looser_for_longer: wins / (longer.len() as f64 * shorter.len() as f64),
            sure_of_longer: sureness(median(longer)),
            sure_of_shorter: sureness(median(shorter)),
        })
    }

    /// Returns true if bounds differ so much by length that the model would learn it.
    fn leans(&self) -> bool {
        self.longer.min(self.shorter) >= FEWEST
            && (self.looser_for_longer - 0.5).abs() >= LEAN
            && (self.sure_of_longer - self.sure_of_shorter).abs() >= APART
    }
}

/// Returns the median, or the lower of the two middle values, because infinite bounds have no mean.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) / 2]
}

impl Bounds {
    /// Surveys a constraint's bounds on the pairs of these sets, and their similarities if it has any.
    pub fn of(sets: &[EncodedSet], bounds: &[f32], similarities: Option<&[f32]>) -> Self {
        let preferred = |pair: &EncodedPair<'_>| pair.verdict == Verdict::Preferred;
        let mut all = Self::default();
        let (mut longer, mut shorter) = (Vec::new(), Vec::new());
        for (pair, bound) in pairs(sets).zip(bounds).filter(|(pair, _)| preferred(pair)) {
            all.pairs += 1;
            let bound = f64::from(*bound);
            match pair.chosen.len().cmp(&pair.rejected.len()) {
                Ordering::Greater => longer.push(bound),
                Ordering::Less => shorter.push(bound),
                Ordering::Equal => {}
            }
            if !bound.is_finite() {
                all.unbounded += 1;
                continue;
            }
            all.bounds.push(bound);
            match sureness(bound) {
                sure if sure > LOOSE => all.loose.add(pair.origin),
                sure if sure < TIGHT => all.tight.add(pair.origin),
                _ => {}
            }
        }
        all.by_length = ByLength::of(longer, shorter);
        let of_preferred = |values: &[f32]| {
            pairs(sets).zip(values).filter(|(pair, _)| preferred(pair)).map(|(_, s)| f64::from(*s)).collect()
        };
        all.similarities = similarities.map(of_preferred);
        all
    }

    /// Returns the findings: loose bounds, tight bounds, bounds that depend on length.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let pairs =
            |tally: &Tally| format!("{} ({})", many(tally.count, "pair"), percent(tally.share(self.pairs)));
        if !self.loose.is_empty() {
            let severity =
                if self.loose.share(self.pairs) > 0.5 { Severity::Warning } else { Severity::Note };
            let found = format!(
                "{} have a bound so loose that it rarely acts: it lets the model be more than {} sure",
                pairs(&self.loose),
                percent(LOOSE)
            );
            let advice = match severity {
                Severity::Note => "These pairs train as with Bradley-Terry",
                _ => "Most pairs train as with Bradley-Terry; a smaller beta1 or beta3 tightens bounds",
            };
            findings.push(Finding::new("loose_bounds", severity, found, advice).tallied(&self.loose));
        }
        if !self.tight.is_empty() {
            let severity =
                if self.tight.share(self.pairs) > 0.5 { Severity::Warning } else { Severity::Note };
            let found = format!(
                "{} have a bound so tight that the model may be no more than {} sure of them",
                pairs(&self.tight),
                percent(TIGHT)
            );
            let advice = "The model learns almost nothing from them; a larger beta1 or beta3, or a larger \
                          fixed bound, loosens bounds";
            findings.push(Finding::new("tight_bounds", severity, found, advice).tallied(&self.tight));
        }
        findings.extend(self.by_length.as_ref().filter(|by| by.leans()).map(length_finding));
        findings
    }
}

fn length_finding(by: &ByLength) -> Finding {
    let (favoured, way) = match by.looser_for_longer > 0.5 {
        true => ("longer", "more"),
        false => ("shorter", "less"),
    };
    let found = format!(
        "the bounds favour the {favoured} answer: the median lets the model be {} sure where the longer \
         answer is preferred ({}), and {} sure where the shorter one is ({})",
        percent(by.sure_of_longer),
        many(by.longer, "pair"),
        percent(by.sure_of_shorter),
        many(by.shorter, "pair"),
    );
    let advice = format!(
        "The model will prefer length {way} than the labels do; use a constraint whose bounds do not depend \
         on which answer is longer"
    );
    Finding::new("length_bounds", Severity::Warning, found, advice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{encoded, find, tokenizer};
    use super::*;

    /// Protects: sureness against σ of half the bound, by hand: σ(0) = ½, σ(ln 3) = ¾.
    #[test]
    fn sureness_is_sigma_of_half_the_bound() {
        assert_eq!(sureness(0.0), 0.5);
        assert!((sureness(2.0 * 3f64.ln()) - 0.75).abs() < 1e-12);
    }

    /// Protects: the classification of bounds as loose and tight, the share that raises a warning, and values
    /// that are not bounds.
    #[test]
    fn loose_and_tight_bounds_are_counted() {
        let record = |row: usize| json!({"prompt": format!("{row}"), "chosen": "a", "rejected": "b"});
        let records: Vec<_> = (0..4).map(record).collect();
        let (_, pairs) = encoded(&records, &tokenizer("plain"));
        let findings = |bounds: [f32; 4]| Bounds::of(&pairs, &bounds, None).findings();
        assert_eq!(findings([5.0, 3.0, 13.0, f32::INFINITY]), []);
        let some = findings([5.0, 14.0, 0.5, 3.0]);
        for code in ["loose_bounds", "tight_bounds"] {
            let finding = find(&some, code).unwrap();
            assert_eq!((finding.severity, finding.count), (Severity::Note, Some(1)), "{code}");
        }
        let loose = findings([20.0, 30.0, 5.0, 1e4]);
        assert_eq!(find(&loose, "loose_bounds").unwrap().severity, Severity::Warning);
        let tight = findings([0.1, 0.2, 0.3, 5.0]);
        assert_eq!(find(&tight, "tight_bounds").unwrap().severity, Severity::Warning);
        let bounds = Bounds::of(&pairs, &[f32::INFINITY; 4], Some(&[0.5; 4]));
        assert_eq!((bounds.unbounded, bounds.similarities), (4, Some(vec![0.5; 4])));
    }

    /// Protects: bounds that are looser for one length raise a warning, in either direction; bounds that
    /// ignore length, small groups and small differences do not.
    #[test]
    fn bounds_that_lean_on_length_are_a_warning() {
        let record = |row: usize| match row % 2 {
            0 => json!({"prompt": format!("{row}"), "chosen": "a b c d", "rejected": "a"}),
            _ => json!({"prompt": format!("{row}"), "chosen": "a", "rejected": "a b c d"}),
        };
        let records: Vec<_> = (0..40).map(record).collect();
        let (_, pairs) = encoded(&records, &tokenizer("plain"));
        let survey = |take: usize, longer: f32, shorter: f32| {
            let bounds: Vec<f32> = (0..take).map(|row| if row % 2 == 0 { longer } else { shorter }).collect();
            Bounds::of(&pairs[..take], &bounds, None)
        };
        let warned = |take, longer, shorter| {
            let findings = survey(take, longer, shorter).findings();
            find(&findings, "length_bounds").map(|finding| finding.found.clone())
        };
        let favours_longer = warned(40, 6.0, 2.0).unwrap();
        assert!(favours_longer.starts_with("the bounds favour the longer answer"), "{favours_longer}");
        assert!(favours_longer.contains("95 % sure") && favours_longer.contains("73 % sure"));
        let favours_shorter = warned(40, 2.0, f32::INFINITY).unwrap();
        assert!(favours_shorter.starts_with("the bounds favour the shorter answer"), "{favours_shorter}");
        assert_eq!(warned(40, 3.0, 3.0), None);
        assert_eq!(warned(40, 3.0, 3.1), None);
        assert_eq!(warned(20, 6.0, 2.0), None);
        let even = survey(40, 3.0, 3.0).by_length.unwrap();
        assert_eq!((even.longer, even.shorter, even.looser_for_longer), (20, 20, 0.5));
        assert_eq!(survey(1, 3.0, 3.0).by_length, None);
    }

    /// Protects: the share of looser bounds equals a count of all comparisons by hand, ties half.
    #[test]
    fn the_share_of_looser_bounds_is_counted_by_hand() {
        let by = ByLength::of(vec![1.0, 3.0, 3.0], vec![2.0, 3.0]).unwrap();
        assert_eq!(by.looser_for_longer, (0.0 + 1.5 + 1.5) / 6.0);
        assert_eq!((by.sure_of_longer, by.sure_of_shorter), (sureness(3.0), sureness(2.0)));
    }
}
