//! Suggestions for option and command names from other trainers, and for misspelt ones.

use clap::Command;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

/// Options of TRL, transformers and OpenRLHF, and the equivalent options here.
const OPTIONS: [(&str, &str); 39] = [
    ("adam-eps", "adam-epsilon"),
    ("base-model", "model"),
    ("batch-size", "batch"),
    ("bf16", "dtype"),
    ("center-rewards-coefficient", "center-rewards"),
    ("dataset", "data"),
    ("dataset-name", "data"),
    ("early-stopping-patience", "patience"),
    ("eval-dataset", "eval-data"),
    ("eval-steps", "eval-every"),
    ("eval-strategy", "eval-every"),
    ("gradient-accumulation-steps", "micro-tokens"),
    ("load-best-model-at-end", "final"),
    ("logging-steps", "log-every"),
    ("lr", "learning-rate"),
    ("lr-scheduler", "schedule"),
    ("lr-scheduler-type", "schedule"),
    ("lr-warmup-ratio", "warmup-ratio"),
    ("max-len", "max-length"),
    ("max-epochs", "epochs"),
    ("max-norm", "max-grad-norm"),
    ("max-seq-length", "max-length"),
    ("micro-batch-size", "micro-tokens"),
    ("micro-train-batch-size", "micro-tokens"),
    ("model-name", "model"),
    ("model-name-or-path", "model"),
    ("num-epochs", "epochs"),
    ("num-train-epochs", "epochs"),
    ("output-dir", "output"),
    ("per-device-train-batch-size", "batch"),
    ("pretrain", "model"),
    ("resume-from-checkpoint", "resume"),
    ("save-path", "output"),
    ("save-steps", "save-every"),
    ("save-total-limit", "keep"),
    ("train-batch-size", "batch"),
    ("train-file", "data"),
    ("validation-file", "eval-data"),
    ("wd", "weight-decay"),
];

/// Command names of other trainers, and the equivalent commands here.
const VERBS: [(&str, &str); 9] = [
    ("train", "reward"),
    ("training", "reward"),
    ("rm", "reward"),
    ("reward-trainer", "reward"),
    ("evaluate", "eval"),
    ("predict", "score"),
    ("infer", "score"),
    ("check", "inspect"),
    ("benchmark", "bench"),
];

/// Returns the option of `known` that `name` most likely means: the equivalent one, else the most similar.
pub fn option<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let name = name.trim_start_matches('-').replace('_', "-").to_lowercase();
    let same = OPTIONS.iter().find(|(theirs, _)| *theirs == name).map(|(_, ours)| *ours);
    let same = known.iter().find(|known| Some(**known) == same || **known == name);
    same.copied()
        .or_else(|| sorted(&name, known).first().copied().filter(|best| similarity(&name, best) > 0.8))
}

/// Sorts the options of `known` by similarity to `name`, most similar first.
pub fn sorted<'a>(name: &str, known: &[&'a str]) -> Vec<&'a str> {
    let mut known = known.to_vec();
    known.sort_by(|a, b| similarity(name, b).total_cmp(&similarity(name, a)).then(a.cmp(b)));
    known
}

fn similarity(a: &str, b: &str) -> f64 {
    strsim::jaro_winkler(a, b)
}

/// Adds a suggestion for the typed words to an error of the parser.
pub fn improved(mut error: Error, command: &Command, typed: &[std::ffi::OsString]) -> Error {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let Some(name) = text(ContextKind::InvalidArg) else { return error };
            let verb = verb(command, typed);
            let known: Vec<&str> = verb.get_arguments().filter_map(|arg| arg.get_long()).collect();
            if let Some(best) = option(&name, &known) {
                error.insert(ContextKind::SuggestedArg, ContextValue::String(format!("--{best}")));
                // The usage repeats the parser's own suggestion.
                error.remove(ContextKind::Usage);
            }
        }
        ErrorKind::InvalidSubcommand => {
            let Some(name) = text(ContextKind::InvalidSubcommand) else { return error };
            if let Some((_, best)) = VERBS.iter().find(|(theirs, _)| *theirs == name) {
                let suggested = ContextValue::Strings(vec![(*best).to_owned()]);
                error.insert(ContextKind::SuggestedSubcommand, suggested);
            }
        }
        _ => {}
    }
    error
}

/// Returns the innermost command named by the words.
fn verb<'a>(command: &'a Command, typed: &[std::ffi::OsString]) -> &'a Command {
    let mut verb = command;
    for word in typed.iter().skip(1) {
        match word.to_str().and_then(|word| verb.find_subcommand(word)) {
            Some(inner) => verb = inner,
            None if verb.has_subcommands() => {}
            None => break,
        }
    }
    verb
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 8] =
        ["batch", "data", "eval-every", "learning-rate", "max-length", "max-steps", "model", "output"];

    /// Protects: names of other trainers lead to the equivalent option, misspelt ones to the most similar.
    #[test]
    fn options_are_suggested() {
        for (typed, expected) in [
            ("--eval-steps", Some("eval-every")),
            ("eval_steps", Some("eval-every")),
            ("lr", Some("learning-rate")),
            ("learning_rate", Some("learning-rate")),
            ("learnig-rate", Some("learning-rate")),
            ("per_device_train_batch_size", Some("batch")),
            ("max-lenght", Some("max-length")),
            ("zzz", None),
        ] {
            assert_eq!(option(typed, &KNOWN), expected, "{typed}");
        }
    }

    /// Protects: a list starts with the most similar names.
    #[test]
    fn lists_begin_with_the_nearest() {
        assert_eq!(sorted("learning_rat", &KNOWN)[0], "learning-rate");
        assert_eq!(sorted("max", &KNOWN)[..2], ["max-steps", "max-length"]);
    }
}
