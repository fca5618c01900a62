//! The attention of each layer according to a config: windows, positions, and the scale of scores.

use crate::error::Result;
use crate::model::family::{Family, HeadDim, Positions};
use crate::model::fields::Fields;
use crate::model::rope::{Rope, Ropes};

/// The attention of one layer: visible rows, positions and scale.
#[derive(Debug, Clone, PartialEq)]
pub struct Sight {
    /// The number of visible positions, the row's own included (sliding window); `None`: all.
    pub window: Option<usize>,
    /// The rotary positions; `None` if there are none, or if positions are learned.
    pub rope: Option<Rope>,
    /// The factor on q·k: 1/√head_dim unless the config overrides it.
    pub scale: f64,
    /// The soft cap c of scores, c·tanh(s/c); `None`: no cap.
    pub cap: Option<f64>,
}

/// Returns the width of a head.
pub(super) fn head_dim(fields: &Fields<'_>, family: &Family, width: usize, heads: usize) -> Result<usize> {
    match family.head_dim {
        HeadDim::Key => fields.positive_or("head_dim", width / heads),
        HeadDim::Divided => {
            if !width.is_multiple_of(heads) {
                return Err(fields.wrong(family.keys.width, &format!("a multiple of {heads} heads")));
            }
            let given = fields.value("head_dim");
            match given.is_null() || given.as_u64() == Some((width / heads) as u64) {
                true => Ok(width / heads),
                false => Err(fields.wrong("head_dim", &format!("{}, width / heads", width / heads))),
            }
        }
    }
}

/// Returns the attention of each layer, and the entries about positions that are not read.
pub(super) fn sights(
    fields: &Fields<'_>,
    family: &Family,
    head_dim: usize,
) -> Result<(Vec<Sight>, Vec<String>)> {
    let layers = fields.layers(family.keys.layers)?;
    let windows = fields.windows(family.windows, layers)?;
    let max_positions = fields.positive(family.keys.max_positions)?;
    let Ropes { far, near, unread } = match family.positions {
        Positions::Learned { .. } => Ropes::none(),
        Positions::Rotary | Positions::RotaryInSome { .. } => Ropes::whole(fields, head_dim, max_positions)?,
        Positions::RotaryInWindows => Ropes { far: None, ..Ropes::whole(fields, head_dim, max_positions)? },
        Positions::PartialRotary { share, theta } => {
            Ropes::partial(fields, [share, theta], head_dim, max_positions)?
        }
        Positions::LocalRotary { theta } => Ropes::by_layer(fields, theta, head_dim, max_positions)?,
    };
    let turns = match family.positions {
        Positions::RotaryInSome { list, every } => fields.turning(list, every, layers)?,
        _ => vec![true; layers],
    };
    let cap = family.score_cap.map_or(Ok(None), |key| fields.cap(key))?;
    let mut scale = 1.0 / (head_dim as f64).sqrt();
    if let Some(key) = family.scale.square {
        scale = 1.0 / fields.above_zero(key)?.sqrt();
    }
    if let Some(key) = family.scale.factor {
        scale = fields.number(key)?;
    }
    if family.scale.on.map_or(Ok(false), |key| fields.flag(key).map(|on| !on))? {
        scale = 1.0;
    }
    let by_layer = family.scale.by_layer.map_or(Ok(false), |key| fields.flag(key))?;
    let sight = |(layer, window): (usize, Option<usize>)| Sight {
        window,
        rope: if window.is_some() { near.clone() } else { far.clone() }.filter(|_| turns[layer]),
        scale: if by_layer { scale / (layer + 1) as f64 } else { scale },
        cap,
    };
    Ok((windows.into_iter().enumerate().map(sight).collect(), unread))
}
