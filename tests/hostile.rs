//! Malicious files: each gives a clear error, and none crashes the program, hangs it or controls the
//! terminal.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use crate::binary::{World, stderr};

const SCORE: &str = "score --model hostile --data test.jsonl";

/// Makes a world with a second model, `hostile`, a copy of the base.
fn world() -> Result<World> {
    let world = World::new()?;
    fs::create_dir(world.path("hostile"))?;
    for entry in fs::read_dir(world.path("base"))? {
        let entry = entry?;
        fs::copy(entry.path(), world.path("hostile").join(entry.file_name()))?;
    }
    Ok(world)
}

/// Changes keys of one of the second model's JSON files; null removes a key.
fn change(world: &World, file: &str, changes: &Value) -> Result<()> {
    let mut fields: Map<String, Value> = serde_json::from_slice(&world.read(&format!("base/{file}"))?)?;
    for (key, value) in changes.as_object().context("changes")? {
        match value {
            Value::Null => drop(fields.remove(key)),
            value => drop(fields.insert(key.clone(), value.clone())),
        }
    }
    world.write(&format!("hostile/{file}"), &Value::Object(fields).to_string())
}

/// Protects: a value of the wrong type is an error that shows the value, even if another key takes
/// precedence.
#[test]
fn wrong_types_of_a_config_are_shown() -> Result<()> {
    let world = world()?;
    let theta = json!({"rope_theta": 10000.0, "rope_type": "default"});
    for (changes, said) in [
        (json!({"rope_theta": "500000"}), "rope_theta is \"500000\"; expected a number"),
        (
            json!({"rope_theta": "500000", "rope_parameters": theta}),
            "rope_theta is \"500000\"; expected a number",
        ),
        (json!({"rope_parameters": {"rope_theta": "500000"}}), "rope_theta is \"500000\"; expected a"),
        (json!({"rms_norm_eps": "0.5"}), "rms_norm_eps is \"0.5\"; expected a number"),
        (json!({"rope_scaling": [1]}), "rope_scaling is [1]; expected an object"),
        (json!({"tie_word_embeddings": "false"}), "tie_word_embeddings is \"false\"; expected true or false"),
        (json!({"initializer_range": -1}), "initializer_range is -1; expected a number from 0 up"),
        (json!({"pad_token_id": 4_294_967_297_u64}), "pad_token_id is 4294967297; expected a token id"),
        (json!({"eos_token_id": "2"}), "eos_token_id is \"2\"; expected a token id"),
        (
            json!({"architectures": "LlamaForCausalLM"}),
            "architectures is \"LlamaForCausalLM\"; expected a list",
        ),
        (json!({"problem_type": 3}), "problem_type is 3; expected text"),
        (json!({"pcrm": {"max_length": "512"}}), "pcrm.max_length is \"512\"; expected a whole number"),
        (
            json!({"num_attention_heads": 4096, "num_key_value_heads": 4096}),
            "num_attention_heads is 4096; expected at most",
        ),
    ] {
        change(&world, "config.json", &changes)?;
        world.refuses(SCORE, &["config.json", said])?;
    }
    Ok(())
}

/// Protects: sizes in a config are checked before memory is allocated.
#[test]
fn sizes_of_a_config_are_weighed() -> Result<()> {
    let world = world()?;
    let draw = "reward --model hostile --data train.jsonl --random-init --max-steps 1 --output rm";
    for (changes, command, said) in [
        (
            json!({"num_hidden_layers": 1_000_000_000}),
            SCORE,
            "num_hidden_layers is 1000000000; expected at most 10000",
        ),
        (
            json!({"num_hidden_layers": 1_000_000_000}),
            draw,
            "num_hidden_layers is 1000000000; expected at most 10000",
        ),
        (json!({"num_hidden_layers": 9_999}), SCORE, "missing"),
        (json!({"vocab_size": 4_294_967_295_u64}), SCORE, "has shape"),
        (
            json!({"vocab_size": 4_294_967_295_u64, "intermediate_size": 4_294_967_295_u64}),
            draw,
            "GiB of memory",
        ),
        (
            json!({
                "max_position_embeddings": 4_294_967_295_u64,
                "num_hidden_layers": 10_000,
                "intermediate_size": 4_000_000_000_u64,
            }),
            draw,
            "GiB of memory",
        ),
    ] {
        change(&world, "config.json", &changes)?;
        world.refuses(command, &[said])?;
    }
    world.refuses(&format!("{SCORE} --threads 1000000"), &["--threads", "expected at most 1024 threads"])
}

/// Protects: a tokenizer on which the library panics or exhausts memory is an error that names its file or
/// the failing record.
#[test]
fn tokenizers_do_not_panic() -> Result<()> {
    let world = world()?;
    let words = json!({"type": "WordLevel", "vocab": {"a": 0, "</s>": 1}, "unk_token": "a"});
    let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    let template = |single: Value, pair: Value| {
        json!({"model": words, "post_processor": {"type": "TemplateProcessing", "single": single, "pair": pair,
            "special_tokens": {}}})
    };
    let replace = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "a".repeat(1000)});
    let unlisted = json!([{"SpecialToken": {"id": "X", "type_id": 0}}]);
    for (tokenizer, said) in [
        (template(unlisted, json!([text("A"), text("B")])), "names the token \"X\""),
        (template(json!([text("B")]), json!([])), "writes the texts [B]"),
        (
            json!({"model": words, "pre_tokenizer": {"type": "FixedLength", "length": 0}}),
            "cannot encode a text",
        ),
        (
            json!({"model": words, "normalizer": {"type": "Precompiled", "precompiled_charsmap": "/////w=="}}),
            "declares 4294967295 more",
        ),
        (
            json!({"model": words, "normalizer": {"type": "Sequence", "normalizers": vec![&replace; 6]}}),
            "times as long",
        ),
        (json!({"model": words, "added_tokens": [{"id": 1, "content": "b".repeat(5000)}]}), "has 5000 bytes"),
    ] {
        let file = tokenizer.to_string();
        world.write("hostile/tokenizer.json", &file)?;
        world.write("hostile/tokenizer_config.json", r#"{"tokenizer_class": "PreTrainedTokenizerFast"}"#)?;
        world.refuses(SCORE, &["hostile/tokenizer.json: ", said])?;
    }
    // These fail on a text of the data.
    world.write(
        "slow.jsonl",
        &format!(
            "{}\n{}\n",
            json!({"prompt": "q", "chosen": "a", "rejected": "b"}),
            json!({"prompt": "q", "chosen": format!("y{}", "a".repeat(60)), "rejected": "b"})
        ),
    )?;
    let split = |pattern: &str| {
        json!({"model": words, "pre_tokenizer":
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false}})
    };
    world.write("hostile/tokenizer.json", &split("(?:(?:[^x]|.)*)*y").to_string())?;
    world.write(
        "hostile/tokenizer_config.json",
        r#"{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"}"#,
    )?;
    world.write("hostile/chat_template.jinja", "{{ messages[0].content }}")?;
    let message = world.fails("score --model hostile --data slow.jsonl")?;
    ensure!(message.contains("slow.jsonl:2: ") && message.contains("takes too many steps"), "{message}");
    Ok(())
}

/// Protects: no text in a file reaches the terminal as a control sequence.
#[test]
fn escapes_do_not_reach_the_terminal() -> Result<()> {
    let world = world()?;
    let evil = "\u{1b}]0;PWN\u{7}\u{1b}[31mred\u{1b}[2J\u{9b}31m\u{202e}";
    let is_clean =
        |text: &str| !text.chars().any(|c| (c.is_control() && c != '\n' && c != '\t') || c == '\u{202e}');
    world.write("keys.jsonl", &format!("{}\n", json!({(evil): 1})))?;
    world.write(
        "column.jsonl",
        &format!("{}\n", json!({"chosen": "a", "rejected": "b", "prompt": "q", (evil): 1})),
    )?;
    let refuse = json!(format!("{{{{ raise_exception({}) }}}}", json!(evil)));
    change(&world, "tokenizer_config.json", &json!({"chat_template": refuse}))?;
    fs::remove_file(world.path("hostile/chat_template.jinja"))?;
    world.write(
        "talk.jsonl",
        &format!(
            "{}\n",
            json!({"chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
                "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}]})
        ),
    )?;
    fs::create_dir(world.path("index"))?;
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(world.path("base").join(name), world.path("index").join(name))?;
    }
    let many: Map<String, Value> =
        (0..200_000).map(|at| (format!("t{at}"), json!(format!("{evil}{at}.safetensors")))).collect();
    world.write("index/model.safetensors.index.json", &json!({"weight_map": many}).to_string())?;
    let subset =
        |at: usize| json!({"prompt": "q", "chosen": format!("good {at}"), "rejected": "b", "kind": evil});
    world.write("subset.jsonl", &(0..40).map(|at| format!("{}\n", subset(at))).collect::<String>())?;
    for command in [
        "eval reward --model base --data subset.jsonl --subset-field kind",
        "eval reward --model base --data subset.jsonl --subset-field kind --json",
        "data convert --data keys.jsonl --to conversational_explicit --output o.jsonl",
        "score --model base --data keys.jsonl",
        "inspect --model base --data column.jsonl --no-measure",
        "inspect --model base --data column.jsonl --no-measure --json",
        "score --model hostile --data talk.jsonl",
        "reward --model index --data test.jsonl --output rm",
    ] {
        let output = world.command(command)?.output()?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout).into_owned(), stderr(&output));
        ensure!(is_clean(&out) && is_clean(&err), "{command}: {out:?} {err:?}");
        ensure!(err.len() < 4000, "{command}: a message of {} bytes", err.len());
        ensure!(out.contains("PWN") || err.contains("PWN"), "{command} does not show the name: {out} {err}");
    }
    Ok(())
}

/// Protects: weights that are a pipe or device are refused without waiting; shards must be in the model's
/// folder.
#[cfg(unix)]
#[test]
fn weights_are_regular_files_of_the_folder() -> Result<()> {
    let world = world()?;
    let weights = world.path("hostile/model.safetensors");
    fs::remove_file(&weights)?;
    ensure!(Command::new("mkfifo").arg(&weights).status()?.success(), "mkfifo");
    let regular = "is a pipe, socket or device; expected a regular file";
    world.refuses(SCORE, &["model.safetensors: ", regular])?;
    fs::remove_file(&weights)?;
    std::os::unix::fs::symlink("/dev/zero", &weights)?;
    world.refuses(SCORE, &["model.safetensors: ", regular])?;
    fs::remove_file(&weights)?;
    for shard in ["../base/model.safetensors", "/etc/passwd", "sub/../../base/model.safetensors"] {
        world.write(
            "hostile/model.safetensors.index.json",
            &json!({"weight_map": {"model.norm.weight": shard}}).to_string(),
        )?;
        world.refuses(
            SCORE,
            &["weight_map.model.norm.weight", "expected the name of a file in the same folder"],
        )?;
    }
    Ok(())
}
