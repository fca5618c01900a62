//! The `pcrm` binary and a small world to run it in.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};
use pcrm_core::DType;
use pcrm_core::Device;
use pcrm_core::model::{ModelConfig, RewardModel};
use pcrm_core::registry::{self, BackendPlugin};
use pcrm_core::text::Tokenizer;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::beside;

/// Builds the binary once, in the suite's profile, and returns its path. With libtorch, `pcrm-tch` is beside it.
fn pcrm() -> Result<&'static Path> {
    static PATH: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let build = || -> Result<PathBuf> {
        let suite = std::env::current_exe()?;
        let profile =
            suite.parent().and_then(Path::parent).context("the suite is not in TARGET/PROFILE/deps")?;
        let release = profile.file_name().is_some_and(|name| name == "release");
        let mut cargo = Command::new(env!("CARGO"));
        // Variables that cargo sets for a test: build scripts that watch them would run again, and everything that
        // depends on these scripts would be compiled again.
        let of_cargo = |name: &str| {
            name == "OUT_DIR" || name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        };
        std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_cargo)).for_each(|(name, _)| {
            cargo.env_remove(name);
        });
        // Same packages and features as the suite; any others would recompile the dependencies.
        cargo.args(["build", "--quiet", "--bins"]);
        if cfg!(feature = "distributed") {
            cargo.args(["--workspace", "--features", "pcrm-cli/distributed,pcrm-tests/distributed"]);
        } else if cfg!(feature = "tch") {
            cargo.args(["--workspace", "--features", "pcrm-cli/tch,pcrm-tests/tch"]);
        }
        cargo.arg("--target-dir").arg(profile.parent().context("a target folder")?);
        cargo.args(release.then_some("--release")).current_dir(beside(".."));
        ensure!(cargo.status()?.success(), "cargo build failed");
        Ok(profile.join(format!("pcrm{}", std::env::consts::EXE_SUFFIX)))
    };
    PATH.get_or_init(|| build().map_err(|error| format!("{error:#}"))).as_deref().map_err(anyhow::Error::msg)
}

/// A folder with a base model (`base`), training pairs (`train.jsonl`) and test pairs (`test.jsonl`).
pub struct World {
    folder: TempDir,
}

impl World {
    /// Makes the world: a small llama with random weights, and pairs whose better answer has more "good".
    pub fn new() -> Result<Self> {
        let folder = TempDir::new()?;
        let world = Self { folder };
        let base = world.path("base");
        fs::create_dir(&base)?;
        for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
            fs::copy(beside("golden/text/plain").join(name), base.join(name))?;
        }
        let config = json!({
            "model_type": "llama", "vocab_size": 384, "hidden_size": 64, "intermediate_size": 96,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
            "max_position_embeddings": 512, "initializer_range": 0.1, "architectures": ["LlamaForCausalLM"]
        });
        let config =
            ModelConfig::from_json(config.as_object().cloned().context("an object")?, Path::new("world"))?;
        let first = registry::all::<BackendPlugin>().into_iter().next().context("a backend")?;
        let backend = (first.open)(Device::Cpu.into())?;
        RewardModel::random(backend.as_ref(), config, DType::F32, 1)?.save(&base)?;
        Tokenizer::from_dir(&base)?;
        world.write("train.jsonl", &pairs(0..240))?;
        world.write("test.jsonl", &pairs(240..300))?;
        Ok(world)
    }

    /// Returns a path in the world.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file of the world.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        Ok(fs::write(self.path(name), text)?)
    }

    /// Reads a file of the world.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        fs::read(self.path(name)).with_context(|| name.to_owned())
    }

    /// Reads a file of the world as JSON lines.
    pub fn lines(&self, name: &str) -> Result<Vec<Value>> {
        let text = String::from_utf8(self.read(name)?)?;
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// Reads the rows of `pcrm score` without the mark of the model, since copies of a model have other names.
    pub fn scored(&self, name: &str) -> Result<Vec<Value>> {
        let mut rows = self.lines(name)?;
        for row in rows.iter_mut().filter_map(Value::as_object_mut) {
            row.remove("scored_by").context("a row without a mark")?;
        }
        Ok(rows)
    }

    /// Returns a command that runs in the world's folder.
    pub fn command(&self, arguments: &str) -> Result<Command> {
        let mut command = Command::new(pcrm()?);
        command.args(words(arguments)).current_dir(self.folder.path()).env_remove("RUST_LOG");
        // Keep the caches out of the home directory of the user who runs the tests.
        command.env("XDG_CACHE_HOME", self.path("cache")).env("HOME", self.folder.path());
        for name in ["OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command)
    }

    /// Runs a command that must succeed and returns its standard output.
    pub fn run(&self, arguments: &str) -> Result<String> {
        let output = self.command(arguments)?.output()?;
        ensure!(output.status.success(), "pcrm {arguments}: {}", stderr(&output));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Runs a command that must fail and returns its message.
    pub fn fails(&self, arguments: &str) -> Result<String> {
        let output = self.command(arguments)?.output()?;
        ensure!(!output.status.success(), "pcrm {arguments} succeeded");
        let message = stderr(&output);
        ensure!(!message.contains("panicked"), "pcrm {arguments}: {message}");
        Ok(message)
    }

    /// Fails unless a failing command's message contains all these parts.
    pub fn refuses(&self, arguments: &str, parts: &[&str]) -> Result<()> {
        let message = self.fails(arguments)?;
        for part in parts {
            ensure!(message.contains(part), "pcrm {arguments}: {message:?} does not contain {part:?}");
        }
        Ok(())
    }
}

/// Sends a signal to a process at once: a short run may have ended by the time that kill(1) has started.
#[cfg(unix)]
pub fn send(signal: &str, child: &Child) -> Result<()> {
    use rustix::process::{Pid, Signal, kill_process};
    let named = match signal {
        "HUP" => Signal::HUP,
        "INT" => Signal::INT,
        "KILL" => Signal::KILL,
        "STOP" => Signal::STOP,
        "TERM" => Signal::TERM,
        other => bail!("{other} is none of the signals that tests send"),
    };
    let process = Pid::from_raw(i32::try_from(child.id())?).context("a process id")?;
    kill_process(process, named).with_context(|| format!("{signal} for process {}", child.id()))
}

#[cfg(not(unix))]
pub fn send(signal: &str, child: &Child) -> Result<()> {
    bail!("{signal} for process {}: this system has no signals", child.id())
}

/// Returns the standard error of a command as text.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Splits a command line at blanks; single quotes keep a word together.
fn words(text: &str) -> Vec<String> {
    let quoted = text.split('\'').enumerate();
    quoted
        .flat_map(|(at, part)| match at % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        })
        .collect()
}

fn pairs(rows: std::ops::Range<usize>) -> String {
    let filler = ["a house", "the sea", "some rain", "old trees", "a road", "my cat"];
    let answer = |row: usize, good: usize| -> String {
        let parts = (0..2 + row % 3).map(|at| filler[(row * 5 + at * 7 + good) % filler.len()]);
        format!(" {}{}.", parts.collect::<Vec<_>>().join(" and "), " good".repeat(good))
    };
    let line = |row: usize| {
        let prompt = format!("Question {}: what about {}?", row * 37 % 101, filler[row % filler.len()]);
        let (chosen, rejected) = (answer(row, 1 + row % 2), answer(row + 3, 0));
        json!({"prompt": prompt, "chosen": chosen, "rejected": rejected, "row": row}).to_string() + "\n"
    };
    rows.map(line).collect()
}
