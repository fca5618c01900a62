//! Families of decoders as data: the names of their weights and their special features.

mod experts;
mod sight;

pub use experts::{ExpertLayers, Experts, Normalised, SharedExpert};
pub use sight::{Every, Pairs, Positions, Theta, Windows};

/// One family of decoders.
#[derive(Debug)]
pub struct Family {
    /// `model_type` in `config.json`.
    pub model_type: &'static str,
    /// The class that the config of a reward model names. vLLM picks its implementation by this name, and finds
    /// the body of a class that it does not know.
    pub classifier: &'static str,
    /// True if `transformers` has that class. Otherwise a saved folder has it, see [`Family::class_code`].
    pub scored_by_transformers: bool,
    /// The class as which `transformers` loads the language model.
    pub language_model: &'static str,
    /// The prefix of every name but the heads'; some checkpoints omit it.
    pub prefix: &'static str,
    /// The names of fields in `config.json`.
    pub keys: Keys,
    /// The token embedding.
    pub embedding: &'static str,
    /// The factor on embeddings.
    pub embedding_scale: EmbeddingScale,
    /// The projections between embeddings of another width and the layers, if the family has any.
    pub projections: Option<Projections>,
    /// The kind of positions.
    pub positions: Positions,
    /// The pairs of dimensions that rotary positions rotate.
    pub pairs: Pairs,
    /// The prefix of the names of layer N, before N.
    pub layers: &'static str,
    /// The norm before attention; `None`: attention reads the residual stream without a norm.
    pub attention_norm: Option<&'static str>,
    /// The layers with a sliding window.
    pub windows: Windows,
    /// The projections of queries, keys and values.
    pub qkv: Qkv,
    /// The width of a head.
    pub head_dim: HeadDim,
    /// The config keys that change the factor on q·k.
    pub scale: AttentionScale,
    /// The key of the soft cap c of attention's scores, c·tanh(s/c); `None`: the family has no such key.
    pub score_cap: Option<&'static str>,
    /// The norms of queries and keys, before rotary positions; `None`: there are none.
    pub qk_norms: Option<QkNorms>,
    /// The projection after attention.
    pub output: &'static str,
    /// The norm before the feed-forward network; `None`: the network reads the input of attention if the two
    /// are parallel, and the residual stream without a norm otherwise.
    pub mlp_norm: Option<&'static str>,
    /// The feed-forward network.
    pub mlp: Mlp,
    /// The mixture of experts that replaces the network in some or all layers; `None`: there is none.
    pub experts: Option<Experts>,
    /// The norms after attention and after the feed-forward network, before each is added; `None`: there are
    /// none.
    pub post_norms: Option<[&'static str; 2]>,
    /// The arrangement of attention and the feed-forward network.
    pub parallel: Parallel,
    /// The key of a flag: norms read the inputs of attention and of the feed-forward network if it is true,
    /// and the sums after them if it is false. `None`: as if it were true.
    pub norms_first: Option<&'static str>,
    /// The key of the factor on layer outputs before they are added to the residual stream; `None`: the
    /// family has no such key.
    pub residual_scale: Option<&'static str>,
    /// The last norm, which a config may drop.
    pub last_norm: &'static str,
    /// The head of an untied language model.
    pub language_head: &'static str,
    /// The name of the score head in the family's files.
    pub score_head: &'static str,
    /// The factor on a language model's logits, before they are capped.
    pub logit_scale: LogitScale,
    /// The modules that PEFT adapts by default.
    pub lora_targets: &'static [&'static str],
    /// The kind of norm.
    pub norm: NormKind,
    /// The linear layers with biases.
    pub biases: Biases,
    /// True if linear weights are stored `[in, out]` (Conv1D).
    pub conv1d: bool,
}

/// Names of fields in `config.json`; `config_keys.json` has the defaults of absent ones.
#[derive(Debug)]
pub struct Keys {
    /// The width of the hidden states.
    pub width: &'static str,
    /// The number of layers.
    pub layers: &'static str,
    /// The number of query heads.
    pub heads: &'static str,
    /// The number of key and value heads, by default that of query heads; `None`: always that of query heads.
    pub kv_heads: Option<&'static str>,
    /// The width of the feed-forward network, with the default as a multiple of the model's width; `None`:
    /// required.
    pub ffn: (&'static str, Option<usize>),
    /// The longest sequence.
    pub max_positions: &'static str,
    /// ε of the norms; `None`: 1e-5, whatever the config says.
    pub norm_eps: Option<&'static str>,
    /// The activation of the feed-forward network.
    pub activation: &'static str,
    /// The standard deviation of random weights.
    pub deviation: &'static str,
    /// True if `gelu` means the tanh approximation, as in Gemma's first configs.
    pub gelu_is_tanh: bool,
}

/// The width of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadDim {
    /// `head_dim` of the config, or width / heads if it is null.
    Key,
    /// width / heads, always.
    Divided,
}

/// Config keys that change the factor on q·k from 1/√head_dim; `None`: the family has no such key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionScale {
    /// A number x: the factor is 1/√x.
    pub square: Option<&'static str>,
    /// A number: the factor itself.
    pub factor: Option<&'static str>,
    /// A flag: the factor is 1 if it is false.
    pub on: Option<&'static str>,
    /// A flag: if it is true, the factor of layer i, from 0, is divided by i + 1.
    pub by_layer: Option<&'static str>,
}

/// The projections between embeddings and layers of another width, without biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Projections {
    /// The key of the width of embeddings, which is also the width of the hidden states that heads read.
    pub width: &'static str,
    /// The projection to the width of the layers.
    pub into: &'static str,
    /// The projection after the last layer and norm, to the width of the embeddings.
    pub out: &'static str,
}

/// The factor on embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmbeddingScale {
    /// 1.
    One,
    /// √width.
    RootWidth,
    /// The number of this key.
    Key(&'static str),
}

/// The factor on logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogitScale {
    /// 1.
    One,
    /// The number of this key.
    Times(&'static str),
    /// One over the number of this key.
    Over(&'static str),
}

/// The arrangement of attention and the feed-forward network; parallel: x ← x + attention(x) + mlp(x).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parallel {
    /// Sequential: the network reads the sum after attention.
    Never,
    /// Parallel.
    Always,
    /// Parallel if this config flag is true.
    Flag(&'static str),
}

/// The norms of queries and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorms {
    /// Over each head separately.
    ByHead([&'static str; 2]),
    /// Over all heads together.
    Whole([&'static str; 2]),
}

/// The projections of queries, keys and values.
#[derive(Debug)]
pub enum Qkv {
    /// Three matrices.
    Separate([&'static str; 3]),
    /// One matrix: all queries, all keys, all values.
    Fused(&'static str),
    /// One matrix: for every key head the queries that read it, the key and the value.
    FusedByGroup(&'static str),
}

/// The feed-forward network.
#[derive(Debug)]
pub enum Mlp {
    /// down(act(gate(x))·up(x))
    Gated(Gated),
    /// As `Gated`, with gate and up projection as one matrix, in this order.
    GatedByOne {
        /// Both, `[2·network, width]`.
        gate_up: &'static str,
        /// The projection back to the model's width.
        down: &'static str,
    },
    /// down(act(up(x)))
    Plain {
        /// The projection to the network's width.
        up: &'static str,
        /// The projection back to the model's width.
        down: &'static str,
    },
}

/// The matrices of a gated network.
#[derive(Debug, Clone, Copy)]
pub struct Gated {
    /// The gate.
    pub gate: &'static str,
    /// The up projection, which is multiplied by the gate.
    pub up: &'static str,
    /// The projection back to the model's width.
    pub down: &'static str,
}

/// The kind of norm, which determines whether it has a bias.
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

/// The linear layers with biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Biases {
    /// Biases of queries, keys and values.
    pub qkv: Bias,
    /// The bias of the projection after attention.
    pub output: Bias,
    /// Biases of the feed-forward network.
    pub mlp: Bias,
}

/// The presence of a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bias {
    /// No bias.
    Never,
    /// A bias.
    Always,
    /// A bias if this config flag is true.
    Flag(&'static str),
}
