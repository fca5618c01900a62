//! Rollouts on servers of vLLM and SGLang: the samples and weights of the trainer's own engine to the bit,
//! faults, resumed runs, rollouts sampled ahead, and samples from a file.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pcrm_core::Backend;
use pcrm_core::data::encode::encode_prompts;
use pcrm_core::data::preference::Strictness;
use pcrm_core::data::prompts::load_prompts;
use pcrm_core::model::LanguageModel;
use pcrm_core::text::Tokenizer;
use pcrm_rl::loss::policy::{GrpoConfig, PpoConfig, RlooConfig};
use pcrm_rl::metrics::StepMetrics;
use pcrm_rl::offline::Outcome;
use pcrm_rl::online::{Algorithm, CRITIC, OnlineConfig, OnlineDpoConfig, Prompts, RolloutConfig};
use pcrm_rl::rollout::source::{Access, FileSource, Protocol, RolloutSource, Served, SourceKind};
use serde_json::json;

use crate::binary::{World, stderr};
use crate::engine_server::{EngineServer, Fault};
use crate::online::{config, policy, prompts, run_with, samples, tokenizer, trainer};
use crate::subject::{Subject, every_backend};

/// The number of tokens of the model.
const VOCABULARY: usize = 67;

/// The options of a run on a server.
fn served(protocol: Protocol, algorithm: Algorithm, staleness: usize) -> OnlineConfig {
    let source = match protocol {
        Protocol::Vllm => SourceKind::Vllm,
        Protocol::Sglang => SourceKind::Sglang,
    };
    let correction = RolloutConfig::usual_correction(source, &algorithm);
    let rollouts = RolloutConfig { source, staleness, correction, ..RolloutConfig::default() };
    OnlineConfig { rollouts, ..config(algorithm) }
}

/// Starts a server for the prompts of these runs.
fn server(backend: &Subject, most_adapters: usize) -> Result<EngineServer> {
    EngineServer::new(backend.name(), &prompts(&tokenizer()?)?.numbered, trainer().seed, most_adapters)
}

/// Returns the address of a server, with a time limit that only a request that hangs is to reach.
fn access(server: &EngineServer) -> Access {
    let timeout = if server.hangs() { 4.0 } else { 120.0 };
    Access { url: server.address.clone(), timeout, backoff: 0.02, concurrency: 3, ..Access::default() }
}

/// Opens the server as the source of a run in this folder.
fn source(server: &EngineServer, protocol: Protocol, dir: &Path, staleness: usize) -> Box<dyn RolloutSource> {
    let folder = dir.join("rollouts");
    Box::new(Served::new(protocol, &access(server), &folder, staleness, [2].into(), VOCABULARY))
}

struct Run {
    outcome: Outcome,
    steps: Vec<StepMetrics>,
    model: LanguageModel,
}

/// Runs on a server in a folder.
fn run_on(
    backend: &Subject,
    server: &EngineServer,
    protocol: Protocol,
    dir: &Path,
    config: &OnlineConfig,
    lora: bool,
    stop_after: Option<u64>,
) -> Result<Run> {
    let source = source(server, protocol, dir, config.rollouts.staleness);
    let made = run_with(backend, dir, config, &trainer(), lora, stop_after, Some(source))?;
    Ok(Run { outcome: made.0, steps: made.1, model: made.2 })
}

/// Runs with the trainer's own engine.
fn run_own(backend: &Subject, dir: &Path, algorithm: Algorithm, lora: bool) -> Result<Run> {
    let made = run_with(backend, dir, &config(algorithm), &trainer(), lora, None, None)?;
    Ok(Run { outcome: made.0, steps: made.1, model: made.2 })
}

/// Fails unless two runs have the same samples and weights, to the bit.
fn check_same(what: &str, one: (&Path, &Run), other: (&Path, &Run)) -> Result<()> {
    ensure!(samples(one.0)? == samples(other.0)?, "{what}: the samples differ");
    ensure!(one.1.model.tensors()? == other.1.model.tensors()?, "{what}: the weights differ");
    let critic = |dir: &Path| fs::read(dir.join(CRITIC).join("model.safetensors"));
    let critics = [critic(one.0), critic(other.0)].map(Result::ok);
    ensure!(critics[0] == critics[1], "{what}: the critics differ");
    Ok(())
}

fn grpo() -> Algorithm {
    Algorithm::Grpo(GrpoConfig { beta: 0.04, ..GrpoConfig::default() })
}

/// Runs a check on every backend whose bits do not depend on the batch.
fn every_exact_backend(check: impl Fn(&Subject) -> Result<()>) -> Result<()> {
    every_backend(|backend| if backend.exact() { check(backend) } else { Ok(()) })
}

/// Protects: a run on a server of either protocol, with adapters or whole weights, has the samples, the
/// metrics and the final weights of the trainer's own engine, to the bit; the server holds one version at a
/// time, and none at the end.
#[test]
fn runs_on_servers_have_the_bits_of_the_own_engine() -> Result<()> {
    use Protocol::{Sglang, Vllm};
    every_exact_backend(|backend| {
        for (protocol, algorithm, lora) in [
            (Vllm, grpo(), true),
            (Vllm, Algorithm::Ppo(PpoConfig::default()), true),
            (Sglang, grpo(), false),
            (Sglang, Algorithm::Ppo(PpoConfig::default()), false),
            (Sglang, Algorithm::Rloo(RlooConfig::default()), true),
            (Vllm, Algorithm::OnlineDpo(OnlineDpoConfig::default()), true),
        ] {
            let what = format!("{protocol:?}, {algorithm:?}");
            let (own_dir, dir) = (tempfile::tempdir()?, tempfile::tempdir()?);
            let own = run_own(backend, own_dir.path(), algorithm.clone(), lora)?;
            let server = server(backend, 1)?;
            let config = served(protocol, algorithm, 0);
            let run = run_on(backend, &server, protocol, dir.path(), &config, lora, None)?;
            ensure!(matches!(run.outcome, Outcome::Finished { steps: 6, .. }), "{what}: {:?}", run.outcome);
            check_same(&what, (own_dir.path(), &own), (dir.path(), &run))?;
            for (own, served) in own.steps.iter().zip(&run.steps) {
                let of = |name: &str| served.metrics.get(name);
                for name in ["reward", "loss", "objective/kl", "completions/mean_length", "entropy"] {
                    ensure!(own.metrics.get(name) == of(name), "{what}: {name} differs at {}", own.step);
                }
                let difference = of("sampling/sampling_logp_difference/max");
                ensure!(difference == Some(0.0), "{what}: {difference:?}");
                let ratio = of("sampling/importance_sampling_ratio/max");
                let expected = config.rollouts.correction.map(|_| 1.0);
                ensure!(ratio == expected, "{what}: a ratio of {ratio:?}");
            }
            server.check_paths()?;
            ensure!(server.adapters().is_empty(), "{what}: {:?} are loaded", server.adapters());
            ensure!(!dir.path().join("rollouts").exists(), "{what}: weights are left");
        }
        Ok(())
    })
}

/// Protects: 429 with `Retry-After`, a hang beyond the time limit, answers that are not JSON, errors of the
/// server and lost adapters do not change a run.
#[test]
fn passing_faults_change_nothing() -> Result<()> {
    every_exact_backend(|backend| {
        let (own_dir, dir) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let own = run_own(backend, own_dir.path(), grpo(), true)?;
        for protocol in [Protocol::Vllm, Protocol::Sglang] {
            let dir = dir.path().join(format!("{protocol:?}"));
            let server = server(backend, 1)?;
            for (number, fault) in [
                (0, Fault::TooMany),
                (3, Fault::Garbage),
                (5, Fault::Broken),
                (9, Fault::Hang),
                (13, Fault::LostAdapters),
                (19, Fault::LostAdapters),
            ] {
                server.fault(number, fault);
            }
            let config = served(protocol, grpo(), 0);
            let run = run_on(backend, &server, protocol, &dir, &config, true, None)?;
            check_same(&format!("{protocol:?}"), (own_dir.path(), &own), (&dir, &run))?;
            let asked = server.asked();
            let refused = asked.iter().find(|one| one.fault == Some(Fault::TooMany)).context("a 429")?;
            let again = asked.iter().find(|one| one.fault.is_none() && one.draw == refused.draw);
            let waited = again.context("a second try")?.at - refused.at;
            ensure!(waited >= Duration::from_millis(990), "tried again after {waited:?}");
        }
        Ok(())
    })
}

/// Protects: an answer of another version, a dead server, old weights and an adapter that cannot be loaded
/// end a run with a message that names the fault; the steps made are saved, and the resumed run has the bits
/// of an undisturbed one.
#[test]
fn lasting_faults_end_a_run_that_goes_on_later() -> Result<()> {
    use Protocol::{Sglang, Vllm};
    every_exact_backend(|backend| {
        let own_dir = tempfile::tempdir()?;
        let own = run_own(backend, own_dir.path(), grpo(), true)?;
        for (protocol, fault, parts) in [
            (Vllm, Fault::WrongVersion, ["is of model \"policy-old-v0\", expected \"policy-", "-v3\""]),
            (Vllm, Fault::Broken, ["500 ", "after 5 tries"]),
            (Vllm, Fault::Garbage, ["the answer is not JSON", "after 5 tries"]),
            (
                Vllm,
                Fault::Stale,
                ["log-probabilities differ from the trainer's by", "more than --max-mismatch 0.001"],
            ),
            (Vllm, Fault::LostAdapters, ["404", "does not exist"]),
            (Sglang, Fault::LostAdapters, ["400", "not loaded"]),
        ] {
            let (what, dir) = (format!("{protocol:?}, {fault:?}"), tempfile::tempdir()?);
            let server = server(backend, 1)?;
            // A rollout has 3 prompts or 4; after three of them, evaluations are over.
            server.fault_from(Some((11, fault)));
            let mut config = served(protocol, grpo(), 0);
            config.rollouts.max_mismatch = 1e-3;
            let failed = run_on(backend, &server, protocol, dir.path(), &config, true, None);
            let message = failed.err().context(what.clone())?.to_string();
            for part in parts.iter().chain(&["step 3 is saved: continue with --resume"]) {
                ensure!(message.contains(part), "{what}: {message:?} does not contain {part:?}");
            }
            ensure!(message.contains(&server.address), "{what}: {message}");
            server.fault_from(None);
            let run = run_on(backend, &server, protocol, dir.path(), &config, true, None)?;
            ensure!(!run.steps.is_empty() && run.steps[0].step == 4, "{what}: it began again");
            check_same(&what, (own_dir.path(), &own), (dir.path(), &run))?;
        }
        Ok(())
    })
}

/// Protects: an interrupted run ends while a server hangs, and resumes to the same bits.
#[test]
fn an_interrupted_run_on_a_server_goes_on() -> Result<()> {
    every_exact_backend(|backend| {
        let (own_dir, dir) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let own = run_own(backend, own_dir.path(), grpo(), false)?;
        let server = server(backend, 1)?;
        let config = served(Protocol::Sglang, grpo(), 0);
        let run = |stop| run_on(backend, &server, Protocol::Sglang, dir.path(), &config, false, stop);
        let stopped = run(Some(3))?;
        ensure!(matches!(stopped.outcome, Outcome::Interrupted { steps: 3, .. }), "{:?}", stopped.outcome);
        check_same("resumed", (own_dir.path(), &own), (dir.path(), &run(None)?))
    })
}

/// Protects: with staleness K, rollout i is of the policy of rollout i − K, the server holds K + 1 adapters,
/// ratios are corrected, and a run that is stopped and resumed has the bits of one that is not.
#[test]
fn rollouts_ahead_are_of_older_policies() -> Result<()> {
    every_exact_backend(|backend| {
        let dir = tempfile::tempdir()?;
        let config = served(Protocol::Vllm, grpo(), 2);
        let run = |server: &EngineServer, name: &str, stop| {
            run_on(backend, server, Protocol::Vllm, &dir.path().join(name), &config, true, stop)
        };
        let server_of_whole = server(backend, 3)?;
        let whole = run(&server_of_whole, "whole", None)?;
        ensure!(matches!(whole.outcome, Outcome::Finished { steps: 6, .. }), "{:?}", whole.outcome);
        // The versions that were asked for, by the seeds of rollouts in their order.
        let seeds: Vec<u64> =
            (0..6_u64).map(|made| trainer().seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (made + 1)).collect();
        for (number, seed) in seeds.iter().enumerate() {
            let of = |asked: &crate::engine_server::Asked| asked.draw.is_some_and(|(own, _)| own == *seed);
            let versions: Vec<String> =
                server_of_whole.asked().iter().filter(|one| of(one)).map(|one| one.version.clone()).collect();
            let expected = format!("-v{}", number.saturating_sub(2));
            ensure!(
                !versions.is_empty() && versions.iter().all(|version| version.ends_with(&expected)),
                "rollout {number}: {versions:?}, expected {expected}"
            );
        }
        let ratios: Vec<f64> = whole
            .steps
            .iter()
            .filter_map(|step| step.metrics.get("sampling/importance_sampling_ratio/max"))
            .collect();
        ensure!(ratios.len() == 6 && ratios[0] == 1.0 && ratios[5] != 1.0, "{ratios:?}");
        ensure!(ratios.iter().all(|ratio| *ratio <= 2.0), "{ratios:?}");
        for step in &whole.steps {
            let probed = step.metrics.get("sampling/sync_logp_difference/mean");
            ensure!(probed == Some(0.0), "step {}: {probed:?}", step.step);
        }
        for stop in [1, 4] {
            let server = server(backend, 3)?;
            let name = format!("stopped-{stop}");
            let stopped = run(&server, &name, Some(stop))?;
            ensure!(matches!(stopped.outcome, Outcome::Interrupted { .. }), "{:?}", stopped.outcome);
            let resumed = run(&server, &name, None)?;
            check_same(&name, (&dir.path().join("whole"), &whole), (&dir.path().join(&name), &resumed))?;
        }
        let server = server(backend, 3)?;
        server.fault_from(Some((14, Fault::Stale)));
        let mut strict = config.clone();
        strict.rollouts.max_mismatch = 1e-3;
        let stale = run_on(backend, &server, Protocol::Vllm, &dir.path().join("stale"), &strict, true, None);
        let message = stale.err().context("a run with old weights")?.to_string();
        for part in ["log-probabilities differ", "is saved: continue with --resume"] {
            ensure!(message.contains(part), "{message}");
        }
        server.fault_from(None);
        let dir = dir.path().join("stale");
        let resumed = run_on(backend, &server, Protocol::Vllm, &dir, &strict, true, None)?;
        ensure!(matches!(resumed.outcome, Outcome::Finished { steps: 6, .. }), "{:?}", resumed.outcome);
        ensure!(resumed.steps[0].step > 1, "it began again");
        Ok(())
    })
}

/// Protects: samples of a file with their log-probabilities train a policy; those of the same policy have a
/// ratio of 1, and later ones are corrected.
#[test]
fn samples_of_a_file_train_a_policy() -> Result<()> {
    every_exact_backend(|backend| {
        let dir = tempfile::tempdir()?;
        let prompts = prompts(&tokenizer()?)?;
        let model = policy(backend)?;
        let mut lines = String::new();
        for prompt in &prompts.numbered {
            for sample in crate::engine_models::of_policy(&model, prompt, 4, 12)? {
                let reason = if sample.finish.is_ended() { "stop" } else { "length" };
                lines += &json!({"prompt_ids": prompt.ids, "completion_ids": sample.ids,
                                 "log_probs": sample.log_probs, "finish_reason": reason})
                .to_string();
                lines.push('\n');
            }
        }
        let path = dir.path().join("samples.jsonl");
        fs::write(&path, lines)?;
        let source = SourceKind::File;
        let correction = RolloutConfig::usual_correction(source, &grpo());
        let rollouts = RolloutConfig { source, correction, ..RolloutConfig::default() };
        let config = OnlineConfig { rollouts, ..config(grpo()) };
        let run = |name: &str, stop| {
            let source = FileSource::open(&path, &[2].into(), VOCABULARY)?;
            let dir = dir.path().join(name);
            run_with(backend, &dir, &config, &trainer(), false, stop, Some(Box::new(source)))
        };
        let (outcome, steps, whole) = run("whole", None)?;
        ensure!(matches!(outcome, Outcome::Finished { steps: 6, .. }), "{outcome:?}");
        let ratio = |at: usize| steps[at].metrics.get("sampling/importance_sampling_ratio/max");
        ensure!(ratio(0) == Some(1.0) && ratio(5) != Some(1.0), "{:?}, {:?}", ratio(0), ratio(5));
        run("stopped", Some(2))?;
        let (_, _, resumed) = run("stopped", None)?;
        ensure!(resumed.tensors()? == whole.tensors()?, "the weights differ after a stop");
        Ok(())
    })
}

/// Makes a world with a policy, and returns it with the prompts of its test pairs.
fn world_of_policy() -> Result<(World, Prompts)> {
    let world = World::new()?;
    world.run("sft --model base --random-init --data train.jsonl --max-steps 4 --output policy")?;
    let tokenizer = Tokenizer::from_dir(&world.path("policy"))?;
    let (rows, _) = load_prompts(&[world.path("test.jsonl")], Strictness::Refuse)?;
    let (encoded, _) = encode_prompts(&rows, &tokenizer, None)?;
    Ok((world, Prompts::new(rows, encoded)))
}

/// Protects: two processes that share a server have the bits of one process with its own engine, and only one
/// of them sends weights.
#[cfg(feature = "distributed")]
#[test]
fn two_processes_share_a_server() -> Result<()> {
    let (world, prompts) = world_of_policy()?;
    let common = "grpo --backend tch --model policy --data test.jsonl --reward '{\"kind\": \"repetition\", \
                  \"ngram\": 1, \"unit\": \"characters\"}' --num-generations 4 --max-completion-length 8 \
                  --batch 3 --max-steps 3 --learning-rate 1e-3 --lanes 2 --lora-r 4";
    let output = world.command(&format!("{common} --output own"))?.env("OMP_NUM_THREADS", "1").output()?;
    ensure!(output.status.success(), "{}", stderr(&output));
    for (staleness, name) in [(0, "served"), (1, "ahead"), (1, "again")] {
        let server = EngineServer::new("tch", &prompts.numbered, 0, staleness + 1)?;
        let url = &server.address;
        world.run(&format!(
            "launch -n 2 --threads 1 -- {common} --rollouts vllm:{url} --staleness {staleness} --output {name}"
        ))?;
        ensure!(server.adapters().is_empty(), "{:?} are loaded", server.adapters());
    }
    let weights = |name: &str| world.read(&format!("{name}/adapter_model.safetensors"));
    ensure!(weights("own")? == weights("served")?, "two processes on a server have other weights");
    ensure!(weights("ahead")? == weights("again")?, "rollouts ahead depend on time");
    ensure!(weights("ahead")? != weights("own")?, "no rollout was sampled ahead");
    Ok(())
}

/// Protects: the binary trains on a server with the bits of its own engine, and refuses options that no
/// server can follow before anything is made.
#[test]
fn the_binary_trains_on_servers() -> Result<()> {
    let (world, prompts) = world_of_policy()?;
    let server = EngineServer::new("candle", &prompts.numbered, 0, 1)?;
    let common = "grpo --model policy --data test.jsonl --reward '{\"kind\": \"repetition\", \"ngram\": 1, \
                  \"unit\": \"characters\"}' --num-generations 4 --max-completion-length 8 --batch 4 \
                  --max-steps 4 --learning-rate 1e-3 --save-every 2";
    world.run(&format!("{common} --lora-r 4 --output own"))?;
    let url = &server.address;
    let output =
        world.command(&format!("{common} --lora-r 4 --rollouts vllm:{url}/v1 --output served"))?.output()?;
    ensure!(output.status.success(), "{}", stderr(&output));
    ensure!(stderr(&output).contains(&format!("answers are sampled by vllm:{url}")), "{}", stderr(&output));
    for file in ["adapter_model.safetensors", "checkpoint-4/optimizer.safetensors"] {
        ensure!(
            world.read(&format!("own/{file}"))? == world.read(&format!("served/{file}"))?,
            "{file} differs"
        );
    }
    server.check_paths()?;
    for (options, parts) in [
        (format!("--rollouts vllm:{url}"), vec!["vLLM takes new weights as adapters only", "--lora-r"]),
        (format!("--rollouts sglang:{url} --staleness 1"), vec!["--staleness 0, or adapters"]),
        ("--staleness 1".into(), vec!["--staleness 1: only servers sample"]),
        ("--importance-sampling-mode token_mask".into(), vec!["need no correction"]),
        ("--rollouts vllm:localhost".into(), vec!["expected vllm:http://HOST:PORT"]),
        (format!("--rollouts vllm:{url} --max-mismatch 0"), vec!["--max-mismatch 0: expected a positive"]),
        (format!("--rollouts vllm:{url} --rollouts-api-key-env NO_SUCH"), vec!["NO_SUCH: is not set"]),
        ("--rollouts file:absent.jsonl".into(), vec!["absent.jsonl"]),
    ] {
        world.refuses(&format!("{common} {options} --output refused"), &parts)?;
        ensure!(!world.path("refused").exists(), "{options}: a folder was made");
    }
    // No server answers: nothing is lost, because no step was made.
    let gone = "--lora-r 4 --rollouts vllm:http://127.0.0.1:9 --rollouts-attempts 1 --output gone";
    world.refuses(&format!("{common} {gone}"), &["rollouts of vllm http://127.0.0.1:9", "after 1 try"])
}
