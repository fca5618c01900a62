//! Text and tokens: the tokenizer of a checkpoint, its special tokens and its chat template.

pub mod chat;
pub mod pieces;
mod python;
mod qwen2;
pub mod special;
pub mod tokenizer;

pub use chat::ChatTemplate;
pub use special::{SpecialToken, SpecialTokens};
pub use tokenizer::{Tokenizer, TruncatedTokenizer};
