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
    /// What `config.json` calls its fields.
    pub keys: Keys,
    /// The token embedding.
    pub embedding: &'static str,
    /// Whether embeddings are multiplied by √width.
    pub embedding_scale: EmbeddingScale,
    /// Positions.
    pub positions: Positions,
    /// What the names of layer N begin with, before N.
    pub layers: &'static str,
    /// The norm before attention.
    pub attention_norm: &'static str,
    /// Which layers have a sliding window.
    pub windows: Windows,
    /// Queries, keys and values.
    pub qkv: Qkv,
    /// Width of a head.
    pub head_dim: HeadDim,
    /// Keys of the config that change the factor of q·k.
    pub scale: AttentionScale,
    /// The norms of every head's queries and keys over head_dim, before rotary; `None`: there are none.
    pub head_norms: Option<[&'static str; 2]>,
    /// The projection after attention.
    pub output: &'static str,
    /// The norm before the feed-forward network.
    pub mlp_norm: &'static str,
    /// The feed-forward network.
    pub mlp: Mlp,
    /// The norms after attention and after the feed-forward network, before each is added; `None`: there are
    /// none.
    pub post_norms: Option<[&'static str; 2]>,
    /// The flag of the config by which attention and the feed-forward network read the same input, as they do
    /// where it is missing; `None`: they never do.
    pub parallel: Option<&'static str>,
    /// The last norm.
    pub last_norm: &'static str,
    /// The head of a language model whose embedding is not tied.
    pub language_head: &'static str,
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
    /// Width of the feed-forward network; that many widths where left out, an error where `None`.
    pub ffn: (&'static str, Option<usize>),
    /// The longest sequence.
    pub max_positions: &'static str,
    /// ε of the norms.
    pub norm_eps: &'static str,
    /// The activation of the feed-forward network.
    pub activation: &'static str,
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
    /// A flag: the factor is 1 where it is false.
    pub on: Option<&'static str>,
    /// A flag: the factor of layer i, from 0, is divided by i + 1 where it is true.
    pub by_layer: Option<&'static str>,
}

/// What embeddings are multiplied by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmbeddingScale {
    /// Nothing.
    One,
    /// √width.
    RootWidth,
}

/// Which layers have a sliding window; a `sliding_window` of null means that no layer has one.
///
/// `layer_types` of the config overrides the rule of `Late` and `AllButEvery`. The other two take none in
/// `transformers`, so a list that contradicts them is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Windows {
    /// None.
    Never,
    /// All.
    Everywhere,
    /// With `use_sliding_window`, those from `max_window_layers` on.
    Late,
    /// All but every n-th: n is `sliding_window_pattern`.
    AllButEvery,
}

/// Where positions enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Positions {
    /// Learned, in this table; added to the embedding.
    Learned(&'static str),
    /// Rotary, over whole heads.
    Rotary,
    /// Rotary, over whole heads, with angles of their own (`rope_local_base_freq`) in layers with a window.
    LocalRotary,
    /// Rotary, over the first dimensions of a head: the share that `partial_rotary_factor` of the config
    /// names, or `rotary_pct` in the spelling of transformers 4.
    PartialRotary,
}

/// How queries, keys and values are projected.
#[derive(Debug)]
pub enum Qkv {
    /// By three matrices.
    Separate([&'static str; 3]),
    /// By one: all queries, all keys, all values.
    Fused(&'static str),
    /// By one: queries, keys and values of the first head, then of the second, and so on.
    FusedByHead(&'static str),
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
    /// Root mean square, scaled by 1 + w; no bias.
    RmsAroundOne,
    /// Layer norm, with bias.
    Layer,
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
