//! All families of decoders.

use crate::model::family::{
    AttentionScale, Bias, Biases, EmbeddingScale, Family, HeadDim, Keys, Mlp, NormKind, Positions, Qkv,
    Windows,
};

const LLAMA_KEYS: Keys = Keys {
    width: "hidden_size",
    layers: "num_hidden_layers",
    heads: "num_attention_heads",
    ffn: ("intermediate_size", None),
    max_positions: "max_position_embeddings",
    norm_eps: "rms_norm_eps",
    activation: "hidden_act",
};

const LLAMA: Family = Family {
    model_type: "llama",
    classifier: "LlamaForSequenceClassification",
    language_model: "LlamaForCausalLM",
    prefix: "model.",
    keys: LLAMA_KEYS,
    embedding: "model.embed_tokens",
    embedding_scale: EmbeddingScale::One,
    positions: Positions::Rotary,
    layers: "model.layers.",
    attention_norm: "input_layernorm",
    windows: Windows::Never,
    qkv: Qkv::Separate(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    head_dim: HeadDim::Key,
    scale: AttentionScale { square: None, on: None, by_layer: None },
    head_norms: None,
    output: "self_attn.o_proj",
    mlp_norm: "post_attention_layernorm",
    mlp: Mlp::Gated { gate: "mlp.gate_proj", up: "mlp.up_proj", down: "mlp.down_proj" },
    post_norms: None,
    parallel: None,
    last_norm: "model.norm",
    language_head: "lm_head.weight",
    lora_targets: &["q_proj", "v_proj"],
    norm: NormKind::Rms,
    biases: Biases {
        qkv: Bias::Flag("attention_bias"),
        output: Bias::Flag("attention_bias"),
        mlp: Bias::Flag("mlp_bias"),
    },
    conv1d: false,
};

const MISTRAL: Family = Family {
    model_type: "mistral",
    classifier: "MistralForSequenceClassification",
    language_model: "MistralForCausalLM",
    windows: Windows::Everywhere,
    biases: Biases { qkv: Bias::Never, output: Bias::Never, mlp: Bias::Never },
    ..LLAMA
};

const QWEN2: Family = Family {
    model_type: "qwen2",
    classifier: "Qwen2ForSequenceClassification",
    language_model: "Qwen2ForCausalLM",
    windows: Windows::Late,
    biases: Biases { qkv: Bias::Always, output: Bias::Never, mlp: Bias::Never },
    ..LLAMA
};

const QWEN3: Family = Family {
    model_type: "qwen3",
    classifier: "Qwen3ForSequenceClassification",
    language_model: "Qwen3ForCausalLM",
    windows: Windows::Late,
    head_norms: Some(["self_attn.q_norm", "self_attn.k_norm"]),
    biases: Biases { mlp: Bias::Never, ..LLAMA.biases },
    ..LLAMA
};

const GEMMA3: Family = Family {
    model_type: "gemma3_text",
    classifier: "Gemma3TextForSequenceClassification",
    language_model: "Gemma3ForCausalLM",
    keys: Keys { activation: "hidden_activation", ..LLAMA_KEYS },
    embedding_scale: EmbeddingScale::RootWidth,
    positions: Positions::LocalRotary,
    windows: Windows::AllButEvery,
    scale: AttentionScale { square: Some("query_pre_attn_scalar"), ..LLAMA.scale },
    head_norms: Some(["self_attn.q_norm", "self_attn.k_norm"]),
    mlp_norm: "pre_feedforward_layernorm",
    post_norms: Some(["post_attention_layernorm", "post_feedforward_layernorm"]),
    norm: NormKind::RmsAroundOne,
    biases: Biases { mlp: Bias::Never, ..LLAMA.biases },
    ..LLAMA
};

const GPT2: Family = Family {
    model_type: "gpt2",
    classifier: "GPT2ForSequenceClassification",
    language_model: "GPT2LMHeadModel",
    prefix: "transformer.",
    keys: Keys {
        width: "n_embd",
        layers: "n_layer",
        heads: "n_head",
        ffn: ("n_inner", Some(4)),
        max_positions: "n_positions",
        norm_eps: "layer_norm_epsilon",
        activation: "activation_function",
    },
    embedding: "transformer.wte",
    embedding_scale: EmbeddingScale::One,
    positions: Positions::Learned("transformer.wpe"),
    layers: "transformer.h.",
    attention_norm: "ln_1",
    windows: Windows::Never,
    qkv: Qkv::Fused("attn.c_attn"),
    head_dim: HeadDim::Divided,
    scale: AttentionScale {
        square: None,
        on: Some("scale_attn_weights"),
        by_layer: Some("scale_attn_by_inverse_layer_idx"),
    },
    head_norms: None,
    output: "attn.c_proj",
    mlp_norm: "ln_2",
    mlp: Mlp::Plain { up: "mlp.c_fc", down: "mlp.c_proj" },
    post_norms: None,
    parallel: None,
    last_norm: "transformer.ln_f",
    language_head: "lm_head.weight",
    lora_targets: &["c_attn"],
    norm: NormKind::Layer,
    biases: Biases { qkv: Bias::Always, output: Bias::Always, mlp: Bias::Always },
    conv1d: true,
};

const GPT_NEOX: Family = Family {
    model_type: "gpt_neox",
    classifier: "GPTNeoXForSequenceClassification",
    language_model: "GPTNeoXForCausalLM",
    prefix: "gpt_neox.",
    keys: Keys { norm_eps: "layer_norm_eps", ..LLAMA_KEYS },
    embedding: "gpt_neox.embed_in",
    embedding_scale: EmbeddingScale::One,
    positions: Positions::PartialRotary,
    layers: "gpt_neox.layers.",
    attention_norm: "input_layernorm",
    windows: Windows::Never,
    qkv: Qkv::FusedByHead("attention.query_key_value"),
    head_dim: HeadDim::Divided,
    scale: LLAMA.scale,
    head_norms: None,
    output: "attention.dense",
    mlp_norm: "post_attention_layernorm",
    mlp: Mlp::Plain { up: "mlp.dense_h_to_4h", down: "mlp.dense_4h_to_h" },
    post_norms: None,
    parallel: Some("use_parallel_residual"),
    last_norm: "gpt_neox.final_layer_norm",
    language_head: "embed_out.weight",
    lora_targets: &["query_key_value"],
    norm: NormKind::Layer,
    biases: Biases {
        qkv: Bias::Flag("attention_bias"),
        output: Bias::Flag("attention_bias"),
        mlp: Bias::Always,
    },
    conv1d: false,
};

/// All families, by name.
pub static FAMILIES: [Family; 7] = [GEMMA3, GPT2, GPT_NEOX, LLAMA, MISTRAL, QWEN2, QWEN3];

/// Families that are asked for and not served, with what to do instead.
pub static UNSERVED: [(&str, &str); 20] = [
    ("gemma", "gemma3_text (gemma-3-270m, gemma-3-1b) is the nearest that is served"),
    ("gemma2", "it caps attention scores by tanh; gemma3_text (gemma-3-270m, gemma-3-1b) is served"),
    (
        "gemma3",
        "the text part of a multimodal checkpoint is not read; gemma3_text (gemma-3-270m, gemma-3-1b) is served",
    ),
    ("phi", "of its size, qwen2 and llama are served"),
    ("phi3", "of its size, qwen2, qwen3 and llama are served"),
    ("olmo2", "of its size, llama and qwen3 are served"),
    ("granite", "of its size, llama and qwen3 are served"),
    ("smollm3", "SmolLM and SmolLM2 (llama) are served"),
    ("opt", "of its size, gpt_neox (Pythia) and gpt2 are served"),
    ("internlm2", "of its size, llama and qwen2 are served"),
    ("mixtral", "mixtures of experts are not served; mistral is"),
    ("qwen2_moe", "mixtures of experts are not served; qwen2 is"),
    ("qwen3_moe", "mixtures of experts are not served; qwen3 is"),
    ("qwen2_vl", "the text part of a multimodal checkpoint is not read; qwen2 is served"),
    ("qwen2_5_vl", "the text part of a multimodal checkpoint is not read; qwen2 is served"),
    ("mistral3", "the text part of a multimodal checkpoint is not read; mistral is served"),
    ("llama4", "llama (Llama 2 and 3) is served"),
    ("bert", "encoders serve the constraint cosine alone, not as reward models"),
    ("deberta-v2", "encoders are not served as reward models"),
    ("modernbert", "encoders are not served as reward models"),
];
