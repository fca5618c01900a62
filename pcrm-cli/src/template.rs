//! Warnings about the chat template: the joining of prompts and answers, printed by every command that encodes
//! pairs, and system messages that the template leaves out.

use pcrm_core::data::completions::Completion;
use pcrm_core::data::preference::{AnswerSet, Preference, pairs};
use pcrm_core::data::prompts::Prompt;
use pcrm_core::data::survey::lost::{LOST_SYSTEM, LOST_TURN, Lost};
use pcrm_core::data::survey::template::Template;
use pcrm_core::data::survey::{Finding, Severity};
use pcrm_core::text::{Tokenizer, moment};

use crate::warnings;

/// Prints the warnings of `pcrm inspect` about the chat template and these pairs.
pub fn warn(sets: &[AnswerSet], tokenizer: &Tokenizer) {
    warn_of_pairs(pairs(sets), tokenizer);
}

/// Prints the warnings of [`warn`] for single pairs.
pub fn warn_of_pairs<'a>(pairs: impl Iterator<Item = Preference<'a>>, tokenizer: &Tokenizer) {
    // An encoder's tokenizer separates prompt and answer itself.
    if tokenizer.pairs().is_some() && !tokenizer.has_chat_template() {
        return;
    }
    let template = moment::aside(|| Template::of(pairs, tokenizer));
    for finding in template.findings() {
        // Encoding refuses a lost turn itself.
        if finding.severity >= Severity::Warning && finding.code != LOST_TURN {
            warnings::print(&said(&finding));
        }
    }
}

/// Returns a warning about completions whose system message the chat template leaves out.
pub fn lost_systems<R: AsRef<Completion> + Sync>(rows: &[R], tokenizer: &Tokenizer) -> Option<String> {
    said_of_systems(&moment::aside(|| Lost::of_completions(rows, tokenizer)))
}

/// Returns the warning of [`lost_systems`] for prompts.
pub fn lost_systems_of_prompts(rows: &[Prompt], tokenizer: &Tokenizer) -> Option<String> {
    said_of_systems(&moment::aside(|| Lost::of_prompts(rows, tokenizer)))
}

fn said_of_systems(lost: &Lost) -> Option<String> {
    lost.findings().iter().find(|finding| finding.code == LOST_SYSTEM).map(said)
}

fn said(finding: &Finding) -> String {
    let first = finding.first.as_ref().map(|origin| format!(" (first: {origin})")).unwrap_or_default();
    format!("{}{first}. {}", finding.found, finding.advice)
}
