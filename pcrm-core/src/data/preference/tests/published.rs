//! Published files, if this machine has them.

use super::*;

/// HH, UltraFeedback, LLaMA-Factory's demos, LLMBar, JudgeBench, OpenAssistant: counts of records and pairs
/// equal those computed with Python.
#[test]
fn published_files_are_read_whole() {
    let Some(data) = crate::data::shared_data() else { return };
    for (name, schema, rows, kept) in [
        ("hh_rlhf_test/helpful-base.test.jsonl.gz", Schema::HhDialogues, 2354, 2348),
        ("hh_rlhf_test/harmless-base.test.jsonl.gz", Schema::HhDialogues, 2312, 2308),
        ("ultrafeedback_1200/train_clean.jsonl", Schema::StandardExplicit, 1000, 994),
        ("ultrafeedback_1200/eval_clean.jsonl", Schema::StandardExplicit, 200, 199),
        ("llamafactory_demo/dpo_en_demo.json", Schema::ShareGpt, 300, 300),
        ("llamafactory_demo/dpo_zh_demo.json", Schema::ShareGpt, 300, 300),
        ("deepspeed_chat_extension_examples/dpo_reward_example.jsonl", Schema::StandardExplicit, 100, 100),
        (
            "deepspeed_chat_extension_examples/reward_with_scores_example.jsonl",
            Schema::StandardExplicit,
            250,
            250,
        ),
        ("llmbar/Natural.json", Schema::Labelled, 100, 100),
        ("llmbar/processed_MT-Bench.json", Schema::Labelled, 200, 200),
        ("judgebench/gpt-4o.jsonl", Schema::Labelled, 350, 350),
        ("judgebench/claude-3-5-sonnet.jsonl", Schema::Labelled, 270, 269),
        ("oasst_trees_en100/ranked_sets.jsonl", Schema::Ranked, 212, 754),
        ("oasst_trees_en100/en_100_tree.jsonl", Schema::OasstTrees, 100, 754),
    ] {
        let (sets, report) = load_preferences(&[data.join(name)], Strictness::Skip).unwrap();
        assert_eq!((report.schema, report.rows), (Some(schema), rows), "{name}");
        assert_eq!((report.kept, pairs(&sets).count()), (kept, kept), "{report}");
    }
}

/// The same rows as Parquet and as JSON lines give the same pairs, including scores.
#[test]
fn parquet_is_read_as_json_is() {
    let Some(data) = crate::data::shared_data() else { return };
    let read = |name: &str| {
        let path = data.join("deepspeed_chat_extension_examples").join(name);
        let (sets, _) = load_preferences(&[path], Strictness::Refuse).unwrap();
        pairs(&sets)
            .map(|pair| (pair.prompt.cloned(), pair.chosen.clone(), pair.rejected.clone(), pair.scores))
            .collect::<Vec<_>>()
    };
    assert_eq!(read("dpo_reward_example.parquet"), read("dpo_reward_example.jsonl"));
    let scored = read("reward_with_scores_example.parquet");
    assert_eq!(scored, read("reward_with_scores_example.jsonl"));
    assert!(scored.iter().all(|(.., scores)| scores.is_some()));
}

/// Files of other formats are refused, and the error names the format.
#[test]
fn files_without_preferences_are_reported() {
    let Some(data) = crate::data::shared_data() else { return };
    for (name, expected) in [
        ("llamafactory_demo/kto_en_demo.json", "one answer with a label, as for KTO (keys: messages, label)"),
        ("llamafactory_demo/alpaca_en_demo.json", "no \"chosen\" (keys: instruction, input, output)"),
        ("llamafactory_demo/c4_demo.jsonl", "no \"chosen\" (keys: text)"),
        ("tinyshakespeare/input.txt", "broken JSON"),
        ("chat_templates/golden_renderings.json", "golden_renderings.json"),
    ] {
        let said = load_preferences(&[data.join(name)], Strictness::Skip).unwrap_err().to_string();
        assert!(said.contains(expected), "{said}");
    }
}
