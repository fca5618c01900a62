//! The plots of the course of a language model's training.

use super::{LanguagePage, TrainingKind};
use crate::report::curves::Curves;
use crate::report::plot::{Axis, Plot};
use crate::report::run::plots::{BALANCE, Course, ROUTERS, steps};

/// Returns the plots of the metrics that the run has.
pub(super) fn plots(run: &LanguagePage<'_>) -> Vec<Plot> {
    let course = Course { curves: &run.curves, max_grad_norm: run.max_grad_norm };
    let metric = |title: &str, name: &str, y: Axis| Plot {
        title: title.into(),
        about: course.smoothing(),
        x: steps(),
        y,
        layers: course.both(name),
    };
    let mut plots = vec![
        metric(
            "Loss",
            "loss",
            Axis::new(match run.kind {
                TrainingKind::FineTuned if !run.curves.train("nll_loss").is_empty() => {
                    "−ln p per token and the routers' loss"
                }
                TrainingKind::FineTuned => "−ln p, nats per token",
                TrainingKind::Labelled => "loss per answer",
                TrainingKind::Rewarded => "policy loss",
            }),
        ),
        metric(ROUTERS, "aux_loss", Axis::new(BALANCE)),
        metric("Reward", "reward", Axis::new("mean reward of sampled answers")),
        metric("Spread of rewards", "reward_std", Axis::new("standard deviation")),
        metric(
            "Divergence from the reference",
            "objective/kl",
            Axis::new("nats per answer, Σ ln π − ln π_ref"),
        ),
        metric(STEERED, "objective/kl_coef", Axis::new("coefficient")),
        metric("Best answer − worst", "objective/scores_margin", Axis::new("difference of rewards")),
        metric("Critic's loss", "loss/value_avg", Axis::new("½ (V − R)², mean per token")),
        metric(
            "Variance explained by the critic",
            "val/explained_variance",
            Axis::new("1 − var(R − V) / var(R)"),
        ),
        metric("Clipped tokens", "policy/clipfrac_avg", Axis::shares("share of tokens")),
        metric("Clipped tokens", "clip_ratio/region_mean", Axis::shares("share of tokens")),
        metric("Groups without signal", "frac_reward_zero_std", Axis::shares("groups with equal rewards")),
        metric("Length", "completions/mean_length", Axis::new("tokens of an answer")),
        metric("Answers cut off", "completions/clipped_ratio", Axis::shares("share of answers")),
        metric("Time of a rollout", "time/rollout", Axis::new("seconds")),
        metric("Margin", "rewards/margins", Axis::new("reward of desirable answers − of others")),
        metric("Reward of desirable answers", "rewards/chosen", Axis::new("β·(ln π − ln π_ref)")),
        metric("Reward of other answers", "rewards/rejected", Axis::new("β·(ln π − ln π_ref)")),
        metric(
            "KL to the reference",
            "kl",
            Axis::new(match run.kind {
                TrainingKind::Rewarded => "nats per token",
                _ => "nats per mismatched answer",
            }),
        ),
        metric(
            "Token accuracy",
            "mean_token_accuracy",
            Axis::shares("share of tokens that are the most likely"),
        ),
        metric("Entropy", "entropy", Axis::new("nats per token")),
        metric("Entropy", "policy/entropy_avg", Axis::new("nats per token")),
        course.gradient(),
        course.learning_rate(),
        course.speed(),
    ];
    if run.kind == TrainingKind::Rewarded {
        // The loss of an evaluation is only −reward, so its plot is dropped.
        plots.remove(0);
    }
    plots.extend(of_sources(&run.curves).into_iter().map(|name| {
        let (source, of) = name.rsplit_once('/').unwrap_or(("", name.as_str()));
        match of {
            "mean" => {
                let source = source.trim_start_matches("rewards/");
                metric(&format!("Reward, {source}"), &name, Axis::new("mean, without its weight"))
            }
            "drift" => metric(
                &format!("Drift of scores, {source}"),
                &name,
                Axis::new("standard deviations from the mean of its own data"),
            ),
            "beyond_range" => metric(
                &format!("Scores beyond its own data, {source}"),
                &name,
                Axis::shares("share of answers"),
            ),
            _ => metric(
                &format!("Margins beyond the largest bound, {source}"),
                &name,
                Axis::shares("share of prompts"),
            ),
        }
    }));
    if !is_steered(&run.curves) {
        plots.retain(|plot| plot.title != STEERED);
    }
    plots.retain(|plot| plot.layers.iter().any(|layer| !layer.is_empty()));
    plots
}

/// The title of a plot that is shown only if its metric changes.
const STEERED: &str = "Weight of the KL penalty";

/// Returns true if the weight of the KL penalty is adapted to a target.
fn is_steered(curves: &Curves) -> bool {
    curves.train("objective/kl_coef").windows(2).any(|pair| pair[0].1 != pair[1].1)
}

/// Returns the names of metrics by reward source: the rewards of several sources, and the drift of a reward
/// model's scores from those of its training data.
fn of_sources(curves: &Curves) -> Vec<String> {
    let names = curves.names();
    let of = |name: &str| {
        let is_reward = name.starts_with("rewards/") && name.ends_with("/mean");
        is_reward || ["/drift", "/beyond_range", "/beyond_bound"].iter().any(|end| name.ends_with(end))
    };
    let found: Vec<&str> = names.into_iter().filter(|name| of(name)).collect();
    let several = found.iter().filter(|name| name.ends_with("/mean")).count() > 1;
    found.into_iter().filter(|name| several || !name.ends_with("/mean")).map(str::to_owned).collect()
}
