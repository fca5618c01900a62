//! `pcrm plan`: estimates memory, exchanged bytes and time of a step on several GPUs from `config.json`
//! alone.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use pcrm_core::DType;
use pcrm_core::model::parameters::{Parameter, SCORE, parameters};
use pcrm_core::model::{Head, ModelConfig};
use pcrm_core::optim::StatePlace;
use pcrm_core::quant::Quantisation;
use pcrm_rl::footprint::Footprint;
use serde_json::json;

use crate::numbers::{positive, real};
use crate::progress::say;
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
    /// Train adapters of rank N on the family's default modules; the model is frozen
    #[arg(long, value_name = "N", value_parser = positive::<usize>)]
    lora_r: Option<usize>,
    /// Store the frozen model's linear layers in nf4, nf4-double or int8; a quantised checkpoint stays as it is
    #[arg(long, value_name = "TYPE", requires = "lora_r")]
    quantize: Option<Quantisation>,
    /// Keep the moments of AdamW in device memory or in host memory
    #[arg(long, value_name = "PLACE", default_value_t = StatePlace::Device)]
    optimizer_states: StatePlace,
    /// Compute in this element type: f32 or bf16
    #[arg(long, default_value = "bf16")]
    dtype: DType,
    /// Take N tokens per step
    #[arg(long, value_name = "N", default_value_t = 65536, value_parser = positive::<u64>)]
    tokens: u64,
    /// Compute at most N tokens at once
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = positive::<usize>)]
    micro_tokens: usize,
    /// Assume this speed of a GPU in training; an H100 in bf16 has about 400
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
  pcrm plan --model models/llama-8b --gpus 1 --lanes 1 --optimizer-states host
  pcrm plan --model models/llama-8b --gpus 64 --lanes 64 --interconnect 50 --tokens 1048576";

const GIB: f64 = (1u64 << 30) as f64;

/// Prints the plan.
///
/// # Errors
/// Fails if the folder has no config, if its weights are quantised and to be trained in full, and if the
/// processes cannot share the lanes.
pub fn run(args: &PlanArgs) -> Result<()> {
    usage(args.check())?;
    let config =
        ModelConfig::from_dir(&args.model).with_context(|| format!("--model {}", args.model.display()))?;
    if args.lora_r.is_none() {
        config.check_trained_in_full(&args.model).context("--model")?;
    }
    if let (Some(found), Some(wanted)) = (config.quantised, args.quantize)
        && found != wanted
    {
        say(&format!("the checkpoint is quantised already ({found}); it is not changed to {wanted}"));
    }
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
                "host": memory.host,
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
    let host = match memory.host {
        0 => String::new(),
        host => format!("moments in host memory: {}, copied to the GPU and back in every step\n", gib(host)),
    };
    terminal::result(&format!(
        "{} trained parameters on {} GPU{}, {} lanes\n\
         memory of each GPU: {}, {fits}\n  \
           weights {}\n  optimiser's slice {}\n  gradients {}\n  activations, about {}\n\
         {host}sent by each GPU in a step: {}\n\
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

    /// Returns the quantisation of linear layers: the checkpoint's, else `--quantize`.
    fn method(&self, config: &ModelConfig) -> Option<Quantisation> {
        config.quantised.or(self.quantize)
    }

    fn footprint(&self, config: &ModelConfig) -> Footprint {
        let head = if self.language { Head::Language } else { Head::Score };
        let all = parameters(config, &[head]);
        // The head of a reward model is trained in full.
        let is_trained = |of: &&Parameter| self.lora_r.is_none() || of.name == SCORE;
        let (whole, base): (Vec<&Parameter>, Vec<&Parameter>) = all.iter().partition(is_trained);
        let adapters = base.iter().filter_map(|of| {
            let (module, rank) = (of.module().filter(|_| of.linear)?, self.lora_r?);
            let last = module.rsplit('.').next().unwrap_or(module);
            config.family.lora_targets.contains(&last).then_some(rank * (of.shape[0] + of.shape[1]))
        });
        let stored = |of: &Parameter| match (self.method(config), &of.shape[..]) {
            (Some(method), [rows, columns]) if of.linear => {
                Some((rows * columns, method.bytes([*rows, *columns])))
            }
            _ => None,
        };
        let quantised = base.iter().filter_map(|of| stored(of));
        Footprint {
            trained: whole.iter().map(|of| size(of)).chain(adapters).collect(),
            frozen: base.iter().filter(|of| stored(of).is_none()).map(|of| size(of)).sum(),
            quantised: quantised.fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1)),
            idle: (idle(config, &whole), idle(config, &base)),
            element: if self.dtype == DType::F32 { 4 } else { 2 },
            states: self.optimizer_states,
            processes: self.gpus,
            lanes: self.lanes(),
            layers: (config.layers, config.width),
            tokens: self.tokens,
            micro_tokens: self.micro_tokens,
        }
    }
}

fn size(of: &Parameter) -> usize {
    of.shape.iter().product()
}

/// Returns the number of elements that a token does not use, in the experts that the router passes over.
fn idle(config: &ModelConfig, list: &[&Parameter]) -> usize {
    let (Some(experts), Some(mixture)) = (&config.family.experts, &config.mixture) else { return 0 };
    let all: usize = list.iter().filter(|of| experts.has_expert(&of.name)).map(|of| size(of)).sum();
    all / mixture.experts * (mixture.experts - mixture.taken)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::Value;

    use super::*;

    #[derive(Parser)]
    struct Plan {
        #[command(flatten)]
        args: PlanArgs,
    }

    fn args(line: &str) -> PlanArgs {
        let words =
            "plan --model . --gpus 1".split(' ').chain(line.split(' ').filter(|word| !word.is_empty()));
        Plan::try_parse_from(words).unwrap().args
    }

    fn config(fields: Value) -> ModelConfig {
        let mut all = json!({
            "vocab_size": 10, "hidden_size": 8, "intermediate_size": 6, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 16,
            "rms_norm_eps": 1e-6, "tie_word_embeddings": false, "pad_token_id": 0,
        });
        let all = all.as_object_mut().unwrap();
        all.extend(fields.as_object().unwrap().clone());
        ModelConfig::from_json(all.clone(), std::path::Path::new("config.json")).unwrap()
    }

    /// Protects: adapters have the sizes of the family's own targets, fused or not.
    #[test]
    fn adapters_are_those_of_the_family() {
        // Queries have 8 rows, keys and values 4 each.
        let separate = args("--lora-r 3").footprint(&config(json!({"model_type": "llama"})));
        assert_eq!(separate.trained, [8, 3 * 16, 3 * 12, 3 * 16, 3 * 12]);
        let fused = args("--lora-r 3").footprint(&config(json!({"model_type": "phi3"})));
        assert_eq!(fused.trained, [8, 3 * 24, 3 * 24]);
        let all = parameters(&config(json!({"model_type": "phi3"})), &[]);
        assert_eq!(fused.frozen, all.iter().map(size).sum::<usize>());
    }

    /// Protects: a token computes with the experts that it takes, not with all; memory holds all of them.
    #[test]
    fn tokens_use_a_share_of_the_experts() {
        let with = |taken: usize| {
            config(json!({
                "model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": taken,
            }))
        };
        let expert = (3 * 8 * 6) as f64;
        for (line, factor) in [("", 6.0), ("--lora-r 2", 4.0), ("--lora-r 2 --quantize nf4", 4.0)] {
            let [one, all] = [1, 4].map(|taken| args(line).footprint(&with(taken)));
            // Two layers, each with three experts fewer.
            assert_eq!(all.operations(5) - one.operations(5), 5.0 * factor * 2.0 * 3.0 * expert, "{line}");
            assert_eq!(all.memory(), one.memory(), "{line}");
        }
    }

    /// Protects: a checkpoint that is quantised already is planned as it is, is not trained in full, and its
    /// method is not written to other configs.
    #[test]
    fn quantised_checkpoints_are_planned_as_stored() {
        let plain = config(json!({"model_type": "llama"}));
        let stored = config(json!({
            "model_type": "llama",
            "quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": true},
        }));
        let planned = |line: &str, config: &ModelConfig| args(line).footprint(config);
        assert_eq!(planned("--lora-r 2", &stored), planned("--lora-r 2 --quantize int8", &plain));
        assert_eq!(planned("--lora-r 2 --quantize nf4", &stored), planned("--lora-r 2", &stored));
        let refused = stored.check_trained_in_full(std::path::Path::new("base")).unwrap_err().to_string();
        assert!(refused.contains("int8") && refused.contains("--lora-r"), "{refused}");
        assert!(plain.check_trained_in_full(std::path::Path::new("base")).is_ok());
        assert!(!stored.reward_json().keys().any(|key| key.contains("quant")));
    }
}
