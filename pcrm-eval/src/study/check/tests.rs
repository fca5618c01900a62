//! Recipes that are refused, with their messages.

use super::*;

const TINY: &str = r#"
title = "Tiny"
question = "?"
hypotheses = ["nothing differs"]
primary = { figure = "accuracy", words = "accuracy" }
baseline = "bt"
worlds = ["questions"]
full = { seeds = 3, pairs = 60, answers = 2 }
quick = { seeds = 1, pairs = 60, answers = 2, arms = ["bt"] }
[options.reward]
epochs = 1
[[arm]]
name = "bt"
reward = { constraint = "none" }
[[arm]]
name = "bt / T"
temperature-of = "bt"
[[grid]]
name = "fixed {bound}"
values = { bound = [0.5, 2] }
reward = { constraint = { kind = "fixed", bound = "{bound}" } }
[[follow]]
name = "best"
verb = "best-of-n"
options = { n = 4 }
"#;

/// Protects: chosen worlds replace those of the recipe and of its sizes; an unknown one is refused.
#[test]
fn worlds_are_chosen() {
    let mut recipe = Recipe::parse(TINY, "tiny.toml").unwrap();
    recipe.quick.worlds = Some(vec!["dialogue".to_owned()]);
    recipe.choose_worlds(&[]).unwrap();
    assert_eq!(recipe.worlds_of(&recipe.quick), ["dialogue"]);
    recipe.choose_worlds(&["questions".to_owned()]).unwrap();
    assert_eq!(recipe.worlds_of(&recipe.quick), ["questions"]);
    assert_eq!(recipe.worlds_of(&recipe.full), ["questions"]);
    let refused = recipe.choose_worlds(&["moon".to_owned()]).unwrap_err();
    assert!(refused.contains("unknown world \"moon\"; expected some of questions"), "{refused}");
    recipe.choose_worlds(&["questions:400".to_owned(), "dialogue".to_owned()]).unwrap();
    for wrong in ["questions:", "questions:x", "questions:29", "moon:400"] {
        let refused = recipe.choose_worlds(&[wrong.to_owned()]).unwrap_err();
        assert!(refused.contains(&format!("world {wrong:?}")), "{refused}");
    }
}

/// Protects: a grid expands to one arm per value, substituted in its options and its name.
#[test]
fn grids_become_arms() {
    let recipe = Recipe::parse(TINY, "tiny.toml").unwrap();
    let names: Vec<&str> = recipe.arms.iter().map(|arm| arm.name.get_ref().as_str()).collect();
    assert_eq!(names, ["bt", "bt / T", "fixed 0.5", "fixed 2"]);
    let options = recipe.arms[3].reward.as_ref().unwrap();
    assert_eq!(options["constraint"]["bound"].as_float(), Some(2.0));
    assert_eq!(recipe.arms[3].at["bound"], 2.0);
    assert_eq!(recipe.arms_of(&recipe.quick).len(), 1);
}

/// Protects: errors in a recipe name the file, the line or the key, the value found and the one expected.
#[test]
fn mistakes_are_named() {
    for (from, to, expected) in [
        ("title = \"Tiny\"", "titel = \"Tiny\"", &["tiny.toml", "unknown field `titel`", "line 2"][..]),
        ("seeds = 3", "seeds = \"3\"", &["tiny.toml", "invalid type", "line 8"]),
        ("baseline = \"bt\"", "baseline = \"b\"", &["baseline = \"b\"", "arms: bt, bt / T"]),
        (
            "worlds = [\"questions\"]",
            "worlds = [\"moon\"]",
            &["\"moon\"", "expected some of questions, dialogue"],
        ),
        (
            "temperature-of = \"bt\"",
            "temperature-of = \"c\"",
            &["tiny.toml:16", "\"bt / T\"", "expected an arm with reward"],
        ),
        (
            "temperature-of = \"bt\"",
            "temperature-of = \"bt\"\ndpo = {}",
            &["tiny.toml:16", "expected one of reward, dpo"],
        ),
        ("name = \"bt / T\"", "name = \"BT\"", &["tiny.toml:16", "the arm \"bt\" has that name already"]),
        ("name = \"bt / T\"", "name = \"/\"", &["tiny.toml:16", "expected a letter or a digit"]),
        ("figure = \"accuracy\"", "figure = \"speed\"", &["primary.figure = \"speed\"", "accuracy_truth"]),
        ("figure = \"accuracy\"", "figure = \"ppo/truth\"", &["primary.figure = \"ppo/truth\""]),
        ("[options.reward]", "[options.rewards]", &["options.rewards", "expected one of sft, reward"]),
        ("epochs = 1", "seed = 1", &["options.reward.seed", "is set by the study itself"]),
        ("verb = \"best-of-n\"", "verb = \"best\"", &["unknown variant `best`", "best-of-n"]),
        ("arms = [\"bt\"]", "arms = [\"bt / T\"]", &["expected the baseline among them"]),
        ("values = { bound = [0.5, 2] }", "values = {}", &["grid \"fixed {bound}\"", "expected values"]),
        ("options = { n = 4 }", "kl = [-1]", &["follow \"best\"", "expected positive numbers"]),
    ] {
        assert!(TINY.contains(from), "{from}");
        let message = Recipe::parse(&TINY.replace(from, to), "tiny.toml").unwrap_err();
        for part in expected {
            assert!(message.contains(part), "{to}: {message:?} does not say {part:?}");
        }
    }
}

/// Protects: options that a study sets itself are refused wherever a recipe can name them, as the report
/// would state them as used.
#[test]
fn options_of_the_study_are_refused() {
    for (from, to, expected) in [
        ("constraint = \"none\"", "seed = 7", "tiny.toml:13: arm \"bt\": reward.seed: is set by"),
        ("constraint = \"none\"", "data = \"x.jsonl\"", "arm \"bt\": reward.data: is set by"),
        (
            "reward = { constraint = { kind = \"fixed\", bound = \"{bound}\" } }",
            "dpo = { output = \"x\" }",
            "arm \"fixed 0.5\": dpo.output: is set by",
        ),
        ("{ kind = \"fixed\", bound = \"{bound}\" }", "\"none\", model = \"x\"", "reward.model: is set"),
        ("n = 4", "seed = 3", "follow \"best\": best-of-n.seed: is set by the study itself"),
        ("n = 4", "reward = [\"length\"]", "follow \"best\": best-of-n.reward: is set by"),
        ("n = 4", "combine = \"min\"", "follow \"best\": best-of-n.combine: is set by"),
        (
            "[options.reward]",
            "[options.ppo]\nreward = \"length\"\n[options.reward]",
            "options.ppo.reward: is",
        ),
        ("options = { n = 4 }", "kl = [4]", "follow \"best\": kl has no effect"),
    ] {
        assert!(TINY.contains(from), "{from}");
        let message = Recipe::parse(&TINY.replace(from, to), "tiny.toml").unwrap_err();
        assert!(message.contains(expected), "{to}: {message:?} does not say {expected:?}");
    }
}

/// Protects: a size without the arm whose models one of its arms uses is refused, as that arm could not be
/// measured.
#[test]
fn sizes_hold_the_sources_of_their_arms() {
    let mean = "[[arm]]\nname = \"mean\"\nmean-of = 2\nreward = {}\n";
    let derived = "[[arm]]\nname = \"least\"\nminimum-of = \"mean\"\n[[grid]]";
    let text = TINY.replace("[[grid]]", &format!("{mean}{derived}"));
    let of = |arms: &str| Recipe::parse(&text.replace("arms = [\"bt\"]", arms), "tiny.toml");
    let refused = of("arms = [\"bt\", \"least\"]").unwrap_err();
    assert!(refused.contains("arms of a size: \"least\" uses \"mean\"; expected it"), "{refused}");
    let based = text.replace("baseline = \"bt\"", "baseline = \"fixed 2\"");
    let based = based.replace("arms = [\"bt\"]", "arms = [\"fixed 2\", \"bt / T\"]");
    let refused = Recipe::parse(&based, "tiny.toml").unwrap_err();
    assert!(refused.contains("\"bt / T\" uses \"bt\""), "{refused}");
    of("arms = [\"bt\", \"bt / T\", \"mean\", \"least\"]").unwrap();
}
