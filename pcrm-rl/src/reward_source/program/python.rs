//! `python:FILE.py:FUNCTION`: a Python function with the signature of TRL, OpenRLHF or verl, called by a
//! small adapter.

use std::ffi::OsString;
use std::path::Path;

use pcrm_core::erased_serde;
use serde::Deserialize;
use serde::de::Error as _;

use super::command::{start_timeout, timeout};
use super::{Limits, Program};
use crate::error::{Error, Result};
use crate::reward_source::{Answers, Preparation, RewardPlugin, RewardSource, Scored};

const ADAPTER: &str = include_str!("adapter.py");
const INTERPRETER: &str = if cfg!(windows) { "python" } else { "python3" };

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// File, or a module that Python can import: `trl.rewards`.
    file: String,
    function: String,
    #[serde(default = "interpreter")]
    interpreter: String,
    /// Column passed as `labels` to OpenRLHF's functions and as `ground_truth` to verl's.
    #[serde(default)]
    label: Option<String>,
    #[serde(default = "timeout")]
    timeout: f64,
    #[serde(default = "start_timeout")]
    start_timeout: f64,
}

fn interpreter() -> String {
    INTERPRETER.to_owned()
}

struct PythonReward {
    program: Program,
    file: String,
    label: Option<String>,
}

impl RewardSource for PythonReward {
    fn name(&self) -> &str {
        &self.program.name
    }

    fn prepare(&mut self, run: &Preparation<'_>) -> Result<()> {
        let refuse = |message: String| Err(Error::reward(&self.program.name, message));
        if self.file.ends_with(".py") && !Path::new(&self.file).is_file() {
            return refuse(format!("{}: no such file; expected Python code", self.file));
        }
        if let Some(label) = &self.label
            && let Some(prompt) = run.prompts.iter().find(|prompt| !prompt.columns.contains_key(label))
        {
            return refuse(format!("{}: no column {label:?} for the label", prompt.origin));
        }
        self.program.prepare(run)
    }

    fn notes(&self) -> Vec<String> {
        let form = match self.program.form.as_deref() {
            Some("trl") => "TRL's (prompts, completions, completion_ids, the columns)",
            Some("openrlhf") => "OpenRLHF's (queries, prompts, labels)",
            Some("verl") => "verl's (data_source, solution_str, ground_truth, extra_info)",
            Some("verl-batch") => {
                "verl's for batches (data_sources, solution_strs, ground_truths, extra_infos)"
            }
            _ => return Vec::new(),
        };
        vec![format!("{}: the function is called in the form of {form}", self.file)]
    }

    fn score(&mut self, batch: &Answers<'_>) -> Result<Scored> {
        self.program.score(batch)
    }

    fn close(&mut self) {
        self.program.close();
    }
}

fn build(data: &mut dyn erased_serde::Deserializer<'_>) -> erased_serde::Result<Box<dyn RewardSource>> {
    let config: Config = erased_serde::deserialize(data)?;
    let limits = Limits { timeout: config.timeout, start_timeout: config.start_timeout };
    limits.check().map_err(erased_serde::Error::custom)?;
    let label = config.label.clone().unwrap_or_default();
    let arguments: Vec<OsString> =
        ["-c", ADAPTER, &config.file, &config.function, &label].map(OsString::from).to_vec();
    let hint = "; name the interpreter: python:FILE.py:FUNCTION:/path/to/python";
    let program = Program { hint, ..Program::new(config.function, config.interpreter, arguments, limits) };
    Ok(Box::new(PythonReward { program, file: config.file, label: config.label }))
}

pcrm_core::inventory::submit! {
    RewardPlugin {
        name: "python",
        about: "a Python function (file, function) in the form of TRL, OpenRLHF or verl; interpreter, label",
        build,
    }
}
