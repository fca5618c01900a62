use std::collections::HashSet;

use super::*;

const TINY: &str = r#"
title = "Tiny"
question = "?"
hypotheses = ["nothing differs"]
primary = { figure = "ppo/truth@4", words = "true reward" }
baseline = "bt"
worlds = ["questions", "dialogue"]
full = { seeds = 2, pairs = 60, answers = 2 }
quick = { seeds = 1, pairs = 60, answers = 2, options = { ppo = { max-steps = 3 } } }
[options]
ppo = { max-steps = 9, batch = 4 }
[[arm]]
name = "bt"
reward = { constraint = "none" }
[[arm]]
name = "bt / T"
temperature-of = "bt"
[[arm]]
name = "mean"
mean-of = 2
reward = {}
[[arm]]
name = "least"
minimum-of = "mean"
[[arm]]
name = "dpo"
dpo = {}
[[arm]]
name = "sft"
untrained = true
[[follow]]
name = "ppo"
verb = "ppo"
kl = [4]
"#;

/// Protects: a job needs only earlier jobs, names are unique, whole seeds come first, and all arms of a
/// seed start from the same policy with the same seed and prompts.
#[test]
fn plans_are_in_order() {
    let recipe = Recipe::parse(TINY, "tiny").unwrap();
    let plan = StudyPlan::of(&recipe, &recipe.full, 2, &[]);
    let names: HashSet<&str> = plan.jobs.iter().map(|job| job.name.as_str()).collect();
    assert_eq!(names.len(), plan.jobs.len());
    for (at, job) in plan.jobs.iter().enumerate() {
        assert!(job.needs.iter().all(|need| *need < at), "{}", job.name);
        assert!(at == 0 || plan.jobs[at - 1].seed <= job.seed, "{}", job.name);
        assert_eq!(job.options["threads"].as_integer(), Some(1), "{}", job.name);
    }
    let of = |name: &str| plan.jobs.iter().find(|job| job.name == name).unwrap();
    let needs = |name: &str| -> Vec<&str> {
        of(name)
            .needs
            .iter()
            .map(|need| plan.jobs[*need].name.rsplit('/').next().unwrap_or_default())
            .collect()
    };
    assert_eq!(needs("questions/seed-0/rm-bt-t"), ["world", "rm-bt"]);
    assert_eq!(needs("questions/seed-0/answers-of-sft"), ["world", "sft"]);
    assert_eq!(needs("questions/seed-1/ppo-of-mean"), ["world", "sft", "rm-mean-0", "rm-mean-1"]);
    let ppo = |arm: &str| &of(&format!("dialogue/seed-1/ppo-of-{arm}")).options;
    for key in ["model", "data", "eval-data", "seed", "max-steps"] {
        assert_eq!(ppo("bt")[key], ppo("mean")[key], "{key}");
    }
    assert_eq!(ppo("mean")["reward"][0].as_str(), Some("model:{study}/dialogue/seed-1/rm-mean-0:0.5"));
    let least = ppo("least");
    assert_eq!(least["reward"][1].as_str(), Some("model:{study}/dialogue/seed-1/rm-mean-1:1"));
    assert_eq!(
        (least.get("combine").and_then(Value::as_str), ppo("mean").get("combine")),
        (Some("min"), None)
    );
    assert_eq!(needs("questions/seed-1/ppo-of-least"), ["world", "sft", "rm-mean-0", "rm-mean-1"]);
    assert_ne!(
        of("questions/seed-0/rm-mean-0").options["seed"],
        of("questions/seed-0/rm-mean-1").options["seed"]
    );
    assert_eq!(
        of("questions/seed-0/dpo-dpo").options["model"].as_str(),
        Some("{study}/questions/seed-0/sft")
    );
}

/// Protects: a world may have its own number of training pairs, and then a folder of its own.
#[test]
fn worlds_have_their_pairs() {
    let mut recipe = Recipe::parse(TINY, "tiny").unwrap();
    recipe.choose_worlds(&["questions".to_owned(), "questions:40".to_owned()]).unwrap();
    let plan = StudyPlan::of(&recipe, &recipe.quick, 1, &[]);
    let world = |job: &&Job| job.verb == ["data", "world"];
    let of = |job: &Job| {
        let options = &job.options;
        (job.name.clone(), options["name"].as_str().map(str::to_owned), options["pairs"].as_integer())
    };
    let name = Some("questions".to_owned());
    let worlds: Vec<_> = plan.jobs.iter().filter(world).map(of).collect();
    assert_eq!(
        worlds,
        [
            ("questions/seed-0/world".to_owned(), name.clone(), Some(60)),
            ("questions-40/seed-0/world".to_owned(), name, Some(40))
        ]
    );
}

/// Protects: a size's options override the recipe's, and left-out arms have no jobs.
#[test]
fn sizes_lie_over_recipes() {
    let recipe = Recipe::parse(TINY, "tiny").unwrap();
    let plan = StudyPlan::of(&recipe, &recipe.quick, 1, &["mean".to_owned()]);
    let ppo = plan.jobs.iter().find(|job| job.verb == ["ppo"]).unwrap();
    assert_eq!(
        (ppo.options["max-steps"].as_integer(), ppo.options["batch"].as_integer()),
        (Some(3), Some(4))
    );
    assert!(plan.jobs.iter().all(|job| !matches!(job.arm.as_deref(), Some("mean" | "least"))));
    assert_eq!([slug("ppo, paper's KL"), slug("β1 / 0.5"), slug("..")], ["ppo-paper-s-kl", "β1-0.5", ""]);
}
