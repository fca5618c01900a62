//! The supported encoder families, with the names of their parts.

/// Names of a family's config fields and weights.
#[derive(Debug)]
pub(super) struct BertFamily {
    /// `model_type` of config.json.
    pub model_type: &'static str,
    /// The optional prefix of every weight's name.
    pub prefix: &'static str,
    /// The config keys of width, layers, heads, feed-forward width and activation.
    pub keys: [&'static str; 5],
    /// The config key of ε of the norms; `None`: 1e-12, whatever the config says.
    pub norm_eps: Option<&'static str>,
    /// True if positions are counted from `pad_token_id` + 1 instead of 0.
    pub after_padding: bool,
    /// The embedding of token types; its first row is added to all tokens.
    pub token_types: Option<&'static str>,
    /// The prefix of layer n: this, n, `.` and the names below.
    pub layers: &'static str,
    /// The projections of queries, keys and values.
    pub qkv: [&'static str; 3],
    /// The projection after attention.
    pub output: &'static str,
    /// The norm after the attention projection.
    pub attention_norm: &'static str,
    /// The first matrix of the feed-forward network.
    pub up: &'static str,
    /// The second matrix of the feed-forward network.
    pub down: &'static str,
    /// The norm after the feed-forward network.
    pub norm: &'static str,
}

const BERT: BertFamily = BertFamily {
    model_type: "bert",
    prefix: "bert.",
    keys: ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"],
    norm_eps: Some("layer_norm_eps"),
    after_padding: false,
    token_types: Some("embeddings.token_type_embeddings"),
    layers: "encoder.layer.",
    qkv: ["attention.self.query", "attention.self.key", "attention.self.value"],
    output: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    norm: "output.LayerNorm",
};

const ROBERTA: BertFamily =
    BertFamily { model_type: "roberta", prefix: "roberta.", after_padding: true, ..BERT };

/// All families, by `model_type`.
pub(super) const FAMILIES: [BertFamily; 5] = [
    BERT,
    BertFamily { model_type: "camembert", ..ROBERTA },
    BertFamily {
        model_type: "distilbert",
        prefix: "distilbert.",
        keys: ["dim", "n_layers", "n_heads", "hidden_dim", "activation"],
        norm_eps: None,
        after_padding: false,
        token_types: None,
        layers: "transformer.layer.",
        qkv: ["attention.q_lin", "attention.k_lin", "attention.v_lin"],
        output: "attention.out_lin",
        attention_norm: "sa_layer_norm",
        up: "ffn.lin1",
        down: "ffn.lin2",
        norm: "output_layer_norm",
    },
    ROBERTA,
    BertFamily { model_type: "xlm-roberta", ..ROBERTA },
];
