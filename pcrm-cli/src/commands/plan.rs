//! `pcrm plan`: estimates memory, exchanged bytes and time of a step on several GPUs from `config.json`
//! alone.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use pcrm_core::DType;
use pcrm_core::model::parameters::{Parameter, parameters};
use pcrm_core::model::{Head, ModelConfig};
use pcrm_core::quant::Quantisation;
use pcrm_rl::footprint::Footprint;
use serde_json::json;

use crate::numbers::{positive, real};
use crate::terminal;
use crate::usage::usage;

/// Options of `pcrm plan`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct PlanArgs {
    /// Plan for the model in this folder; only config.json is read
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Train with this many processes, one per GPU
    #[arg(long, value_name = "N", value_parser = positive::<usize>)]
    gpus: usize,
    /// Compute every step in N parts [default: as in training]
    #[arg(long, value_name = "N", value_parser = positive::<usize>)]
    lanes: Option<usize>,
    /// Train a language model instead of a reward model
    #[arg(long)]
    language: bool,
    /// Train adapters of rank N on queries and values; the model is frozen
    #[arg(long, value_name = "N", value_parser = positive::<usize>)]
    lora_r: Option<usize>,
    /// Store the frozen model's linear layers in nf4, nf4-double or int8
    #[arg(long, value_name = "TYPE", requires = "lora_r")]
    quantize: Option<Quantisation>,
    /// Compute in this element type: f32 or bf16
    #[arg(long, default_value = "bf16")]
    dtype: DType,
    /// Take N tokens per step
    #[arg(long, value_name = "N", default_value_t = 65536, value_parser = positive::<u64>)]
    tokens: u64,
    /// Compute at most N tokens at once
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = positive::<usize>)]
    micro_tokens: usize,
    /// Assume this speed of a GPU in training [default: 400, an H100 in bf16]
    #[arg(long, value_name = "TFLOP/S", default_value_t = 400.0, value_parser = real)]
    speed: f64,
    /// Assume that each GPU sends this many GB/s: 400 over NVLink, 50 over InfiniBand NDR, 25 over PCIe 4,
    /// 1.2 over 10 GbE
    #[arg(long, value_name = "GB/S", default_value_t = 50.0, value_parser = real)]
    interconnect: f64,
    /// Assume GPUs with this much memory
    #[arg(long, value_name = "GIB", default_value_t = 80.0, value_parser = real)]
    memory: f64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  pcrm plan --model models/llama-8b --gpus 8 --interconnect 400
  pcrm plan --model models/llama-8b --gpus 1 --lora-r 16 --quantize nf4
  pcrm plan --model models/llama-8b --gpus 64 --lanes 64 --interconnect 50 --tokens 1048576";

const GIB: f64 = (1u64 << 30) as f64;

/// Prints the plan.
///
/// # Errors
/// Fails if the folder has no config or the processes cannot share the lanes.
pub fn run(args: &PlanArgs) -> Result<()> {
    usage(args.check())?;
    let config =
        ModelConfig::from_dir(&args.model).with_context(|| format!("--model {}", args.model.display()))?;
    let footprint = args.footprint(&config);
    let (memory, sent) = (footprint.memory(), footprint.sent());
    let compute = footprint.operations(args.tokens) / args.gpus as f64 / (args.speed * 1e12);
    let exchange = sent as f64 / (args.interconnect * 1e9);
    if args.json {
        let text = json!({
            "parameters": footprint.parameters(),
            "gpus": args.gpus,
            "lanes": footprint.lanes,
            "memory": {
                "weights": memory.weights,
                "optimiser": memory.optimiser,
                "gradients": memory.gradients,
                "activations": memory.activations,
                "total": memory.total(),
            },
            "sent_per_step": sent,
            "seconds": {"compute": compute, "exchange": exchange, "step": compute + exchange},
        });
        return terminal::result(&format!("{text}\n"));
    }
    let gib = |bytes: u64| match bytes as f64 / GIB {
        gib if gib >= 1.0 => format!("{gib:.2} GiB"),
        gib => format!("{:.2} MiB", 1024.0 * gib),
    };
    let fits = match memory.total() as f64 / GIB <= args.memory {
        true => format!("fits {} GiB", args.memory),
        false => format!("does not fit {} GiB", args.memory),
    };
    terminal::result(&format!(
        "{} trained parameters on {} GPU{}, {} lanes\n\
         memory of each GPU: {}, {fits}\n  \
           weights {}\n  optimiser's slice {}\n  gradients {}\n  activations, about {}\n\
         sent by each GPU in a step: {}\n\
         a step of {} tokens, about: {:.3} s ({compute:.3} s computing, {exchange:.3} s exchanging)\n",
        footprint.parameters(),
        args.gpus,
        if args.gpus == 1 { "" } else { "s" },
        footprint.lanes,
        gib(memory.total()),
        gib(memory.weights),
        gib(memory.optimiser),
        gib(memory.gradients),
        gib(memory.activations),
        gib(sent),
        args.tokens,
        compute + exchange,
    ))
}

impl PlanArgs {
    fn lanes(&self) -> usize {
        self.lanes.unwrap_or_else(|| crate::processes::lanes_of(self.gpus))
    }

    fn check(&self) -> Result<()> {
        ensure!(
            self.lanes().is_multiple_of(self.gpus),
            "--lanes {}: {} processes cannot share them; expected a multiple of {}",
            self.lanes(),
            self.gpus,
            self.gpus
        );
        for (name, value) in
            [("speed", self.speed), ("interconnect", self.interconnect), ("memory", self.memory)]
        {
            ensure!(value > 0.0 && value.is_finite(), "--{name} {value}: expected a positive number");
        }
        Ok(())
    }

    /// Returns the elements and bytes of a quantised parameter; `None`: it is not quantised.
    fn quantised(&self, of: &Parameter) -> Option<(usize, u64)> {
        match (self.quantize, &of.shape[..]) {
            (Some(method), [rows, columns]) if of.linear => {
                Some((rows * columns, method.bytes([*rows, *columns])))
            }
            _ => None,
        }
    }

    fn footprint(&self, config: &ModelConfig) -> Footprint {
        let head = if self.language { Head::Language } else { Head::Score };
        let all = parameters(config, &[head]);
        let size = |of: &Parameter| of.shape.iter().product::<usize>();
        let whole: Vec<usize> = all.iter().map(size).collect();
        let mut quantised = (0, 0);
        let (trained, frozen) = match self.lora_r {
            None => (whole, 0),
            Some(r) => {
                let (q, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
                let of_layer = [r * config.width, q * r, r * config.width, kv * r];
                let mut adapters = of_layer.repeat(config.layers);
                // The head of a reward model is trained in full.
                let is_head = |name: &str| name == pcrm_core::model::parameters::SCORE;
                adapters.extend(all.iter().filter(|of| is_head(&of.name)).map(size));
                let frozen = all.iter().filter(|of| !is_head(&of.name));
                let add = |sum: (usize, u64), of: (usize, u64)| (sum.0 + of.0, sum.1 + of.1);
                quantised = frozen.clone().filter_map(|of| self.quantised(of)).fold((0, 0), add);
                (adapters, frozen.filter(|of| self.quantised(of).is_none()).map(size).sum())
            }
        };
        Footprint {
            trained,
            frozen,
            quantised,
            element: if self.dtype == DType::F32 { 4 } else { 2 },
            processes: self.gpus,
            lanes: self.lanes(),
            layers: (config.layers, config.width),
            micro_tokens: self.micro_tokens,
        }
    }
}
