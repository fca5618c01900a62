//! Warnings about the joining of prompts and answers, printed by every command that encodes pairs.

use pcrm_core::data::preference::{AnswerSet, Preference, pairs};
use pcrm_core::data::survey::Severity;
use pcrm_core::data::survey::template::Template;
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
        if finding.severity >= Severity::Warning {
            let first = finding.first.map(|origin| format!(" (first: {origin})")).unwrap_or_default();
            warnings::print(&format!("{}{first}. {}", finding.found, finding.advice));
        }
    }
}
