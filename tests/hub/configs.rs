//! The configs and splits that a data set's card lists.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use super::{Access, Holding, LocalHub, check_refusal, command, done};
use crate::binary::{World, stderr};

const CARD: &str = "---
license: mit
configs:
- config_name: helpful
  default: true
  data_files:
  - split: train
    path: h/*.jsonl
  - split: test
    path:
    - data/train.jsonl
- config_name: harmless
  data_dir: harmless
- config_name: both
  data_files: '{h/a,harmless/t*}.jsonl'
---
# Pairs
";

/// Starts a hub with this card and a data set of eight files, some with misleading names.
fn hub(world: &World, card: &str) -> Result<LocalHub> {
    let rows = String::from_utf8(world.read("train.jsonl")?)?;
    let rows: Vec<&str> = rows.lines().collect();
    let names = [
        "data/test.jsonl",
        "data/train.jsonl",
        "h/a.jsonl",
        "h/b.jsonl",
        "harmless/test.jsonl",
        "harmless/train.jsonl",
        "test/train.jsonl",
    ];
    let mut files = BTreeMap::from([("README.md".to_owned(), card.as_bytes().to_vec())]);
    for (name, rows) in names.iter().zip(rows.chunks(4)) {
        let text = rows.join("\n") + "\n";
        world.write(&name.replace('/', "-"), &text)?;
        files.insert((*name).to_owned(), text.into_bytes());
    }
    LocalHub::start(BTreeMap::from([("datasets/acme/sets", Holding { access: Access::All, files })]))
}

/// Protects: what `datasets` reads for the same config and split is read here: the card takes precedence over the names
/// of files and folders, slices count the split's records, and the cache alone gives the same.
#[test]
fn a_card_tells_the_files_of_a_split() -> Result<()> {
    let world = World::new()?;
    let hub = hub(&world, CARD)?;
    for (part, chosen, local) in [
        ("", "h/a.jsonl, h/b.jsonl", "h-a.jsonl h-b.jsonl"),
        (":train", "h/a.jsonl, h/b.jsonl", "h-a.jsonl h-b.jsonl"),
        (":train[2:6]", "h/a.jsonl, h/b.jsonl", "h-a.jsonl[2:] h-b.jsonl[:2]"),
        (":test", "data/train.jsonl", "data-train.jsonl"),
        (":helpful/test", "data/train.jsonl", "data-train.jsonl"),
        (":harmless", "harmless/train.jsonl", "harmless-train.jsonl"),
        (":harmless/test", "harmless/test.jsonl", "harmless-test.jsonl"),
        (
            ":both",
            "h/a.jsonl, harmless/test.jsonl, harmless/train.jsonl",
            "h-a.jsonl harmless-test.jsonl harmless-train.jsonl",
        ),
        (":test/train.jsonl", "test/train.jsonl", "test-train.jsonl"),
        (":data", "data/test.jsonl, data/train.jsonl", "data-test.jsonl data-train.jsonl"),
    ] {
        let score = format!("score --model base --data acme/sets{part} --output");
        let output = command(&world, &hub.endpoint, &format!("{score} got.jsonl"))?.output()?;
        done(&output)?;
        let name = part.split_once('[').map_or(part, |(name, _)| name);
        let said = stderr(&output);
        ensure!(said.contains(&format!("acme/sets{name}: {chosen}\n")), "{part}: {said}");
        world.run(&format!("score --model base --data {local} --output want.jsonl"))?;
        ensure!(world.read("got.jsonl")? == world.read("want.jsonl")?, "{part} differs from {local}");
        std::fs::remove_file(world.path("want.jsonl"))?;
        std::fs::remove_file(world.path("got.jsonl"))?;
    }
    let asked = hub.requests();
    let cards = asked.iter().filter(|path| path.ends_with("/README.md")).count();
    ensure!(cards == 1, "the card was requested {cards} times: {asked:?}");
    let mut offline =
        command(&world, "http://127.0.0.1:1", "score --model base --data acme/sets:test --output got.jsonl")?;
    let output = offline.env("HF_HUB_OFFLINE", "1").output()?;
    done(&output)?;
    ensure!(stderr(&output).contains("acme/sets:test: data/train.jsonl\n"), "{}", stderr(&output));
    Ok(())
}

/// Protects: only the files of the split are fetched, and none if the card does not determine which to read.
#[test]
fn a_card_that_names_no_files_is_refused() -> Result<()> {
    let world = World::new()?;
    let known = "helpful (train, test), harmless (test, train), both (train)";
    let unmarked = CARD.replace("  default: true\n", "");
    let moved = CARD.replace("h/*.jsonl", "moved/*.jsonl");
    for (card, part, said) in [
        (CARD, ":eval", &["\"eval\" is not a split", known][..]),
        (CARD, ":harmless/eval", &["\"harmless/eval\" is not a split", known]),
        (
            unmarked.as_str(),
            "",
            &["no single default", "name one of helpful, harmless, both (org/name:config"],
        ),
        (unmarked.as_str(), ":train", &["\"train\" is not a split", known]),
        (moved.as_str(), "", &["the split train of the config helpful", "moved/*.jsonl", "found README.md"]),
        ("---\nconfigs: main\n---\n", "", &["README.md", "configs is \"main\"", "expected a list"]),
    ] {
        let hub = hub(&world, card)?;
        let score = command(&world, &hub.endpoint, &format!("score --model base --data acme/sets{part}"))?;
        let option = format!("--data acme/sets{part}");
        check_refusal(score, &[&[option.as_str()], said].concat())?;
        let asked = hub.requests();
        ensure!(!asked.iter().any(|path| path.ends_with(".jsonl")), "{asked:?}");
        std::fs::remove_dir_all(world.path("hf"))?;
    }
    Ok(())
}
