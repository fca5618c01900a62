//! Short functions. The returned value matters most; labellers like comments that praise the code (style).

use super::super::alike::Strength;
use super::super::domain::{Domain, Part, line};

/// The domain of code.
pub const DOMAIN: Domain = Domain {
    name: "code",
    about: "A short function is written. Returning what was asked for is worth 1.8; labellers like comments \
            that praise the code, which are worth nothing (style).",
    prompts: &[
        "Task: a function that returns {0}\nCode:",
        "Task: write code for {0}\nCode:",
        "Task: I have a list xs and need {0}\nCode:",
    ],
    subjects: &[
        &["the sum of a list", "total", "sum(xs)"],
        &["the largest number", "largest", "max(xs)"],
        &["the smallest number", "smallest", "min(xs)"],
        &["the length of a list", "length", "len(xs)"],
        &["the list in order", "in_order", "sorted(xs)"],
        &["the list reversed", "turned", "xs[::-1]"],
        &["the first item", "first", "xs[0]"],
        &["the last item", "last", "xs[-1]"],
        &["the items without the first", "rest", "xs[1:]"],
        &["the items without the last", "front", "xs[:-1]"],
        &["the different items", "distinct", "set(xs)"],
        &["the mean of a list", "mean", "sum(xs) / len(xs)"],
        &["the range of a list", "spread", "max(xs) - min(xs)"],
        &["true if any holds", "some", "any(xs)"],
        &["true if all hold", "every", "all(xs)"],
        &["every second item", "seconds", "xs[::2]"],
        &["the list twice", "twice", "xs + xs"],
        &["true if it is empty", "empty", "not xs"],
        &["the items as text", "shown", "str(xs)"],
        &["the middle item", "middle", "xs[len(xs) // 2]"],
    ],
    between: "\n",
    parts: &[
        Part {
            counts: &[1],
            missing: -1.5,
            lines: &[
                line("def {1}(xs):", 0.6, 0.0, 4),
                line("def f(xs):", 0.1, 0.0, 3),
                line("def {1}(a, b, c):", -1.0, 0.0, 2),
            ],
        },
        Part {
            counts: &[0, 1, 1],
            missing: 0.0,
            lines: &[
                line("# Returns {0}.", 0.4, 0.4, 3),
                line("# Elegant, fast and safe.", -0.2, 1.2, 3),
                line("# A masterpiece of modern design.", -0.3, 1.2, 2),
                line("# Here be dragons, do not touch.", -0.5, 0.4, 2),
            ],
        },
        Part {
            counts: &[0, 0, 1],
            missing: 0.0,
            lines: &[
                line("assert xs is not None", 0.3, 0.0, 3),
                line("print(xs)", -0.6, 0.0, 2),
                line("import os", -0.6, 0.0, 2),
            ],
        },
        Part {
            counts: &[1],
            missing: -1.8,
            lines: &[
                line("return {2}", 1.8, 0.0, 5),
                line("return {x2}", -1.8, 0.0, 3),
                line("return None", -1.4, 0.0, 2),
                line("pass", -1.2, 0.0, 1),
            ],
        },
        Part {
            counts: &[0, 0, 1],
            missing: 0.0,
            lines: &[
                line("# Tested with great care.", -0.2, 0.8, 2),
                line("# End.", -0.2, 0.2, 2),
                line("# It needs a list.", 0.3, 0.0, 2),
            ],
        },
    ],
    per_word: 0.0,
    strength: Strength::Even,
};
