//! Model cards of language models, for every verb that trains one.

use anyhow::{Context, Result, ensure};

use crate::binary::World;

/// Protects: every trained language model has a card for its own algorithm with its held-out measures, an
/// adapter's card says that it is one, and a README.md that a user wrote stays.
#[test]
fn every_policy_has_the_card_of_its_algorithm() -> Result<()> {
    let world = World::new()?;
    let reward = r#"--reward '{"kind": "length", "target": 5}'"#;
    let common = "--data train.jsonl --max-steps 2 --threads 1";
    let online = format!("{common} --eval-split 0.2 --batch 2 --max-completion-length 8 {reward}");
    let runs = [
        (
            format!("sft {common} --model base --random-init --eval-split 0.2 --max-length 64"),
            "sft",
            vec!["from random weights", "| Token accuracy, held out |", "On held-out completions"],
        ),
        (
            format!("kto {common} --model sft --eval-split 0.2 --max-length 64"),
            "kto",
            vec!["trained from `sft`", "| Margin, held out |", "On held-out answers", "| beta | `0.1` |"],
        ),
        (
            format!("grpo {online} --model sft --num-generations 2 --beta 0.04"),
            "grpo",
            vec![
                "| Reward, held out |",
                "| Reward | `{\"kind\": \"length\"",
                "| Answers per prompt | `2` |",
                "2402.03300",
            ],
        ),
        (
            format!("rloo {online} --model sft --lora-r 2"),
            "rloo",
            vec!["library_name: peft", "This is a LoRA adapter", "On held-out prompts"],
        ),
        (
            format!("online-dpo {common} --model sft --batch 2 --max-completion-length 8 {reward}"),
            "online-dpo",
            vec!["the model was not measured on other data", "2402.04792"],
        ),
    ];
    for (command, method, parts) in &runs {
        world.run(&format!("{command} --output {method}"))?;
        let card = String::from_utf8(world.read(&format!("{method}/README.md"))?)?;
        let (front, text) = card
            .strip_prefix("---\n")
            .and_then(|card| card.split_once("\n---\n"))
            .context("a card without front matter")?;
        ensure!(front.contains(&format!("tags:\n- {method}\n- pcrm")), "{front}");
        ensure!(front.contains("pipeline_tag: text-generation"), "{front}");
        ensure!(!text.contains("{{") && !text.contains("\n\n\n"), "{text}");
        for part in parts {
            ensure!(card.contains(part), "{method}: expected {part:?} in\n{card}");
        }
    }
    world.write("kto/README.md", "# mine\n")?;
    std::fs::remove_file(world.path("kto/model.safetensors"))?;
    world.run(&format!("{} --output kto --resume", runs[1].0))?;
    ensure!(world.read("kto/README.md")? == b"# mine\n", "README.md was overwritten");
    Ok(())
}
