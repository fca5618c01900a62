//! Worlds of prompts and answers with human-like labels: noisy, and biased towards a confound.

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::domain::{Domain, Task};
use super::domains::DOMAINS;
use super::grammar::{Answer, Question};

/// Increase of a labeller's log-odds per additional word; the true reward has no such term.
const PER_WORD: f64 = 0.06;
/// Share of pairs with one answer that is a revision of the other.
const REVISIONS: f64 = 0.5;
/// One question in this many is held out for the test.
const HELD_OUT: usize = 4;
/// Number of training pairs per held-out pair.
const TRAIN_PER_TEST: usize = 3;

/// The world of the quickstart, which is defined in code.
const QUESTIONS: (&str, &str) = (
    "questions",
    "A question is answered. The right fact is worth 1.8, courtesy and further facts a little; labellers \
     like every word (length). The world of pcrm quickstart.",
);

/// A preference pair in TRL's columns, with its true rewards.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pair {
    /// Question.
    pub prompt: String,
    /// Answer that the labeller preferred.
    pub chosen: String,
    /// The other answer.
    pub rejected: String,
    /// True reward of the chosen answer, in log-odds.
    pub true_chosen: f64,
    /// True reward of the rejected answer, in log-odds.
    pub true_rejected: f64,
    /// Probability that a labeller prefers `chosen`.
    pub preference_probability: f64,
}

/// Training and test pairs, which share no prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    /// Training pairs.
    pub train: Vec<Pair>,
    /// Test pairs.
    pub test: Vec<Pair>,
}

impl World {
    /// Generates the world of this seed with `pairs` training pairs.
    pub fn new(seed: u64, pairs: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut questions = Question::all();
        questions.shuffle(&mut rng);
        let (test, train) = questions.split_at(questions.len() / HELD_OUT);
        let train = (0..pairs).map(|_| pair(train, &mut rng)).collect();
        let test = (0..pairs.div_ceil(TRAIN_PER_TEST)).map(|_| pair(test, &mut rng)).collect();
        Self { train, test }
    }

    /// Generates the world with this name and seed; `None` for an unknown name (see [`World::all`]).
    pub fn named(name: &str, seed: u64, pairs: usize) -> Option<Self> {
        if name == QUESTIONS.0 {
            return Some(Self::new(seed, pairs));
        }
        let domain = DOMAINS.into_iter().find(|domain| domain.name == name)?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut tasks = Task::all(domain);
        tasks.shuffle(&mut rng);
        let (test, train) = tasks.split_at(tasks.len() / HELD_OUT);
        let train = (0..pairs).map(|_| pair_of(domain, train, &mut rng)).collect();
        let test = (0..pairs.div_ceil(TRAIN_PER_TEST)).map(|_| pair_of(domain, test, &mut rng)).collect();
        Some(Self { train, test })
    }

    /// Returns the names and descriptions of all worlds.
    pub fn all() -> Vec<(&'static str, &'static str)> {
        let domains = DOMAINS.into_iter().map(|domain| (domain.name, domain.about));
        std::iter::once(QUESTIONS).chain(domains).collect()
    }
}

/// A prompt of one of the worlds.
#[derive(Debug, Clone, Copy)]
pub enum WorldPrompt {
    /// A prompt of the world of questions.
    Question(Question),
    /// A prompt of a world defined as data.
    Task(Task),
}

impl WorldPrompt {
    /// Finds the task of a prompt; `None` if it is of no world.
    pub fn of_prompt(prompt: &str) -> Option<Self> {
        if let Some(question) = Question::of_prompt(prompt) {
            return Some(Self::Question(question));
        }
        let prompt = prompt.trim();
        let tasks = DOMAINS.into_iter().flat_map(Task::all);
        tasks.into_iter().find(|task| task.prompt() == prompt).map(Self::Task)
    }

    /// Returns the true reward of a text as an answer, in log-odds, to tenths.
    pub fn true_reward(&self, answer: &str) -> f64 {
        match self {
            Self::Question(question) => question.true_reward(answer),
            Self::Task(task) => task.true_reward(answer),
        }
    }
}

fn pair_of(domain: &Domain, tasks: &[Task], rng: &mut ChaCha8Rng) -> Pair {
    let task = &tasks[rng.random_range(0..tasks.len())];
    let first = task.draw(rng);
    let (first_text, second, second_text) = loop {
        let other = match rng.random_bool(REVISIONS) {
            true => task.revised(&first, rng),
            false => task.draw(rng),
        };
        let (a, b) = (task.text(&first), task.text(&other));
        if a != b {
            break (a, other, b);
        }
    };
    let ((worth, liked), (other_worth, other_liked)) =
        (task.worth_and_liking(&first), task.worth_and_liking(&second));
    let factor = domain.strength.factor(&first_text, &second_text);
    let logit = factor * (worth - other_worth + liked - other_liked);
    let probability = 1.0 / (1.0 + (-logit).exp());
    let first_wins = rng.random_bool(probability);
    let by = |first: f64, second: f64| if first_wins { (first, second) } else { (second, first) };
    let (true_chosen, true_rejected) = by(worth, other_worth);
    let (preference_probability, _) = by(probability, 1.0 - probability);
    let (chosen, rejected) = if first_wins { (first_text, second_text) } else { (second_text, first_text) };
    Pair { prompt: task.prompt(), chosen, rejected, true_chosen, true_rejected, preference_probability }
}

fn pair(questions: &[Question], rng: &mut ChaCha8Rng) -> Pair {
    let question = &questions[rng.random_range(0..questions.len())];
    let first = Answer::draw(question, rng);
    let second = loop {
        let other = match rng.random_bool(REVISIONS) {
            true => first.revised(question, rng),
            false => Answer::draw(question, rng),
        };
        if other.text() != first.text() {
            break other;
        }
    };
    let words = |answer: &Answer| answer.text().split_whitespace().count() as f64;
    let logit = first.worth() - second.worth() + PER_WORD * (words(&first) - words(&second));
    let probability = 1.0 / (1.0 + (-logit).exp());
    let first_wins = rng.random_bool(probability);
    let (chosen, rejected) = if first_wins { (first, second) } else { (second, first) };
    Pair {
        prompt: question.prompt(),
        chosen: chosen.text(),
        rejected: rejected.text(),
        true_chosen: rounded(chosen.worth()),
        true_rejected: rounded(rejected.worth()),
        preference_probability: if first_wins { probability } else { 1.0 - probability },
    }
}

/// Rounds a sum of tenths to tenths, so that equal rewards are equal in binary.
fn rounded(worth: f64) -> f64 {
    (worth * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Protects: a seed determines the world, in every run and on every machine.
    #[test]
    fn a_seed_names_one_world() {
        assert_eq!(World::new(7, 200), World::new(7, 200));
        assert_ne!(World::new(7, 200), World::new(8, 200));
    }

    /// Protects: no prompt is in both splits.
    #[test]
    fn train_and_test_share_no_prompt() {
        let world = World::new(0, 600);
        let train: HashSet<&str> = world.train.iter().map(|pair| pair.prompt.as_str()).collect();
        assert_eq!(world.test.len(), 200);
        assert!(world.test.iter().all(|pair| !train.contains(pair.prompt.as_str())));
        assert!(world.train.iter().all(|pair| pair.chosen != pair.rejected));
    }

    /// Protects: labels have the noise that their column states: among pairs labelled with probability p, the
    /// more probable answer wins in a share of max(p, 1 − p), within sampling error of 20 000 pairs.
    #[test]
    fn labels_have_the_stated_noise() {
        let world = World::new(1, 20_000);
        for (low, high) in [(0.5, 0.6), (0.6, 0.7), (0.7, 0.8), (0.8, 0.9), (0.9, 1.0)] {
            let likely = |pair: &&Pair| {
                let p = pair.preference_probability;
                p != 0.5 && (low..high).contains(&p.max(1.0 - p))
            };
            let pairs: Vec<&Pair> = world.train.iter().filter(likely).collect();
            let of = |value: fn(&Pair) -> f64| {
                pairs.iter().map(|pair| value(pair)).sum::<f64>() / pairs.len() as f64
            };
            let stated = of(|pair| pair.preference_probability.max(1.0 - pair.preference_probability));
            let seen = of(|pair| f64::from(u8::from(pair.preference_probability > 0.5)));
            assert!(pairs.len() > 500, "{low}: {} pairs", pairs.len());
            assert!(
                (stated - seen).abs() < 4.0 * 0.5 / (pairs.len() as f64).sqrt(),
                "{low}: {stated} {seen}"
            );
        }
    }

    /// Protects: labellers prefer the longer answer more often than the true reward does.
    #[test]
    fn labels_favour_length_beyond_the_truth() {
        let world = World::new(2, 5000);
        let (mut pairs, mut by_labels, mut by_truth) = (0.0, 0.0, 0.0);
        for pair in &world.train {
            let (chosen, rejected) = (pair.chosen.len(), pair.rejected.len());
            if chosen == rejected || pair.true_chosen == pair.true_rejected {
                continue;
            }
            pairs += 1.0;
            by_labels += f64::from(u8::from(chosen > rejected));
            by_truth += f64::from(u8::from((chosen > rejected) == (pair.true_chosen > pair.true_rejected)));
        }
        assert!(by_labels / pairs > by_truth / pairs + 0.05, "{} {}", by_labels / pairs, by_truth / pairs);
    }

    /// Protects: pairs of near-equal worth are frequent, and pairs of similar length differ less, so the
    /// length prior holds.
    #[test]
    fn similar_lengths_mean_similar_worth() {
        let world = World::new(3, 5000);
        let gap = |pair: &&Pair| (pair.true_chosen - pair.true_rejected).abs();
        let ratio = |pair: &Pair| {
            let (chosen, rejected) = (pair.chosen.len() as f64, pair.rejected.len() as f64);
            chosen.min(rejected) / chosen.max(rejected)
        };
        let (like, unlike): (Vec<&Pair>, Vec<&Pair>) = world.train.iter().partition(|pair| ratio(pair) > 0.9);
        let mean = |pairs: &[&Pair]| pairs.iter().map(gap).sum::<f64>() / pairs.len() as f64;
        assert!(mean(&like) < mean(&unlike), "{} {}", mean(&like), mean(&unlike));
        let close = world.train.iter().filter(|pair| gap(pair) < 0.55).count();
        assert!(close > 1500, "{close}");
    }
}
