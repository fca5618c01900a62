//! Families with mixtures of experts.

use super::llama::LLAMA;
use crate::model::family::{
    Bias, Biases, ExpertLayers, Experts, Family, Gated, HeadDim, Normalised, QkNorms, SharedExpert, Windows,
};

const EXPERT: Gated = Gated { gate: "gate_proj", up: "up_proj", down: "down_proj" };

const LAYERS: ExpertLayers = ExpertLayers { every: "decoder_sparse_step", but: "mlp_only_layers" };

const EXPERTS: Experts = Experts {
    router: "mlp.gate",
    prefix: "mlp.experts.",
    expert: EXPERT,
    count: "num_experts",
    width: "moe_intermediate_size",
    normalised: Normalised::Flag("norm_topk_prob"),
    layers: Some(LAYERS),
    shared: None,
    adapted: true,
};

pub(super) const MIXTRAL: Family = Family {
    model_type: "mixtral",
    classifier: "MixtralForSequenceClassification",
    language_model: "MixtralForCausalLM",
    windows: Windows::Everywhere,
    experts: Some(Experts {
        router: "block_sparse_moe.gate",
        prefix: "block_sparse_moe.experts.",
        expert: Gated { gate: "w1", up: "w3", down: "w2" },
        count: "num_local_experts",
        width: "intermediate_size",
        normalised: Normalised::Always,
        layers: None,
        shared: None,
        adapted: true,
    }),
    biases: Biases { qkv: Bias::Never, output: Bias::Never, mlp: Bias::Never },
    ..LLAMA
};

pub(super) const QWEN2_MOE: Family = Family {
    model_type: "qwen2_moe",
    classifier: "Qwen2MoeForSequenceClassification",
    language_model: "Qwen2MoeForCausalLM",
    head_dim: HeadDim::Divided,
    windows: Windows::EveryOther,
    experts: Some(Experts {
        shared: Some(SharedExpert {
            gate: "mlp.shared_expert_gate",
            network: Gated {
                gate: "mlp.shared_expert.gate_proj",
                up: "mlp.shared_expert.up_proj",
                down: "mlp.shared_expert.down_proj",
            },
            width: "shared_expert_intermediate_size",
        }),
        adapted: false,
        ..EXPERTS
    }),
    biases: Biases { qkv: Bias::Flag("qkv_bias"), output: Bias::Never, mlp: Bias::Never },
    ..LLAMA
};

pub(super) const QWEN3_MOE: Family = Family {
    model_type: "qwen3_moe",
    classifier: "Qwen3MoeForSequenceClassification",
    language_model: "Qwen3MoeForCausalLM",
    windows: Windows::Switched,
    qk_norms: Some(QkNorms::ByHead(["self_attn.q_norm", "self_attn.k_norm"])),
    experts: Some(EXPERTS),
    biases: Biases { mlp: Bias::Never, ..LLAMA.biases },
    ..LLAMA
};

pub(super) const OLMOE: Family = Family {
    model_type: "olmoe",
    classifier: "OlmoeForSequenceClassification",
    scored_by_transformers: false,
    language_model: "OlmoeForCausalLM",
    qk_norms: Some(QkNorms::Whole(["self_attn.q_norm", "self_attn.k_norm"])),
    experts: Some(Experts { width: "intermediate_size", layers: None, ..EXPERTS }),
    biases: Biases { mlp: Bias::Never, ..LLAMA.biases },
    ..LLAMA
};
