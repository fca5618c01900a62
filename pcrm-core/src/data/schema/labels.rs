//! Two answers in separate columns, and a label that names the better one.

use std::cmp::Ordering;

use serde_json::{Map, Value};

/// Column names of two answers in published data sets.
const ANSWERS: [(&str, &str); 10] = [
    ("output_1", "output_2"),
    ("response_A", "response_B"),
    ("response_a", "response_b"),
    ("response_0", "response_1"),
    ("response_1", "response_2"),
    ("response1", "response2"),
    ("answer_a", "answer_b"),
    ("answer_0", "answer_1"),
    ("completion_a", "completion_b"),
    ("conversation_a", "conversation_b"),
];

/// Column names of labels.
const LABELS: [&str; 6] = ["label", "winner", "preference", "better_response_id", SIGNED[0], SIGNED[1]];

/// Columns of numbers whose sign is the label: negative if the first answer is better (HelpSteer 2 and 3).
const SIGNED: [&str; 2] = ["overall_preference", "preference_strength"];

/// The columns of a record that hold its answers and its label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::data) struct LabelKeys {
    pub answers: (&'static str, &'static str),
    pub label: &'static str,
}

impl LabelKeys {
    /// Returns the columns of a record, or `None` if it has no two answers with a label.
    pub(in crate::data) fn of(record: &Map<String, Value>) -> Option<Self> {
        let has = |key: &str| record.get(key).is_some_and(|value| !value.is_null());
        let answers = ANSWERS.into_iter().find(|(first, second)| has(first) && has(second))?;
        let label = LABELS.into_iter().find(|label| record.contains_key(*label))?;
        Some(Self { answers, label })
    }

    /// Explains why a numeric label names neither answer: no answer column ends with that number. If a file
    /// labels `output_1` and `output_2` with 0 and 1, its label 1 means the second answer but names the
    /// first.
    pub(in crate::data) fn misfit(self, record: &Map<String, Value>) -> Option<String> {
        let label = record.get(self.label)?;
        let number = label.as_f64().or_else(|| label.as_str()?.trim().parse().ok())?;
        let (first, second) = self.answers;
        let ends = [end_of(first), end_of(second)].map(|end| end.parse::<f64>().ok());
        let fits = ends.contains(&Some(number)) || SIGNED.contains(&self.label);
        let index = [0.0, 1.0, 2.0].contains(&number);
        (index && !fits).then(|| {
            format!(
                "{:?} is {label}, which is neither {first:?} nor {second:?}: the labels of this file do \
                 not fit its columns, and those that seem to fit may mean the other answer; expected {:?} or \
                 {:?}",
                self.label,
                end_of(first),
                end_of(second)
            )
        })
    }

    /// Returns the label's verdict: `Greater` if the first answer is better, `Equal` for a tie.
    ///
    /// # Errors
    /// Fails if the label is of an unknown kind; the message lists the expected labels.
    pub(in crate::data) fn verdict(self, record: &Map<String, Value>) -> Result<Ordering, String> {
        let value = record.get(self.label).unwrap_or(&Value::Null);
        let unknown = || {
            let (first, second) = self.answers;
            format!(
                "{:?} is {value}; expected the better of {first:?} and {second:?}: {:?} or {:?}, \"A>B\", \
                 \"model_a\" or \"tie\"",
                self.label,
                end_of(first),
                end_of(second)
            )
        };
        if SIGNED.contains(&self.label) {
            return value.as_f64().and_then(|sign| 0.0.partial_cmp(&sign)).ok_or_else(unknown);
        }
        let said = match value {
            Value::String(said) => said.trim().to_lowercase(),
            Value::Number(number) if number.as_f64().is_some_and(|number| number.fract() == 0.0) => {
                number.as_f64().unwrap_or_default().to_string()
            }
            _ => return Err(unknown()),
        };
        let (first, second) = (self.answers.0.to_lowercase(), self.answers.1.to_lowercase());
        let names = |key: &str| said == key || said == end_of(key);
        match said.as_str() {
            _ if names(&first) => Ok(Ordering::Greater),
            _ if names(&second) => Ok(Ordering::Less),
            "a>b" | "a>>b" | "model_a" | "a" => Ok(Ordering::Greater),
            "b>a" | "b>>a" | "a<b" | "a<<b" | "model_b" | "b" => Ok(Ordering::Less),
            "a=b" | "b=a" | "tie" | "tie (bothbad)" | "both_bad" => Ok(Ordering::Equal),
            _ => Err(unknown()),
        }
    }
}

/// Returns the part of a column name that differs from its twin's: the last letter or digit.
fn end_of(key: &str) -> &str {
    key.char_indices().next_back().map_or(key, |(at, _)| &key[at..])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn verdict(record: Value) -> Result<Ordering, String> {
        let Value::Object(record) = record else { panic!("no object") };
        LabelKeys::of(&record).expect("columns of two answers").verdict(&record)
    }

    /// The labels of LLMBar, JudgeBench, Chatbot Arena, PKU-SafeRLHF and HelpSteer 3.
    #[test]
    fn published_labels_are_understood() {
        use Ordering::{Equal, Greater, Less};
        for (record, expected) in [
            (json!({"output_1": "x", "output_2": "y", "label": 1}), Greater),
            (json!({"output_1": "x", "output_2": "y", "label": "2"}), Less),
            (json!({"response_A": "x", "response_B": "y", "label": "A>B"}), Greater),
            (json!({"response_A": "x", "response_B": "y", "label": "B>A"}), Less),
            (json!({"conversation_a": [], "conversation_b": [], "winner": "model_b"}), Less),
            (json!({"conversation_a": [], "conversation_b": [], "winner": "tie (bothbad)"}), Equal),
            (json!({"response_0": "x", "response_1": "y", "better_response_id": 0}), Greater),
            (json!({"response_0": "x", "response_1": "y", "better_response_id": 1.0}), Less),
            (json!({"response1": "x", "response2": "y", "overall_preference": -2}), Greater),
            (json!({"response1": "x", "response2": "y", "overall_preference": 0}), Equal),
        ] {
            assert_eq!(verdict(record.clone()), Ok(expected), "{record}");
        }
    }

    /// Protects: an unknown label is refused, and the message lists the expected labels.
    #[test]
    fn other_labels_are_reported() {
        let said = verdict(json!({"output_1": "x", "output_2": "y", "label": 0})).unwrap_err();
        assert!(
            said.starts_with("\"label\" is 0; expected the better of \"output_1\" and \"output_2\""),
            "{said}"
        );
        assert!(verdict(json!({"output_1": "x", "output_2": "y", "label": true})).is_err());
        assert!(verdict(json!({"output_1": "x", "output_2": "y", "label": 1.5})).is_err());
    }
}
