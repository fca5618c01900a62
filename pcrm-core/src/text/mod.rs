//! Text and tokens: the tokenizer of a checkpoint, its special tokens and its chat template.

pub mod chat;
mod classes;
mod loading;
pub mod moment;
pub mod pieces;
mod python;
pub mod special;
pub mod tokenizer;
pub mod visible;

pub use chat::{ChatTemplate, LostTurns};
pub use special::{SpecialToken, SpecialTokens};
pub use tokenizer::{PairForm, Span, Tokenizer, TruncatedTokenizer};
pub use visible::{visible, visible_line};
