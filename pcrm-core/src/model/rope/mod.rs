//! Rotary positions: how far angles turn per position, with the scalings of longer contexts.

mod angles;
mod section;

use std::f64::consts::PI;

pub(super) use self::angles::Angles;
use self::section::Section;
use crate::error::Result;
use crate::model::fields::Fields;
use crate::tree::SequenceTree;

/// How far the angle turns per position, for every pair of dimensions.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// θ: pair i of dim/2 turns by θ^(−2i/dim) per position.
    pub theta: f64,
    /// Dimensions of a head that turn: its first ones.
    pub dim: usize,
    /// How the angles are stretched.
    pub scaling: Scaling,
}

/// How angles are stretched for contexts longer than those trained on.
#[derive(Debug, Clone, PartialEq)]
pub enum Scaling {
    /// Not at all.
    None,
    /// All angles divided by a factor (arXiv 2306.15595).
    Linear {
        /// The factor.
        factor: f64,
    },
    /// NTK-aware, by the length n of the sequence: beyond the trained context t, θ is multiplied by
    /// (factor·n/t − factor + 1)^(dim/(dim − 2)) (arXiv 2309.00071, §3.3; as `transformers` writes it).
    ///
    /// n is the longest sequence of a row's own tree: what else stands in the batch changes nothing.
    /// Sequences of different lengths beyond t share no angles, so they must not share a prompt (see
    /// [`Rope::trained`]).
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
        /// Wavelengths over original / low are divided.
        low: f64,
        /// Wavelengths under original / high are kept.
        high: f64,
        /// The context trained on.
        original: f64,
    },
    /// YaRN (arXiv 2309.00071): late pairs divided by a factor, early pairs kept, a ramp between by the
    /// pair's number; cos and sin multiplied by a magnitude, so that scores of attention grow by its square.
    Yarn {
        /// The factor.
        factor: f64,
        /// The last pair that is kept.
        kept: f64,
        /// The first pair that is divided.
        divided: f64,
        /// What cos and sin are multiplied by, 0.1·ln(factor) + 1 unless the config says otherwise.
        magnitude: f64,
    },
    /// LongRoPE (arXiv 2402.13753): every pair divided by a number of its own, one for sequences within the context
    /// trained on and one for longer ones; cos and sin multiplied by a magnitude.
    ///
    /// The length of a sequence is that of the longest in its tree, as for `Dynamic`.
    Long {
        /// The divisors of sequences within the context trained on.
        short: Vec<f64>,
        /// The divisors of longer sequences.
        long: Vec<f64>,
        /// The context trained on.
        trained: usize,
        /// What cos and sin are multiplied by, √(1 + ln(factor) / ln(trained)) unless the config says otherwise.
        magnitude: f64,
    },
}

impl Scaling {
    /// The name that configs have for it.
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

/// Rotary positions of a model's layers.
pub(super) struct Ropes {
    /// Of layers that see all; `None`: they have none.
    pub far: Option<Rope>,
    /// Of layers with a window.
    pub near: Option<Rope>,
    /// Entries of the config that are not read.
    pub unread: Vec<String>,
}

impl Ropes {
    /// Positions that turn nothing.
    pub fn none() -> Self {
        Self { far: None, near: None, unread: Vec::new() }
    }

    /// Reads `rope_parameters` (transformers 5), or `rope_theta` and `rope_scaling` (transformers 4), of
    /// heads of `dim` dimensions that turn whole.
    ///
    /// # Errors
    /// A scaling of a type that is not served, an entry that is missing or of the wrong type, heads that turn
    /// in part.
    pub fn whole(fields: &Fields<'_>, dim: usize, max_positions: usize) -> Result<Self> {
        let section = Section::of_model(fields)?;
        refuse_share(fields, section.share()?)?;
        Ok(Self::alike(section.rope("rope_theta", dim, max_positions)?, section.unread()))
    }

    /// As [`Ropes::whole`] for heads that turn in part: `partial_rotary_factor` beside θ (transformers 5), or these
    /// keys of the share and of θ (transformers 4).
    ///
    /// # Errors
    /// As [`Ropes::whole`]; a share that is none.
    pub fn partial(
        fields: &Fields<'_>,
        [share_key, theta]: [&str; 2],
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
        Ok(Self::alike(section.rope(theta, turning, max_positions)?, section.unread()))
    }

    /// The angles of layers that see all and of layers with a window: `full_attention` and
    /// `sliding_attention` of `rope_parameters` (transformers 5); or `rope_theta` with `rope_scaling`, and the key
    /// `local` without (transformers 4).
    ///
    /// # Errors
    /// As [`Ropes::whole`].
    pub fn by_layer(fields: &Fields<'_>, local: &str, dim: usize, max_positions: usize) -> Result<Self> {
        let [far, near] = Section::by_layer(fields)?;
        for section in [&far, &near] {
            refuse_share(fields, section.share()?)?;
        }
        Ok(Self {
            far: Some(far.rope("rope_theta", dim, max_positions)?),
            near: Some(near.rope(local, dim, max_positions)?),
            unread: [far.unread(), near.unread()].concat(),
        })
    }

    fn alike(rope: Rope, unread: Vec<String>) -> Self {
        Self { far: Some(rope.clone()), near: Some(rope), unread }
    }
}

/// Refuses heads of which only a share turns.
fn refuse_share(fields: &Fields<'_>, share: Option<f64>) -> Result<()> {
    let share = match share {
        Some(share) => share,
        None if fields.value("partial_rotary_factor").is_null() => 1.0,
        None => fields.number("partial_rotary_factor")?,
    };
    match share == 1.0 {
        true => Ok(()),
        false => {
            Err(fields.error(&format!("partial_rotary_factor is {share}; expected 1: heads turn whole here")))
        }
    }
}

impl Rope {
    /// The context beyond which angles depend on the length of the sequence; `None`: they never do.
    pub fn trained(&self) -> Option<usize> {
        match self.scaling {
            Scaling::Dynamic { trained, .. } | Scaling::Long { trained, .. } => Some(trained),
            _ => None,
        }
    }

    /// For every row, the length that its angles depend on; 0 where they do not.
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

    /// cos and sin of positions `0..count`, `[count, dim / 2]`, in sequences of this length.
    fn table(&self, count: usize, length: usize) -> Vec<(f32, f32)> {
        let (turns, half) = (self.turns(length), self.dim / 2);
        let magnitude = match self.scaling {
            Scaling::Yarn { magnitude, .. } | Scaling::Long { magnitude, .. } => magnitude,
            _ => 1.0,
        };
        // The product is rounded to f32 first, as transformers computes it.
        let angle = |at: usize| f64::from((at / half) as f32 * turns[at % half]);
        let point = |a: f64| ((magnitude * a.cos()) as f32, (magnitude * a.sin()) as f32);
        (0..count * half).map(angle).map(point).collect()
    }

    /// Radians per position of every pair, in sequences of this length.
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
                    let waves = original * turn / (2.0 * PI); // wavelengths that fit into the original context
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
