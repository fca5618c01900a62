//! libtorch is loaded for the commands that need it: `pcrm` does not link to it, and starts `pcrm-tch` beside it.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::binary::{World, stderr};
use crate::plugins::BACKENDS;

/// Returns the path of the tested binary.
fn pcrm(world: &World) -> Result<PathBuf> {
    Ok(world.command("--version")?.get_program().into())
}

/// Protects: neither the default build nor `pcrm` of a build with libtorch links to it, which would cost every command,
/// even `--help`, 0.2 s. `pcrm-tch` does, which shows that the loader's list is parsed correctly.
#[test]
fn libtorch_is_no_part_of_the_program_that_users_start() -> Result<()> {
    if !cfg!(all(target_os = "linux", target_env = "gnu")) {
        println!("nothing checked: this system's loader does not list the libraries of a program");
        return Ok(());
    }
    let pcrm = pcrm(&World::new()?)?;
    let libraries = |program: PathBuf| -> Result<String> {
        // glibc's loader then prints what the program links to, and does not start it; ldd does the same.
        let output = Command::new(&program).env("LD_TRACE_LOADED_OBJECTS", "1").output()?;
        let listed = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(listed.contains("libc.so"), "{}: {listed}{}", program.display(), stderr(&output));
        Ok(listed)
    };
    if BACKENDS.contains(&"tch") {
        let listed = libraries(pcrm.with_file_name("pcrm-tch"))?;
        ensure!(listed.contains("libtorch_cpu"), "pcrm-tch does not link to libtorch: {listed}");
    }
    let listed = libraries(pcrm)?;
    ensure!(!listed.contains("torch") && !listed.contains("libc10"), "pcrm links to libtorch: {listed}");
    Ok(())
}

/// `pcrm` in a separate folder, beside a script in place of `pcrm-tch`.
struct Pair {
    world: World,
}

impl Pair {
    /// Makes the folder; `None`, with a note, for a build without libtorch.
    fn new() -> Result<Option<Self>> {
        if !BACKENDS.contains(&"tch") {
            println!("built with {BACKENDS:?} alone: no program beside pcrm to test (feature tch)");
            return Ok(None);
        }
        let world = World::new()?;
        let pair = Self { world };
        // A file that this process has open for writing cannot be started while another test starts a process of
        // its own, which inherits the open file for a moment. So the shell writes both.
        let make =
            r#"mkdir bin && cp "$0" bin/pcrm && printf '%s' "$1" > bin/pcrm-tch && chmod +x bin/pcrm-tch"#;
        let script =
            "#!/bin/sh\n{ echo $$; echo \"$PCRM_STARTED_BY\"; printf '%s\\n' \"$@\"; } > asked\nexit 7\n";
        let mut shell = Command::new("sh");
        shell.args(["-c", make]).arg(pcrm(&pair.world)?).arg(script).current_dir(pair.world.path(""));
        ensure!(shell.status()?.success(), "{shell:?}");
        Ok(Some(pair))
    }

    /// Runs the copy with this text as its standard input. Returns its exit code, what it printed, and the arguments
    /// of the script, if it was started.
    fn run(&self, words: &[&str], input: &str) -> Result<(Option<i32>, String, Option<Vec<String>>)> {
        let mut command = Command::new(self.world.path("bin/pcrm"));
        command.args(words).current_dir(self.world.path("")).env_remove("RUST_LOG");
        command.env("XDG_CACHE_HOME", self.world.path("cache")).env("HOME", self.world.path(""));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let process = child.id();
        child.stdin.take().context("an input")?.write_all(input.as_bytes())?;
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output);
        let asked = match self.world.read("asked") {
            Ok(text) => {
                std::fs::remove_file(self.world.path("asked"))?;
                let text = String::from_utf8(text)?;
                let mut lines = text.lines().map(str::to_owned);
                let own: u32 = lines.next().context("the script's process")?.parse()?;
                ensure!(own == process, "{words:?}: the script is process {own}, and pcrm was {process}");
                let by = lines.next().context("the version of pcrm")?;
                ensure!(by == format!("{} {process}", env!("CARGO_PKG_VERSION")), "{words:?}: {by:?}");
                Some(lines.collect())
            }
            Err(_) => None,
        };
        Ok((output.status.code(), said, asked))
    }

    /// Fails unless the script took over with these arguments, and the command ends with its exit code.
    fn check_handed(&self, words: &[&str], input: &str, expected: &[&str]) -> Result<()> {
        let (code, said, asked) = self.run(words, input)?;
        let asked = asked.with_context(|| format!("{words:?} stays in pcrm: {said}"))?;
        ensure!(asked == expected, "{words:?}: {asked:?}");
        ensure!(code == Some(7) && said.is_empty(), "{words:?}: {code:?}, {said}");
        Ok(())
    }
}

/// Protects: a command for libtorch becomes the program beside `pcrm`: the same process, so signals reach it, with the
/// same arguments and exit code. An option in a config file counts too, even if the file can be read only once.
#[test]
fn commands_for_libtorch_become_the_program_beside() -> Result<()> {
    let Some(pair) = Pair::new()? else { return Ok(()) };
    let typed = ["--quiet", "reward", "--backend", "tch", "--model", "a b", "--data", "d", "--output", "o"];
    pair.check_handed(&typed, "", &typed)?;
    pair.check_handed(&["plugins"], "", &["plugins"])?;
    // The program beside pcrm knows all backends, and says so.
    pair.check_handed(
        &["bench", "gemm", "--backend", "torhc"],
        "",
        &["bench", "gemm", "--backend", "torhc"],
    )?;
    let options = "backend = \"tch\"\ndata = [\"d\"]\nmodel = \"m\"\noutput = \"o\"\n";
    pair.world.write("run.toml", options)?;
    let typed = ["reward", "--config", "run.toml", "--batch", "4"];
    pair.check_handed(&typed, "", &typed)?;
    pair.check_handed(
        &["reward", "--config", "/dev/stdin", "--batch", "4"],
        options,
        &["reward", "--backend", "tch", "--data", "d", "--model", "m", "--output", "o", "--batch", "4"],
    )
}

/// Protects: commands that need no libtorch are run by `pcrm` itself, also if the program beside it is gone.
#[test]
fn other_commands_stay() -> Result<()> {
    let Some(pair) = Pair::new()? else { return Ok(()) };
    std::fs::remove_file(pair.world.path("bin/pcrm-tch"))?;
    let stays = |line: &str, expected: i32, part: &str| -> Result<()> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (code, said, asked) = pair.run(&words, "")?;
        ensure!(asked.is_none() && code == Some(expected) && said.contains(part), "{line}: {code:?}, {said}");
        Ok(())
    };
    stays("--help", 0, "Train reward models")?;
    stays("--version", 0, "pcrm ")?;
    stays("reward --backend tch --help", 0, "--backend")?;
    stays("reward --backend tch --epoch 2", 2, "--epochs")?;
    stays("merge --output - adapter", 2, "--output -")?;
    stays("constraint list", 0, "length_ratio")?;
    if BACKENDS.contains(&"candle") {
        stays("score --backend candle --model base --data test.jsonl --output scored.jsonl", 0, "")?;
        ensure!(pair.world.lines("scored.jsonl")?.len() == 60, "the rows are not scored");
    }
    Ok(())
}

/// Protects: a missing program gives an error that names it and the command that builds it, before anything is made; a
/// copy or a link of `pcrm` under its name is refused instead of starting itself forever.
#[test]
fn a_missing_program_is_named() -> Result<()> {
    let Some(pair) = Pair::new()? else { return Ok(()) };
    let reward =
        ["reward", "--backend", "tch", "--model", "base", "--data", "train.jsonl", "--output", "run"];
    let beside = pair.world.path("bin/pcrm-tch");
    let refused = |words: &[&str], parts: &[&str]| -> Result<()> {
        let (code, said, asked) = pair.run(words, "")?;
        ensure!(code == Some(1) && asked.is_none(), "{words:?}: {code:?}, {said}");
        for part in parts {
            ensure!(said.contains(part), "{words:?}: {said:?} does not contain {part:?}");
        }
        ensure!(!pair.world.path("run").exists(), "{words:?}: a refused run left a folder");
        Ok(())
    };
    std::fs::remove_file(&beside)?;
    let build = "scripts/libtorch && cargo build --release --features pcrm-cli/";
    refused(&reward, &["--backend tch: ", "bin/pcrm-tch is missing", build])?;
    refused(&["plugins"], &["pcrm plugins: ", "bin/pcrm-tch is missing", build])?;
    std::os::unix::fs::symlink("pcrm", &beside)?;
    refused(&reward, &["bin/pcrm-tch is this program", build])?;
    std::fs::remove_file(&beside)?;
    std::fs::hard_link(pair.world.path("bin/pcrm"), &beside)?;
    refused(&reward, &["bin/pcrm-tch is this program", build])
}

/// Protects: a program does not take over from one of another version. The variable with the version has no effect on
/// the programs that it starts.
#[test]
fn only_programs_of_one_version_take_over() -> Result<()> {
    let world = World::new()?;
    let run = |script: &str| -> Result<(Option<i32>, String)> {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).arg(pcrm(&world)?).current_dir(world.path(""));
        let output = shell.output()?;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output)))
    };
    // The shell becomes the program, as `pcrm` becomes `pcrm-tch`.
    let (code, said) = run("export PCRM_STARTED_BY=\"0.0.1 $$\"; exec \"$0\" --version")?;
    let version = env!("CARGO_PKG_VERSION");
    ensure!(
        code == Some(1) && said.contains(version) && said.contains("of version 0.0.1; expected"),
        "{said}"
    );
    for taken in [
        "export PCRM_STARTED_BY=\"0.0.1 $$\"; \"$0\" --version; exit $?".to_owned(),
        format!("export PCRM_STARTED_BY=\"{version} $$\"; exec \"$0\" --version"),
    ] {
        let (code, said) = run(&taken)?;
        ensure!(code == Some(0) && said.contains(version), "{taken}: {code:?}, {said}");
    }
    Ok(())
}
