//! PEFT's names of modules and parameters, taken from the base's class in transformers.

use super::language_module;
use crate::model::config::ModelConfig;
use crate::model::parameters::Head;

/// The prefix of every tensor's name in an adapter's file.
pub(super) const PREFIX: &str = "base_model.model.";

/// The prefix of a decoder's parameters.
const ALONE: &str = "model.";

/// The prefix of the same parameters in a multimodal model.
const WITHIN: &str = "model.language_model.";

/// The base class whose module names an adapter uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::model) enum Naming {
    /// The class of the decoder's family.
    Alone,
    /// The class of the multimodal model that the decoder is the text part of.
    Within,
}

/// A decoder with the names that PEFT has for its modules.
#[derive(Debug, Clone, Copy)]
pub(super) struct AdapterLayout<'a> {
    pub shape: &'a ModelConfig,
    pub heads: &'a [Head],
    pub naming: Naming,
}

impl<'a> AdapterLayout<'a> {
    /// Returns the layout for new adapters: PEFT loads a multimodal base as a whole.
    pub fn new(shape: &'a ModelConfig, heads: &'a [Head]) -> Self {
        let naming = if shape.text_of.is_some() { Naming::Within } else { Naming::Alone };
        Self { shape, heads, naming }
    }

    /// Returns the layout for an adapter with these tensors, which may be of a multimodal base or of its text part.
    pub fn of_tensors<'n>(
        shape: &'a ModelConfig,
        heads: &'a [Head],
        mut names: impl Iterator<Item = &'n str>,
    ) -> Self {
        let within = names.any(|name| name.strip_prefix(PREFIX).unwrap_or(name).starts_with(WITHIN));
        match within {
            true => Self::new(shape, heads),
            false => Self { shape, heads, naming: Naming::Alone },
        }
    }

    /// Returns PEFT's name of the language-model head's module.
    pub fn head(&self) -> &'static str {
        match language_module(self.shape) {
            // transformers renamed the head of gpt_neox, but not its tensor in files.
            "embed_out" => "lm_head",
            own => own,
        }
    }

    /// Returns PEFT's name of a parameter or module.
    pub fn peft(&self, own: &str) -> String {
        let of_head = own.strip_prefix(language_module(self.shape));
        if let Some(rest) = of_head.filter(|rest| rest.is_empty() || rest.starts_with('.')) {
            return format!("{}{rest}", self.head());
        }
        match own.strip_prefix(ALONE).filter(|_| self.naming == Naming::Within) {
            Some(rest) => format!("{WITHIN}{rest}"),
            None => own.to_owned(),
        }
    }

    /// Returns the parameter of a tensor in an adapter's file, and whether it is a weight under an adapter, which
    /// belongs to the base.
    pub fn own(&self, stored: &str) -> (String, bool) {
        let name = stored.strip_prefix(PREFIX).unwrap_or(stored);
        let name = name.replace(".modules_to_save.default.", ".").replace(".modules_to_save.", ".");
        let beneath = name.contains(".base_layer.");
        let name = name.replace(".base_layer.", ".");
        if let Some(rest) = name.strip_prefix(self.head()).filter(|rest| rest.starts_with('.')) {
            return (format!("{}{rest}", language_module(self.shape)), beneath);
        }
        match name.strip_prefix(WITHIN).filter(|_| self.naming == Naming::Within) {
            Some(rest) => (format!("{ALONE}{rest}"), beneath),
            None => (name, beneath),
        }
    }

    /// Returns the name of the embedding's parameter.
    pub fn embedding(&self) -> String {
        format!("{}.weight", self.shape.family.embedding)
    }

    /// Returns whether the embedding is the language-model head too.
    pub fn is_tied(&self) -> bool {
        self.shape.tied && self.heads.contains(&Head::Language)
    }
}
