//! Options of training that have no effect because a command trains nothing.

use anyhow::{Result, ensure};
use clap::{Args, Command};

use super::{StepArgs, TrainingArgs};

impl TrainingArgs {
    /// Refuses options of the loss, the steps, the adapters, the processes and the first weights that differ from
    /// their defaults; `by` is the option that prevents training.
    ///
    /// # Errors
    /// Fails with the name of the first such option.
    pub fn trains_nothing(&self, by: &str) -> Result<()> {
        let given = self.loss.changed().into_iter().chain(self.steps.changed()).chain(self.lora.changed());
        let given = given.chain(self.steps.processes.changed()).chain([("random-init", self.random_init)]);
        for (name, changed) in given {
            ensure!(!changed, "--{name} has no effect: nothing is trained with {by}");
        }
        Ok(())
    }
}

impl StepArgs {
    /// Returns the options that matter in training only, each with whether it differs from its default.
    fn changed(&self) -> Vec<(&'static str, bool)> {
        let Some(usual) = usual::<Self>() else { return Vec::new() };
        let Self {
            epochs,
            max_steps,
            batch,
            batch_tokens,
            micro_tokens: _,
            recomputed,
            order,
            learning_rate,
            schedule,
            warmup_steps,
            warmup_ratio,
            optimizer,
            optimizer_states,
            weights,
            weight_decay,
            adam_beta1,
            adam_beta2,
            adam_epsilon,
            max_grad_norm,
            processes: _,
        } = self;
        vec![
            ("epochs", *epochs != usual.epochs),
            ("max-steps", *max_steps != usual.max_steps),
            ("batch", *batch != usual.batch),
            ("batch-tokens", *batch_tokens != usual.batch_tokens),
            ("gradient-checkpointing", *recomputed != usual.recomputed),
            ("order", *order != usual.order),
            ("learning-rate", *learning_rate != usual.learning_rate),
            ("schedule", *schedule != usual.schedule),
            ("warmup-steps", *warmup_steps != usual.warmup_steps),
            ("warmup-ratio", *warmup_ratio != usual.warmup_ratio),
            ("optimizer", *optimizer != usual.optimizer),
            ("optimizer-states", *optimizer_states != usual.optimizer_states),
            ("weights", *weights != usual.weights),
            ("weight-decay", *weight_decay != usual.weight_decay),
            ("adam-beta1", *adam_beta1 != usual.adam_beta1),
            ("adam-beta2", *adam_beta2 != usual.adam_beta2),
            ("adam-epsilon", *adam_epsilon != usual.adam_epsilon),
            ("max-grad-norm", *max_grad_norm != usual.max_grad_norm),
        ]
    }
}

/// Returns options as an empty command line gives them; `None` if one of them is required.
pub(super) fn usual<T: Args>() -> Option<T> {
    let matches = T::augment_args(Command::new("pcrm")).try_get_matches_from(["pcrm"]).ok()?;
    T::from_arg_matches(&matches).ok()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Typed {
        #[command(flatten)]
        training: TrainingArgs,
    }

    fn refusal(options: &str) -> Option<String> {
        let line = format!("pcrm --model m --data d {options}");
        let typed = Typed::try_parse_from(line.split_whitespace()).unwrap();
        typed.training.trains_nothing("--judge").err().map(|error| error.to_string())
    }

    /// Protects: every option under the headings Loss, Steps, LoRA and Several processes is refused where nothing
    /// is trained, except those that say how data are read and how much is computed at once; so are random weights.
    #[test]
    fn options_of_training_are_refused() {
        assert_eq!(refusal(""), None);
        assert_eq!(refusal("--epochs 1 --batch 16 --loss bt --ties davidson --micro-tokens 100"), None);
        let command = TrainingArgs::augment_args(Command::new("pcrm"));
        let mut tried = 0;
        for arg in command.get_arguments() {
            let Some(name) = arg.get_long() else { continue };
            let in_training = ["Loss", "Steps", "LoRA", "Several processes"]
                .contains(&arg.get_help_heading().unwrap_or_default());
            if !(in_training || name == "random-init") || ["ties", "micro-tokens"].contains(&name) {
                continue;
            }
            let possible = arg.get_possible_values();
            let value = match name {
                "ranking" => "plackett-luce",
                "optimizer" => "adafactor",
                "optimizer-states" => "host",
                "weights" => "bf16-kahan",
                "quantize" => "nf4",
                _ if !arg.get_action().takes_values() => "",
                _ => possible.last().map_or("3", |last| last.get_name()),
            };
            let needs_rank = name.starts_with("lora-") && name != "lora-r" || name == "use-rslora";
            let (more, said) = if needs_rank { ("--lora-r 2", "lora-r") } else { ("", name) };
            let said = if name.starts_with("load-in-") { "quantize" } else { said };
            let expected = format!("--{said} has no effect: nothing is trained with --judge");
            assert_eq!(refusal(&format!("--{name} {value} {more}")), Some(expected));
            tried += 1;
        }
        assert!(tried > 33, "{tried}");
    }
}
