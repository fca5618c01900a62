//! Cards as people and `push_to_hub` write them.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

const USUAL: &str = "---
license: mit
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
  - split: test
    path: [data/test-*, 'more/test.jsonl']
- config_name: extra
  default: true
  data_dir: extra
  features: [{name: a, dtype: string}]
- config_name: 2024
  data_files: \"2024/*.jsonl\"
dataset_info:
  features: []
---
# Pairs
configs: none
";

fn of(card: &str) -> Result<Option<Vec<Config>>> {
    head(card).map_or(Ok(None), |yaml| listed(&yaml))
}

fn config(name: &str, splits: Option<&[(&str, &[&str])]>) -> Config {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let split = |(name, patterns): &(&str, &[&str])| ((*name).to_owned(), texts(patterns));
    let splits = splits.map(|splits| splits.iter().map(split).collect());
    Config { name: name.to_owned(), default: false, folder: String::new(), splits }
}

/// Protects: configs are read in every form that `datasets` reads.
#[test]
fn configs_are_read_as_datasets_reads_them() -> Result<()> {
    let test: &[&str] = &["data/test-*", "more/test.jsonl"];
    let expected = vec![
        config("default", Some(&[("train", &["data/train-*"]), ("test", test)])),
        Config { default: true, folder: "extra".to_owned(), ..config("extra", None) },
        config("2024", Some(&[("train", &["2024/*.jsonl"])])),
    ];
    assert_eq!(of(USUAL)?, Some(expected.clone()));
    assert_eq!(of(&format!("\n  \n{}", USUAL.replace('\n', "\r\n")))?, Some(expected));
    let paths = "---\nconfigs:\n- config_name: a\n  data_files:\n  - a/*\n  - b.json\n---";
    assert_eq!(of(paths)?, Some(vec![config("a", Some(&[("train", &["a/*", "b.json"])]))]));
    let flow = "---\n{\"configs\": [{config_name: a, default: yes}]}\n---\n";
    assert_eq!(of(flow)?, Some(vec![Config { default: true, ..config("a", None) }]));
    Ok(())
}

/// Protects: a card without configs gives none, whatever else it contains.
#[test]
fn other_cards_have_no_configs() -> Result<()> {
    for card in [
        "",
        "# Pairs\n---\nconfigs: 1\n---\n",
        "---\nlicense: mit\n---\n",
        "---\nlicense: [broken\n---\n",
        "---\nconfigs:\n- config_name: a\n",
        "---\nconfigs:\n---\n",
        "---\nlicense: mit # no configs\n---\n",
        "---\n# no configs\n---\n",
        "{\"configs\": []}",
    ] {
        assert_eq!(of(card)?, None, "{card:?}");
    }
    Ok(())
}

/// Protects: malformed configs are refused with what was found, and broken YAML with its line.
#[test]
fn malformed_configs_are_refused() {
    for (yaml, parts) in [
        ("configs: main", &["configs is \"main\"", "expected a list"][..]),
        ("configs: [main]", &["a config is \"main\"", "expected keys and values"]),
        ("configs: [{data_files: a}]", &["config_name is null", "expected a name"]),
        ("configs: [{config_name: a, data_files: 3}]", &["the config a", "data_files is 3"]),
        ("configs: [{config_name: a, data_files: [{path: b}]}]", &["the config a", "{\"path\":\"b\"}"]),
        ("configs: [{config_name: a, data_files: [{split: b}]}]", &["path is null", "a list of paths"]),
        ("configs: [{config_name: a, data_files: [{split: b-c, path: d}]}]", &["split is \"b-c\""]),
        (
            "configs: [{config_name: a, data_files: [{split: b, path: d}, {split: b, path: e}]}]",
            &["the split b is listed twice"],
        ),
        ("configs: [{config_name: a}, {config_name: a}]", &["the config a is listed twice"]),
        ("license: mit\nconfigs: ]", &["line 3"]),
    ] {
        let error = of(&format!("---\n{yaml}\n---\n")).unwrap_err();
        let said = format!("{error:#}");
        assert!(parts.iter().all(|part| said.contains(part)), "{yaml}: {said}");
    }
}

/// Protects: aliases that expand to ever more aliases are refused, and so is deep nesting.
#[test]
fn no_card_fills_the_memory() {
    let mut bomb = "k0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb += &format!("k{level}: &a{level} [{aliases}]\n");
    }
    bomb += "configs: *a11\n";
    assert!(listed(&bomb).is_err());
    assert!(listed(&format!("configs: {}", "[".repeat(100_000))).is_err());
}

/// Protects: no card makes the reader panic.
#[test]
fn no_card_breaks_the_reader() {
    let tokens =
        ["---", "\n", ": ", "- ", "&a ", "*a", "[", "{", "\"", "'", "|", "!!binary ", "\t", "\u{feff}", "? "];
    for seed in 0..3000 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut card: Vec<char> = USUAL.chars().collect();
        for _ in 0..random.random_range(1..6) {
            let at = random.random_range(0..card.len());
            match random.random_range(0..3) {
                0 => drop(card.splice(at..at, tokens[random.random_range(0..tokens.len())].chars())),
                1 => drop(card.drain(at..(at + random.random_range(1..30)).min(card.len()))),
                _ => card[at] = char::from(random.random_range(0..128)),
            }
        }
        let _ = of(&card.iter().collect::<String>());
    }
}
