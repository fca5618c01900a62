//! Warnings about pairs and rows that a command reads and then leaves out: how many and why, above a minimum
//! share.
//!
//! Records that are not read at all are reported by
//! [`Report::shortfall`](pcrm_core::data::report::Report::shortfall).

use pcrm_core::data::encode::EncodeReport;
use pcrm_core::data::report::MANY_LEFT_OUT;

/// The column with the reason why a row has no score, in files that `pcrm score` writes.
pub const COLUMN: &str = "left_out";

/// Returns a warning about pairs that were read but not encoded, if they are more than a few per cent.
pub fn unencoded(report: &EncodeReport, max_length: usize) -> Option<String> {
    let too_long = too_long(report.dropped_too_long, report.pairs, "pairs", max_length);
    let identical = report.identical_after_tokenisation;
    let identical = share(identical, report.pairs).map(|share| {
        format!(
            "{identical} of {} pairs ({share}) are left out: both answers have the same tokens",
            report.pairs
        )
    });
    let both: Vec<String> = too_long.into_iter().chain(identical).collect();
    (!both.is_empty()).then(|| both.join("; "))
}

/// Returns a warning about rows beyond `--max-length`, if they are more than a few per cent.
pub fn too_long(count: usize, of: usize, what: &str, max_length: usize) -> Option<String> {
    let share = share(count, of)?;
    Some(format!(
        "{count} of {of} {what} ({share}) are left out: longer than --max-length {max_length} tokens"
    ))
}

/// Returns a share in per cent, if it is large enough for a warning.
pub fn share(count: usize, of: usize) -> Option<String> {
    let share = count as f64 / of.max(1) as f64;
    let text =
        if share < 0.0995 { format!("{:.1} %", 100.0 * share) } else { format!("{:.0} %", 100.0 * share) };
    (share > MANY_LEFT_OUT).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: pairs beyond the limit are counted against all pairs, and the limit is named.
    #[test]
    fn many_long_pairs_are_a_warning() {
        let of = |dropped_too_long, identical_after_tokenisation| EncodeReport {
            pairs: 350,
            dropped_too_long,
            identical_after_tokenisation,
            ..EncodeReport::default()
        };
        assert_eq!(unencoded(&of(7, 7), 1024), None);
        let said = unencoded(&of(310, 0), 1024).unwrap();
        assert_eq!(said, "310 of 350 pairs (89 %) are left out: longer than --max-length 1024 tokens");
        assert!(unencoded(&of(8, 30), 64).unwrap().contains("8 of 350 pairs (2.3 %)"));
        assert!(unencoded(&of(0, 30), 64).unwrap().starts_with("30 of 350 pairs (8.6 %)"));
    }
}
