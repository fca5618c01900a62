//! Malformed files: more than a hundred seeded ones, and a few that unpack to gigabytes.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use pcrm_core::data::output::write_records;
use pcrm_core::data::preference::{ReadOptions, Strictness, load_preferences};
use pcrm_core::data::texts::load_rows;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::binary::World;

/// Returns records of every schema of pairs.
fn records() -> Vec<Value> {
    let turn = |role: &str, said: &str| json!({"role": role, "content": said});
    let (asked, good, bad) = (turn("user", "q"), turn("assistant", "a"), turn("assistant", "b"));
    vec![
        json!({"prompt": "q", "chosen": "naïve answer", "rejected": "b \u{1F642}", "margin": 1.5}),
        json!({"prompt": [asked], "chosen": [good], "rejected": [bad], "score_chosen": 2, "score_rejected": 1}),
        json!({"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}),
        json!({"instruction": "i", "history": [["h", "g"]], "chosen": "a", "rejected": "b"}),
        json!({"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "a"},
            "rejected": {"from": "gpt", "value": "b"}}),
        json!({"prompt": "q", "responses": ["a", "b", "c"], "scores": [1, 2, 2]}),
        json!({"instruction": "q", "completions": [{"response": "a", "overall_score": 7.5},
            {"response": "b", "overall_score": 3.0}]}),
        json!({"question": "q", "response_A": "a", "response_B": "b", "label": "A>B"}),
        json!({"message_tree_id": "1", "prompt": {"message_id": "1", "text": "q", "role": "prompter", "replies": [
            {"message_id": "2", "text": "a", "role": "assistant", "rank": 0, "replies": []},
            {"message_id": "3", "text": "b", "role": "assistant", "rank": 1, "replies": []}]}}),
        json!({"message_id": "1", "parent_id": null, "text": "q", "role": "prompter"}),
    ]
}

/// Writes a well-formed file of a random schema in a random format and returns its bytes.
fn whole(dir: &Path, rng: &mut ChaCha8Rng) -> Result<Vec<u8>> {
    let known = records();
    let record = &known[rng.random_range(0..known.len())];
    let ending = ["jsonl", "json", "jsonl.gz", "jsonl.zst", "parquet"][rng.random_range(0..5)];
    let path = dir.join(format!("whole.{ending}"));
    let count = rng.random_range(1..40);
    write_records(&path, &vec![record.clone(); count])?;
    Ok(fs::read(path)?)
}

/// Replaces a random part of a value by a value of another type.
fn change(value: &mut Value, rng: &mut ChaCha8Rng) {
    let others =
        [json!(null), json!(true), json!(-1e300), json!("x"), json!([]), json!([[1]]), json!({"role": 3})];
    let inner: Vec<&mut Value> = match value {
        Value::Array(items) => items.iter_mut().collect(),
        Value::Object(fields) => fields.values_mut().collect(),
        _ => Vec::new(),
    };
    let count = inner.len();
    match inner.into_iter().nth(if count == 0 { 0 } else { rng.random_range(0..count) }) {
        Some(inner) if rng.random_range(0..3) > 0 => change(inner, rng),
        Some(inner) => *inner = others[rng.random_range(0..others.len())].clone(),
        None => *value = others[rng.random_range(0..others.len())].clone(),
    }
}

/// Makes a malformed file and returns its flaw and its bytes.
fn malformed(number: usize, dir: &Path, rng: &mut ChaCha8Rng) -> Result<(&'static str, Vec<u8>)> {
    let known = records();
    Ok(match number % 7 {
        0 => {
            let mut bytes = whole(dir, rng)?;
            bytes.truncate(rng.random_range(0..bytes.len()));
            ("truncated", bytes)
        }
        1 => {
            let mut bytes = whole(dir, rng)?;
            for _ in 0..rng.random_range(1..9) {
                let at = rng.random_range(0..bytes.len());
                bytes[at] ^= 1 << rng.random_range(0..8);
            }
            ("flipped bits", bytes)
        }
        2 => {
            let mut lines = Vec::new();
            for _ in 0..20 {
                let mut record = known[rng.random_range(0..known.len())].clone();
                change(&mut record, rng);
                writeln!(lines, "{record}")?;
            }
            ("wrong types", lines)
        }
        3 => {
            let mut lines = Vec::new();
            for _ in 0..20 {
                writeln!(lines, "{}", known[rng.random_range(0..known.len())])?;
            }
            ("mixed schemas", lines)
        }
        4 => {
            let mut bytes = serde_json::to_vec(&known[rng.random_range(0..known.len())])?;
            for _ in 0..3 {
                bytes.insert(
                    rng.random_range(0..bytes.len()),
                    [0xff, 0xc0, 0x80, 0xed][rng.random_range(0..4)],
                );
            }
            ("invalid UTF-8", bytes)
        }
        5 => {
            let depth = rng.random_range(200..100_000);
            let (open, close) =
                [("[", "]"), ("{\"prompt\":", "}"), ("{\"replies\":[", "]}")][rng.random_range(0..3)];
            let nested = format!("{{\"chosen\": {}1{}}}", open.repeat(depth), close.repeat(depth));
            ("deep nesting", nested.into_bytes())
        }
        _ => {
            let mut bytes = whole(dir, rng)?;
            let (from, to) = (rng.random_range(0..bytes.len()), rng.random_range(0..bytes.len()));
            bytes.drain(from.min(to)..from.max(to));
            ("a hole", bytes)
        }
    })
}

/// Protects: reading a malformed file ends with records or with an error that names the file; every skipped
/// record is counted with a reason.
#[test]
fn malformed_files_are_reported() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut reported = 0;
    for number in 0..140 {
        let (flaw, bytes) = malformed(number, dir.path(), &mut rng)?;
        let path = dir.path().join("pairs.data");
        fs::write(&path, bytes)?;
        let paths = [path.clone()];
        for strictness in [Strictness::Skip, Strictness::Refuse] {
            let options = || ReadOptions { strictness, ..ReadOptions::default() };
            let results = [
                load_preferences(&paths, options()).map(|(_, report)| report),
                load_rows(&paths, options()).map(|(_, report)| report),
            ];
            for result in results {
                match result {
                    Ok(report) => {
                        let counted: usize = report.counts().values().sum();
                        ensure!(
                            report.kept > 0 && counted + report.kept > 0,
                            "file {number}, {flaw}: {report}"
                        );
                        ensure!(
                            report.problems.iter().all(|problem| !problem.message.is_empty()),
                            "{report:?}"
                        );
                        reported += usize::from(counted > 0);
                    }
                    Err(error) => {
                        let said = error.to_string();
                        ensure!(
                            said.contains("pairs.data") && said.len() < 1500,
                            "file {number}, {flaw}: {said}"
                        );
                        reported += 1;
                    }
                }
            }
        }
    }
    ensure!(reported > 300, "only {reported} of 560 readings reported a flaw");
    Ok(())
}

/// Returns bytes that unpack to 1 GiB of one line.
fn bomb(pack: impl Fn(&[u8]) -> Result<Vec<u8>>) -> Result<Vec<u8>> {
    Ok(pack(&vec![b'x'; 64 << 20])?.repeat(16))
}

/// Returns the peak memory of a failing command in MiB, and its error message.
fn peak_of(world: &World, command: &str) -> Result<(u64, String)> {
    let mut child = world.command(command)?.spawn()?;
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut peak = 0;
    while child.try_wait()?.is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or_default() / 1024);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let output = child.wait_with_output()?;
    ensure!(!output.status.success(), "{command}: succeeded");
    Ok((peak, String::from_utf8(output.stderr)?))
}

/// Protects: a line of 100 MB and archives of a gigabyte are refused with the limit, in little memory.
#[test]
fn giants_are_refused_in_little_memory() -> Result<()> {
    let world = World::new()?;
    let gzip = |bytes: &[u8]| -> Result<Vec<u8>> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes)?;
        Ok(encoder.finish()?)
    };
    let line = format!("{{\"chosen\": \"{}\", \"rejected\": \"b\"}}\n", "x".repeat(100_000_000));
    let array = format!("[{{\"chosen\": \"{}\"}}]\n", "x".repeat(100_000_000));
    let files = [
        ("line.jsonl", line.into_bytes()),
        ("array.json", array.into_bytes()),
        ("bomb.jsonl.gz", bomb(gzip)?),
        ("bomb.jsonl.zst", bomb(|bytes| Ok(zstd::encode_all(bytes, 3)?))?),
    ];
    for (name, bytes) in files {
        fs::write(world.path(name), bytes)?;
        let command = format!("data convert --data {name} --to question --output out.jsonl");
        let (peak, said) = peak_of(&world, &command)?;
        println!("{name}: peak memory {peak} MiB");
        ensure!(said.contains(name) && said.contains("longer than 67108864 bytes"), "{name}: {said}");
        ensure!(peak > 0 && peak < 400, "{name} took {peak} MiB");
        ensure!(!world.path("out.jsonl").exists(), "{name}: something was written");
        fs::remove_file(world.path(name)).context(name)?;
    }
    Ok(())
}
