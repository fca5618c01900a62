//! `pcrm inspect` as users meet it: exit codes, the page with and without colours, the JSON document, wrong
//! input.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::binary::{World, stderr};
use crate::support::TWO_ROLES;

const INSPECT: &str = "inspect --model base --no-measure";

/// Makes pairs without findings: no prompt twice, and the longer answer preferred as often as not.
fn fair(rows: std::ops::Range<usize>) -> String {
    let line = |row: usize| {
        let answers = [" Some words of an answer.", " None."];
        let (chosen, rejected) = (answers[row % 2], answers[1 - row % 2]);
        json!({"prompt": format!("Question {row}?"), "chosen": chosen, "rejected": rejected}).to_string()
            + "\n"
    };
    rows.map(line).collect()
}

/// Runs a command and returns its exit code, standard output and standard error.
fn outcome(world: &World, arguments: &str) -> Result<(Option<i32>, String, String)> {
    let output = world.command(arguments)?.output()?;
    let error = stderr(&output);
    ensure!(!error.contains("panicked"), "{error}");
    Ok((output.status.code(), String::from_utf8(output.stdout)?, error))
}

/// Protects: exit codes separate no findings, warnings and errors; 1 means nothing but warnings.
#[test]
fn exit_codes_are_those_of_the_gravest_finding() -> Result<()> {
    let world = World::new()?;
    world.write("fair.jsonl", &fair(0..40))?;
    world.write("twice.jsonl", &(fair(0..40) + &fair(0..4)))?;
    world.write("held.jsonl", &fair(30..50))?;
    for (arguments, code, says) in [
        ("--data fair.jsonl", 0, "[template_unused]"),
        ("--data twice.jsonl", 1, "[repeated]"),
        ("--data fair.jsonl --eval-data held.jsonl", 2, "[eval_pairs]"),
        ("--data fair.jsonl --max-length 8", 2, "[too_long]"),
    ] {
        let (found, page, error) = outcome(&world, &format!("{INSPECT} {arguments}"))?;
        ensure!(found == Some(code), "{arguments}: {found:?} {error}\n{page}");
        ensure!(page.contains(says), "{arguments}: expected {says} on\n{page}");
    }
    for (arguments, says) in [
        (format!("{INSPECT} --data absent.jsonl"), "absent.jsonl"),
        ("inspect --model nowhere --data fair.jsonl".to_owned(), "nowhere"),
        (format!("{INSPECT} --data fair.jsonl --constraint cosines"), "length_ratio"),
        (format!("{INSPECT} --data fair.jsonl --max-length 1"), "at least 2"),
        (format!("{INSPECT} --data fair.jsonl --batch 0"), "positive"),
        (format!("{INSPECT} --data fair.jsonl --color blue"), "always"),
        (format!("{INSPECT} --data base"), "base/config.json"),
    ] {
        let (code, page, error) = outcome(&world, &arguments)?;
        ensure!(
            code == Some(2) && page.is_empty() && error.contains(says),
            "{arguments}: {code:?} {error}{page}"
        );
    }
    Ok(())
}

/// Protects: the document has all documented fields, including examples and cost.
#[test]
fn the_document_has_its_fields() -> Result<()> {
    let world = World::new()?;
    world.write("ranked.jsonl", &{
        let line = |row: usize| {
            json!({"prompt": format!("Q {row}? "), "responses": ["a b c", "d e", "f"], "scores": [3, 1, 1]})
        };
        (0..30).map(|row| line(row).to_string() + "\n").collect::<String>()
    })?;
    let arguments = "inspect --model base --data ranked.jsonl --eval-data test.jsonl \
                     --constraint length_ratio --json --batch 4";
    let (code, printed, error) = outcome(&world, arguments)?;
    let report: Value = serde_json::from_str(&printed).with_context(|| error)?;
    for pointer in [
        "/pcrm",
        "/severity",
        "/findings/0/code",
        "/findings/0/severity",
        "/findings/0/found",
        "/findings/0/advice",
        "/model/family",
        "/tokenizer/eos/id",
        "/tokenizer/padding/named",
        "/schemas/0/schema",
        "/schemas/0/read/0/holds",
        "/reading/files/0/kept",
        "/template/present",
        "/sets/sizes/3",
        "/pairs/kept",
        "/pairs/lengths/prompt/mean",
        "/pairs/lengths/histogram/0/count",
        "/pairs/saved/computed",
        "/pairs/longer_preferred/share/low",
        "/pairs/repeats/prompts",
        "/pairs/constraint/bound_deciles/10",
        "/pairs/constraint/similarity_deciles/0",
        "/pairs/examples/2/chosen/ids/0",
        "/overlap/pairs",
        "/cost/tokens_per_second",
        "/cost/seconds_per_epoch",
        "/cost/state_mib",
        "/cost/by_length/0/max_length",
    ] {
        let value = report.pointer(pointer).with_context(|| format!("no {pointer} in {report:#}"))?;
        ensure!(!value.is_null(), "{pointer} is null");
    }
    ensure!(report["sets"]["ties"] == 30 && report["pairs"]["kept"] == 60, "{report:#}");
    ensure!(
        report["cost"]["steps_per_epoch"] == 8,
        "30 sets in batches of four take 8 steps: {}",
        report["cost"]
    );
    let gravest = report["severity"].as_str().context("severity")?;
    ensure!(
        code == Some(["note", "warning", "error"].iter().position(|it| *it == gravest).unwrap_or(9) as i32)
    );
    let computed = report["pairs"]["saved"]["computed"].as_u64();
    ensure!(computed < report["pairs"]["saved"]["separate"].as_u64(), "{}", report["pairs"]["saved"]);
    Ok(())
}

/// Protects: pages fit 80 columns, have no colour outside a terminal, and the same text with colours.
#[test]
fn pages_are_read_with_and_without_colours() -> Result<()> {
    let world = World::new()?;
    world.write("fair.jsonl", &fair(0..40))?;
    let arguments = format!("{INSPECT} --data fair.jsonl --constraint length_ratio --examples 2");
    let (_, plain, _) = outcome(&world, &arguments)?;
    let wide = plain.lines().find(|line| line.chars().count() > 80);
    ensure!(wide.is_none(), "wider than 80 columns: {wide:?}");
    ensure!(!plain.contains('\x1b'), "colours outside a terminal");
    for part in [
        "▶</s>◀",
        "fair.jsonl:1:",
        "fair.jsonl:21:",
        "TRL standard, explicit prompt",
        "prompt (text)",
        "σ(Δ*/2)",
    ] {
        ensure!(plain.contains(part), "no {part} on\n{plain}");
    }
    let (_, coloured, _) = outcome(&world, &format!("{arguments} --color always"))?;
    ensure!(coloured.contains("\x1b[1m") && coloured.contains("▶</s>◀"), "{coloured}");
    let (_, none, _) = outcome(&world, &format!("{arguments} --examples 0"))?;
    ensure!(!none.contains("examples"), "{none}");
    Ok(())
}

/// Protects: a template that leaves out the prompts' role is an error with the number, the place and the role of the
/// turns, and the page does not say that it renders all pairs; a system turn that it leaves out is a warning.
#[test]
fn turns_that_vanish_are_an_error() -> Result<()> {
    let world = World::new()?;
    world.write("base/chat_template.jinja", TWO_ROLES)?;
    let turn = |role: &str, text: &str| json!({"role": role, "content": text});
    let line = |prompt: Value| {
        let [chosen, rejected] = [" yes", " no"].map(|text| [turn("assistant", text)]);
        json!({"prompt": prompt, "chosen": chosen, "rejected": rejected}).to_string() + "\n"
    };
    let user = line(json!([turn("user", "q")]));
    let human = line(json!([turn("human", "q")]));
    let system = line(json!([turn("system", "s"), turn("user", "r")]));
    world.write("chat.jsonl", &(user.clone() + &human + &human))?;
    let (code, page, _) = outcome(&world, &format!("{INSPECT} --data chat.jsonl"))?;
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(code == Some(2) && page.contains("[lost_turn]") && !page.contains("[not_encodable]"), "{page}");
    ensure!(
        page.contains("2 conversations with a turn that leaves no trace") && page.contains("\"human\""),
        "{page}"
    );
    ensure!(
        page.contains("(first: chat.jsonl:2)") && page.contains("leaves out turns of 2 of 3 pairs"),
        "{page}"
    );
    ensure!(!page.contains("renders all pairs"), "{page}");
    world.write("chat.jsonl", &(user + &system))?;
    let (code, page, _) = outcome(&world, &format!("{INSPECT} --data chat.jsonl"))?;
    ensure!(code == Some(1) && page.contains("[lost_system]") && page.contains("of 1 of 2 pairs"), "{page}");
    Ok(())
}

/// Protects: data that the model cannot encode at all is an error among the other findings.
#[test]
fn conversations_without_a_template_are_an_error() -> Result<()> {
    let world = World::new()?;
    let turn = |role: &str, text: &str| json!({"role": role, "content": text});
    let line = json!({"chosen": [turn("user", "q"), turn("assistant", "a")],
        "rejected": [turn("user", "q"), turn("assistant", "b")]});
    world.write("chat.jsonl", &format!("{line}\n"))?;
    let (code, page, _) = outcome(&world, &format!("{INSPECT} --data chat.jsonl"))?;
    ensure!(code == Some(0) && page.contains("renders all pairs"), "{page}");
    fs::remove_file(world.path("base/chat_template.jinja"))?;
    let (code, page, _) = outcome(&world, &format!("{INSPECT} --data chat.jsonl"))?;
    ensure!(
        code == Some(2) && page.contains("[not_encodable]") && page.contains("no chat template"),
        "{page}"
    );
    ensure!(page.contains("TRL conversational, implicit prompt"), "{page}");
    let (code, page, _) = outcome(&world, &format!("{INSPECT} --data chat.jsonl --strict --json"))?;
    ensure!(code == Some(2) && serde_json::from_str::<Value>(&page)?["pairs"].is_null(), "{page}");
    Ok(())
}
