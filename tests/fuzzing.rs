//! The entries of the fuzz targets on a small seeded corpus, so that they are tested without libFuzzer.

#[path = "../fuzz/src/entries.rs"]
mod entries;

use std::fs;

use anyhow::Result;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::binary::{World, stderr};
use crate::support::beside;

/// Runs an entry on a seed and on seeded changes of it: flipped bits, holes, repetitions, bytes of other
/// seeds.
fn fuzz(entry: impl Fn(&[u8]), seed: &[u8], rounds: u64) {
    entry(seed);
    let tokens: [&[u8]; 12] = [
        b"\"",
        b"{",
        b"}",
        b"[",
        b"]",
        b"null",
        b"-1",
        b"1e999",
        b"\xff",
        b"\0",
        b"4294967296",
        b"{% for x in y %}",
    ];
    for round in 0..rounds {
        let mut rng = ChaCha8Rng::seed_from_u64(round);
        let mut bytes = seed.to_vec();
        for _ in 0..rng.random_range(1..6) {
            if bytes.is_empty() {
                break;
            }
            let at = rng.random_range(0..bytes.len());
            let to = (at + rng.random_range(1..64)).min(bytes.len());
            match rng.random_range(0..5) {
                0 => bytes[at] ^= 1 << rng.random_range(0..8),
                1 => drop(bytes.drain(at..to)),
                2 => {
                    let piece = bytes[at..to].to_vec();
                    drop(bytes.splice(at..at, piece));
                }
                3 => {
                    let token = tokens[rng.random_range(0..tokens.len())];
                    drop(bytes.splice(at..at, token.iter().copied()));
                }
                _ => bytes.truncate(at),
            }
        }
        entry(&bytes);
    }
}

#[test]
fn records_and_preferences() {
    let lines = br#"{"prompt": "q", "chosen": "a", "rejected": "b", "margin": 1}
{"instruction": "q", "chosen": "c", "rejected": "d", "history": [["h", "g"]]}
{"prompt": "q", "responses": ["a", "b", "c"], "ranks": [1, 2, 2]}
{"question": "q", "response_A": "a", "response_B": "b", "label": "B>A"}
{"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}
"#;
    let list = br#"{"version": 1, "data": [{"conversations": [{"from": "human", "value": "q"}],
        "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}}]}"#;
    let packed = zstd::encode_all(&lines[..], 3).unwrap();
    for seed in [&lines[..], &list[..], &packed] {
        fuzz(entries::records, seed, 150);
        fuzz(entries::preferences, seed, 60);
    }
    for line in lines.split(|byte| *byte == b'\n') {
        fuzz(entries::preferences, line, 60);
    }
}

#[test]
fn templates_and_tokenizers() -> Result<()> {
    let read = |name: &str| fs::read(beside("golden/text").join(name));
    let mut template = read("plain/chat_template.jinja")?;
    template.extend(b"\0[{\"role\": \"user\", \"content\": \"q\", \"name\": null}]");
    fuzz(entries::chat_template, &template, 400);
    let tokenizer = read("plain/tokenizer.json")?;
    fuzz(entries::tokenizer, &tokenizer, 150);
    fuzz(|bytes| entries::tokenizer_config(&tokenizer, bytes), &read("bos/tokenizer_config.json")?, 100);
    Ok(())
}

#[test]
fn models() -> Result<()> {
    let folder = beside("golden/models/gpt2");
    fuzz(entries::config, &fs::read(folder.join("config.json"))?, 300);
    fuzz(entries::safetensors, &fs::read(folder.join("model.safetensors"))?, 100);
    fuzz(entries::safetensors, br#"{"weight_map": {"a": "model-1.safetensors", "b": "../x", "c": 3}}"#, 100);
    Ok(())
}

#[test]
fn constraints_checkpoints_and_metrics() {
    let learned =
        br#"{"kind": "combine", "of": [{"kind": "calibrated", "of": "cosine", "folds": 5, "bootstrap": 1000},
        {"kind": "schedule", "of": {"kind": "fixed", "bound": 3}, "start": 2}], "how": "min"}"#;
    fuzz(entries::constraint, br#"{"kind": "length_ratio", "beta1": 20, "beta2": 1.5, "beta3": 1e-3}"#, 300);
    fuzz(entries::constraint, learned, 300);
    let state =
        br#"{"step": 3, "num_tokens": 120, "best": {"step": 2, "loss": 0.5}, "evaluations_without_gain": 0,
        "fingerprint": {"seed": 0}, "files": {"optimizer.safetensors": "99aa06d3014798d86001c324468d497f"}}"#;
    fuzz(entries::checkpoint, state, 200);
    fuzz(
        entries::metrics,
        b"{\"step\": 1, \"loss\": 0.5}\n{\"step\": 5, \"eval_loss\": 0.25}\n{\"step\": 9}\n",
        200,
    );
}

/// Protects: a config file with any content is read or refused, without a panic.
#[test]
fn config_files() -> Result<()> {
    let world = World::new()?;
    let seed = b"model = \"base\"\ndata = [\"train.jsonl\"]\nmax-steps = 1\nlearning-rate = 1e-4\n\
                 constraint = { kind = \"fixed\", bound = 3 }\n";
    let run = |bytes: &[u8]| {
        std::fs::write(world.path("options.toml"), bytes).unwrap();
        let output = world
            .command("constraint bounds --config options.toml --backend none")
            .unwrap()
            .output()
            .unwrap();
        let code = output.status.code();
        assert!(matches!(code, Some(1 | 2)), "{code:?}: {}", stderr(&output));
    };
    fuzz(run, seed, 40);
    Ok(())
}
