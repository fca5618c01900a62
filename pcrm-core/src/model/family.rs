//! Families of decoders as data: how they name their weights and where they differ.

/// One family of decoders.
#[derive(Debug)]
pub struct Family {
    /// `model_type` in `config.json`.
    pub model_type: &'static str,
    /// The class that `transformers` loads a reward model as.
    pub classifier: &'static str,
    /// The class that `transformers` loads the language model as.
    pub language_model: &'static str,
    /// What every name but the heads' begins with; some checkpoints leave it away.
    pub prefix: &'static str,
    /// The token embedding.
    pub embedding: &'static str,
    /// The table of learned positions; `None`: rotary.
    pub positions: Option<&'static str>,
    /// What the names of layer N begin with, before N.
    pub layers: &'static str,
    /// The norm before attention.
    pub attention_norm: &'static str,
    /// Queries, keys and values.
    pub qkv: Qkv,
    /// The projection after attention.
    pub output: &'static str,
    /// The norm before the feed-forward network.
    pub mlp_norm: &'static str,
    /// The feed-forward network.
    pub mlp: Mlp,
    /// The last norm.
    pub last_norm: &'static str,
    /// Which norm.
    pub norm: NormKind,
    /// Where linear layers have biases.
    pub biases: Biases,
    /// Whether linear weights are stored `[in, out]` (Conv1D).
    pub conv1d: bool,
}

/// How queries, keys and values are projected.
#[derive(Debug)]
pub enum Qkv {
    /// By three matrices.
    Separate([&'static str; 3]),
    /// By one, whose outputs follow each other.
    Fused(&'static str),
}

/// The feed-forward network.
#[derive(Debug)]
pub enum Mlp {
    /// down(act(gate(x))·up(x))
    Gated {
        /// The gate.
        gate: &'static str,
        /// What is gated.
        up: &'static str,
        /// Back to the model's width.
        down: &'static str,
    },
    /// down(act(up(x)))
    Plain {
        /// To the network's width.
        up: &'static str,
        /// Back to the model's width.
        down: &'static str,
    },
}

/// Which norm, and with it whether it has a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// Root mean square, no bias.
    Rms,
    /// Layer norm, with bias.
    Layer,
}

/// Where linear layers have biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Biases {
    /// Where `attention_bias` and `mlp_bias` of the config say so.
    Config,
    /// On queries, keys and values alone.
    Qkv,
    /// Nowhere.
    Never,
    /// Everywhere.
    Always,
}

const LLAMA: Family = Family {
    model_type: "llama",
    classifier: "LlamaForSequenceClassification",
    language_model: "LlamaForCausalLM",
    prefix: "model.",
    embedding: "model.embed_tokens",
    positions: None,
    layers: "model.layers.",
    attention_norm: "input_layernorm",
    qkv: Qkv::Separate(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    output: "self_attn.o_proj",
    mlp_norm: "post_attention_layernorm",
    mlp: Mlp::Gated { gate: "mlp.gate_proj", up: "mlp.up_proj", down: "mlp.down_proj" },
    last_norm: "model.norm",
    norm: NormKind::Rms,
    biases: Biases::Config,
    conv1d: false,
};

const MISTRAL: Family = Family {
    model_type: "mistral",
    classifier: "MistralForSequenceClassification",
    language_model: "MistralForCausalLM",
    biases: Biases::Never,
    ..LLAMA
};

const QWEN2: Family = Family {
    model_type: "qwen2",
    classifier: "Qwen2ForSequenceClassification",
    language_model: "Qwen2ForCausalLM",
    biases: Biases::Qkv,
    ..LLAMA
};

const GPT2: Family = Family {
    model_type: "gpt2",
    classifier: "GPT2ForSequenceClassification",
    language_model: "GPT2LMHeadModel",
    prefix: "transformer.",
    embedding: "transformer.wte",
    positions: Some("transformer.wpe"),
    layers: "transformer.h.",
    attention_norm: "ln_1",
    qkv: Qkv::Fused("attn.c_attn"),
    output: "attn.c_proj",
    mlp_norm: "ln_2",
    mlp: Mlp::Plain { up: "mlp.c_fc", down: "mlp.c_proj" },
    last_norm: "transformer.ln_f",
    norm: NormKind::Layer,
    biases: Biases::Always,
    conv1d: true,
};

/// All families, by name.
pub static FAMILIES: [Family; 4] = [GPT2, LLAMA, MISTRAL, QWEN2];
