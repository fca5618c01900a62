//! The commands, one module each.

pub mod bench;
pub mod best_of_n;
pub mod calibrate;
pub mod compare;
pub mod constraint;
pub mod data;
pub mod dpo;
pub mod eval;
pub mod export;
pub mod generate;
pub mod inspect;
pub mod judge;
pub mod kto;
pub mod launch;
pub mod merge;
pub mod online;
pub mod plan;
pub mod plugins;
pub mod quickstart;
pub mod report;
pub mod reward;
pub mod score;
#[cfg(feature = "serve")]
pub mod serve;
pub mod sft;
pub mod study;
