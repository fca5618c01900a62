//! Trains a reward model on a preference file, with a bound from the lengths of the answers:
//!
//!     cargo run --release -p pcrm-rl --example train -- MODEL_DIR PAIRS.jsonl OUTPUT_DIR

use std::error::Error;

use pcrm_rl::prelude::RewardTrainer;
use {pcrm_backend_candle as _, pcrm_constraints as _}; // link the backend and the constraints

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, pairs, output] = arguments.as_slice() else {
        return Err("expected MODEL_DIR PAIRS.jsonl OUTPUT_DIR".into());
    };
    let trainer = RewardTrainer::new(model, pairs).constraint("length_ratio").output(output);
    println!("{:?}", trainer.train()?);
    Ok(())
}
