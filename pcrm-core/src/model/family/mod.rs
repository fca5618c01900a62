//! Families of decoders as data: how they name their weights and where they differ.

mod experts;
mod sight;

pub use experts::{ExpertLayers, Experts, Normalised, SharedExpert};
pub use sight::{Every, Pairs, Positions, Windows};

/// One family of decoders.
#[derive(Debug)]
pub struct Family {
    /// `model_type` in `config.json`.
    pub model_type: &'static str,
    /// The class that `transformers` loads a reward model as. (It has none for granite and cohere2.)
    pub classifier: &'static str,
    /// The class that `transformers` loads the language model as.
    pub language_model: &'static str,
    /// What every name but the heads' begins with; some checkpoints leave it away.
    pub prefix: &'static str,
    /// What `config.json` calls its fields.
    pub keys: Keys,
    /// The token embedding.
    pub embedding: &'static str,
    /// The factor of embeddings.
    pub embedding_scale: EmbeddingScale,
    /// Positions.
    pub positions: Positions,
    /// The dimensions that rotary positions turn together.
    pub pairs: Pairs,
    /// What the names of layer N begin with, before N.
    pub layers: &'static str,
    /// The norm before attention; `None`: attention reads the residual stream as it is.
    pub attention_norm: Option<&'static str>,
    /// Which layers have a sliding window.
    pub windows: Windows,
    /// Queries, keys and values.
    pub qkv: Qkv,
    /// Width of a head.
    pub head_dim: HeadDim,
    /// Keys of the config that change the factor of q·k.
    pub scale: AttentionScale,
    /// The key of a bound c of attention's scores, which become c·tanh(s/c); `None`: the family has no such key.
    pub score_cap: Option<&'static str>,
    /// The norms of queries and keys, before rotary; `None`: there are none.
    pub qk_norms: Option<QkNorms>,
    /// The projection after attention.
    pub output: &'static str,
    /// The norm before the feed-forward network; `None`: the network reads what attention reads where the two are
    /// parallel, and the residual stream as it is where they are not.
    pub mlp_norm: Option<&'static str>,
    /// The feed-forward network.
    pub mlp: Mlp,
    /// The mixture of experts that takes the network's place in some layers or all; `None`: there is none.
    pub experts: Option<Experts>,
    /// The norms after attention and after the feed-forward network, before each is added; `None`: there are
    /// none.
    pub post_norms: Option<[&'static str; 2]>,
    /// Whether attention and the feed-forward network are parallel.
    pub parallel: Parallel,
    /// The key of a factor of what a layer adds to the residual stream; `None`: the family has no such key.
    pub residual_scale: Option<&'static str>,
    /// The last norm.
    pub last_norm: &'static str,
    /// The head of a language model whose embedding is not tied.
    pub language_head: &'static str,
    /// The head of scores as its files name it.
    pub score_head: &'static str,
    /// The factor of a language model's logits, before they are capped.
    pub logit_scale: LogitScale,
    /// The modules that PEFT gives adapters where none are named.
    pub lora_targets: &'static [&'static str],
    /// Which norm.
    pub norm: NormKind,
    /// Where linear layers have biases.
    pub biases: Biases,
    /// Whether linear weights are stored `[in, out]` (Conv1D).
    pub conv1d: bool,
}

/// Names of fields in `config.json`; `config_keys.json` has the values of those that it leaves out.
#[derive(Debug)]
pub struct Keys {
    /// Width of the hidden states.
    pub width: &'static str,
    /// Number of layers.
    pub layers: &'static str,
    /// Query heads.
    pub heads: &'static str,
    /// Key and value heads, as many as query heads where left out; `None`: always as many.
    pub kv_heads: Option<&'static str>,
    /// Width of the feed-forward network; that many widths where left out, an error where `None`.
    pub ffn: (&'static str, Option<usize>),
    /// The longest sequence.
    pub max_positions: &'static str,
    /// ε of the norms; `None`: 1e-5, whatever the config says.
    pub norm_eps: Option<&'static str>,
    /// The activation of the feed-forward network.
    pub activation: &'static str,
    /// The standard deviation of random weights.
    pub deviation: &'static str,
    /// Whether `gelu` means the one by tanh, as in Gemma's first configs.
    pub gelu_is_tanh: bool,
}

/// Width of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadDim {
    /// `head_dim` of the config, or width / heads where it is null.
    Key,
    /// width / heads, always.
    Divided,
}

/// Keys of the config that change the factor of q·k from 1/√head_dim; `None`: the family has no such key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionScale {
    /// A number x: the factor is 1/√x.
    pub square: Option<&'static str>,
    /// A number: the factor itself.
    pub factor: Option<&'static str>,
    /// A flag: the factor is 1 where it is false.
    pub on: Option<&'static str>,
    /// A flag: the factor of layer i, from 0, is divided by i + 1 where it is true.
    pub by_layer: Option<&'static str>,
}

/// The factor of embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmbeddingScale {
    /// 1.
    One,
    /// √width.
    RootWidth,
    /// The number of this key.
    Key(&'static str),
}

/// The factor of logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogitScale {
    /// 1.
    One,
    /// The number of this key.
    Times(&'static str),
    /// One over the number of this key.
    Over(&'static str),
}

/// Whether attention and the feed-forward network of a layer read the same input, x ← x + attention(x) + mlp(x).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parallel {
    /// The network reads the sum after attention.
    Never,
    /// They do.
    Always,
    /// They do where this flag of the config is true.
    Flag(&'static str),
}

/// The norms of queries and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorms {
    /// Over each head on its own.
    ByHead([&'static str; 2]),
    /// Over all heads together.
    Whole([&'static str; 2]),
}

/// How queries, keys and values are projected.
#[derive(Debug)]
pub enum Qkv {
    /// By three matrices.
    Separate([&'static str; 3]),
    /// By one: all queries, all keys, all values.
    Fused(&'static str),
    /// By one: for every key head the queries that read it, the key and the value.
    FusedByGroup(&'static str),
}

/// The feed-forward network.
#[derive(Debug)]
pub enum Mlp {
    /// down(act(gate(x))·up(x))
    Gated(Gated),
    /// As `Gated`, the gate and what is gated by one matrix, in this order.
    GatedByOne {
        /// Both, `[2·network, width]`.
        gate_up: &'static str,
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

/// The matrices of a gated network.
#[derive(Debug, Clone, Copy)]
pub struct Gated {
    /// The gate.
    pub gate: &'static str,
    /// What is gated.
    pub up: &'static str,
    /// Back to the model's width.
    pub down: &'static str,
}

/// Which norm, and with it whether it has a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// Root mean square, no bias.
    Rms,
    /// Root mean square, scaled by 1 + w; no bias.
    RmsAroundOne,
    /// Layer norm, with bias.
    Layer,
    /// Layer norm without bias.
    LayerUnbiased,
}

/// Where linear layers have biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Biases {
    /// On queries, keys and values.
    pub qkv: Bias,
    /// On the projection after attention.
    pub output: Bias,
    /// In the feed-forward network.
    pub mlp: Bias,
}

/// Whether a linear layer has a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bias {
    /// It has none.
    Never,
    /// It has one.
    Always,
    /// It has one where this flag of the config is true.
    Flag(&'static str),
}
