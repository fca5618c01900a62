//! Adoption of a checkpoint's tensors as the parameters of a model: names, prefixes, shapes, and the head.

mod head;
mod naming;

use std::collections::BTreeSet;

use self::naming::naming;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::model::bitsandbytes::Quantised;
use crate::model::checkpoint::Checkpoint;
use crate::model::config::ModelConfig;
use crate::model::notes;
use crate::model::parameters::{Parameter, SCORE};
use crate::model::published;
use crate::quant::{HostMatrix, Quantisation};

/// Substrings of tensor names that only an unmerged adapter has.
const UNMERGED: [&str; 6] = [
    ".lora_A.",
    ".lora_B.",
    ".lora_embedding_A",
    ".lora_magnitude_vector",
    ".base_layer.",
    ".modules_to_save.",
];

/// The minimum similarity of a name that is suggested for a missing one.
const NEAR: f64 = 0.6;

/// The maximum number of tensors that a message lists.
const LISTED: usize = 5;

/// The values of a parameter in a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub enum Stored {
    /// Floats.
    Floats(HostTensor),
    /// A matrix that bitsandbytes quantised.
    Quantised(HostMatrix),
}

/// The tensors of a checkpoint, accessible by the names of a family's parameters.
pub struct Adoption<'a> {
    config: &'a ModelConfig,
    checkpoint: &'a Checkpoint,
    /// The wrapper prefix of every name.
    lead: String,
    /// True if names lack the family's own prefix.
    bare: bool,
    used: BTreeSet<String>,
    /// The possible names of the score head, see [`published::score_names`].
    scores: Vec<String>,
}

impl<'a> Adoption<'a> {
    /// Determines how the names of a checkpoint differ from those of the family: not at all, by a missing
    /// family prefix (`model.`, `transformer.`), or by an additional wrapper prefix (`module.`, `_orig_mod.`,
    /// `base_model.model.` and others), which is logged.
    ///
    /// # Errors
    /// Fails on an unmerged adapter, and on prefixes that are unknown or differ between tensors.
    pub fn new(config: &'a ModelConfig, checkpoint: &'a Checkpoint) -> Result<Self> {
        let unmerged = |name: &&str| UNMERGED.iter().any(|part| name.contains(part));
        if let Some(name) = checkpoint.names().find(unmerged) {
            let message = format!(
                "the weights hold a PEFT adapter that is not merged ({name}); expected merged weights: in \
                 Python, model.merge_and_unload().save_pretrained(..)"
            );
            return Err(Error::file(checkpoint.dir(), message));
        }
        let (lead, bare) = naming(config, checkpoint)?;
        if let Some(whole) = config.text_of {
            notes::say(&format!("{whole} is a multimodal model; only its text part is read"));
        } else if !lead.is_empty() {
            notes::say(&format!("ignoring the prefix {lead:?} of all tensor names"));
        }
        let scores = published::score_names(config);
        let adoption = Self { config, checkpoint, lead, bare, used: BTreeSet::new(), scores };
        if let Some(head) =
            adoption.head_elsewhere().filter(|_| !checkpoint.contains(&adoption.stored_as(SCORE)))
        {
            notes::say(&format!("using {head} as the score head, according to config.json"));
        }
        Ok(adoption)
    }

    /// Checks that the tensors of these parameters are usable, before any is read.
    ///
    /// # Errors
    /// Fails if parameters are missing (the error suggests similar names), have another shape, or are not
    /// floats.
    pub fn check(&self, list: &[Parameter]) -> Result<()> {
        let missing: Vec<&Parameter> = list
            .iter()
            .filter(|parameter| !self.checkpoint.contains(&self.stored(&parameter.name)))
            .collect();
        if let [first, ..] = missing.as_slice() {
            return Err(self.error(self.missing(first, missing.len(), list)));
        }
        for parameter in list {
            let stored = self.stored(&parameter.name);
            if Quantised::find(self.checkpoint, &stored).is_some() {
                continue; // its tensors are checked when they are read
            }
            let mut expected = parameter.shape.clone();
            if parameter.transposed {
                expected.reverse();
            }
            self.checkpoint.require_floats(&stored)?;
            let shape = self.checkpoint.shape(&stored).unwrap_or_default();
            if shape != expected {
                let labels = if parameter.name == SCORE { ": a reward model has one label" } else { "" };
                return Err(
                    self.error(format!("{stored} has shape {shape:?}, expected {expected:?}{labels}"))
                );
            }
        }
        Ok(())
    }

    /// Passes the tensors of these parameters to `give`, in the model's layout, one at a time. All are
    /// checked before the first is read.
    ///
    /// # Errors
    /// Fails as [`Adoption::check`] does, and with the errors of `give`.
    pub fn take(
        &mut self,
        list: &[Parameter],
        mut give: impl FnMut(&Parameter, Stored) -> Result<()>,
    ) -> Result<()> {
        self.check(list)?;
        for parameter in list {
            let stored = self.stored(&parameter.name);
            if let Some(quantised) = Quantised::find(self.checkpoint, &stored) {
                give(parameter, Stored::Quantised(quantised.read(&parameter.shape)?))?;
                self.used.extend(quantised.names());
                continue;
            }
            give(parameter, Stored::Floats(parameter.turned(self.checkpoint.read(&stored)?)?))?;
            self.used.insert(stored);
        }
        Ok(())
    }

    /// Counts the tensors of these parameters as used without reading them.
    pub fn pass_over(&mut self, list: &[Parameter]) {
        for parameter in list {
            let stored = self.stored(&parameter.name);
            match Quantised::find(self.checkpoint, &stored) {
                Some(quantised) => self.used.extend(quantised.names()),
                None => drop(self.used.insert(stored)),
            }
        }
    }

    /// Returns bitsandbytes' quantisation of some of these parameters; `None` if none is quantised.
    pub fn quantisation(&self, list: &[Parameter]) -> Option<Quantisation> {
        let method = |parameter: &Parameter| {
            Some(Quantised::find(self.checkpoint, &self.stored(&parameter.name))?.method())
        };
        list.iter().find_map(method)
    }

    /// Returns whether the checkpoint has a parameter under its own name.
    pub fn has(&self, name: &str) -> bool {
        self.checkpoint.contains(&self.stored(name))
    }

    /// Returns whether the checkpoint stores a language-model head whose values differ from the embedding.
    /// `transformers` then leaves the two untied, whatever the config says.
    pub(super) fn has_own_language_head(&self) -> Result<bool> {
        let family = self.config.family;
        let (head, embedding) =
            (self.stored(family.language_head), self.stored(&format!("{}.weight", family.embedding)));
        if !self.checkpoint.contains(&head) || !self.checkpoint.contains(&embedding) {
            return Ok(false);
        }
        Ok(self.checkpoint.read(&head)? != self.checkpoint.read(&embedding)?)
    }

    /// Logs unknown config keys and unused tensors.
    pub fn finish(self) {
        notes::unknown_keys(&self.config.unknown_keys, self.config.family.model_type);
        const BUFFERS: [&str; 5] = ["inv_freq", "attn.bias", "attention.bias", "masked_bias", "position_ids"];
        let heads = [self.stored(self.config.family.language_head), self.stored(SCORE)];
        let unused = |name: &&str| {
            !self.used.contains(*name)
                && !heads.iter().any(|head| head == name)
                && !BUFFERS.iter().any(|buffer| name.ends_with(buffer))
        };
        let unused: Vec<&str> = self.checkpoint.names().filter(unused).collect();
        if !unused.is_empty() {
            notes::say(&format!("ignoring {} tensors of the checkpoint: {}", unused.len(), some(&unused)));
        }
    }

    /// Returns the checkpoint's name of a parameter.
    fn stored(&self, name: &str) -> String {
        let stored = self.stored_as(name);
        match name == SCORE && !self.checkpoint.contains(&stored) {
            true => self.head_elsewhere().unwrap_or(stored),
            false => stored,
        }
    }

    /// Returns the name by the prefix rules alone.
    fn stored_as(&self, name: &str) -> String {
        let short = name.strip_prefix(self.config.family.prefix).unwrap_or(name);
        let (own, other) = if self.bare { (short, name) } else { (name, short) };
        let mut stored = format!("{}{own}", self.lead);
        if !self.checkpoint.contains(&stored) && self.checkpoint.contains(&format!("{}{other}", self.lead)) {
            stored = format!("{}{other}", self.lead);
        }
        // transformers removes a duplicate of its own prefix, and leaves a head without it alone.
        let bare_head = name == SCORE && self.lead == self.config.family.prefix;
        // Heads of multimodal models may be outside their text part.
        let outside = self.config.text_of.is_some() && self.checkpoint.contains(name);
        match (bare_head || outside) && !self.checkpoint.contains(&stored) {
            true => name.to_owned(),
            false => stored,
        }
    }

    fn missing(&self, first: &Parameter, missing: usize, list: &[Parameter]) -> String {
        let name = self.stored(&first.name);
        let mut message = format!("{name} is missing ({missing} of {} parameters are)", list.len());
        let is_language_head = first.name == self.config.family.language_head;
        if is_language_head && missing == 1 && self.reward_sign().is_some() {
            return message + "; " + head::REWARD;
        }
        if let Some(shard) = self.checkpoint.astray(&name) {
            return message + &format!("; the index places it in {shard}, which does not hold it");
        }
        if let Some(why) = self.checkpoint.quantised() {
            return message + &format!("; {why}");
        }
        let wanted: BTreeSet<String> = list.iter().map(|parameter| self.stored(&parameter.name)).collect();
        let free = self.checkpoint.names().filter(|other| !wanted.contains(*other));
        let near = free.map(|other| (strsim::normalized_levenshtein(&name, other), other));
        let nearest = near.filter(|(near, _)| *near >= NEAR).max_by(|left, right| left.0.total_cmp(&right.0));
        match nearest {
            Some((_, nearest)) => message += &format!("; the most similar name is {nearest}"),
            None => message += "; no other tensor has a similar name",
        }
        message
    }

    fn error(&self, message: String) -> Error {
        Error::file(self.checkpoint.dir(), message)
    }
}

/// Formats the first of many names.
fn some(names: &[&str]) -> String {
    match names.len() > LISTED {
        true => format!("{} and {} more", names[..LISTED].join(", "), names.len() - LISTED),
        false => names.join(", "),
    }
}
