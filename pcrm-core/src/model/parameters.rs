//! The parameters of a decoder: names, shapes, initial values, and their layout in files.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::model::config::ModelConfig;
use crate::model::family::{Gated, Mlp, NormKind, Positions, QkNorms, Qkv};

/// The score head of a reward model, `[1, outer width]`.
pub const SCORE: &str = "score.weight";

/// The head of a critic, `[1, outer width]`.
pub const VALUE: &str = "value.weight";

/// A head on top of a decoder, which may have several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// Logits of the next token, by the family's own head or, if tied, by the embedding.
    Language,
    /// Scores of sequences, by `score.weight`.
    Score,
    /// Values of rows, by `value.weight`.
    Value,
}

/// A parameter of a decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// The name in the checkpoint.
    pub name: String,
    /// The shape in memory; linear weights are `[out, in]`.
    pub shape: Vec<usize>,
    /// True if files store the transposed matrix (Conv1D).
    pub transposed: bool,
    /// True for the weight of a linear layer of the body.
    pub linear: bool,
    start: Start,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Start {
    Normal(f64),
    /// Uniform between −x and x.
    Uniform(f64),
    Zeros,
    Ones,
}

/// Lists the parameters of a decoder with these heads.
pub fn parameters(config: &ModelConfig, heads: &[Head]) -> Vec<Parameter> {
    let mut list = List { config, all: Vec::new() };
    let family = config.family;
    let (width, std) = (config.width, config.initializer_range);
    // GPT-2 scales the inputs of the residual stream by 1/√(2·layers) (its paper, §2.3).
    let residual = if family.conv1d { std / (2.0 * config.layers as f64).sqrt() } else { std };
    list.matrix(format!("{}.weight", family.embedding), [config.vocabulary, config.outer_width], std);
    if let Some(projections) = config.projections() {
        list.linear(projections.into, [width, config.outer_width], false, std);
    }
    if let Positions::Learned { table, first } = family.positions {
        list.matrix(format!("{table}.weight"), [config.max_positions + first, width], std);
    }
    let (q, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    for layer in 0..config.layers {
        let at = |name: &str| format!("{}{layer}.{name}", family.layers);
        if let Some(name) = family.attention_norm {
            list.norm(&at(name), width);
        }
        match &family.qkv {
            Qkv::Separate(names) => {
                for (name, out) in names.iter().zip([q, kv, kv]) {
                    list.linear(&at(name), [out, width], config.qkv_bias, std);
                }
            }
            Qkv::Fused(name) | Qkv::FusedByGroup(name) => {
                list.linear(&at(name), [q + 2 * kv, width], config.qkv_bias, std)
            }
        }
        let (qk_norms, widths) = match family.qk_norms {
            Some(QkNorms::ByHead(names)) => (Some(names), [config.head_dim; 2]),
            Some(QkNorms::Whole(names)) => (Some(names), [q, kv]),
            None => (None, [0; 2]),
        };
        for (name, width) in qk_norms.iter().flatten().zip(widths) {
            list.norm(&at(name), width);
        }
        list.linear(&at(family.output), [width, q], config.output_bias, residual);
        for name in family.post_norms.iter().flatten() {
            list.norm(&at(name), width);
        }
        if let Some(name) = family.mlp_norm {
            list.norm(&at(name), width);
        }
        list.feed_forward(&at, layer, residual);
    }
    if config.last_norm {
        list.norm(family.last_norm, width);
    }
    if let Some(projections) = config.projections() {
        list.linear(projections.out, [config.outer_width, width], false, std);
    }
    for head in heads {
        list.all.extend(head.parameter(config));
    }
    list.all
}

impl Head {
    /// Returns the parameter of this head; `None` if the embedding serves.
    pub fn parameter(self, config: &ModelConfig) -> Option<Parameter> {
        let (name, rows) = match self {
            Self::Language if config.tied => return None,
            Self::Language => (config.family.language_head, config.vocabulary),
            Self::Score => (SCORE, 1),
            Self::Value => (VALUE, 1),
        };
        let (shape, start) = (vec![rows, config.outer_width], Start::Normal(config.initializer_range));
        Some(Parameter { name: name.to_owned(), shape, transposed: false, linear: false, start })
    }
}

struct List<'a> {
    config: &'a ModelConfig,
    all: Vec<Parameter>,
}

impl List<'_> {
    /// Adds the network of a layer, or its experts.
    fn feed_forward(&mut self, at: &dyn Fn(&str) -> String, layer: usize, residual: f64) {
        let ModelConfig { width, ffn, mlp_bias: bias, initializer_range: std, .. } = *self.config;
        let family = self.config.family;
        let mixture = self.config.mixture.as_ref().filter(|mixture| mixture.is_in(layer));
        if let (Some(experts), Some(mixture)) = (&family.experts, mixture) {
            self.matrix(at(&format!("{}.weight", experts.router)), [mixture.experts, width], std);
            for expert in 0..mixture.experts {
                let at = |name: &str| at(&format!("{}{expert}.{name}", experts.prefix));
                self.gated(&at, experts.expert, mixture.width, false);
            }
            if let Some(shared) = experts.shared {
                self.matrix(at(&format!("{}.weight", shared.gate)), [1, width], std);
                self.gated(at, shared.network, mixture.shared, false);
            }
            return;
        }
        match &family.mlp {
            Mlp::Gated(names) => self.gated(at, *names, ffn, bias),
            Mlp::GatedByOne { gate_up, down } => {
                self.linear(&at(gate_up), [2 * ffn, width], bias, std);
                self.linear(&at(down), [width, ffn], bias, std);
            }
            Mlp::Plain { up, down } => {
                self.linear(&at(up), [ffn, width], bias, std);
                self.linear(&at(down), [width, ffn], bias, residual);
            }
        }
    }

    fn gated(&mut self, at: &dyn Fn(&str) -> String, names: Gated, ffn: usize, bias: bool) {
        let (width, std) = (self.config.width, self.config.initializer_range);
        self.linear(&at(names.gate), [ffn, width], bias, std);
        self.linear(&at(names.up), [ffn, width], bias, std);
        self.linear(&at(names.down), [width, ffn], bias, std);
    }

    fn matrix(&mut self, name: String, shape: [usize; 2], std: f64) {
        let start = Start::Normal(std);
        self.all.push(Parameter { name, shape: shape.into(), transposed: false, linear: false, start });
    }

    fn vector(&mut self, name: String, length: usize, start: Start) {
        self.all.push(Parameter { name, shape: vec![length], transposed: false, linear: false, start });
    }

    fn linear(&mut self, name: &str, shape: [usize; 2], bias: bool, std: f64) {
        let (transposed, start) = (self.config.family.conv1d, Start::Normal(std));
        let name_of_weight = format!("{name}.weight");
        self.all.push(Parameter {
            name: name_of_weight,
            shape: shape.into(),
            transposed,
            linear: true,
            start,
        });
        if bias {
            self.vector(format!("{name}.bias"), shape[0], Start::Zeros);
        }
    }

    fn norm(&mut self, name: &str, width: usize) {
        let one = if self.config.family.norm == NormKind::RmsAroundOne { Start::Zeros } else { Start::Ones };
        self.vector(format!("{name}.weight"), width, one);
        if self.config.family.norm == NormKind::Layer {
            self.vector(format!("{name}.bias"), width, Start::Zeros);
        }
    }
}

impl Parameter {
    /// Transposes the parameter if the layouts of files and memory differ; its own inverse.
    ///
    /// # Errors
    /// Fails if such a parameter is not a matrix of floats.
    pub fn turned(&self, host: HostTensor) -> Result<HostTensor> {
        if self.transposed { host.transposed() } else { Ok(host) }
    }

    /// Returns the module whose weight this is: the name without `.weight`. `None` for a bias.
    pub fn module(&self) -> Option<&str> {
        self.name.strip_suffix(".weight")
    }

    /// Returns matrices A `[rank, in]` and B `[out, rank]` of an adapter of this weight. A is drawn as in
    /// PEFT: uniformly between ±1/√in (Kaiming with a = √5), or from a normal distribution of deviation
    /// 1/rank; B is zero.
    pub(super) fn adapter(&self, rank: usize, gaussian: bool) -> [Self; 2] {
        let (out, inner) = (self.shape[0], self.shape[1]);
        let module = self.module().unwrap_or(&self.name);
        let start = match gaussian {
            true => Start::Normal(1.0 / rank as f64),
            false => Start::Uniform(1.0 / (inner as f64).sqrt()),
        };
        let part = |part: &str, shape: [usize; 2], start: Start| Self {
            name: format!("{module}.{part}.weight"),
            shape: shape.into(),
            transposed: false,
            linear: false,
            start,
        };
        [part("lora_A", [rank, inner], start), part("lora_B", [out, rank], Start::Zeros)]
    }

    /// Returns the weight of a tied language-model head as if it were untied.
    pub(super) fn tied_head(config: &ModelConfig) -> Self {
        let start = Start::Normal(config.initializer_range);
        let name = config.family.language_head.to_owned();
        let shape = vec![config.vocabulary, config.outer_width];
        Self { name, shape, transposed: false, linear: false, start }
    }

    /// Converts the values of this parameter from a file to memory's layout.
    ///
    /// # Errors
    /// Fails if the values are missing or have another shape.
    pub(super) fn fitting(&self, stored: Option<HostTensor>) -> Result<HostTensor> {
        let host = stored.ok_or_else(|| Error::invalid(&self.name, "is missing from the weights"))?;
        let mut expected = self.shape.clone();
        if self.transposed {
            expected.reverse();
        }
        if host.shape() != expected {
            let message = format!("has shape {:?}, expected {expected:?}", host.shape());
            return Err(Error::invalid(&self.name, message));
        }
        self.turned(host)
    }

    /// Draws values from the seed and the name alone: they are the same on every backend, whatever else is
    /// drawn.
    ///
    /// # Errors
    /// Fails if the standard deviation is not finite.
    pub fn random(&self, seed: u64) -> Result<HostTensor> {
        let size = self.shape.iter().product();
        let values = match self.start {
            Start::Zeros => vec![0.0; size],
            Start::Ones => vec![1.0; size],
            Start::Uniform(bound) => {
                let mut rng = ChaCha8Rng::seed_from_u64(xxh3_64_with_seed(self.name.as_bytes(), seed));
                let bound = bound as f32;
                (0..size).map(|_| rng.random_range(-bound..bound)).collect()
            }
            Start::Normal(std) => {
                let mut rng = ChaCha8Rng::seed_from_u64(xxh3_64_with_seed(self.name.as_bytes(), seed));
                let normal = Normal::new(0.0f32, std as f32)
                    .map_err(|error| Error::invalid("initializer_range", format!("{std}: {error}")))?;
                (0..size).map(|_| normal.sample(&mut rng)).collect()
            }
        };
        HostTensor::f32(self.shape.clone(), values)
    }
}
