//! Questions and answers, and what an answer is truly worth.
//!
//! An answer is a list of sentences, and its true reward is the sum of what they are worth, in log-odds: of two
//! answers that differ by 1, a fair judge prefers the better one with σ(1) = 73 %.

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::facts::{Aspect, SORTS, Sort, Subject};

/// The question answered rightly, wrongly, evaded, or another one answered in its place.
const RIGHT: f64 = 1.0;
const WRONG: f64 = -1.0;
const EVADED: f64 = -0.4;
const BESIDE_THE_POINT: f64 = -0.6;
/// A further fact of the subject, true or false.
const MORE: f64 = 0.3;
const MORE_FALSE: f64 = -0.5;
/// A sentence that says nothing.
const FILLER: f64 = -0.1;
const FILLERS: [&str; 12] = [
    "There is a great deal that one could say about this matter.",
    "Many people have asked themselves the very same thing before.",
    "It is always good to think about such things with care.",
    "As is well known, this is a rather interesting subject.",
    "Let me think for a moment and then put it into words.",
    "One should of course look at the question from every side.",
    "It goes without saying that there is more to every story.",
    "All things considered, this is what there is to be said.",
    "Books have been written about this and more will be written.",
    "At the end of the day it is what it is, as they say.",
    "Some will see it this way and some will see it that way.",
    "Be that as it may, the day is long and the world is wide.",
];
const OPENINGS: [(&str, f64); 6] = [
    ("Thank you for asking!", 0.3),
    ("What a good question.", 0.3),
    ("I am glad to help.", 0.3),
    ("Well, let me see.", 0.0),
    ("What a silly question.", -0.6),
    ("You should know this.", -0.6),
];
const CLOSINGS: [(&str, f64); 4] = [
    ("I hope that this helps you.", 0.2),
    ("Please ask me if you want more.", 0.2),
    ("That is all I have to say.", 0.0),
    ("Do not ask me this again.", -0.5),
];

/// A question: something asked of a subject, in one of several wordings.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    sort: &'static Sort,
    subject: &'static Subject,
    aspect: usize,
    wording: usize,
}

impl Question {
    /// Every question of the world, in a fixed order.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for sort in &SORTS {
            for subject in &sort.subjects {
                for (aspect, asked) in sort.aspects.iter().enumerate() {
                    all.extend((0..asked.questions.len()).map(|wording| Self {
                        sort,
                        subject,
                        aspect,
                        wording,
                    }));
                }
            }
        }
        all
    }

    /// The text a model sees before the answer.
    pub fn prompt(&self) -> String {
        let asked = self.sort.aspects[self.aspect].questions[self.wording];
        format!("Question: {}\nAnswer:", asked.replace("{s}", self.subject.name))
    }

    fn others(&self) -> [usize; 2] {
        [(self.aspect + 1) % 3, (self.aspect + 2) % 3]
    }
}

/// A sentence and what it adds to the true reward of the answer it stands in.
#[derive(Debug, Clone, PartialEq)]
struct Sentence {
    text: String,
    worth: f64,
}

/// An answer to a question.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    opening: Option<Sentence>,
    reply: Sentence,
    more: Vec<Sentence>,
    fillers: Vec<Sentence>,
    closing: Option<Sentence>,
}

impl Answer {
    /// Draws an answer.
    pub fn draw(question: &Question, rng: &mut ChaCha8Rng) -> Self {
        Self {
            opening: phrase(&OPENINGS, 0.6, rng),
            reply: reply(question, rng),
            more: more(question, rng),
            fillers: fillers(rng),
            closing: phrase(&CLOSINGS, 0.5, rng),
        }
    }

    /// The same answer with one part drawn anew: mostly of like worth and length.
    pub fn revised(&self, question: &Question, rng: &mut ChaCha8Rng) -> Self {
        let mut revised = self.clone();
        match rng.random_range(0..100) {
            0..35 => {
                // Another filler in the place of one, so that lengths stay alike.
                match revised.fillers.is_empty() {
                    true => revised.fillers = fillers(rng),
                    false => {
                        let at = rng.random_range(0..revised.fillers.len());
                        revised.fillers[at] = filler(rng);
                    }
                }
            }
            35..55 => revised.opening = phrase(&OPENINGS, 0.8, rng),
            55..75 => revised.closing = phrase(&CLOSINGS, 0.8, rng),
            75..90 => revised.more = more(question, rng),
            _ => revised.reply = reply(question, rng),
        }
        revised
    }

    /// Its true reward, in log-odds.
    pub fn worth(&self) -> f64 {
        self.sentences().map(|sentence| sentence.worth).sum()
    }

    /// Its text, beginning with the space that parts it from the prompt.
    pub fn text(&self) -> String {
        self.sentences().map(|sentence| format!(" {}", sentence.text)).collect()
    }

    fn sentences(&self) -> impl Iterator<Item = &Sentence> {
        // A long-winded answer begins with filler and ends with filler.
        let (before, after) = self.fillers.split_at(self.fillers.len().div_ceil(2));
        let middle = before.iter().chain([&self.reply]).chain(&self.more).chain(after);
        self.opening.iter().chain(middle).chain(&self.closing)
    }
}

fn reply(question: &Question, rng: &mut ChaCha8Rng) -> Sentence {
    let Question { sort, subject, aspect, .. } = *question;
    let asked = &sort.aspects[aspect];
    match rng.random_range(0..100) {
        0..50 => Sentence { text: state(asked, subject, subject.values[aspect], rng), worth: RIGHT },
        50..80 => Sentence { text: state(asked, subject, wrong(question, aspect, rng), rng), worth: WRONG },
        80..90 => {
            let other = question.others()[rng.random_range(0..2)];
            let text = state(&sort.aspects[other], subject, subject.values[other], rng);
            Sentence { text, worth: BESIDE_THE_POINT }
        }
        _ => {
            let text = format!("I am not sure what to tell you about {}.", subject.name);
            Sentence { text, worth: EVADED }
        }
    }
}

fn more(question: &Question, rng: &mut ChaCha8Rng) -> Vec<Sentence> {
    let Question { sort, subject, .. } = *question;
    let mut facts = Vec::new();
    for other in question.others() {
        let (value, worth) = match rng.random_range(0..100) {
            0..30 => (subject.values[other], MORE),
            30..45 => (wrong(question, other, rng), MORE_FALSE),
            _ => continue,
        };
        facts.push(Sentence { text: state(&sort.aspects[other], subject, value, rng), worth });
    }
    facts
}

fn fillers(rng: &mut ChaCha8Rng) -> Vec<Sentence> {
    let count = [0, 0, 1, 1, 2, 3][rng.random_range(0..6)];
    (0..count).map(|_| filler(rng)).collect()
}

fn filler(rng: &mut ChaCha8Rng) -> Sentence {
    Sentence { text: FILLERS[rng.random_range(0..FILLERS.len())].to_owned(), worth: FILLER }
}

fn phrase(phrases: &[(&str, f64)], chance: f64, rng: &mut ChaCha8Rng) -> Option<Sentence> {
    let (text, worth) = *phrases.choose(rng)?;
    rng.random_bool(chance).then(|| Sentence { text: text.to_owned(), worth })
}

/// A value that belongs to another subject of the same sort.
fn wrong(question: &Question, aspect: usize, rng: &mut ChaCha8Rng) -> &'static str {
    let right = question.subject.values[aspect];
    let subjects = &question.sort.subjects;
    let place = subjects.iter().position(|subject| subject.values[aspect] == right).unwrap_or(0);
    let step = rng.random_range(1..subjects.len());
    subjects[(place + step) % subjects.len()].values[aspect]
}

fn state(aspect: &Aspect, subject: &Subject, value: &str, rng: &mut ChaCha8Rng) -> String {
    let statement = aspect.statements[rng.random_range(0..aspect.statements.len())];
    let text = statement.replace("{s}", subject.name).replace("{v}", value);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
