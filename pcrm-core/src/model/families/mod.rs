//! All families of decoders.

mod experts;
mod fused;
mod gemma;
mod gpt;
mod llama;

use self::{experts as moe, fused as joint};
use crate::model::family::Family;

/// All families, by name.
pub static FAMILIES: [Family; 23] = [
    joint::COHERE2,
    gemma::GEMMA,
    gemma::GEMMA2,
    gemma::GEMMA3,
    joint::GLM4,
    gpt::GPT2,
    gpt::GPT_NEOX,
    llama::GRANITE,
    joint::INTERNLM2,
    llama::LLAMA,
    llama::MINISTRAL,
    llama::MISTRAL,
    moe::MIXTRAL,
    llama::OLMO2,
    llama::OLMO3,
    moe::OLMOE,
    gpt::OPT,
    joint::PHI3,
    llama::QWEN2,
    moe::QWEN2_MOE,
    llama::QWEN3,
    moe::QWEN3_MOE,
    llama::SMOLLM3,
];

/// The advice for an encoder where a decoder is expected.
const ENCODER: &str = "encoders score (pcrm score, eval reward, serve, judge, best-of-n, --reward) and are \
                       not trained here";

/// Families that are not supported, with advice.
pub static UNSERVED: [(&str, &str); 17] = [
    ("phi", "phi3 (Phi-3, Phi-3.5 and Phi-4) is supported"),
    ("olmo", "olmo2 and olmo3 are supported"),
    ("cohere", "cohere2 is supported"),
    ("qwen2_vl", "the text part of this multimodal checkpoint is not read; qwen2 is supported"),
    ("qwen2_5_vl", "the text part of this multimodal checkpoint is not read; qwen2 is supported"),
    ("llama4", "llama (Llama 2 and 3) is supported"),
    ("deepseek_v3", "of the mixtures of experts, qwen3_moe, qwen2_moe, mixtral and olmoe are supported"),
    ("gpt_oss", "of the mixtures of experts, qwen3_moe, qwen2_moe, mixtral and olmoe are supported"),
    ("granitemoe", "of the mixtures of experts, qwen3_moe, qwen2_moe, mixtral and olmoe are supported"),
    ("bert", ENCODER),
    ("camembert", ENCODER),
    ("deberta-v2", ENCODER),
    ("distilbert", ENCODER),
    ("modernbert", ENCODER),
    ("roberta", ENCODER),
    ("xlm-roberta", ENCODER),
    ("gemma3n", "gemma3_text and the text part of gemma3 are supported"),
];
