use super::*;

fn cost(peak: f64, available: f64) -> Cost {
    Cost {
        on: String::new(),
        parameters: 1,
        state_mib: 1.0,
        states: States::of(1),
        bases: Vec::new(),
        batch: 1,
        micro_tokens: 1,
        steps: 1,
        tokens_per_second: 1.0,
        seconds_per_step: 1.0,
        steps_per_epoch: 1,
        seconds_per_epoch: 1.0,
        peak_mib: Some(peak),
        available_mib: Some(available),
        by_micro_tokens: Vec::new(),
        by_length: Vec::new(),
    }
}

/// Protects: bytes per parameter, computed by hand: 4 for the weight, 4 for the gradient, 8 for f32
/// moments; 8-bit moments have one byte each and a 4-byte scale per 256 of them.
#[test]
fn bytes_of_a_parameter_are_counted() {
    let states = States::of(1 << 20);
    let of = |rule: &str, weights: &str| {
        let found = states.iter().find(|state| state.optimizer == rule && state.weights == weights);
        found.map(|state| (state.bytes, state.moments, state.mib))
    };
    assert_eq!(of("adamw", "f32"), Some((16.0, 8.0, 16.0)));
    assert_eq!(of("adamw-8bit", "bf16-stochastic"), Some((8.03125, 2.03125, 8.03125)));
    assert_eq!(of("adafactor", "bf16-kahan"), Some((8.0, 0.0, 8.0)));
}

/// Protects: the bytes of a base are those of its layers by hand: one layer of llama with 64 columns, an
/// embedding and norms.
#[test]
fn bytes_of_a_base_are_counted() -> Result<()> {
    let config = serde_json::json!({
        "model_type": "llama", "vocab_size": 100, "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16
    });
    let config = config.as_object().cloned().unwrap_or_default();
    let config = ModelConfig::from_json(config, Path::new("config.json"))?;
    let linear = 4 * 64 * 64 + 3 * 64 * 128;
    let (tables, vectors) = (100 * 64 + 64, 3 * 64);
    let rows = 4 * 64 + 2 * 128 + 64;
    let floats = 2 * tables + 4 * vectors;
    let found = BaseStorage::of(&model::parameters::parameters(&config, &[Head::Score]));
    let expected = [
        ("f32", 4 * (linear + tables + vectors)),
        ("bf16", 2 * (linear + tables) + 4 * vectors),
        ("int8", linear + 4 * rows + floats),
        ("nf4", linear / 2 + linear / 16 + floats),
        // A byte per 64 elements, and 4 bytes per 256 of those or part of them.
        ("nf4-double", linear / 2 + linear / 64 + 4 * 7 + floats),
    ];
    assert_eq!(found.len(), expected.len());
    for (found, (name, want)) in found.iter().zip(expected) {
        assert_eq!((found.storage.as_str(), (found.mib * MIB).round() as usize), (name, want));
    }
    Ok(())
}

/// Protects: short memory is reported before training runs out of it.
#[test]
fn short_memory_is_found() {
    assert_eq!(cost(100.0, 1000.0).findings(), []);
    let found = cost(950.0, 1000.0).findings();
    assert_eq!((found.len(), found[0].code, found[0].severity), (1, "memory", Severity::Warning));
}

/// Protects: the line through two peaks matches a hand-made example of 100 MiB plus 0.1 MiB per token,
/// and no setting exceeds the tokens of the largest batch.
#[test]
fn memory_grows_with_tokens() {
    let found = by_micro_tokens(&[(1000, 200.0), (3000, 400.0)], 3000);
    let found: Vec<(usize, i64)> =
        found.iter().map(|at| (at.micro_tokens, (10.0 * at.peak_mib).round() as i64)).collect();
    assert_eq!(found, [(1024, 2024), (2048, 3048), (4096, 4000)]);
    assert!(by_micro_tokens(&[(1000, 200.0), (3000, 200.0)], 3000).is_empty());
}
