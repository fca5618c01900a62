//! The worlds that are written as data, a file each.

mod code;
mod creative;
mod dialogue;
mod summarisation;

use super::alike::Strength;
use super::domain::Domain;

/// Summarisation whose labellers are sure of answers of unlike length alone.
static SUMMARISATION_LENGTH: Domain = Domain {
    name: "summarisation-length",
    about: "Summaries as in summarisation, but labellers toss a coin between answers of like length and are sure of unlike \
            ones: here likeness in length carries preference strength.",
    strength: Strength::Length,
    ..summarisation::DOMAIN
};

/// Dialogue whose labellers are sure of answers of unlike words alone.
static DIALOGUE_WORDS: Domain = Domain {
    name: "dialogue-words",
    about: "Dialogue as above, but labellers toss a coin between answers of the same words and are sure of unlike ones: here \
            likeness in meaning carries preference strength.",
    strength: Strength::Words,
    ..dialogue::DOMAIN
};

/// All of them. Prompts of one are those of no other, except that worlds of one domain share theirs, and their true reward.
pub static DOMAINS: [&Domain; 6] = [
    &dialogue::DOMAIN,
    &summarisation::DOMAIN,
    &code::DOMAIN,
    &creative::DOMAIN,
    &SUMMARISATION_LENGTH,
    &DIALOGUE_WORDS,
];
