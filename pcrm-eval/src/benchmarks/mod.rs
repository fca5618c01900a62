//! Published benchmarks of reward models, each scored by the rules of its reference implementation.

pub mod reward_bench;
pub mod reward_bench_2;
pub mod rm_bench;

pub use reward_bench::RewardBench;
pub use reward_bench_2::RewardBench2;
pub use rm_bench::RmBench;
