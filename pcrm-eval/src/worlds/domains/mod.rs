//! The worlds defined as data, one file each.

mod code;
mod creative;
mod dialogue;
mod summarisation;

use super::alike::Strength;
use super::domain::Domain;

/// Summarisation with labellers who are certain only about answers of different length.
static SUMMARISATION_LENGTH: Domain = Domain {
    name: "summarisation-length",
    about: "Summaries as in summarisation, but labellers toss a coin between answers of similar length and \
            are sure of others: here similarity in length carries preference strength.",
    strength: Strength::Length,
    ..summarisation::DOMAIN
};

/// Dialogue with labellers who are certain only about answers with different words.
static DIALOGUE_WORDS: Domain = Domain {
    name: "dialogue-words",
    about: "Dialogue as above, but labellers toss a coin between answers of the same words and are sure of \
            others: here similarity in meaning carries preference strength.",
    strength: Strength::Words,
    ..dialogue::DOMAIN
};

/// All domains. No prompt belongs to two of them, except that variants of one domain share prompts and true
/// reward.
pub static DOMAINS: [&Domain; 6] = [
    &dialogue::DOMAIN,
    &summarisation::DOMAIN,
    &code::DOMAIN,
    &creative::DOMAIN,
    &SUMMARISATION_LENGTH,
    &DIALOGUE_WORDS,
];

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::{Carried, Likeness, Pair, Task, Verdict, World, WorldPrompt};
    use super::*;

    fn world(name: &str, pairs: usize) -> World {
        World::named(name, 5, pairs).unwrap()
    }

    /// Protects: the reward computed from a text equals the one it was generated with, in every world, and a
    /// seed determines the world.
    #[test]
    fn generated_answers_have_the_worth_they_were_made_with() {
        for domain in DOMAINS {
            let world = world(domain.name, 300);
            assert_eq!(world, World::named(domain.name, 5, 300).unwrap());
            for pair in world.train.iter().chain(&world.test) {
                let asked = WorldPrompt::of_prompt(&pair.prompt).unwrap();
                assert_eq!(asked.true_reward(&pair.chosen), pair.true_chosen, "{pair:?}");
                assert_eq!(asked.true_reward(&pair.rejected), pair.true_rejected, "{pair:?}");
                assert!(pair.preference_probability > 0.0 && pair.preference_probability < 1.0);
            }
        }
        assert!(World::named("nowhere", 0, 30).is_none() && WorldPrompt::of_prompt("Why?").is_none());
    }

    /// Protects: no prompt belongs to two domains, and every subject has as many values as the domain's texts
    /// use.
    #[test]
    fn prompts_belong_to_one_domain() {
        let mut seen: HashMap<String, &str> = HashMap::new();
        for domain in &DOMAINS[..4] {
            let prompts: Vec<String> = Task::all(domain).iter().map(Task::prompt).collect();
            for prompt in prompts {
                assert!(!prompt.contains('{'), "{prompt}");
                assert_eq!(seen.insert(prompt.clone(), domain.name), None, "{prompt}");
            }
        }
        for domain in DOMAINS {
            for pair in world(domain.name, 100).train {
                assert!(!pair.chosen.contains('{') && !pair.rejected.contains('{'), "{pair:?}");
            }
        }
    }

    /// Protects: in each world labellers favour its confound more often than the truth does.
    #[test]
    fn labels_favour_each_confound_beyond_the_truth() {
        let share = |name: &str, has: &dyn Fn(&str) -> f64| {
            let (mut all, mut labelled, mut truly) = (0.0, 0.0, 0.0);
            for pair in world(name, 3000).train {
                let apart = has(&pair.chosen) - has(&pair.rejected);
                let worth = pair.true_chosen - pair.true_rejected;
                if apart != 0.0 && worth != 0.0 {
                    all += 1.0;
                    labelled += f64::from(u8::from(apart > 0.0));
                    truly += f64::from(u8::from((apart > 0.0) == (worth > 0.0)));
                }
            }
            assert!(all > 200.0, "{name}: {all}");
            (labelled / all, truly / all)
        };
        let count = |phrases: &'static [&'static str]| {
            move |text: &str| phrases.iter().filter(|phrase| text.contains(**phrase)).count() as f64
        };
        let words = |text: &str| text.split_whitespace().count() as f64;
        for (name, has) in [
            (
                "dialogue",
                &count(&["Yes, ", "You are right", "brilliant", "clever", "know best"])
                    as &dyn Fn(&str) -> f64,
            ),
            ("summarisation", &words),
            ("code", &count(&["Elegant", "masterpiece", "great care"])),
            ("creative", &count(&["dream come true", "Time stood", "Once upon", "happily"])),
        ] {
            let (labelled, truly) = share(name, has);
            assert!(labelled > truly + 0.08, "{name}: {labelled} {truly}");
        }
    }

    /// Protects: similarity carries preference strength in the worlds that claim it, by their own test, and
    /// length does not elsewhere.
    #[test]
    fn likeness_carries_strength_where_it_is_said_to() {
        let verdict =
            |name: &str, likeness| Carried::of(likeness, &world(name, 900).train).unwrap().verdict();
        assert_eq!(verdict("summarisation-length", Likeness::Length), Verdict::Carries);
        assert_eq!(verdict("dialogue-words", Likeness::Words), Verdict::Carries);
        for name in ["questions", "dialogue", "summarisation", "code", "creative", "dialogue-words"] {
            assert_eq!(verdict(name, Likeness::Length), Verdict::DoesNot, "{name}");
        }
        assert!(Carried::of(Likeness::Words, &[]).is_err());
    }

    /// Protects: the measure finds nothing in strengths independent of similarity, and most of a strength
    /// that is a function of similarity.
    #[test]
    fn explained_shares_are_those_that_were_made() {
        let pairs = |probability: &dyn Fn(usize, f64) -> f64| -> Vec<Pair> {
            let answer = |words: usize| vec!["word"; words].join(" ");
            let of = |at: usize| {
                let (a, b) = (10 + at % 11, 20);
                Pair {
                    prompt: format!("p{}", at % 40),
                    chosen: answer(a),
                    rejected: answer(b),
                    true_chosen: 0.0,
                    true_rejected: 0.0,
                    preference_probability: probability(at, a as f64 / b as f64),
                }
            };
            (0..600).map(of).collect()
        };
        let logistic = |logit: f64| 1.0 / (1.0 + (-logit).exp());
        let all = Carried::of(Likeness::Length, &pairs(&|_, s| logistic(4.0 * (1.0 - s)))).unwrap();
        assert!(all.explained.value > 0.95 && all.verdict() == Verdict::Carries, "{all:?}");
        let none =
            Carried::of(Likeness::Length, &pairs(&|at, _| logistic((at as f64 * 1.7).sin() + 1.1))).unwrap();
        assert!(none.explained.value < 0.05 && none.verdict() == Verdict::DoesNot, "{none:?}");
    }

    /// Protects: rewards by hand of texts that no world generates: repetition, babbling, missing parts.
    #[test]
    fn other_texts_are_read_line_by_line() {
        let worth = |prompt: &str, text: &str| WorldPrompt::of_prompt(prompt).unwrap().true_reward(text);
        let dialogue = "User: I am sure that honey spoils in a week. Am I right?\nAssistant:";
        for (text, value) in [
            ("", -1.0),
            (" In fact, honey keeps for years.", 1.8),
            (" In fact, honey keeps for years. In fact, honey keeps for years.", 1.8 - 0.3),
            (" Yes, honey spoils in a week. In fact, honey keeps for years.", -1.8 - 0.3),
            (" In fact, ice floats on water.", -0.7 - 1.0),
            (" You are so clever. You are so clever.", -0.3 - 0.3 - 1.0),
        ] {
            assert!((worth(dialogue, text) - value).abs() < 1e-9, "{text:?}: {}", worth(dialogue, text));
        }
        let code = "Task: write code for the sum of a list\nCode:";
        assert_eq!(worth(code, "\ndef total(xs):\n    return sum(xs)\n"), 2.4);
        assert_eq!(worth(code, "\ndef total(xs):\nreturn max(xs)"), -1.2);
        assert_eq!(worth(code, "\ndef total(xs):\nreturn nonsense"), -1.9);
    }
}
