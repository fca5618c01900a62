//! Tests of splitting by prompt.

use std::collections::BTreeSet;
use std::io::Write;

use super::*;
use crate::data::preference::load_sources;
use crate::data::report::Strictness;

fn sources(lines: &[String]) -> Vec<SourceSet> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(lines.join("\n").as_bytes()).unwrap();
    load_sources(&[file.path().to_path_buf()], Strictness::Refuse).unwrap().0
}

fn prompts(pairs: &[SourceSet], places: &[usize]) -> BTreeSet<PromptId> {
    places.iter().map(|at| id_of(&pairs[*at]).unwrap()).collect()
}

/// No prompt is on both sides, the share is of prompts, and order has no effect.
#[test]
fn prompts_stand_on_one_side() {
    let mut lines: Vec<String> = (0..120)
        .map(|n| format!(r#"{{"prompt": "q{} ", "chosen": "a{n}", "rejected": "b"}}"#, n % 40))
        .collect();
    let pairs = sources(&lines);
    let split = split_by_prompt(&pairs, 0.25, 7).unwrap();
    let (train, held) = (prompts(&pairs, &split.train), prompts(&pairs, &split.held_out));
    assert_eq!((train.len(), held.len(), split.prompts, split.held_out_prompts), (30, 10, 40, 10));
    assert!(train.is_disjoint(&held));
    assert_eq!(split.train.len() + split.held_out.len(), 120);

    lines.reverse();
    let turned = sources(&lines);
    let again = split_by_prompt(&turned, 0.25, 7).unwrap();
    assert_eq!(prompts(&turned, &again.held_out), held);
    let other = split_by_prompt(&pairs, 0.25, 8).unwrap();
    assert_ne!(prompts(&pairs, &other.held_out), held);
}

/// Data that cannot be split are refused with a message.
#[test]
fn what_cannot_be_split_is_reported() {
    let said = |lines: &[&str], fraction: f64| {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        split_by_prompt(&sources(&lines), fraction, 0).unwrap_err().to_string()
    };
    let pair = r#"{"prompt": "q", "chosen": "a", "rejected": "b"}"#;
    assert!(said(&[pair, pair], 0.5).contains("all pairs have the same prompt"));
    assert!(said(&[pair], 1.0).contains("fraction: 1; expected a share between 0 and 1"));
    assert!(said(&[pair], f64::NAN).contains("expected a share"));
    let unmarked = said(&[r#"{"chosen": "so a", "rejected": "so b"}"#], 0.5);
    assert!(unmarked.contains(":1: nothing marks where the prompt ends"), "{unmarked}");
}

/// The two sides of HH's test file share no prompt.
#[test]
fn published_dialogues_are_split() {
    let Some(data) = crate::data::shared_data() else { return };
    let path = data.join("hh_rlhf_test/helpful-base.test.jsonl.gz");
    let (pairs, _) = load_sources(&[path], Strictness::Skip).unwrap();
    let split = split_by_prompt(&pairs, 0.1, 0).unwrap();
    let (train, held) = (prompts(&pairs, &split.train), prompts(&pairs, &split.held_out));
    assert!(train.is_disjoint(&held));
    assert_eq!(held.len(), (split.prompts as f64 * 0.1).round() as usize);
}

/// Protects: trees and the sets made from them share prompts, each prompt is on one side in either form, and
/// a tree is not divided.
#[test]
fn trees_and_their_sets_are_split_alike() {
    let Some(data) = crate::data::shared_data() else { return };
    let paths =
        ["en_100_tree.jsonl", "ranked_sets.jsonl"].map(|name| data.join("oasst_trees_en100").join(name));
    let (pairs, _) = load_sources(&paths, Strictness::Skip).unwrap();
    let split = split_by_prompt(&pairs, 0.2, 0).unwrap();
    let (train, held) = (prompts(&pairs, &split.train), prompts(&pairs, &split.held_out));
    assert!(train.is_disjoint(&held));
    assert_eq!((split.prompts, train.len() + held.len()), (212, 212));
    let records =
        |places: &[usize]| places.iter().map(|at| pairs[*at].record_number).collect::<BTreeSet<_>>();
    assert!(records(&split.train).is_disjoint(&records(&split.held_out)));
    let share = held.len() as f64 / 212.0;
    assert!((0.15..0.3).contains(&share), "{share}");
    // Every pair is present in both forms, so each side holds equally many of both.
    let of =
        |schema: Schema, places: &[usize]| places.iter().filter(|at| pairs[**at].schema == schema).count();
    assert_eq!(of(Schema::OasstTrees, &split.held_out), of(Schema::Ranked, &split.held_out));
}
