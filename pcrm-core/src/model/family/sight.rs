//! Windows and positions as data.

/// The layers with a sliding window; a `sliding_window` of null means that no layer has one.
///
/// `layer_types` of the config overrides the rule of `AllUnlessListed`, `Late`, `EveryOther`, `Unrotated` and
/// `AllButEvery`. `transformers` does not read it for the others, so a list that contradicts them is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Windows {
    /// No layer.
    Never,
    /// All layers.
    Everywhere,
    /// All layers, unless the config lists others.
    AllUnlessListed,
    /// With `use_sliding_window`, all layers.
    Switched,
    /// With `use_sliding_window`, the layers from `max_window_layers` on.
    Late,
    /// With `use_sliding_window`, the first, third, fifth.. of the layers before `max_window_layers`.
    EveryOther,
    /// With `use_sliding_window`, the layers without rotary positions.
    Unrotated,
    /// All but every n-th layer.
    AllButEvery(Every),
}

/// A distance between layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Every {
    /// A fixed number.
    Number(usize),
    /// The number of this key.
    Key(&'static str),
}

/// θ of rotary positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theta {
    /// A fixed number.
    Number(u32),
    /// The number of this key.
    Key(&'static str),
}

/// The kind of positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Positions {
    /// Learned, added to the embedding.
    Learned {
        /// The table.
        table: &'static str,
        /// The row of position 0.
        first: usize,
    },
    /// Rotary, over whole heads.
    Rotary,
    /// Rotary, over whole heads, except for some layers without positions.
    RotaryInSome {
        /// The key of a list that has 0 for each of these layers.
        list: &'static str,
        /// The key of n: without a list, every n-th layer has no positions.
        every: &'static str,
    },
    /// Rotary, over whole heads, in layers with a window; the others have no positions.
    RotaryInWindows,
    /// Rotary, over whole heads, with separate angles for layers with a window.
    LocalRotary {
        /// θ for layers with a window if `rope_parameters` names none for them.
        theta: Theta,
    },
    /// Rotary, over the first dimensions of a head: the share `partial_rotary_factor` of the rotary section.
    PartialRotary {
        /// The key of the share if the section has none.
        share: &'static str,
        /// The key of θ if the section has none.
        theta: &'static str,
    },
}

/// The pairs of dimensions that are rotated together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairs {
    /// i and i + half of the rotated dimensions.
    Halves,
    /// 2i and 2i + 1.
    Neighbours,
}
