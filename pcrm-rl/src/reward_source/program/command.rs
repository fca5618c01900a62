//! `command:CMD`: a user's program, run by the shell.

use pcrm_core::erased_serde;
use serde::Deserialize;
use serde::de::Error as _;

use super::{Limits, Program};
use crate::error::Result;
use crate::reward_source::{Answers, Preparation, RewardPlugin, RewardSource, Scored};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    command: String,
    #[serde(default = "timeout")]
    timeout: f64,
    #[serde(default = "start_timeout")]
    start_timeout: f64,
}

pub(super) fn timeout() -> f64 {
    Limits::default().timeout
}

pub(super) fn start_timeout() -> f64 {
    Limits::default().start_timeout
}

struct CommandReward(Program);

impl RewardSource for CommandReward {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn prepare(&mut self, run: &Preparation<'_>) -> Result<()> {
        self.0.prepare(run)
    }

    fn score(&mut self, batch: &Answers<'_>) -> Result<Scored> {
        self.0.score(batch)
    }

    fn close(&mut self) {
        self.0.close();
    }
}

fn build(data: &mut dyn erased_serde::Deserializer<'_>) -> erased_serde::Result<Box<dyn RewardSource>> {
    let Config { command, timeout, start_timeout } = erased_serde::deserialize(data)?;
    let limits = Limits { timeout, start_timeout };
    limits.check().map_err(erased_serde::Error::custom)?;
    // The program's name without its folder and arguments.
    let first = command.split_whitespace().next().unwrap_or_default();
    let name = first.rsplit(['/', '\\']).next().unwrap_or_default();
    if name.is_empty() {
        return Err(erased_serde::Error::custom("the command is empty; expected a program"));
    }
    let (shell, option) = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
    let arguments = vec![option.into(), command.as_str().into()];
    Ok(Box::new(CommandReward(Program::new(name.to_owned(), shell, arguments, limits))))
}

pcrm_core::inventory::submit! {
    RewardPlugin {
        name: "command",
        about: "a program (command) that reads and writes JSON lines; timeout 180 s, start_timeout 300 s",
        build,
    }
}
