//! Training that diverges leaves no model and no checkpoint with NaN or infinity.

use anyhow::{Result, ensure};

use crate::binary::World;

const TRAIN: &str =
    "reward --model base --data train.jsonl --batch 4 --threads 1 --save-every 1 --learning-rate 1e38";

/// Protects: an update that makes weights or scores infinite or NaN is an error, even at the last step; no
/// model is written, and the run's page shows how it ended.
#[test]
fn models_that_give_no_numbers_are_not_saved() -> Result<()> {
    let world = World::new()?;
    let message = world.fails(&format!("{TRAIN} --eval-split 0.3 --max-steps 1 --output evaluated"))?;
    ensure!(
        message.contains("step 1: the evaluation's") && message.contains("the last checkpoint"),
        "{message}"
    );
    let message = world.fails(&format!("{TRAIN} --max-steps 1 --output last"))?;
    ensure!(message.contains("step 1: the "), "{message}");
    for run in ["evaluated", "last"] {
        for left in ["model.safetensors", "config.json"] {
            ensure!(!world.path(&format!("{run}/{left}")).exists(), "{run}/{left} was written");
        }
        ensure!(world.path(&format!("{run}/report.html")).exists(), "{run} has no report");
    }
    Ok(())
}
