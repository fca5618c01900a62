//! One suite for every backend, golden data, and the binary as users meet it.

mod across; // every operation of each backend against every other backend
mod adapters; // LoRA against PEFT: what adapters compute, save and train
mod agreement; // training ends alike on every backend: 50 steps under every constraint against files
mod bf16; // fused operations and a whole model in bf16, where a device has it
mod binary; // the binary, and a small world to run it in
mod calibrate; // constraints fitted to evidence: by a verb of their own, and by runs
mod cases; // tables of operations with their operands
mod cli; // the verbs as users meet them
mod compare; // constraints and seeds side by side
mod constraint; // constraints as files, told and counted, and what a schedule does
mod divergence; // weights and evaluations that are no numbers are not kept
mod dpo; // policies on preferences: gradients against transformers, packing, runs that resume
mod encoders; // hidden states and sentence vectors against transformers and sentence-transformers
mod eval; // what a model or a file of scores is worth
mod formats; // data in every format, and what their columns are said to mean
mod freezing; // trained and frozen parameters, copies and handles
mod fuzzing; // the fuzz targets on a small seeded corpus
mod generating; // generate, best-of-n and grpo as a user runs them
mod golden; // logits, scores and every gradient against PyTorch, for every family
mod holding; // a folder is one run's, and its records describe the model that lies beside them
mod hostile; // files made to do harm: wrong types, bombs, escapes, pipes
mod hub; // models and data by the names of repositories, from a hub on the loopback interface
mod human_ratings; // rank correlations on human ratings, against scipy
mod inspect; // what is told of data before training, and by which exit code
mod judgebench; // five published reward models' scores, against scipy
mod judging; // policies judged pair by pair: faults, budgets, killed runs, and the other judges
mod kernels; // each fused operation against the composed reference, in value and gradient
mod killing; // runs killed, interrupted, harmed, and taken up again
mod language; // language models: what they save is what transformers loads
mod left_out; // rows that are left out, and limits on length, said beside the figures
mod losses; // the losses of pairs against torch in float64, in value and gradient
mod malformed; // a hundred broken files, and giants
mod online; // policies on their own answers: ratios of 1, resumed runs, rewards that rise
mod optimiser; // AdamW, clipping and schedules against torch and transformers
mod options; // options that cannot be used, refused before anything is made; resuming and extending
mod packing; // packed, prefix-shared batches against separate sequences
mod planted; // a preference that is known, and tiny runs that learn it
mod plugins; // exactly which plugins are compiled in
mod policies; // losses and advantages of policies against TRL, in value and gradient
mod preferences; // losses of log-probabilities against TRL, in value and gradient
mod primitives; // each primitive against finite differences and torch
mod quickstart;
mod rankings; // ties and whole rankings against torch in float64, in value and gradient
mod recomputing; // gradient checkpointing: the same gradients from fewer activations
mod reports; // what runs and evaluations leave for people: pages, events, a model card
mod resuming; // stopped, killed and damaged runs end as if nothing had happened
mod rewards; // a saved reward model as the reward of a policy's answers
mod rollout; // samples have the log-probabilities of training and depend on nothing beside them
mod scheduling; // bounds that change over training: what is in force when
mod server; // pcrm serve on a free port, and requests to it
mod serving; // the server of reward models as its clients meet it
mod sft; // fine-tuning: loss and gradients against transformers, runs that learn and resume
mod speechless; // runs whose terminal, pipe or log goes away
mod studying; // studies from recipes: killed and resumed, mistakes named, tables that follow from results
mod subject; // every backend on every device it opens on
mod support; // seeded data, comparison, gradients two ways
mod threads; // the same bits with any number of threads and on any instruction set
mod training; // what a run learns, writes, keeps and refuses
mod wild_models; // checkpoints as people have them: configs, prefixes, heads, buffers, quantised weights, adapters
