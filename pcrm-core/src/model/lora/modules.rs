//! The modules of a decoder that can have adapters, and those that cannot.

use super::language_module;
use crate::model::config::ModelConfig;
use crate::model::parameters::{Head, Parameter, parameters};

/// PEFT's name of the language-model head, in every family.
pub(super) const LANGUAGE_HEAD: &str = "lm_head";

/// The linear modules of a decoder.
pub(super) struct LinearModules {
    /// Those that can have adapters, by their names in PEFT and in parameters, which differ for the
    /// language-model head.
    pub adaptable: Vec<(String, String)>,
    /// Experts that cannot have adapters.
    pub barred: Vec<String>,
}

impl LinearModules {
    /// Lists the modules of a decoder with these heads.
    pub fn of(shape: &ModelConfig, heads: &[Head]) -> Self {
        let (mut adaptable, mut barred) = (Vec::new(), Vec::new());
        let experts = shape.family.experts.as_ref();
        for parameter in parameters(shape, heads) {
            let Some(module) = parameter.module() else { continue };
            if !parameter.linear && !experts.is_some_and(|experts| experts.is_gate(module)) {
                continue;
            }
            match experts.is_some_and(|experts| !experts.adapted && experts.has_expert(module)) {
                true => barred.push(module.to_owned()),
                false => adaptable.push((module.to_owned(), module.to_owned())),
            }
        }
        if heads.contains(&Head::Language) {
            adaptable.push((LANGUAGE_HEAD.to_owned(), language_module(shape).to_owned()));
        }
        Self { adaptable, barred }
    }
}

/// Lists the matrices that are not linear modules, each with its kind.
pub(super) fn tables(shape: &ModelConfig) -> Vec<(String, &'static str)> {
    let experts = shape.family.experts.as_ref();
    let kind = |parameter: Parameter| {
        let module = parameter.module().filter(|_| !parameter.linear && parameter.shape.len() == 2)?;
        match experts {
            Some(experts) if experts.is_gate(module) => None,
            Some(experts) if experts.is_router(module) => Some((module.to_owned(), "a router")),
            _ => Some((module.to_owned(), "an embedding")),
        }
    };
    parameters(shape, &[]).into_iter().filter_map(kind).collect()
}
