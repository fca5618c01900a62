//! The facts of the quickstart's world: a few subjects of three sorts, and three facts about each.

/// A sort of subjects with the aspects to ask about.
#[derive(Debug)]
pub struct Sort {
    /// Aspects to ask about.
    pub aspects: [Aspect; 3],
    /// Subjects of this sort.
    pub subjects: [Subject; 4],
}

/// An aspect of a subject; `{s}` is replaced by the subject and `{v}` by the value.
#[derive(Debug)]
pub struct Aspect {
    /// Wordings of the question.
    pub questions: [&'static str; 3],
    /// Wordings of the statement.
    pub statements: [&'static str; 2],
}

/// A subject with its value for each aspect of its sort.
#[derive(Debug)]
pub struct Subject {
    /// Name in sentences.
    pub name: &'static str,
    /// Values by aspect; no two subjects of a sort share one.
    pub values: [&'static str; 3],
}

const fn subject(name: &'static str, values: [&'static str; 3]) -> Subject {
    Subject { name, values }
}

/// All facts of the world.
pub static SORTS: [Sort; 3] = [
    Sort {
        aspects: [
            Aspect {
                questions: [
                    "Where does {s} live?",
                    "Tell me where {s} lives.",
                    "In which place would I find {s}?",
                ],
                statements: ["{s} lives in {v}.", "You will find {s} in {v}."],
            },
            Aspect {
                questions: [
                    "What does {s} eat?",
                    "Tell me what {s} eats.",
                    "On which food does {s} live mostly?",
                ],
                statements: ["{s} eats {v}.", "The usual food of {s} is {v}."],
            },
            Aspect {
                questions: [
                    "What is the young of {s} called?",
                    "How do people call the young of {s}?",
                    "Tell me the name for the young of {s}.",
                ],
                statements: ["The young of {s} is called {v}.", "People call the young of {s} {v}."],
            },
        ],
        subjects: [
            subject("the otter", ["clear rivers", "fish", "a whelp"]),
            subject("the camel", ["dry deserts", "thorny plants", "a calf"]),
            subject("the fox", ["woods and fields", "rabbits", "a cub"]),
            subject("the owl", ["old barns", "mice", "an owlet"]),
        ],
    },
    Sort {
        aspects: [
            Aspect {
                questions: [
                    "In which country is {s}?",
                    "Tell me the country of {s}.",
                    "To which country does {s} belong?",
                ],
                statements: ["{s} is in {v}.", "The country of {s} is {v}."],
            },
            Aspect {
                questions: [
                    "On which river does {s} stand?",
                    "Tell me the river of {s}.",
                    "Which river runs through {s}?",
                ],
                statements: ["{s} stands on {v}.", "The river of {s} is {v}."],
            },
            Aspect {
                questions: [
                    "What is {s} known for?",
                    "Tell me what {s} is known for.",
                    "Why do people visit {s}?",
                ],
                statements: ["{s} is known for {v}.", "People visit {s} for {v}."],
            },
        ],
        subjects: [
            subject("Paris", ["France", "the Seine", "an iron tower"]),
            subject("London", ["England", "the Thames", "a great clock"]),
            subject("Vienna", ["Austria", "the Danube", "its waltzes"]),
            subject("Cairo", ["Egypt", "the Nile", "the pyramids"]),
        ],
    },
    Sort {
        aspects: [
            Aspect {
                questions: [
                    "Where does {s} come from?",
                    "Tell me where {s} comes from.",
                    "Which country gave us {s}?",
                ],
                statements: ["{s} comes from {v}.", "The home of {s} is {v}."],
            },
            Aspect {
                questions: [
                    "What is {s} made of?",
                    "Tell me what {s} is made of.",
                    "What do I need most for {s}?",
                ],
                statements: ["{s} is made of {v}.", "The main part of {s} is {v}."],
            },
            Aspect {
                questions: [
                    "What goes well with {s}?",
                    "Tell me what to serve with {s}.",
                    "What do people eat with {s}?",
                ],
                statements: ["{s} goes well with {v}.", "People serve {s} with {v}."],
            },
        ],
        subjects: [
            subject("sushi", ["Japan", "rice", "soy sauce"]),
            subject("goulash", ["Hungary", "beef", "dumplings"]),
            subject("hummus", ["Lebanon", "chickpeas", "flat bread"]),
            subject("guacamole", ["Mexico", "avocado", "corn chips"]),
        ],
    },
];
