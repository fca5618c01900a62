//! Rotary positions: the angles of every position, with the scalings of longer contexts.

use std::f64::consts::PI;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::host::HostTensor;

/// How far the angle turns per position, for every pair of dimensions.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// θ: pair i of dim/2 turns by θ^(−2i/dim) per position.
    pub theta: f64,
    /// How the angles are stretched.
    pub scaling: Scaling,
}

/// How angles are stretched for contexts longer than those trained on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scaling {
    /// Not at all.
    None,
    /// All angles divided by a factor (arXiv 2306.15595).
    Linear {
        /// The factor.
        factor: f64,
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
}

impl Rope {
    /// Reads `rope_parameters` (transformers 5) or `rope_theta` with `rope_scaling` (transformers 4).
    ///
    /// # Errors
    /// A scaling of another type, or one with a field that is missing or not a number.
    pub fn from_config(config: &Map<String, Value>) -> Result<Self> {
        let section = ["rope_parameters", "rope_scaling"]
            .iter()
            .find_map(|key| config.get(*key).and_then(Value::as_object).map(|section| (*key, section)));
        let of_section = section.and_then(|(_, section)| section.get("rope_theta")).and_then(Value::as_f64);
        let theta =
            of_section.or_else(|| config.get("rope_theta").and_then(Value::as_f64)).unwrap_or(10_000.0);
        let Some((key, section)) = section else { return Ok(Self { theta, scaling: Scaling::None }) };
        let number = |field: &str| {
            let found = section.get(field).unwrap_or(&Value::Null);
            found.as_f64().filter(|value| *value > 0.0).ok_or_else(|| {
                Error::invalid(format!("{key}.{field}"), format!("expected a positive number, found {found}"))
            })
        };
        let kind = section.get("rope_type").or_else(|| section.get("type")).and_then(Value::as_str);
        let scaling = match kind.unwrap_or("default") {
            "default" => Scaling::None,
            "linear" => Scaling::Linear { factor: number("factor")? },
            "llama3" => Scaling::Llama3 {
                factor: number("factor")?,
                low: number("low_freq_factor")?,
                high: number("high_freq_factor")?,
                original: number("original_max_position_embeddings")?,
            },
            other => {
                let message = format!("{other:?} is not served; known: default, linear, llama3");
                return Err(Error::invalid(format!("{key}.rope_type"), message));
            }
        };
        Ok(Self { theta, scaling })
    }

    /// cos and sin of every row's angles, each `[rows, dim / 2]`.
    ///
    /// # Errors
    /// None in practice.
    pub fn tables(&self, positions: &[u32], dim: usize) -> Result<[HostTensor; 2]> {
        let turns = self.turns(dim);
        let (half, last) = (turns.len(), positions.iter().max().map_or(0, |position| *position as usize));
        // The product is rounded to f32 first, as transformers computes it.
        let angle = |at: usize| f64::from((at / half) as f32 * turns[at % half]);
        let by_position: Vec<(f32, f32)> =
            (0..(last + 1) * half).map(angle).map(|a| (a.cos() as f32, a.sin() as f32)).collect();
        let rows = || positions.iter().flat_map(|at| &by_position[*at as usize * half..][..half]);
        let shape = [positions.len(), half];
        Ok([
            HostTensor::f32(shape, rows().map(|(cos, _)| *cos).collect())?,
            HostTensor::f32(shape, rows().map(|(_, sin)| *sin).collect())?,
        ])
    }

    /// Radians per position of every pair.
    fn turns(&self, dim: usize) -> Vec<f32> {
        let plain = (0..dim / 2).map(|pair| self.theta.powf(-2.0 * pair as f64 / dim as f64));
        let stretch = |turn: f64| match self.scaling {
            Scaling::None => turn,
            Scaling::Linear { factor } => turn / factor,
            Scaling::Llama3 { factor, low, high, original } => {
                let waves = original * turn / (2.0 * PI); // wavelengths that fit into the original context
                let kept = ((waves - low) / (high - low)).clamp(0.0, 1.0);
                turn * (kept + (1.0 - kept) / factor)
            }
        };
        plain.map(|turn| stretch(turn) as f32).collect()
    }
}
