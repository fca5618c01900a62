//! The figures that the runs of a recipe give, and the check of its primary figure against them.

use toml::Value;

use super::fill::layered;
use super::measures::NAMES;
use super::recipe::{Follow, Recipe, Verb};

/// The figures of a policy at the end of its training.
const OF_POLICY: [&str; 5] = ["truth", "proxy", "kl", "length", "win_rate"];
/// The figures of the best of all sampled answers.
const OF_BEST: [&str; 2] = ["truth", "proxy"];
/// The figures of policies that are trained without a reward model, besides [`NAMES`].
const OF_ANSWERS: [&str; 2] = ["truth", "win_rate"];

impl Recipe {
    /// Checks that the primary figure is one that runs can have.
    pub(super) fn check_primary(&self) -> Result<(), String> {
        let figure = &self.primary.figure;
        let expected = match figure.split_once('/') {
            None if NAMES.iter().any(|(name, _)| name == figure) => return Ok(()),
            None if OF_ANSWERS.contains(&figure.as_str()) => return Ok(()),
            None => None,
            Some((name, rest)) => match self.follow.iter().find(|follow| follow.name == name) {
                Some(follow) if self.gives(follow, rest) => return Ok(()),
                found => found.map(given),
            },
        };
        let expected = expected.unwrap_or_else(|| {
            let names = NAMES.map(|(name, _)| name).join(", ");
            format!("a measure of models ({names}) or FOLLOW/FIGURE")
        });
        Err(format!("primary.figure = {figure:?}: expected {expected}"))
    }

    /// Returns true if a follow-up gives a figure in some size of the study.
    fn gives(&self, follow: &Follow, figure: &str) -> bool {
        if follow.verb != Verb::BestOfN {
            return OF_POLICY.contains(&figure) || of_kl(follow).any(|name| name == figure);
        }
        OF_BEST.contains(&figure)
            || [&self.full, &self.quick].into_iter().any(|size| {
                let verb = follow.verb.name();
                let tables = [self.options.get(verb), size.options.get(verb), Some(&follow.options)];
                let n = layered(tables.into_iter().flatten()).get("n").and_then(Value::as_integer);
                is_point(figure, n.and_then(|n| usize::try_from(n).ok()))
            })
    }
}

/// Returns true if a figure is `truth@N` with a point N of the curve of `of` answers: `of` itself or a smaller
/// power of two.
fn is_point(figure: &str, of: Option<usize>) -> bool {
    let n: Option<usize> = figure.strip_prefix("truth@").and_then(|n| n.parse().ok());
    n.filter(|n| format!("truth@{n}") == figure)
        .is_some_and(|n| of == Some(n) || (n.is_power_of_two() && of.is_none_or(|of| n < of)))
}

/// Returns the names of the figures that are read off a policy's curve.
fn of_kl(follow: &Follow) -> impl Iterator<Item = String> {
    follow.kl.iter().map(|kl| format!("truth@{kl}"))
}

/// Lists the figures of a follow-up in words.
fn given(follow: &Follow) -> String {
    let names: Vec<String> = match follow.verb {
        Verb::BestOfN => {
            let point = "truth@N (N is n or a smaller power of two)".to_owned();
            OF_BEST.map(str::to_owned).into_iter().chain([point]).collect()
        }
        _ => OF_POLICY.map(str::to_owned).into_iter().chain(of_kl(follow)).collect(),
    };
    format!("{}/ with one of {}", follow.name, names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECIPE: &str = r#"
title = "Tiny"
question = "?"
hypotheses = ["nothing differs"]
primary = { figure = "accuracy", words = "?" }
baseline = "bt"
worlds = ["questions"]
full = { seeds = 1, pairs = 60 }
quick = { seeds = 1, pairs = 60, options = { best-of-n = { n = 8 } } }
[options.best-of-n]
n = 24
[[arm]]
name = "bt"
reward = {}
[[follow]]
name = "best"
verb = "best-of-n"
[[follow]]
name = "ppo"
verb = "ppo"
kl = [0.5, 4]
"#;

    /// Protects: a primary figure that no run gives is refused when the recipe is read, with those that there
    /// are; every figure that a run gives is accepted.
    #[test]
    fn primary_figures_are_given_by_runs() {
        let of = |figure: &str| Recipe::parse(&RECIPE.replace("accuracy", figure), "tiny.toml");
        for known in [
            "kl_per_token",
            "truth",
            "win_rate",
            "ppo/truth",
            "ppo/length",
            "ppo/win_rate",
            "ppo/truth@0.5",
            "ppo/truth@4",
            "best/truth",
            "best/proxy",
            "best/truth@1",
            "best/truth@8",
            "best/truth@24",
        ] {
            of(known).unwrap();
        }
        for wrong in ["ppo/truth@3", "ppo/truth@4.0", "ppo/nonsense", "ppo/"] {
            let refused = of(wrong).unwrap_err();
            let expected = "expected ppo/ with one of truth, proxy, kl, length, win_rate, truth@0.5, truth@4";
            assert!(refused.contains(wrong) && refused.contains(expected), "{refused}");
        }
        for wrong in ["best/kl", "best/truth@32", "best/truth@12", "best/truth@08"] {
            let refused = of(wrong).unwrap_err();
            assert!(refused.contains("expected best/ with one of truth, proxy, truth@N"), "{refused}");
        }
        assert!(of("dpo/truth").unwrap_err().contains("or FOLLOW/FIGURE"));
    }
}
