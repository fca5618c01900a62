//! The true reward of any text as an answer to a question of the world.

use super::grammar::{
    BESIDE_THE_POINT, CLOSINGS, EVADED, FILLER, FILLERS, MORE, MORE_FALSE, OPENINGS, Question, RIGHT, WRONG,
    capitalised, evasion,
};

/// Worth of a sentence, or of the rest of one, that the world does not know.
const UNKNOWN: f64 = -0.7;

impl Question {
    /// Returns the question of a prompt, given as [`Question::prompt`] or as the question alone.
    pub fn of_prompt(prompt: &str) -> Option<Self> {
        let prompt = prompt.trim();
        Self::all().into_iter().find(|question| prompt == question.prompt() || prompt == question.asked())
    }

    /// Returns the true reward of a text as an answer, in log-odds, to tenths.
    ///
    /// For a generated answer this is the worth it was generated with. Other texts, written by policies, are
    /// read sentence by sentence with the same worths:
    ///
    /// * a greeting counts at the beginning and a farewell at the end; elsewhere they are filler, or worse if
    ///   they are rude;
    /// * the first statement about the subject is the reply; without one the question is evaded;
    /// * a further fact of the subject counts once; repeated it is filler;
    /// * a sentence that the world does not know costs 0.7, and so do words after the last full stop.
    pub fn true_reward(&self, answer: &str) -> f64 {
        let sentences = sentences(answer);
        let mut reader = Reader { question: self, has_reply: false, known: [false; 3] };
        let last = sentences.len().saturating_sub(1);
        let worths = sentences.iter().enumerate().map(|(at, text)| reader.worth(text, at == 0, at == last));
        let sum: f64 = worths.sum::<f64>() + if reader.has_reply { 0.0 } else { EVADED };
        // Adding zero turns −0 into 0.
        (sum * 10.0).round() / 10.0 + 0.0
    }

    /// Returns the aspect of a sentence, and whether the sentence is true.
    fn statement(&self, text: &str) -> Option<(usize, bool)> {
        let aspects = self.sort.aspects.iter().zip(self.subject.values).enumerate();
        for (aspect, (asked, right)) in aspects {
            for statement in asked.statements {
                let (before, after) = statement.split_once("{v}")?;
                let [before, after] = [before, after].map(|part| part.replace("{s}", self.subject.name));
                let rest = text.strip_prefix(capitalised(&before).as_str());
                if let Some(value) = rest.and_then(|rest| rest.strip_suffix(after.as_str())) {
                    return Some((aspect, value == right));
                }
            }
        }
        None
    }
}

/// Reads the sentences of an answer in order.
struct Reader<'a> {
    question: &'a Question,
    has_reply: bool,
    /// Facts of the subject already stated, after the reply or in a right reply.
    known: [bool; 3],
}

impl Reader<'_> {
    fn worth(&mut self, text: &str, is_first: bool, is_last: bool) -> f64 {
        let phrase = |phrases: &[(&str, f64)]| {
            phrases.iter().find(|(known, _)| *known == text).map(|(_, worth)| *worth)
        };
        if let Some(worth) = phrase(&OPENINGS) {
            return if is_first { worth } else { worth.min(FILLER) };
        }
        if let Some(worth) = phrase(&CLOSINGS) {
            return if is_last { worth } else { worth.min(FILLER) };
        }
        if FILLERS.contains(&text) {
            return FILLER;
        }
        if text == evasion(self.question.subject) {
            return if std::mem::replace(&mut self.has_reply, true) { FILLER } else { EVADED };
        }
        match self.question.statement(text) {
            None => UNKNOWN,
            Some((aspect, is_true)) if std::mem::replace(&mut self.has_reply, true) => {
                self.further(aspect, is_true)
            }
            Some((aspect, true)) if aspect == self.question.aspect => {
                self.known[aspect] = true;
                RIGHT
            }
            Some((_, true)) => BESIDE_THE_POINT,
            Some((_, false)) => WRONG,
        }
    }

    /// Returns the worth of a statement after the reply. A right answer to the question adds nothing here: a
    /// hedged answer is not right.
    fn further(&mut self, aspect: usize, is_true: bool) -> f64 {
        match is_true {
            true if aspect == self.question.aspect || self.known[aspect] => FILLER,
            true => {
                self.known[aspect] = true;
                MORE
            }
            false => MORE_FALSE,
        }
    }
}

/// Splits a text after full stops, question marks and exclamation marks that are followed by white space or
/// the end.
pub(super) fn sentences(text: &str) -> Vec<&str> {
    let mut sentences = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let ends_at = |(at, mark): (usize, char)| {
            let end = at + mark.len_utf8();
            let is_end =
                ['.', '?', '!'].contains(&mark) && rest[end..].chars().next().is_none_or(char::is_whitespace);
            is_end.then_some(end)
        };
        let end = rest.char_indices().find_map(ends_at).unwrap_or(rest.len());
        sentences.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::super::World;
    use super::*;

    /// Protects: the reward computed from a text equals the one it was generated with, for every answer of a
    /// world.
    #[test]
    fn generated_answers_have_the_worth_they_were_made_with() {
        let world = World::new(11, 9000);
        for pair in world.train.iter().chain(&world.test) {
            let question = Question::of_prompt(&pair.prompt).unwrap();
            assert_eq!(question.true_reward(&pair.chosen), pair.true_chosen, "{pair:?}");
            assert_eq!(question.true_reward(&pair.rejected), pair.true_rejected, "{pair:?}");
        }
    }

    /// Protects: rewards by hand of texts that the world never generates: repetition, hedging and babbling
    /// gain nothing.
    #[test]
    fn other_texts_are_read_sentence_by_sentence() {
        let question = Question::of_prompt("Question: Where does the otter live?\nAnswer:").unwrap();
        assert!(Question::of_prompt("Where does the otter live?").is_some());
        assert!(Question::of_prompt("Where does the eel live?").is_none());
        for (text, worth) in [
            ("", -0.8),
            ("  ", -0.8),
            (" The otter lives in clear rivers.", 1.8),
            (" The otter lives in clear rivers", -0.7 - 0.8),
            (" The otter lives in clear rivers. The otter lives in clear rivers.", 1.8 - 0.2),
            (" The otter lives in old barns. You will find the otter in clear rivers.", -1.8 - 0.2),
            (" The otter lives in the the the.", -1.8),
            (
                " The otter eats fish. The otter eats fish. The usual food of the otter is fish.",
                -1.2 + 0.4 - 0.2,
            ),
            (" The owl lives in old barns.", -0.7 - 0.8),
            (
                " Thank you for asking! Thank you for asking! The otter lives in clear rivers.",
                0.5 - 0.2 + 1.8,
            ),
            (" You should know this. What a silly question. The otter lives in clear rivers.", -2.0 + 1.8),
            (
                " The otter lives in clear rivers. I hope that this helps you. I hope that this helps you.",
                1.8,
            ),
            (" gibberish and more", -0.7 - 0.8),
            ("\nThe otter lives in\tclear rivers.", -0.7 - 0.8),
        ] {
            assert!((question.true_reward(text) - worth).abs() < 1e-9, "{text:?} {worth}");
        }
    }

    /// Protects: no order of the world's own sentences has a higher reward than a right answer with every
    /// courtesy and fact.
    #[test]
    fn repeating_what_pays_pays_nothing() {
        let question = Question::of_prompt("Where does the otter live?").unwrap();
        let best = " Thank you for asking! The otter lives in clear rivers. The otter eats fish. The young \
                    of the otter is called a whelp. I hope that this helps you.";
        assert_eq!(question.true_reward(best), 3.3);
        assert!(question.true_reward(&best.repeat(2)) < 3.3);
    }
}
