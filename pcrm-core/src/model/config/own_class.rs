//! Reward-model classes that `transformers` lacks: a saved folder includes its own, in Python.

use crate::model::family::Family;

/// The file of the class, beside the weights.
pub const CLASS_FILE: &str = "modeling_reward.py";

/// The key of `auto_map` where `AutoModelForSequenceClassification` finds the class.
pub(super) const AUTO_CLASS: &str = "AutoModelForSequenceClassification";

impl Family {
    /// Returns the code of a class of reward models, in Python, if `transformers` has the body of the family but
    /// no such class. `AutoModelForSequenceClassification.from_pretrained` runs it with `trust_remote_code=True`.
    pub fn class_code(&self) -> Option<String> {
        let (class, family) = (self.classifier, self.model_type);
        let name =
            class.strip_suffix("ForSequenceClassification").filter(|_| !self.scored_by_transformers)?;
        Some(format!(
            "\"\"\"The reward model of this folder, for transformers 5, which has no class for one of {family}:\n\
             \n    {AUTO_CLASS}.from_pretrained(FOLDER, trust_remote_code=True)\n\"\"\"\n\n\
             from transformers.modeling_layers import GenericForSequenceClassification\n\
             from transformers.models.{family}.modeling_{family} import {name}PreTrainedModel\n\n\n\
             class {class}(GenericForSequenceClassification, {name}PreTrainedModel):\n    pass\n"
        ))
    }

    /// Returns the name of that class in `auto_map`, with its module.
    pub(super) fn own_class(&self) -> Option<String> {
        let module = CLASS_FILE.strip_suffix(".py").filter(|_| self.class_code().is_some())?;
        Some(format!("{module}.{}", self.classifier))
    }
}
