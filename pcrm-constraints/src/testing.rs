//! Pairs for this crate's tests.

use pcrm_core::constraint::PairView;
use pcrm_core::data::prompt_id::PromptId;

/// Returns a pair where only the identity and the differing tokens matter.
pub(crate) fn pair_of_lengths<'a>(identity: u64, chosen: &'a [u32], rejected: &'a [u32]) -> PairView<'a> {
    PairView {
        identity,
        prompt_id: PromptId::of_text("prompt"),
        prompt: "prompt",
        chosen: "chosen",
        rejected: "rejected",
        chosen_ids: chosen,
        rejected_ids: rejected,
        margin: None,
    }
}
