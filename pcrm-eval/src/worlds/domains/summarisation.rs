//! Summaries of short reports. Facts add reward, padding does not; labellers like length.

use super::super::alike::Strength;
use super::super::domain::{Domain, Part, line};

/// The domain of summarisation.
pub const DOMAIN: Domain = Domain {
    name: "summarisation",
    about: "A report is summed up. The place, the day and the outcome are worth saying, made-up ones cost \
            more, and padding costs 0.3 to 0.4 a sentence; labellers like every word (length).",
    prompts: &[
        "Article: {0} was held in {1} on {2}. There was tea, and some rain. In the end {3}.\nSummary:",
        "Article: On {2} people met in {1} for {0}. Some came late. In the end {3}.\nSummary:",
        "Article: The news of {2}: {0}, in {1}. The paper was there. In the end {3}.\nSummary:",
    ],
    subjects: &[
        &["the boat race", "Bray", "Monday", "the blue boat won"],
        &["the flower show", "Cork", "Tuesday", "a rose took the prize"],
        &["the book fair", "Derry", "Friday", "all books were sold"],
        &["the chess match", "Galway", "Sunday", "nobody won"],
        &["the town meeting", "Sligo", "Monday", "the bridge was voted down"],
        &["the cooking contest", "Trim", "Thursday", "a soup came first"],
        &["the spring concert", "Ennis", "Friday", "the singer was ill"],
        &["the horse market", "Bray", "Saturday", "one horse ran off"],
        &["the school play", "Cork", "Sunday", "the curtain fell down"],
        &["the bicycle race", "Derry", "Wednesday", "a tyre decided it"],
        &["the art auction", "Galway", "Tuesday", "a sketch went for a fortune"],
        &["the harvest dance", "Sligo", "Saturday", "the band played on till dawn"],
        &["the dog show", "Trim", "Monday", "a mongrel took the cup"],
        &["the science day", "Ennis", "Thursday", "a robot broke a window"],
        &["the swimming gala", "Bray", "Friday", "a record fell"],
        &["the poetry night", "Cork", "Wednesday", "the lights went out"],
        &["the kite festival", "Derry", "Saturday", "there was no wind"],
        &["the cheese market", "Galway", "Monday", "the mice had come first"],
        &["the film evening", "Sligo", "Tuesday", "the film was torn"],
        &["the ploughing match", "Trim", "Sunday", "two shared the medal"],
    ],
    between: " ",
    parts: &[
        Part {
            counts: &[1],
            missing: -1.2,
            lines: &[
                line("{0} was held in {1}.", 1.0, 0.0, 4),
                line("{0} was held in {x1}.", -1.5, 0.0, 3),
                line("There was an event somewhere.", -0.5, 0.0, 2),
            ],
        },
        Part {
            counts: &[0, 1],
            missing: 0.0,
            lines: &[line("It was on {2}.", 0.5, 0.0, 3), line("It was on {x2}.", -0.9, 0.0, 2)],
        },
        Part {
            counts: &[0, 1, 1, 2, 3],
            missing: 0.0,
            lines: &[
                line("As one can read, many people came and talked about many things.", -0.4, 0.0, 2),
                line("It was a day like others and yet a little unlike them.", -0.4, 0.0, 2),
                line("The article has more to say about it than this.", -0.4, 0.0, 2),
                line("There was weather.", -0.3, 0.0, 2),
                line("Some came late.", -0.3, 0.0, 2),
            ],
        },
        Part {
            counts: &[0, 1, 1],
            missing: 0.0,
            lines: &[line("In the end {3}.", 1.0, 0.0, 3), line("In the end {x3}.", -1.4, 0.0, 2)],
        },
    ],
    per_word: 0.08,
    strength: Strength::Even,
};
