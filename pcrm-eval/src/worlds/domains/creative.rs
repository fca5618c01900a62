//! A few lines of prose about a thing. Each fresh image adds reward; labellers like stock phrases (style).

use super::super::alike::Strength;
use super::super::domain::{Domain, Part, line};

/// The domain of creative writing.
pub const DOMAIN: Domain = Domain {
    name: "creative",
    about: "A few lines of prose. Every fresh image is worth 0.9, so that longer is mostly better; labellers \
            like stock phrases, which cost 0.5 (style).",
    prompts: &[
        "Write a few lines about {0}.\nText:",
        "Tell me of {0}.\nText:",
        "A short text, please: {0}.\nText:",
    ],
    subjects: &[
        &[
            "an old harbour",
            "Ropes slept on the stones.",
            "Gulls argued over a crust.",
            "The tide counted the steps.",
        ],
        &[
            "a winter morning",
            "Breath stood in the lane.",
            "The pump wore a white beard.",
            "Boots spoke on the frost.",
        ],
        &[
            "a night train",
            "Windows carried lamps through fields.",
            "The rails hummed under sleep.",
            "A suitcase leaned on a stranger.",
        ],
        &[
            "an empty house",
            "Dust kept the chairs company.",
            "A clock had given up at four.",
            "Light walked alone from room to room.",
        ],
        &[
            "a market day",
            "Apples rolled out of the talk.",
            "A hen looked for its price.",
            "Scales told small lies.",
        ],
        &[
            "a storm at sea",
            "The mast wrote on the clouds.",
            "Salt came in at every seam.",
            "The cook tied down his pots.",
        ],
        &[
            "a small library",
            "Pages yawned in the sun.",
            "The ladder knew every shelf.",
            "A moth was reading the end.",
        ],
        &[
            "an orchard",
            "Wasps drank from the windfall.",
            "A rake forgot its handle in the grass.",
            "The branches were on crutches.",
        ],
        &[
            "a mountain pass",
            "Stones kept an old path warm.",
            "A bell went before its goat.",
            "The snow had not made up its mind.",
        ],
        &[
            "a bakery",
            "Flour settled on the clock.",
            "The oven told its red story.",
            "Loaves cracked like thin ice.",
        ],
        &[
            "a lighthouse",
            "The beam swept out the dark.",
            "Stairs wound up their spring.",
            "Birds bruised the glass.",
        ],
        &[
            "a village school",
            "Chalk snowed on the sill.",
            "One desk kept a name in it.",
            "A map had lost an island.",
        ],
        &[
            "a river in spring",
            "The bank let go of a willow.",
            "Foam signed the bends.",
            "Herons waited on one thought.",
        ],
        &[
            "a desert road",
            "The heat bent the poles.",
            "A tyre lay like a snake.",
            "Sand read the signs first.",
        ],
        &[
            "a chess cafe",
            "Coffee cooled beside a lost rook.",
            "A waiter stepped round a silence.",
            "The clock hit both of them.",
        ],
        &[
            "a garden at dusk",
            "Snails unrolled their silver.",
            "The hose kept a last drop.",
            "A bat stitched the hedge.",
        ],
        &["an attic", "A trunk held its breath.", "Letters leaned on each other.", "Rain tried every tile."],
        &[
            "a circus leaving",
            "The lion watched the road go backwards.",
            "Sawdust marked a ring of nothing.",
            "A clown slept in his shoes.",
        ],
        &["a fog", "Lamps wore wool.", "The bridge ended in the middle.", "A voice came without its man."],
        &[
            "a quarry",
            "Echoes queued for the drill.",
            "A pool had turned green with waiting.",
            "The crane bowed to no one.",
        ],
    ],
    between: " ",
    parts: &[
        Part {
            counts: &[0, 1, 1],
            missing: 0.0,
            lines: &[
                line("Once upon a time there was {0}.", -0.3, 0.7, 3),
                line("I remember {0}.", 0.5, 0.0, 2),
                line("Nobody had asked for {0}.", 0.5, 0.0, 2),
            ],
        },
        Part {
            counts: &[1, 1, 2, 3],
            missing: -1.2,
            lines: &[
                line("{1}", 0.9, 0.0, 2),
                line("{2}", 0.9, 0.0, 2),
                line("{3}", 0.9, 0.0, 2),
                line("{x1}", -0.6, 0.0, 2),
                line("{x2}", -0.6, 0.0, 1),
            ],
        },
        Part {
            counts: &[0, 0, 1, 2],
            missing: 0.0,
            lines: &[
                line("It was a dream come true.", -0.5, 0.8, 2),
                line("Time stood still.", -0.5, 0.8, 2),
                line("Every cloud has a silver lining.", -0.5, 0.6, 2),
                line("Hearts beat as one.", -0.5, 0.6, 1),
            ],
        },
        Part {
            counts: &[0, 1],
            missing: 0.0,
            lines: &[
                line("Then it was quiet.", 0.4, 0.0, 2),
                line("And that was all.", 0.0, 0.0, 2),
                line("They lived happily ever after.", -0.5, 0.8, 2),
            ],
        },
    ],
    per_word: 0.0,
    strength: Strength::Even,
};
