//! An untrained model for a generated world: a small tokenizer and a small llama with random weights, as a
//! Hugging Face folder.

use std::path::Path;

use anyhow::{Result, anyhow};
use pcrm_core::model::{ModelConfig, RewardModel};
use pcrm_core::text::{SpecialTokens, Tokenizer};
use pcrm_core::{Backend, DType};
use serde_json::{Map, Value, json};
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as HfTokenizer};

const VOCABULARY: usize = 1024;
const PAD: &str = "<pad>";
const EOS: &str = "</s>";

/// Trains a tokenizer on these texts, draws weights from the seed, and writes both to `dir`.
///
/// # Errors
/// Fails if the tokenizer cannot be trained, the backend fails or a file cannot be written.
pub fn write<'a>(
    backend: &dyn Backend,
    texts: impl Iterator<Item = &'a str> + Send,
    seed: u64,
    dir: &Path,
) -> Result<Tokenizer> {
    let tokenizer = tokenizer(texts)?;
    let config = ModelConfig::from_json(config(&tokenizer)?, &dir.join("config.json"))?;
    RewardModel::random(backend, config, DType::F32, seed)?.save(dir)?;
    tokenizer.save_to(dir)?;
    Ok(tokenizer)
}

/// Trains a byte-level BPE tokenizer.
fn tokenizer<'a>(texts: impl Iterator<Item = &'a str> + Send) -> Result<Tokenizer> {
    let failed = |error: tokenizers::Error| anyhow!("training the tokenizer: {error}");
    let mut trainer: TrainerWrapper = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(VOCABULARY)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens([PAD, EOS].map(|token| AddedToken::from(token, true)).to_vec())
        .build()
        .into();
    let mut hf = HfTokenizer::new(BPE::default());
    hf.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    hf.with_decoder(Some(ByteLevel::default()));
    hf.train(&mut trainer, texts).map_err(failed)?;
    let special =
        SpecialTokens { eos: Some(EOS.to_owned()), pad: Some(PAD.to_owned()), ..SpecialTokens::default() };
    Ok(Tokenizer::from_parts(&hf, &special, None)?)
}

fn config(tokenizer: &Tokenizer) -> Result<Map<String, Value>> {
    let config = json!({
        "architectures": ["LlamaForSequenceClassification"],
        "model_type": "llama",
        "vocab_size": tokenizer.vocab_size(),
        "hidden_size": 64,
        "intermediate_size": 192,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 512,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "initializer_range": 0.125,
        "tie_word_embeddings": false,
        "bos_token_id": null,
        "eos_token_id": tokenizer.eos().map(|token| token.id),
        "pad_token_id": tokenizer.pad().map(|token| token.id),
    });
    match config {
        Value::Object(fields) => Ok(fields),
        other => Err(anyhow!("a config is an object, not {other}")),
    }
}

#[cfg(test)]
mod tests {
    use pcrm_eval::worlds::World;

    use super::*;

    /// Protects: the tokenizer of a world is deterministic and small, and decodes texts back.
    #[test]
    fn the_tokenizer_is_the_worlds() {
        let world = World::new(4, 300);
        let texts = || world.train.iter().flat_map(|pair| [&pair.prompt, &pair.chosen, &pair.rejected]);
        let trained = || tokenizer(texts().map(String::as_str)).unwrap();
        let made = trained();
        let files = |tokenizer: &Tokenizer| -> Vec<Vec<u8>> {
            tokenizer.files().map(|(_, bytes)| bytes.to_vec()).collect()
        };
        assert_eq!(files(&made), files(&trained()));
        assert!(made.vocab_size() <= VOCABULARY);
        let text = "Question: Where does the otter live?\nAnswer: In rivers, naïvely.";
        assert_eq!(made.decode(&made.encode(text).unwrap()).unwrap(), text);
        assert_ne!(made.eos().unwrap().id, made.pad().unwrap().id);
    }
}
