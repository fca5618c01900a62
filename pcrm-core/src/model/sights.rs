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
    let turns = match family.positions {
        Positions::RotaryInSome { list, every } => fields.turning(list, every, layers)?,
        _ => vec![true; layers],
    };
    let windows = fields.windows(family.windows, &turns)?;
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use crate::error::Result;
    use crate::model::ModelConfig;

    /// Reads a config of three layers with these keys.
    fn read(family: &str, changes: &Value) -> Result<ModelConfig> {
        let mut config = json!({
            "model_type": family, "vocab_size": 67, "hidden_size": 16, "intermediate_size": 8,
            "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2
        });
        for (key, value) in changes.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        ModelConfig::from_json(config.as_object().cloned().unwrap_or_default(), Path::new("config.json"))
    }

    fn windows(family: &str, changes: &Value) -> Result<Vec<Option<usize>>> {
        Ok(read(family, changes)?.sights.iter().map(|sight| sight.window).collect())
    }

    fn said(family: &str, changes: &Value) -> String {
        read(family, changes).map_or_else(|error| error.to_string(), |_| String::new())
    }

    /// Protects: windows of smollm3 match transformers: with `use_sliding_window`, in the layers that
    /// `layer_types` lists, else in those without positions.
    #[test]
    fn windows_of_smollm3_are_in_layers_without_positions() -> Result<()> {
        let of = |changes: Value| windows("smollm3", &changes);
        let (full, sliding) = ("full_attention", "sliding_attention");
        assert_eq!(of(json!({}))?, [None; 3]);
        assert_eq!(of(json!({"sliding_window": 5, "no_rope_layers": [0, 1, 0]}))?, [None; 3]);
        assert_eq!(of(json!({"use_sliding_window": true, "no_rope_layers": [0, 1, 0]}))?, [None; 3]);
        let on = json!({"use_sliding_window": true, "sliding_window": 5, "no_rope_layers": [0, 1, 0]});
        assert_eq!(of(on)?, [Some(5), None, Some(5)]);
        let every = json!({"use_sliding_window": true, "sliding_window": 5, "no_rope_layer_interval": 2});
        assert_eq!(of(every)?, [None, Some(5), None]);
        let mut listed = json!({"use_sliding_window": true, "sliding_window": 5, "no_rope_layers": [0, 1, 0],
            "layer_types": [full, sliding, full]});
        assert_eq!(of(listed.clone())?, [None, Some(5), None]);
        let turns = read("smollm3", &listed)?;
        assert_eq!(
            turns.sights.iter().map(|sight| sight.rope.is_some()).collect::<Vec<_>>(),
            [false, true, false]
        );
        // Implementations of attention in transformers differ.
        listed["use_sliding_window"] = json!(false);
        let message = said("smollm3", &listed);
        assert!(message.contains("use_sliding_window is false; expected a window"), "{message}");
        Ok(())
    }

    /// Protects: qwen2_moe with windows but without their size is refused, as transformers fails on it.
    #[test]
    fn windows_without_a_size_are_refused() {
        for layers in [0, 2] {
            let on = json!({"use_sliding_window": true, "sliding_window": null, "max_window_layers": layers});
            let message = said("qwen2_moe", &on);
            assert!(message.contains("sliding_window is null; expected a window"), "{message}");
        }
        assert_eq!(said("qwen2_moe", &json!({"sliding_window": null})), "");
    }

    /// Protects: `rope_theta` of olmo3 is θ of layers without a window, as in transformers 5, and their own
    /// section names that of the others.
    #[test]
    fn rope_theta_of_olmo3_is_for_layers_without_a_window() -> Result<()> {
        let of = |changes: Value| -> Result<Vec<f64>> {
            let sights = read("olmo3", &changes)?.sights;
            Ok(sights.iter().filter_map(|sight| Some(sight.rope.as_ref()?.theta)).collect())
        };
        let types = json!(["sliding_attention", "full_attention", "full_attention"]);
        let flat = json!({"rope_theta": 100.0, "layer_types": types.clone()});
        assert_eq!(of(flat)?, [500_000.0, 100.0, 100.0]);
        let own = json!({"rope_theta": 100.0, "layer_types": types.clone(), "rope_parameters": {
            "full_attention": {"rope_type": "default"},
            "sliding_attention": {"rope_type": "default", "rope_theta": 7.0}}});
        assert_eq!(of(own)?, [7.0, 100.0, 100.0]);
        assert_eq!(of(json!({"layer_types": types}))?, [500_000.0; 3]);
        Ok(())
    }
}
