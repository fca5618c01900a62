//! Pairs for this crate's tests.

use pcrm_core::constraint::PairView;

/// A pair of which only the identity and the differing tokens matter.
pub(crate) fn pair_of_lengths<'a>(identity: u64, chosen: &'a [u32], rejected: &'a [u32]) -> PairView<'a> {
    PairView {
        identity,
        prompt: "prompt",
        chosen: "chosen",
        rejected: "rejected",
        chosen_ids: chosen,
        rejected_ids: rejected,
        margin: None,
    }
}
