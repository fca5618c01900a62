//! Options that are refused.

use super::*;

fn refused(config: &TrainerConfig, evaluates: bool) -> Option<String> {
    config.check(evaluates).err().map(|error| error.to_string())
}

/// Protects: the defaults are valid and survive serialisation.
#[test]
fn the_defaults_are_usable_and_readable() {
    let config = TrainerConfig::default();
    assert_eq!(refused(&config, false), None);
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<TrainerConfig>(&text).unwrap(), config);
    assert_eq!(serde_json::from_str::<TrainerConfig>(r#"{"epochs": 2}"#).unwrap().epochs, 2.0);
    assert!(serde_json::from_str::<TrainerConfig>(r#"{"epoch": 2}"#).is_err());
}

/// Protects: numbers out of range are refused by the option's name, with the value.
#[test]
fn numbers_outside_their_range_are_refused() {
    type Change = fn(&mut TrainerConfig);
    let cases: [(&str, Change); 24] = [
        ("epochs: 0: ", |config| config.epochs = 0.0),
        ("epochs: inf: ", |config| config.epochs = f64::INFINITY),
        ("epochs: NaN: ", |config| config.epochs = f64::NAN),
        ("learning-rate: -1: ", |config| config.learning_rate = -1.0),
        ("learning-rate: 0: ", |config| config.learning_rate = 0.0),
        ("warmup-ratio: 1.5: ", |config| config.warmup = Warmup::Ratio(1.5)),
        ("warmup-ratio: -0.1: ", |config| config.warmup = Warmup::Ratio(-0.1)),
        ("weight-decay: -0.1: ", |config| config.adamw.weight_decay = -0.1),
        ("weight-decay: 20000: at --learning-rate 0.0001", |config| config.adamw.weight_decay = 2e4),
        ("weight-decay: 1e300: expected", |config| config.adamw.weight_decay = 1e300),
        ("adam-beta1: 1: ", |config| config.adamw.beta1 = 1.0),
        ("adam-beta1: 0.99999999999: ", |config| config.adamw.beta1 = 0.999_999_999_99),
        ("adam-beta2: -0.5: ", |config| config.adamw.beta2 = -0.5),
        ("adam-epsilon: 0: ", |config| config.adamw.eps = 0.0),
        ("adam-epsilon: 1e-51: ", |config| {
            config.adamw.eps = 1e-51;
        }),
        ("max-grad-norm: -1: ", |config| config.max_grad_norm = Some(-1.0)),
        ("batch: 0: ", |config| config.batch = BatchSize::Pairs(0)),
        ("batch-tokens: 0: ", |config| config.batch = BatchSize::Tokens(0)),
        ("max-steps: 0: ", |config| config.max_steps = Some(0)),
        ("micro-tokens: 0: ", |config| config.micro_tokens = 0),
        ("lanes: 0: ", |config| config.lanes = 0),
        ("log-every: 0: ", |config| config.log_every = 0),
        ("save-every: 0: ", |config| config.save_every = Some(0)),
        ("keep: 0: ", |config| config.keep = 0),
    ];
    for (expected, change) in cases {
        let mut config = TrainerConfig::default();
        change(&mut config);
        let message = refused(&config, true).unwrap_or_default();
        assert!(message.starts_with(expected), "{message:?}, not {expected:?}");
    }
}

/// Protects: an option without effect is refused, and accepted if it has an effect.
#[test]
fn options_without_effect_are_refused() {
    let usual = TrainerConfig::default;
    let every = TrainerConfig { eval_every: Some(5), ..usual() };
    let adafactor =
        |adamw: AdamWConfig| TrainerConfig { optimizer: Rule::Adafactor, adamw, ..TrainerConfig::default() };
    let cases = [
        (every.clone(), "eval-every: needs held-out data"),
        (TrainerConfig { patience: Some(2), ..usual() }, "patience: needs held-out data"),
        (TrainerConfig { final_weights: Final::Best, ..usual() }, "final: needs held-out data"),
        (
            adafactor(AdamWConfig { beta1: 0.5, ..AdamWConfig::default() }),
            "adam-beta1: 0.5: has no effect with --optimizer adafactor",
        ),
        (adafactor(AdamWConfig { beta2: 0.99, ..AdamWConfig::default() }), "adam-beta2: 0.99: has no effect"),
        (
            TrainerConfig { optimizer: Rule::Adafactor, optimizer_states: StatePlace::Host, ..usual() },
            "optimizer-states: host: has no effect with --optimizer adafactor",
        ),
        (
            adafactor(AdamWConfig { eps: 1e-6, ..AdamWConfig::default() }),
            "adam-epsilon: 0.000001: has no effect",
        ),
    ];
    for (config, expected) in cases {
        let message = refused(&config, false).unwrap_or_default();
        assert!(message.starts_with(expected), "{message:?}");
    }
    let best = TrainerConfig { final_weights: Final::Best, ..usual() };
    assert!(refused(&best, true).unwrap_or_default().contains("--eval-every"));
    assert_eq!(refused(&TrainerConfig { patience: Some(2), ..every }, true), None);
    for optimizer in [Rule::AdamW, Rule::AdamW8bit] {
        let host = TrainerConfig { optimizer, optimizer_states: StatePlace::Host, ..usual() };
        assert_eq!(refused(&host, false), None);
    }
    let decayed = AdamWConfig { weight_decay: 0.1, ..AdamWConfig::default() };
    assert_eq!(refused(&adafactor(decayed), false), None);
    let other = TrainerConfig { adamw: AdamWConfig { beta1: 0.5, ..decayed }, ..usual() };
    assert_eq!(refused(&other, false), None);
}
