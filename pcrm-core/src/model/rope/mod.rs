//! Rotary positions: the rotation angle per position, with the scalings for longer contexts.

mod angles;
mod section;

use std::f64::consts::PI;

pub(super) use self::angles::Angles;
use self::section::Section;
use crate::error::Result;
use crate::model::family::Theta;
use crate::model::fields::Fields;
use crate::tree::SequenceTree;

/// The rotation angle per position, for every pair of dimensions.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// θ: pair i of dim/2 rotates by θ^(−2i/dim) per position.
    pub theta: f64,
    /// The number of rotated dimensions of a head: its first ones.
    pub dim: usize,
    /// The scaling of the angles.
    pub scaling: Scaling,
}

/// The scaling of angles for contexts longer than the trained one.
#[derive(Debug, Clone, PartialEq)]
pub enum Scaling {
    /// No scaling.
    None,
    /// All angles divided by a factor (arXiv 2306.15595).
    Linear {
        /// The factor.
        factor: f64,
    },
    /// NTK-aware, by the length n of the sequence: beyond the trained context t, θ is multiplied by
    /// (factor·n/t − factor + 1)^(dim/(dim − 2)) (arXiv 2309.00071, §3.3; as implemented in `transformers`).
    ///
    /// n is the longest sequence of a row's own tree: the rest of the batch has no influence. Sequences of
    /// different lengths beyond t share no angles, so they must not share a prompt (see [`Rope::trained`]).
    Dynamic {
        /// The factor.
        factor: f64,
        /// `max_position_embeddings`.
        trained: usize,
    },
    /// Llama 3.1: slow pairs divided by a factor, fast pairs kept, a ramp between.
    Llama3 {
        /// The factor.
        factor: f64,
        /// Wavelengths above original / low are divided.
        low: f64,
        /// Wavelengths below original / high are kept.
        high: f64,
        /// The trained context.
        original: f64,
    },
    /// YaRN (arXiv 2309.00071): late pairs divided by a factor, early pairs kept, a ramp over the pair's
    /// index between; cos and sin are multiplied by a magnitude, so that attention scores grow by its square.
    Yarn {
        /// The factor.
        factor: f64,
        /// The last pair that is kept.
        kept: f64,
        /// The first pair that is divided.
        divided: f64,
        /// The factor on cos and sin, 0.1·ln(factor) + 1 unless the config overrides it.
        magnitude: f64,
    },
    /// LongRoPE (arXiv 2402.13753): every pair divided by a number of its own, with one set for sequences
    /// within the trained context and one for longer ones; cos and sin are multiplied by a magnitude.
    ///
    /// The length of the longest sequence in the tree counts, as for `Dynamic`.
    Long {
        /// The divisors of sequences within the trained context.
        short: Vec<f64>,
        /// The divisors of longer sequences.
        long: Vec<f64>,
        /// The trained context.
        trained: usize,
        /// The factor on cos and sin, √(1 + ln(factor) / ln(trained)) unless the config overrides it.
        magnitude: f64,
    },
}

impl Scaling {
    /// Returns its name in configs.
    fn kind(&self) -> &'static str {
        match self {
            Self::None => "default",
            Self::Linear { .. } => "linear",
            Self::Dynamic { .. } => "dynamic",
            Self::Llama3 { .. } => "llama3",
            Self::Yarn { .. } => "yarn",
            Self::Long { .. } => "longrope",
        }
    }
}

/// The rotary positions of a model's layers.
pub(super) struct Ropes {
    /// Positions of layers with full attention; `None`: no positions.
    pub far: Option<Rope>,
    /// Positions of layers with a window.
    pub near: Option<Rope>,
    /// Config entries that are not read.
    pub unread: Vec<String>,
}

impl Ropes {
    /// Returns no rotary positions.
    pub fn none() -> Self {
        Self { far: None, near: None, unread: Vec::new() }
    }

    /// Reads `rope_parameters` (transformers 5), or `rope_theta` and `rope_scaling` (transformers 4), for
    /// heads of `dim` dimensions that rotate fully.
    ///
    /// # Errors
    /// Fails if the type of scaling is not supported, if an entry is missing or of the wrong type, and if
    /// heads rotate partially.
    pub fn whole(fields: &Fields<'_>, dim: usize, max_positions: usize) -> Result<Self> {
        let section = Section::of_model(fields)?;
        refuse_share(fields, section.share()?)?;
        Ok(Self::alike(section.rope(Theta::Key("rope_theta"), dim, max_positions)?, section.unread()))
    }

    /// Reads the positions like [`Ropes::whole`], for heads that rotate partially: `partial_rotary_factor`
    /// next to θ (transformers 5), or these keys of the share and of θ (transformers 4).
    ///
    /// # Errors
    /// Fails as [`Ropes::whole`] does, and if the share is invalid.
    pub fn partial(
        fields: &Fields<'_>,
        [share_key, theta]: [&'static str; 2],
        dim: usize,
        max_positions: usize,
    ) -> Result<Self> {
        let section = Section::of_model(fields)?;
        let share = match section.share()? {
            Some(share) => share,
            None => fields.number(share_key)?,
        };
        if share <= 0.0 || share > 1.0 {
            return Err(fields.wrong(share_key, "more than 0, at most 1"));
        }
        let turning = (dim as f64 * share) as usize;
        Ok(Self::alike(section.rope(Theta::Key(theta), turning, max_positions)?, section.unread()))
    }

    /// Reads the angles of layers with full attention and of layers with a window: `full_attention` and
    /// `sliding_attention` of `rope_parameters` (transformers 5); or `rope_theta` with `rope_scaling`, and
    /// `local` without it (transformers 4).
    ///
    /// # Errors
    /// Fails as [`Ropes::whole`] does.
    pub fn by_layer(fields: &Fields<'_>, local: Theta, dim: usize, max_positions: usize) -> Result<Self> {
        let [far, near] = Section::by_layer(fields)?;
        for section in [&far, &near] {
            refuse_share(fields, section.share()?)?;
        }
        Ok(Self {
            far: Some(far.rope(Theta::Key("rope_theta"), dim, max_positions)?),
            near: Some(near.rope(local, dim, max_positions)?),
            unread: [far.unread(), near.unread()].concat(),
        })
    }

    fn alike(rope: Rope, unread: Vec<String>) -> Self {
        Self { far: Some(rope.clone()), near: Some(rope), unread }
    }
}

/// Checks that heads rotate fully.
fn refuse_share(fields: &Fields<'_>, share: Option<f64>) -> Result<()> {
    let share = match share {
        Some(share) => share,
        None if fields.value("partial_rotary_factor").is_null() => 1.0,
        None => fields.number("partial_rotary_factor")?,
    };
    match share == 1.0 {
        true => Ok(()),
        false => Err(fields.error(&format!(
            "partial_rotary_factor is {share}; expected 1: this family does not rotate heads partially"
        ))),
    }
}

impl Rope {
    /// Returns the context beyond which angles depend on the length of the sequence; `None`: they never do.
    pub fn trained(&self) -> Option<usize> {
        match self.scaling {
            Scaling::Dynamic { trained, .. } | Scaling::Long { trained, .. } => Some(trained),
            _ => None,
        }
    }

    /// Returns for every row the length that its angles depend on; 0 if there is none.
    fn lengths(&self, tree: &SequenceTree) -> Vec<usize> {
        let mut lengths = vec![0; tree.rows()];
        let Some(trained) = self.trained() else { return lengths };
        for segments in tree.trees() {
            let end = |segment: &usize| tree.start(*segment) + tree.segments()[*segment].rows.len();
            let longest = segments.iter().map(end).max().unwrap_or(0);
            for segment in segments.iter().filter(|_| longest > trained) {
                lengths[tree.segments()[*segment].rows.clone()].fill(longest);
            }
        }
        lengths
    }

    /// Returns cos and sin of positions `0..count`, `[count, dim / 2]`, in sequences of this length.
    fn table(&self, count: usize, length: usize) -> Vec<(f32, f32)> {
        let (turns, half) = (self.turns(length), self.dim / 2);
        let magnitude = match self.scaling {
            Scaling::Yarn { magnitude, .. } | Scaling::Long { magnitude, .. } => magnitude,
            _ => 1.0,
        };
        // The product is rounded to f32 first, as in transformers.
        let angle = |at: usize| f64::from((at / half) as f32 * turns[at % half]);
        let point = |a: f64| ((magnitude * a.cos()) as f32, (magnitude * a.sin()) as f32);
        (0..count * half).map(angle).map(point).collect()
    }

    /// Returns the radians per position of every pair, in sequences of this length.
    fn turns(&self, length: usize) -> Vec<f32> {
        let dim = self.dim as f64;
        let theta = match self.scaling {
            Scaling::Dynamic { factor, trained } => {
                let grown = length.max(trained) as f64 / trained as f64;
                self.theta * (factor * grown - factor + 1.0).powf(dim / (dim - 2.0))
            }
            _ => self.theta,
        };
        let stretch = |pair: usize| {
            let turn = theta.powf(-2.0 * pair as f64 / dim);
            let (kept, factor) = match self.scaling {
                Scaling::None | Scaling::Dynamic { .. } => return turn,
                Scaling::Long { ref short, ref long, trained, .. } => {
                    return turn / if length > trained { long[pair] } else { short[pair] };
                }
                Scaling::Linear { factor } => return turn / factor,
                Scaling::Llama3 { factor, low, high, original } => {
                    let waves = original * turn / (2.0 * PI); // wavelengths per original context
                    ((waves - low) / (high - low), factor)
                }
                Scaling::Yarn { factor, kept, divided, .. } => {
                    ((divided - pair as f64) / (divided - kept), factor)
                }
            };
            let kept = kept.clamp(0.0, 1.0);
            turn * (kept + (1.0 - kept) / factor)
        };
        (0..self.dim / 2).map(|pair| stretch(pair) as f32).collect()
    }
}
