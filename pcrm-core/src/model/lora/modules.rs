//! The modules of a decoder: which can have adapters, which cannot, and which `modules_to_save` names.

use std::collections::BTreeSet;

use super::config::LoraConfig;
use super::language_module;
use super::naming::AdapterLayout;
use crate::error::{Error, Result};
use crate::model::parameters::{Head, Parameter, parameters};

/// The linear modules of a decoder.
pub(super) struct LinearModules {
    /// Modules that can have adapters: the name in PEFT and the parameter's name.
    pub adaptable: Vec<(String, String)>,
    /// Experts that cannot have adapters, by their names in PEFT.
    pub barred: Vec<String>,
}

impl LinearModules {
    /// Lists the modules of a decoder.
    pub fn of(layout: &AdapterLayout<'_>) -> Self {
        let (mut adaptable, mut barred) = (Vec::new(), Vec::new());
        let experts = layout.shape.family.experts.as_ref();
        for parameter in parameters(layout.shape, layout.heads) {
            let Some(module) = parameter.module() else { continue };
            if !parameter.linear && !experts.is_some_and(|experts| experts.is_gate(module)) {
                continue;
            }
            match experts.is_some_and(|experts| !experts.adapted && experts.has_expert(module)) {
                true => barred.push(layout.peft(module)),
                false => adaptable.push((layout.peft(module), module.to_owned())),
            }
        }
        if layout.heads.contains(&Head::Language) {
            adaptable.push((layout.head().to_owned(), language_module(layout.shape).to_owned()));
        }
        Self { adaptable, barred }
    }
}

/// Lists the matrices that are not linear modules by their names in PEFT, each with its kind.
pub(super) fn tables(layout: &AdapterLayout<'_>) -> Vec<(String, &'static str)> {
    let experts = layout.shape.family.experts.as_ref();
    let kind = |parameter: Parameter| {
        let module = parameter.module().filter(|_| !parameter.linear && parameter.shape.len() == 2)?;
        let name = layout.peft(module);
        match experts {
            Some(experts) if experts.is_gate(module) => None,
            Some(experts) if experts.is_router(module) => Some((name, "a router")),
            _ => Some((name, "an embedding")),
        }
    };
    parameters(layout.shape, &[]).into_iter().filter_map(kind).collect()
}

/// Returns the parameters of `modules_to_save`; for a reward model always including its head, as in PEFT.
///
/// # Errors
/// Fails if no module has a name.
pub(super) fn saved(config: &LoraConfig, layout: &AdapterLayout<'_>) -> Result<BTreeSet<String>> {
    let scalar = layout.heads.iter().filter(|head| matches!(head, Head::Score | Head::Value));
    let mut saved: BTreeSet<String> =
        scalar.filter_map(|head| head.parameter(layout.shape)).map(|parameter| parameter.name).collect();
    for module in config.modules_to_save.iter().flatten().map(String::as_str) {
        let mut found = false;
        for parameter in parameters(layout.shape, layout.heads) {
            if covers(module, &parameter.name, layout) {
                saved.insert(parameter.name);
                found = true;
            }
        }
        if layout.is_tied() && layout.head().ends_with(module) {
            saved.insert(layout.embedding());
            found = true;
        }
        // PEFT lists both for every classifier.
        if !found && !["classifier", "score"].contains(&module) {
            let message = format!("{module:?} is not a module of the model");
            return Err(Error::invalid("modules_to_save", message));
        }
    }
    Ok(saved)
}

/// Returns whether a module of `modules_to_save` is or contains that of a parameter.
pub(super) fn covers(module: &str, parameter: &str, layout: &AdapterLayout<'_>) -> bool {
    let name = layout.peft(parameter);
    name.rmatch_indices('.').any(|(dot, _)| name[..dot].ends_with(module))
}
