//! Scores an answer with a trained reward model:
//!
//!     cargo run --release -p pcrm-rl --example score -- MODEL_DIR PROMPT ANSWER

use std::error::Error;

use pcrm_backend_candle as _; // links the backend
use pcrm_rl::prelude::Scorer;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, prompt, answer] = arguments.as_slice() else {
        return Err("expected MODEL_DIR PROMPT ANSWER".into());
    };
    println!("{}", Scorer::open(model)?.score(prompt, answer)?);
    Ok(())
}
