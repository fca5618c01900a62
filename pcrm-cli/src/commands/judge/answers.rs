//! The answers of policies, and the prompts that all of them answered.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use pcrm_core::data::conversation::Content;
use pcrm_core::data::preference::{ReadOptions, Strictness};
use pcrm_core::data::prompt_id::PromptId;
use pcrm_core::data::prompts::{Prompt, load_prompts};
use serde_json::Value;

use crate::training::folder;

/// The columns that may hold an answer, in order of preference.
const COLUMNS: [&str; 5] = ["completion", "output", "response", "answer", "generation"];

/// A policy with its answers.
pub struct Policy {
    /// The name of the policy.
    pub label: String,
    /// The file with its answers.
    pub file: PathBuf,
    /// The prompts with their answers, in file order.
    pub rows: Vec<(Prompt, String)>,
}

/// Two answers to a prompt.
#[derive(Debug, Clone, Copy)]
pub struct Pairing {
    /// The index of the prompt in [`Field::prompts`].
    pub prompt: usize,
    /// The index of the first policy.
    pub a: usize,
    /// The index of the second policy.
    pub b: usize,
    /// The row of the first policy's answer.
    pub row_a: usize,
    /// The row of the second policy's answer.
    pub row_b: usize,
}

/// All answers and pairings to judge.
pub struct Field {
    /// The prompts that all policies answered.
    pub prompts: Vec<Prompt>,
    /// The answers of each policy, row by row.
    pub answers: Vec<Vec<String>>,
    /// All pairs of policies on all prompts.
    pub pairings: Vec<Pairing>,
    /// The number of answers of each policy that are not compared.
    pub left_out: Vec<usize>,
}

/// A policy as an option names it.
pub struct Named {
    /// The option.
    pub option: &'static str,
    /// The policy's name: the label before the path, or the path's own name.
    pub label: String,
    /// The file with its answers, or the folder of its model.
    pub path: PathBuf,
}

impl Named {
    /// Parses the value of `--answers`: `[LABEL=]FILE`.
    pub fn file(text: &str) -> Self {
        let stem = |name: String| name.split('.').next().unwrap_or(&name).to_owned();
        Self::of("--answers", text, stem)
    }

    /// Parses the value of `--model`: `[LABEL=]DIR`.
    pub fn model(text: &str) -> Self {
        Self::of("--model", text, |name| name)
    }

    fn of(option: &'static str, text: &str, name: impl Fn(String) -> String) -> Self {
        match text.split_once('=') {
            Some((label, path)) if !label.is_empty() && !label.contains(['/', '\\']) => {
                Self { option, label: label.to_owned(), path: path.into() }
            }
            _ => Self { option, label: name(folder::name_of(Path::new(text))), path: text.into() },
        }
    }
}

impl Policy {
    /// Reads the answers in a file.
    ///
    /// # Errors
    /// Fails, with the line, if the file cannot be read or a record lacks a prompt or an answer.
    pub fn read(label: String, path: &Path) -> Result<Self> {
        let options: ReadOptions = Strictness::Refuse.into();
        let (prompts, _) = load_prompts(&[path.to_path_buf()], options)?;
        let mut rows = Vec::new();
        for mut prompt in prompts {
            let Some(column) = COLUMNS.iter().find(|column| prompt.columns.contains_key(**column)) else {
                bail!("{}: no answer; expected one of the columns {}", prompt.origin, COLUMNS.join(", "));
            };
            let value = prompt.columns.shift_remove(*column).unwrap_or_default();
            let Some(answer) = text(&value) else {
                bail!(
                    "{}: {column} is {value}; expected text, or messages ending with the assistant's",
                    prompt.origin
                );
            };
            rows.push((prompt, answer));
        }
        Ok(Self { label, file: path.to_path_buf(), rows })
    }

    /// Returns the mean length of its answers, in characters.
    pub fn mean_length(&self) -> f64 {
        let all: usize = self.rows.iter().map(|(_, answer)| answer.chars().count()).sum();
        all as f64 / self.rows.len().max(1) as f64
    }
}

/// Returns an answer as text: the text itself, or the content of the last message.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(turns) => {
            let last = turns.last()?;
            let is_answer = last["role"].as_str().is_none_or(|role| role == "assistant");
            last["content"].as_str().filter(|_| is_answer).map(str::to_owned)
        }
        _ => None,
    }
}

/// Refuses labels that two policies share.
///
/// # Errors
/// Fails with the shared label.
pub fn check_labels(policies: &[Named]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for Named { option, label, path } in policies {
        let path = path.display();
        ensure!(
            seen.insert(label),
            "two policies are named {label:?}; label them: {option} one={path} other=.."
        );
    }
    Ok(())
}

/// Pairs the answers of all policies, prompt by prompt: the n-th answer of one policy with the n-th answer of
/// the other.
///
/// # Errors
/// Fails if no prompt is answered by all policies.
pub fn matched(policies: &[Policy], limit: Option<usize>) -> Result<Field> {
    let rows: Vec<HashMap<PromptId, Vec<usize>>> = policies
        .iter()
        .map(|policy| {
            let mut rows: HashMap<PromptId, Vec<usize>> = HashMap::new();
            for (at, (prompt, _)) in policy.rows.iter().enumerate() {
                rows.entry(id(prompt)).or_default().push(at);
            }
            rows
        })
        .collect();
    let of = |policy: &Policy| policy.rows.iter().map(|(_, answer)| answer.clone()).collect();
    let mut field = Field {
        prompts: Vec::new(),
        answers: policies.iter().map(of).collect(),
        pairings: Vec::new(),
        left_out: vec![0; policies.len()],
    };
    let mut seen = BTreeSet::new();
    for (prompt, _) in policies.first().map(|policy| policy.rows.as_slice()).unwrap_or_default() {
        let id = id(prompt);
        let answers: Vec<&[usize]> =
            rows.iter().filter_map(|rows| rows.get(&id).map(Vec::as_slice)).collect();
        if !seen.insert(id) || answers.len() < policies.len() {
            continue;
        }
        if limit.is_some_and(|limit| field.prompts.len() >= limit) {
            break;
        }
        let number = field.prompts.len();
        field.prompts.push(prompt.clone());
        let samples = answers.iter().map(|rows| rows.len()).min().unwrap_or(0);
        for sample in 0..samples {
            let rows: Vec<usize> = answers.iter().map(|rows| rows[sample]).collect();
            for a in 0..policies.len() {
                for b in a + 1..policies.len() {
                    let (row_a, row_b) = (rows[a], rows[b]);
                    field.pairings.push(Pairing { prompt: number, a, b, row_a, row_b });
                }
            }
        }
    }
    if field.prompts.is_empty() {
        let files: Vec<String> = policies.iter().map(|policy| policy.file.display().to_string()).collect();
        bail!("no prompt is answered in all of {}", files.join(", "));
    }
    let used = |policy: usize| -> BTreeSet<usize> {
        let rows = field.pairings.iter().filter_map(|one| match policy {
            _ if one.a == policy => Some(one.row_a),
            _ if one.b == policy => Some(one.row_b),
            _ => None,
        });
        rows.collect()
    };
    field.left_out =
        policies.iter().enumerate().map(|(at, policy)| policy.rows.len() - used(at).len()).collect();
    Ok(field)
}

/// Returns the identity of a prompt.
fn id(prompt: &Prompt) -> PromptId {
    PromptId::of_answer(Some(&prompt.prompt), &Content::Text(String::new()))
}

impl Field {
    /// Returns the answer in a row of a policy.
    pub fn answer(&self, policy: usize, row: usize) -> &str {
        &self.answers[policy][row]
    }

    /// Returns lines about what is compared and what is left out.
    pub fn remarks(&self, policies: &[Policy]) -> Vec<String> {
        let mut remarks =
            vec![format!("{} pairs of answers to {} prompts", self.pairings.len(), self.prompts.len())];
        for (policy, left_out) in policies.iter().zip(&self.left_out).filter(|(_, count)| **count > 0) {
            remarks.push(format!(
                "{left_out} of {} answers of {} are not compared: missing from other policies, or beyond \
                 --limit",
                policy.rows.len(),
                policy.label
            ));
        }
        remarks
    }
}
