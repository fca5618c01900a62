//! Several processes of the real binary on the loopback interface: equal bits, killed processes, resuming,
//! torchrun.
//!
//! All tests use Gloo on the CPU; NCCL is tested in the backend, as far as the machine has it.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use pcrm_core::collective::{Alone, Exchange, Joined, Meeting};
use pcrm_core::optim::{AdamWConfig, BUCKET_BYTES, SlicedAdamW, StatePlace, clip_scale, halves};
use pcrm_core::registry::{self, BackendPlugin};
use pcrm_core::{Backend, Collective, DType, Device, Gradients, HostTensor, Params};
use pcrm_rl::footprint::Footprint;
use pcrm_rl::lanes::Lanes;
use serde_json::Value;

use crate::binary::{World, send, stderr};
use crate::routers::mixture;
use crate::support::random;

const REWARD: &str = "reward --backend tch --model base --data train.jsonl --eval-data test.jsonl \
                      --learning-rate 1e-3 --collective-timeout 60";

/// The number of lanes of the optimiser's test, and its number of steps.
const LANES: usize = 6;
const STEPS: u64 = 3;

/// The names and shapes that the optimiser's test trains; their sizes fill neither a slice nor a chunk.
const SHAPES: [(&str, &[usize]); 4] =
    [("layers.0.a", &[170, 61]), ("layers.0.b", &[13]), ("layers.1.c", &[129, 63]), ("d", &[1, 5])];

/// The state of a process at the end: weights and moments by name, the norm of each step, and the bytes sent.
type Left = (BTreeMap<String, Vec<f32>>, Vec<u64>, u64);

/// Joins a group of `world` processes, which are threads here.
fn joined(rank: usize, world: usize, port: u16) -> Result<Arc<dyn Collective>> {
    let meeting = Meeting {
        host: "127.0.0.1".into(),
        port,
        serves: rank == 0,
        prefix: "test".into(),
        rank,
        world,
        timeout: Duration::from_secs(30),
    };
    Ok(pcrm_backend_tch::distributed::join(&meeting)?)
}

/// Runs `work` in this many threads, by rank.
fn together<T: Send>(world: usize, work: impl Fn(usize) -> Result<T> + Sync) -> Vec<Result<T>> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..world).map(|rank| scope.spawn(move || work(rank))).collect();
        let ended = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
        ended.map(|ended| ended.unwrap_or_else(|_| bail!("a process panicked"))).collect()
    })
}

/// Trains as one of `world` processes, in buckets of this many bytes.
fn optimised(rank: usize, world: usize, port: u16, bytes: usize) -> Result<Left> {
    let alone = (registry::find::<BackendPlugin>("tch")?.open)(Device::Cpu.into())?;
    let collective: Arc<dyn Collective> = match world {
        1 => Arc::new(Alone),
        _ => joined(rank, world, port)?,
    };
    let backend = Joined { collective: Arc::clone(&collective), backend: alone };
    let mut params = Params::default();
    for (at, (name, shape)) in SHAPES.into_iter().enumerate() {
        params.insert(name, backend.upload(&random(shape, at as u64)?, DType::F32)?);
    }
    let lanes = Lanes::new(&backend, LANES)?;
    let config = AdamWConfig { weight_decay: 0.1, ..AdamWConfig::default() };
    let mut optimiser = SlicedAdamW::with_buckets(config, &params, Arc::clone(&collective), bytes)?;
    let (mut norms, subtrees) = (Vec::new(), lanes.subtrees());
    for step in 0..STEPS {
        // The sums over this process's nodes, of one gradient per lane.
        fn sum(node: &Range<usize>, of: &dyn Fn(usize) -> Result<Gradients>) -> Result<Gradients> {
            let Some([left, right]) = halves(node) else { return of(node.start) };
            let mut both = sum(&left, of)?;
            both.accumulate(sum(&right, of)?)?;
            Ok(both)
        }
        let of_lane = |lane: usize| -> Result<Gradients> {
            let mut gradients = Gradients::default();
            for (at, (name, shape)) in SHAPES.into_iter().enumerate() {
                let seed = 1000 + 100 * step + 10 * lane as u64 + at as u64;
                gradients.insert(name, backend.upload(&random(shape, seed)?, DType::F32)?);
            }
            Ok(gradients)
        };
        let mut sending = optimiser.sending(LANES, &subtrees)?;
        for node in &subtrees[rank] {
            for (name, gradient) in sum(node, &of_lane)?.iter() {
                sending.add(name, gradient)?;
            }
            sending.end_node()?;
        }
        let total = sending.end()?.total()?;
        let norm = optimiser.norm(&total)?;
        norms.push(norm.to_bits());
        optimiser.step(&total, 1e-2, clip_scale(norm, 1.0))?;
    }
    let sent = collective.sent();
    let mut left = BTreeMap::new();
    for (name, param) in params.iter() {
        left.insert(name.to_owned(), param.read()?.into_f32());
    }
    left.extend(optimiser.state()?.into_iter().map(|(name, moment)| (name, moment.into_f32())));
    collective.barrier()?;
    Ok((left, norms, sent))
}

/// Protects: weights, moments and norms have the same bits with 1, 2, 3 and 6 processes, some of which have
/// no complete subtree of lanes, and in one or several buckets; a process sends as many bytes as `pcrm plan`
/// predicts.
#[test]
fn sliced_updates_do_not_depend_on_the_number_of_processes() -> Result<()> {
    let (want, norms, _) = optimised(0, 1, 0, BUCKET_BYTES)?;
    for (world, bytes) in [(2, 1), (2, BUCKET_BYTES), (3, 1), (6, BUCKET_BYTES)] {
        let port = free_port()?;
        let plan = Footprint {
            trained: SHAPES.iter().map(|(_, shape)| shape.iter().product()).collect(),
            frozen: 0,
            quantised: (0, 0),
            idle: (0, 0),
            element: 4,
            states: StatePlace::Device,
            processes: world,
            lanes: LANES,
            layers: (1, 1),
            tokens: 1,
            micro_tokens: 1,
        };
        let left = together(world, |rank| optimised(rank, world, port, bytes));
        for (rank, left) in left.into_iter().enumerate() {
            let (values, found, sent) = left?;
            ensure!(found == norms, "{world} processes: rank {rank} has other norms");
            for (name, value) in &want {
                let same = value.iter().zip(&values[name]).all(|(a, b)| a.to_bits() == b.to_bits());
                ensure!(same, "{world} processes: {name} of rank {rank} has other bits");
            }
            ensure!(sent == STEPS * plan.sent(), "{world} processes: {sent} bytes, planned {}", plan.sent());
        }
    }
    Ok(())
}

/// Protects: exchanges that are started complete in any order, and beside other operations; one that is
/// dropped harms no other. A process that leaves before an exchange ends the others that wait for it, also
/// while exchanges of its own are under way, and is named.
#[test]
fn started_exchanges_complete_or_name_who_left() -> Result<()> {
    let port = free_port()?;
    let made = together(2, |rank| {
        let backend = (registry::find::<BackendPlugin>("tch")?.open)(Device::Cpu.into())?;
        let collective = joined(rank, 2, port)?;
        let start = |number: f32| -> Result<_> {
            let parts = [number, number + 10.0].map(|part| part + 100.0 * rank as f32).to_vec();
            Ok(collective.start_all_to_all(&backend.upload(&HostTensor::vector(parts), DType::F32)?)?)
        };
        let received =
            |exchange: Box<dyn Exchange>| -> Result<Vec<f32>> { Ok(exchange.wait()?.read()?.into_f32()) };
        let (first, dropped, third) = (start(1.0)?, start(2.0)?, start(3.0)?);
        drop(dropped);
        ensure!(collective.gather(&[rank as u8])? == [[0], [1]]);
        let own = 10.0 * rank as f32;
        ensure!(received(third)? == [3.0 + own, 103.0 + own] && received(first)? == [1.0 + own, 101.0 + own]);
        ensure!(collective.sent() == 3 * 4, "{} bytes", collective.sent());
        if rank == 0 {
            // The other process leaves before this one comes to its last exchange.
            std::thread::sleep(Duration::from_millis(500));
        }
        let last = start(4.0)?;
        if rank == 1 {
            collective.leave("the test ends it");
            return Ok(());
        }
        ensure!(received(last)? == [4.0, 104.0]);
        let begun = Instant::now();
        let error = start(5.0).and_then(received).err().context("an exchange without the other process")?;
        ensure!(error.to_string().contains("rank 1 ended: the test ends it"), "{error}");
        ensure!(begun.elapsed() < Duration::from_secs(15), "it took {:?}", begun.elapsed());
        collective.leave("done");
        Ok(())
    });
    made.into_iter().collect()
}

/// Starts a command as two processes with one thread each, or as one process with one thread.
fn command(world: &World, processes: usize, arguments: &str) -> Result<Command> {
    match processes {
        1 => {
            let mut command = world.command(arguments)?;
            command.env("OMP_NUM_THREADS", "1");
            Ok(command)
        }
        n => world.command(&format!("launch -n {n} --threads 1 -- {arguments}")),
    }
}

fn train(world: &World, processes: usize, arguments: &str) -> Result<()> {
    let output = command(world, processes, arguments)?.output()?;
    ensure!(output.status.success(), "{processes} × pcrm {arguments}: {}", stderr(&output));
    Ok(())
}

/// Returns the lines of a run's metrics, without times.
fn lines(world: &World, run: &str) -> Result<Vec<Value>> {
    let mut lines = world.lines(&format!("{run}/metrics.jsonl"))?;
    for line in lines.iter_mut().filter_map(Value::as_object_mut) {
        line.retain(|name, _| {
            name != "tokens_per_second" && name != "step_time" && !name.starts_with("time/")
        });
    }
    Ok(lines)
}

/// Fails unless two runs wrote the same metrics and the same files.
fn check_same(world: &World, a: &str, b: &str, files: &[&str]) -> Result<()> {
    let (of_a, of_b) = (lines(world, a)?, lines(world, b)?);
    for (at, (one, other)) in of_a.iter().zip(&of_b).enumerate() {
        let fields = one.as_object().into_iter().flatten();
        let differs: Vec<&String> =
            fields.filter(|(name, value)| other.get(*name) != Some(*value)).map(|(name, _)| name).collect();
        ensure!(differs.is_empty(), "line {at} of {a} and {b}: {differs:?} differ:\n{one}\n{other}");
    }
    ensure!(of_a.len() == of_b.len(), "{a} has {} lines, {b} {}", of_a.len(), of_b.len());
    for file in files {
        ensure!(
            world.read(&format!("{a}/{file}"))? == world.read(&format!("{b}/{file}"))?,
            "{file} of {a} and {b} differ"
        );
    }
    Ok(())
}

/// Runs a command in one process and in two, and fails unless both wrote the same results.
fn check_bits(world: &World, name: &str, arguments: &str, files: &[&str]) -> Result<()> {
    let (one, two) = (format!("{name}-1"), format!("{name}-2"));
    train(world, 1, &format!("{arguments} --output {one}"))?;
    train(world, 2, &format!("{arguments} --output {two}"))?;
    check_same(world, &one, &two, files)
}

fn policy(world: &World) -> Result<()> {
    let sft =
        "sft --model base --random-init --data train.jsonl --epochs 3 --learning-rate 1e-2 --output policy";
    world.run(sft).map(drop)
}

/// Protects: reward models, fine-tuning, DPO and KTO with two processes have the bits of one process with as
/// many lanes: weights, moments, evaluations and every metric. Slices differ in parameters, and lanes in
/// items.
#[test]
fn two_processes_have_the_bits_of_one() -> Result<()> {
    let world = World::new()?;
    policy(&world)?;
    let files = ["model.safetensors", "checkpoint-4/optimizer.safetensors"];
    let reward =
        format!("{REWARD} --lanes 2 --batch 5 --max-steps 4 --eval-every 2 --constraint length_ratio");
    check_bits(&world, "reward", &reward, &files)?;
    // With more lanes than items, some lanes and one whole process have no work.
    check_bits(&world, "few", &format!("{REWARD} --lanes 4 --batch 1 --max-steps 4"), &files)?;
    let lora =
        format!("{REWARD} --lanes 6 --batch 8 --max-steps 4 --lora-r 4 --micro-tokens 64 --weight-decay 0.1");
    let adapters = ["adapter_model.safetensors", "checkpoint-4/optimizer.safetensors"];
    check_bits(&world, "lora", &lora, &adapters)?;
    let policy = "--backend tch --model policy --data train.jsonl --eval-data test.jsonl --lanes 2 \
        --batch 5 --max-steps 4";
    check_bits(&world, "sft", &format!("sft {policy} --order bucketed"), &files)?;
    check_bits(&world, "dpo", &format!("dpo {policy} --learning-rate 1e-3 --constraint fixed"), &files)?;
    check_bits(&world, "kto", &format!("kto {policy} --learning-rate 1e-3"), &files)
}

/// Protects: a constraint that a run fits to its own pairs is the same on two processes, which train each judge
/// together, and so is the trained model; one process writes the files.
#[test]
fn two_processes_fit_the_constraint_of_one() -> Result<()> {
    let world = World::new()?;
    let files = ["model.safetensors", "constraint.json", "evidence.json"];
    let run = format!("{REWARD} --lanes 2 --batch 8 --max-steps 6 --constraint calibrated");
    train(&world, 2, &format!("{run} --output fitted-2"))?;
    // Otherwise the second run would read the margins of the first run's judges from the cache.
    fs::remove_dir_all(world.path("cache"))?;
    train(&world, 1, &format!("{run} --output fitted-1"))?;
    check_same(&world, "fitted-1", "fitted-2", &files)?;
    // Both processes find the margins of the one-process run in the cache.
    train(&world, 2, &format!("{run} --output again"))?;
    check_same(&world, "fitted-1", "again", &files)
}

/// Protects: policies trained on their own samples also have equal bits, with the loss of routers too; prompts,
/// rewards, references and values are dealt to processes.
#[test]
fn rollouts_over_two_processes_have_the_bits_of_one() -> Result<()> {
    let world = World::new()?;
    policy(&world)?;
    world.run("reward --model base --data train.jsonl --max-steps 4 --learning-rate 1e-3 --output rm")?;
    let online = "--backend tch --model policy --data test.jsonl --reward model:rm --max-completion-length 8 \
                  --batch 3 --max-steps 4 --learning-rate 1e-3 --lanes 2 --eval-split 0.3";
    let files = ["model.safetensors", "samples.jsonl", "checkpoint-4/optimizer.safetensors"];
    let grpo = format!("grpo {online} --num-generations 4 --beta 0.04 --num-iterations 2");
    check_bits(&world, "grpo", &grpo, &files)?;
    check_bits(&world, "rloo", &format!("rloo {online} --num-generations 2"), &files)?;
    check_bits(&world, "online", &format!("online-dpo {online} --constraint fixed"), &files)?;
    mixture(&world, "experts", true, 0.5)?;
    world.run("sft --model experts --random-init --data train.jsonl --max-steps 4 --output routed")?;
    let routed = online.replace("--model policy", "--model routed");
    let grpo = format!("grpo {routed} --num-generations 2 --micro-tokens 64");
    check_bits(&world, "experts-of", &grpo, &files)?;
    ensure!(lines(&world, "experts-of-1")?[0]["aux_loss"].is_f64(), "the routers' loss is not added");
    let ppo = format!("ppo {online} --num-generations 2 --num-mini-batches 2 --ptx-data train.jsonl");
    let critic =
        ["model.safetensors", "critic/model.safetensors", "checkpoint-8/critic/optimizer.safetensors"];
    check_bits(&world, "ppo", &ppo, &critic)
}

/// Protects: a run saved by two processes continues in one, and back, with the bits of an uninterrupted one;
/// another number of lanes is refused.
#[test]
fn a_run_continues_on_another_number_of_processes() -> Result<()> {
    let world = World::new()?;
    let run = format!("{REWARD} --lanes 2 --batch 5 --schedule constant --save-every 2");
    train(&world, 1, &format!("{run} --max-steps 6 --output whole"))?;
    for (name, processes) in [("down", [2, 1, 2]), ("up", [1, 2, 1])] {
        for (at, (processes, steps)) in processes.into_iter().zip([2, 4, 6]).enumerate() {
            let resume = if at > 0 { " --resume" } else { "" };
            train(&world, processes, &format!("{run} --max-steps {steps} --output {name}{resume}"))?;
        }
        let files = ["model.safetensors", "checkpoint-6/optimizer.safetensors"];
        ensure!(world.read("whole/model.safetensors")? == world.read(&format!("{name}/model.safetensors"))?);
        for file in files {
            ensure!(
                world.read(&format!("whole/{file}"))? == world.read(&format!("{name}/{file}"))?,
                "{file}"
            );
        }
    }
    let message =
        world.fails(&format!("{} --max-steps 8 --output down --resume", run.replace("--lanes 2", "")))?;
    ensure!(message.contains("--lanes was 2 and is now unset"), "{message}");
    Ok(())
}

/// Starts one process of a run by hand, as a launcher would.
fn rank(world: &World, rank: usize, port: u16, arguments: &str) -> Result<Child> {
    rank_in(world, "", rank, port, arguments)
}

/// Starts one process of a run by hand in a folder of the world.
fn rank_in(world: &World, folder: &str, rank: usize, port: u16, arguments: &str) -> Result<Child> {
    Ok(of_rank(world, rank, port, arguments)?.current_dir(world.path(folder)).spawn()?)
}

/// Returns the command of one process of a run.
fn of_rank(world: &World, rank: usize, port: u16, arguments: &str) -> Result<Command> {
    let mut command = world.command(arguments)?;
    for (name, value) in
        [("RANK", rank.to_string()), ("WORLD_SIZE", "2".into()), ("MASTER_PORT", port.to_string())]
    {
        command.env(name, value);
    }
    command.env("MASTER_ADDR", "127.0.0.1").env("OMP_NUM_THREADS", "1");
    Ok(command)
}

/// Returns a free port below 32768, where systems do not assign ports to other connections in the meantime.
fn free_port() -> Result<u16> {
    let mut ports = (0..100).map(|_| rand::random_range(10_000..20_000));
    let is_free = |port: &u16| std::net::TcpListener::bind(("0.0.0.0", *port)).is_ok();
    ports.find(is_free).context("100 ports are in use")
}

/// Protects: rank 0 serves the store on the listening socket that its launcher passes to it, so no other program can
/// take the port in the meantime. Here it could not listen by itself, as this process does.
#[cfg(unix)]
#[test]
fn rank_0_takes_over_the_socket_of_its_launcher() -> Result<()> {
    use std::os::fd::AsRawFd as _;

    use pcrm_core::collective::STORE_SOCKET;
    use rustix::io::{FdFlags, fcntl_setfd};

    let world = World::new()?;
    let run = format!("{REWARD} --batch 4 --max-steps 1 --output met");
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    let mut first = of_rank(&world, 0, port, &run)?;
    first.env(STORE_SOCKET, listener.as_raw_fd().to_string());
    fcntl_setfd(&listener, FdFlags::empty())?;
    let first = first.spawn()?;
    fcntl_setfd(&listener, FdFlags::CLOEXEC)?;
    let second = rank(&world, 1, port, &run)?;
    for process in [first, second] {
        let output = process.wait_with_output()?;
        ensure!(output.status.success(), "{}: {}", output.status, stderr(&output));
    }
    let mut wrong = of_rank(&world, 0, port, &format!("{run}-again"))?;
    let output = wrong.env(STORE_SOCKET, "-1").output()?;
    ensure!(stderr(&output).contains("PCRM_STORE_SOCKET=-1: expected the number"), "{}", stderr(&output));
    Ok(())
}

/// Waits until a run has logged this many lines.
fn wait_for_lines(world: &World, run: &str, count: usize) -> Result<()> {
    let begun = Instant::now();
    let path = format!("{run}/metrics.jsonl");
    while world.read(&path).map_or(0, |text| text.iter().filter(|byte| **byte == b'\n').count()) < count {
        ensure!(
            begun.elapsed() < Duration::from_secs(120),
            "{run}: {count} lines were not written in 2 minutes"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Protects: if a process is killed or stopped, the other one ends within the timeout with a message that
/// names it, and the run continues from its last checkpoint to the bits of an uninterrupted one.
#[test]
fn a_process_that_dies_ends_the_run_with_its_name() -> Result<()> {
    let world = World::new()?;
    let run = format!("{REWARD} --lanes 2 --batch 4 --max-steps 70 --save-every 3");
    train(&world, 1, &format!("{run} --output whole"))?;
    // The victim's rank, the number of lines after which it is hit, the signal, and the timeout of exchanges. The
    // end of a process is noticed at once, without the timeout.
    for (at, (victim, after, signal, wait)) in [
        (1, 3, "KILL", 60),
        (0, 8, "KILL", 60),
        (1, 13, "STOP", 10),
        (1, 20, "KILL", 60),
        (0, 28, "KILL", 60),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("killed-{at}");
        let (port, arguments) = (free_port()?, format!("{run} --collective-timeout {wait} --output {name}"));
        let mut both = [rank(&world, 0, port, &arguments)?, rank(&world, 1, port, &arguments)?];
        wait_for_lines(&world, &name, after)?;
        send(signal, &both[victim])?;
        let begun = Instant::now();
        let [first, second] = &mut both;
        let (dead, other) = if victim == 0 { (first, second) } else { (second, first) };
        let mut heard = String::new();
        std::io::Read::read_to_string(&mut other.stderr.take().context("messages")?, &mut heard)?;
        let status = other.wait()?;
        ensure!(begun.elapsed() < Duration::from_secs(60), "it took {:?}", begun.elapsed());
        dead.kill()?;
        dead.wait()?;
        ensure!(status.code() == Some(1), "{status}: {heard}");
        ensure!(heard.contains(&format!("rank {victim}")), "rank {victim} is not named: {heard}");
        train(&world, 2, &format!("{run} --output {name} --resume"))?;
        check_same(&world, "whole", &name, &["model.safetensors"])?;
    }
    Ok(())
}

/// Protects: an error in one process, or a loss that is not finite, ends all processes with the reason; `pcrm
/// launch` ends the others and exits with the code of the first failure.
#[test]
fn an_error_of_one_process_ends_all() -> Result<()> {
    let world = World::new()?;
    let run = format!("{REWARD} --batch 4 --max-steps 4");
    let diverging =
        format!("launch -n 2 --threads 1 -- {run} --learning-rate 1e30 --max-grad-norm 0 --output far");
    let message = world.fails(&diverging)?;
    ensure!(message.contains("rank 0: error: step") && message.contains("rank 1: error: step"), "{message}");
    // One process has different data.
    let port = free_port()?;
    let (first, mut second) = (
        rank(&world, 0, port, &format!("{run} --output apart"))?,
        rank(&world, 1, port, &format!("{run} --output apart").replace("train.jsonl", "absent.jsonl"))?,
    );
    ensure!(second.wait()?.code() == Some(1));
    let first = first.wait_with_output()?;
    ensure!(
        stderr(&first).contains("rank 1 ended: --data") || stderr(&first).contains("absent.jsonl"),
        "{}",
        stderr(&first)
    );
    let port = free_port()?;
    let alone = rank(&world, 0, port, &format!("{run} --collective-timeout 2 --output alone"))?;
    let alone = alone.wait_with_output()?;
    ensure!(stderr(&alone).contains("rank 1 did not come within 2 s"), "{}", stderr(&alone));
    world.refuses(
        &format!("launch -n 2 -- {} --output other", run.replace("--backend tch", "--backend candle")),
        &["--backend candle", "tch only"],
    )?;
    let sorts =
        "dpo --backend tch --model base --random-init --data train.jsonl --loss aot --lanes 2 --output sorts";
    world.refuses(sorts, &["--lanes 2", "couples"])?;
    world
        .refuses(&format!("launch -n 3 -- {run} --lanes 4 --output odd"), &["--lanes 4", "multiple of 3"])?;
    // After an interrupt, all processes save together.
    let arguments =
        format!("launch -n 2 --threads 1 -- {REWARD} --lanes 2 --batch 4 --epochs 9 --output stopped");
    let child = world.command(&arguments)?.spawn()?;
    wait_for_lines(&world, "stopped", 5)?;
    send("TERM", &child)?;
    let output = child.wait_with_output()?;
    ensure!(output.status.code() == Some(130), "{}: {}", output.status, stderr(&output));
    ensure!(stderr(&output).contains("--resume to continue"), "{}", stderr(&output));
    Ok(())
}

/// Protects: if one process has other data, another base model, other options or another folder, all are refused
/// before anything is written, with a message of both that names what differs, also before judges are trained.
#[test]
fn processes_that_differ_are_refused_at_the_start() -> Result<()> {
    let world = World::new()?;
    world.write("older.jsonl", &String::from_utf8(world.read("train.jsonl")?)?.replacen("good", "bad", 1))?;
    fs::create_dir(world.path("older"))?;
    for entry in fs::read_dir(world.path("base"))? {
        let entry = entry?;
        fs::copy(entry.path(), world.path("older").join(entry.file_name()))?;
    }
    let mut weights = world.read("older/model.safetensors")?;
    let last = weights.len() - 4; // the lowest bits of the last weight
    weights[last] ^= 1;
    fs::write(world.path("older/model.safetensors"), weights)?;
    // A folder where the relative paths of a run are other files of the same content.
    fs::create_dir(world.path("elsewhere"))?;
    for name in ["base", "train.jsonl", "test.jsonl"] {
        std::os::unix::fs::symlink(world.path(name), world.path("elsewhere").join(name))?;
    }
    let run = format!("{REWARD} --lanes 2 --batch 4 --max-steps 4 --save-every 2 --output differs");
    for (from, to, expected) in [
        ("train.jsonl", "older.jsonl", "--data has other content"),
        ("--model base", "--model older", "--model has other content"),
        (
            "--learning-rate 1e-3",
            "--learning-rate 2e-3",
            "--learning-rate is 0.001 for rank 0 and 0.002 for rank 1",
        ),
        ("--lanes 2", "--lanes 4", "--lanes is 2 for rank 0 and 4 for rank 1"),
        ("--save-every 2", "--save-every 3", "--save-every is 2 for rank 0 and 3 for rank 1"),
        (
            "",
            "elsewhere",
            "not seen by rank 1; expected one folder, on a file system that all processes share",
        ),
    ] {
        for constraint in ["length_ratio", "calibrated"] {
            let run = format!("{run} --constraint {constraint}");
            let port = free_port()?;
            let first = rank(&world, 0, port, &run)?;
            let second = match from {
                "" => rank_in(&world, to, 1, port, &run)?,
                _ => rank(&world, 1, port, &run.replace(from, to))?,
            };
            for ended in [first.wait_with_output()?, second.wait_with_output()?] {
                let heard = stderr(&ended);
                ensure!(ended.status.code() == Some(1) && heard.contains(expected), "{constraint}: {heard}");
            }
            let written = fs::read_dir(world.path("differs")).map_or(0, Iterator::count);
            ensure!(written == 0, "{expected}: {written} files were written");
        }
    }
    Ok(())
}

/// Protects: if the rewards of one process fail, all processes save the steps made so far together, the
/// message says so, and the run continues to the weights of an unbroken one.
#[test]
fn rewards_that_fail_in_one_process_lose_no_step() -> Result<()> {
    let world = World::new()?;
    policy(&world)?;
    // Rewards 1, 2, .. in every request; the third request to the program of rank 1 fails while `broken` is
    // there.
    let program = r#"echo '{"ready": true}'
n=0
while read -r line; do
    n=$((n+1))
    id=${line#*\"id\":}
    id=${id%%,*}
    if [ -e broken ] && [ "$RANK" = 1 ] && [ $n = 3 ]; then
        echo "{\"id\": $id, \"error\": \"no more rewards\"}"
    else
        ended=${line#*\"ended\":\[}
        ended=${ended%%]*}
        rewards=
        at=0
        while [ -n "$ended" ]; do
            at=$((at+1))
            rewards="$rewards, $at"
            case $ended in *,*) ended=${ended#*,} ;; *) ended= ;; esac
        done
        echo "{\"id\": $id, \"rewards\": [${rewards#, }]}"
    fi
done
"#;
    world.write("rewards.sh", program)?;
    let run = "grpo --backend tch --model policy --data test.jsonl --reward 'command:sh rewards.sh' \
               --max-completion-length 8 --batch 4 --max-steps 4 --learning-rate 1e-3 --lanes 2 \
               --num-generations 4 --save-every 100 --collective-timeout 60";
    train(&world, 2, &format!("{run} --output whole"))?;
    world.write("broken", "")?;
    let output = command(&world, 2, &format!("{run} --output failed"))?.output()?;
    let heard = stderr(&output);
    ensure!(output.status.code() == Some(1), "{}: {heard}", output.status);
    for part in ["no more rewards", "rank 1: no more rewards", "step 2 is saved: continue with --resume"] {
        ensure!(heard.contains(part), "{part:?} is not in {heard}");
    }
    ensure!(world.path("failed/checkpoint-2").is_dir(), "no checkpoint: {heard}");
    fs::remove_file(world.path("broken"))?;
    train(&world, 2, &format!("{run} --output failed --resume"))?;
    check_same(&world, "whole", "failed", &["model.safetensors", "checkpoint-4/optimizer.safetensors"])
}

/// Protects: torchrun starts the processes and restarts them when one is killed, and the run resumes by
/// itself to the bits of an uninterrupted one; two agents on one machine act as two nodes. The test checks
/// nothing without `PCRM_PYTHON`, whose folder contains torchrun.
#[test]
fn torchrun_restarts_a_run_that_resumes_by_itself() -> Result<()> {
    let Some(python) = std::env::var_os("PCRM_PYTHON") else {
        println!("PCRM_PYTHON names no Python with torch: torchrun checks nothing");
        return Ok(());
    };
    let torchrun = std::path::Path::new(&python).with_file_name("torchrun");
    let world = World::new()?;
    let run = format!("{REWARD} --lanes 2 --batch 4 --max-steps 30 --save-every 3");
    train(&world, 1, &format!("{run} --output whole"))?;
    let under = |options: &[String], arguments: &str| -> Result<Child> {
        let pcrm = world.command(arguments)?;
        let mut command = Command::new(&torchrun);
        command.args(["--no-python", "--max-restarts=2", "--monitor-interval=0.2"]).args(options);
        command.arg(pcrm.get_program()).args(pcrm.get_args()).current_dir(world.path(""));
        command.env("OMP_NUM_THREADS", "1").env("HOME", world.path(""));
        Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    };
    // One agent with two processes, one of which is killed.
    let one =
        under(&["--standalone".into(), "--nproc-per-node=2".into()], &format!("{run} --output restarted"))?;
    wait_for_lines(&world, "restarted", 10)?;
    let found = Command::new("pgrep").args(["-P", &one.id().to_string()]).output()?;
    let children = String::from_utf8(found.stdout)?;
    let victim = children.lines().last().context("no process under torchrun")?;
    ensure!(Command::new("kill").args(["-KILL", victim]).status()?.success());
    let output = one.wait_with_output()?;
    ensure!(output.status.success(), "{}", stderr(&output));
    check_same(&world, "whole", "restarted", &["model.safetensors"])?;
    // Two agents.
    let port = free_port()?;
    let node = |rank: usize| {
        let options = [
            "--nnodes=2".into(),
            "--nproc-per-node=1".into(),
            format!("--node-rank={rank}"),
            "--rdzv-backend=c10d".into(),
            format!("--rdzv-endpoint=127.0.0.1:{port}"),
            "--rdzv-id=nodes".into(),
            "--local-addr=127.0.0.1".into(),
        ];
        under(&options, &format!("{run} --output nodes"))
    };
    let nodes = [node(0)?, node(1)?];
    for node in nodes {
        let output = node.wait_with_output()?;
        ensure!(output.status.success(), "{}", stderr(&output));
    }
    check_same(&world, "whole", "nodes", &["model.safetensors"])
}
