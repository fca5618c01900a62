//! Windows and positions as data.

/// Which layers have a sliding window; a `sliding_window` of null means that no layer has one.
///
/// `layer_types` of the config overrides the rule of `AllUnlessListed`, `Late` and `AllButEvery`. The other two take
/// none in `transformers`, so a list that contradicts them is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Windows {
    /// None.
    Never,
    /// All.
    Everywhere,
    /// All that the config does not list otherwise.
    AllUnlessListed,
    /// With `use_sliding_window`, those from `max_window_layers` on.
    Late,
    /// All but every n-th.
    AllButEvery(Every),
}

/// A distance between layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Every {
    /// This many.
    Number(usize),
    /// The number of this key.
    Key(&'static str),
}

/// Where positions enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Positions {
    /// Learned; added to the embedding.
    Learned {
        /// The table.
        table: &'static str,
        /// The row of position 0.
        first: usize,
    },
    /// Rotary, over whole heads.
    Rotary,
    /// Rotary, over whole heads, but for some layers that have no positions.
    RotaryInSome {
        /// The key of a list that has 0 for each of these layers.
        list: &'static str,
        /// The key of n: where there is no list, every n-th layer is one.
        every: &'static str,
    },
    /// Rotary, over whole heads, in layers with a window; the others have no positions.
    RotaryInWindows,
    /// Rotary, over whole heads, with angles of their own in layers with a window.
    LocalRotary {
        /// The key of θ of layers with a window, in the spelling of transformers 4.
        theta: &'static str,
    },
    /// Rotary, over the first dimensions of a head: the share that `partial_rotary_factor` of the rotary section
    /// names.
    PartialRotary {
        /// The key of the share where the section names none.
        share: &'static str,
        /// The key of θ where the section names none.
        theta: &'static str,
    },
}

/// The two dimensions of a head that turn together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairs {
    /// i and i + half of those that turn.
    Halves,
    /// 2i and 2i + 1.
    Neighbours,
}
