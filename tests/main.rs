//! One suite for every backend, golden data, and the binary as users meet it.

mod across; // each operation of every backend against every other backend
mod adapters; // LoRA against PEFT: what adapters compute, save and train
mod agreeing; // what the processes of a run must have in common: inputs and the folder
mod agreement; // the same training on every backend: 50 steps under every constraint, against files
mod beside; // several runs in one table and on one page
mod bf16; // fused operations and a whole model in bf16, where a device has it
mod binary; // the binary, and a small world to run it in
mod calibrate; // constraints fitted to evidence, by `pcrm calibrate` and by runs
mod cards; // the model cards of every training command
mod cases; // tables of operations with their operands
mod cli; // the commands as users meet them
mod compare; // constraints and seeds side by side
mod constraint; // constraints in files, and `pcrm constraint`
#[cfg(feature = "distributed")]
mod distributed; // several processes: equal bits, killed processes, other process counts, torchrun
mod divergence; // weights and evaluations with NaN or infinity are not saved
mod dpo; // policies trained on preferences: gradients against transformers, packing, resuming
mod encoders; // hidden states and sentence vectors against transformers and sentence-transformers
mod engine_models; // the models of a loopback server
mod engine_server; // vLLM's and SGLang's protocols with our engine behind them, and faults
mod engines; // rollouts on servers of vLLM and SGLang, and from files
mod eval; // evaluation of models and of given scores
mod exporting; // exported folders, and uploads to a local hub
mod formats; // data in every format, and options that describe columns
mod freezing; // trained and frozen parameters, copies and handles
mod fuzzing; // the entries of the fuzz targets on a small seeded corpus
mod generating; // the commands that sample answers, as users run them
mod golden; // logits, scores and every gradient against PyTorch, for every family
mod hall; // processes that are threads, and exchange through memory
mod holding; // a folder belongs to one run, and its records describe its model
mod hostile; // malicious files: wrong types, huge sizes, escape sequences, pipes
mod hub; // models and data by repository names, from a local hub
mod human_ratings; // rank correlations on human ratings, against scipy
mod inspect; // `pcrm inspect`: findings, exit codes, pages
mod judgebench; // five published reward models' scores, against scipy
mod judging; // policies judged pair by pair: faulty servers, budgets, killed runs, other judges
mod kernels; // each fused operation against the composed reference, in value and gradient
mod killing; // killed, interrupted and damaged runs, resumed
mod language; // language models: saved folders that transformers loads
mod left_out; // skipped rows and length limits, reported beside the figures
mod losses; // the losses of pairs against torch in float64, in value and gradient
mod malformed; // malformed and huge files
#[cfg(unix)]
mod moments; // runs whose chat template asks for the time
mod offloading; // moments in 8 bits and in host memory: the bits of the host's computation
mod online; // on-policy training: ratios of 1, resumed runs, rewards that rise
mod optimiser; // AdamW, clipping and schedules against torch and transformers
mod options; // unusable options, refused before anything is made; resuming and extending
mod orphans; // processes that end with their parent, even one that was killed as it started them
mod overlap; // gradients exchanged in buckets during the backward pass: the same bits, sent in time
mod own_pairs; // studies on files of pairs: other prompts held out per seed, measures, refusals
mod packing; // packed, prefix-shared batches against separate sequences
mod planted; // a known preference, and tiny runs that learn it
mod plugins; // the exact lists of compiled plugins
mod policies; // losses and advantages of policies against TRL, in value and gradient
mod preferences; // losses of log-probabilities against TRL, in value and gradient
mod primitives; // each primitive against finite differences and torch
mod quantised; // bases in nf4 and int8: bitsandbytes' values, gradients, runs, files
mod quickstart;
mod rankings; // ties and whole rankings against torch in float64, in value and gradient
mod recomputing; // gradient checkpointing: the same gradients from fewer activations
mod recording; // lines, samples and saved steps of runs on sampled answers
mod reports; // output for people: pages, TensorBoard events, model cards
mod rescoring; // scores of people and of models in one file
mod resuming; // stopped, killed and damaged runs end like undisturbed ones
mod rewards; // a saved reward model as the reward of a policy's answers
mod rollout; // samples have the log-probabilities of training and do not depend on the batch
mod routers; // the routers' loss of mixtures of experts in training, against transformers
mod scheduling; // bounds that change over training
mod scorers; // scoring encoders, compared with transformers
mod selecting; // limits, slices, tables and standard input
mod server; // pcrm serve on a free port, and requests to it
mod serving; // the reward model server as its clients meet it
mod sft; // fine-tuning: loss and gradients against transformers, learning, resuming
mod sharing; // models over one base hold one copy of its weights
mod slicing; // moments in slices: what each process reads as a run is saved and resumed
mod speechless; // runs whose terminal or pipe closes, or whose disk is full
#[cfg(unix)]
mod starting; // libtorch is loaded for the commands that need it, by the program beside `pcrm`
mod studying; // studies from recipes: kills, resuming, mistakes, tables that follow from results
mod subject; // every backend on every device it opens on
mod support; // seeded data, comparison, gradients two ways
mod threads; // the same bits with any number of threads and on any instruction set
mod training; // learning, saved files and refusals of training runs
mod wild_models; // unusual checkpoints: configs, prefixes, heads, buffers, quantised weights, adapters
