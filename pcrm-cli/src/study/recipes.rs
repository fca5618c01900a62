//! Built-in recipes, and recipes in files.

use std::fs;
use std::path::Path;

use anyhow::{Context, Error, Result, bail};
use pcrm_eval::study::Recipe;

use crate::paragraph::paragraph;

/// The recipes by name.
const RECIPES: [(&str, &str); 10] = [
    ("ablation", include_str!("recipes/ablation.toml")),
    ("sensitivity", include_str!("recipes/sensitivity.toml")),
    ("dpo", include_str!("recipes/dpo.toml")),
    ("preferences", include_str!("recipes/preferences.toml")),
    ("preferences-dpo", include_str!("recipes/preferences-dpo.toml")),
    ("strength", include_str!("recipes/strength.toml")),
    ("domains", include_str!("recipes/domains.toml")),
    ("over-optimisation", include_str!("recipes/over-optimisation.toml")),
    ("quickstart", include_str!("recipes/quickstart.toml")),
    ("quickstart-dpo", include_str!("recipes/quickstart-dpo.toml")),
];

/// Returns the text of a built-in recipe.
pub fn built_in(name: &str) -> Option<&'static str> {
    RECIPES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// Lists the names of the built-in recipes, for messages.
pub fn known() -> String {
    let names: Vec<&str> = RECIPES.iter().map(|(name, _)| *name).collect();
    format!("expected one of {}", names.join(", "))
}

/// Reads a built-in recipe by name, or a file by path.
///
/// # Errors
/// Fails if there is no such recipe or file, or the recipe is invalid.
pub fn read(name: &str) -> Result<Recipe> {
    if let Some(text) = built_in(name) {
        return Recipe::parse(text, name).map_err(Error::msg);
    }
    if !Path::new(name).exists() {
        bail!("{name}: neither a built-in study nor a file; {}", known());
    }
    let text = fs::read_to_string(name).with_context(|| name.to_owned())?;
    Recipe::parse(&text, name).map_err(Error::msg)
}

/// Lists all built-in studies with their questions.
pub fn list() -> Result<String> {
    let mut text = String::new();
    for (name, recipe) in RECIPES {
        let recipe = Recipe::parse(recipe, name).map_err(Error::msg)?;
        text.push_str(&paragraph(&format!("{name}: "), &recipe.title));
        text.push_str(&paragraph("  ", &recipe.question));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: every built-in recipe is valid.
    #[test]
    fn built_in_recipes_are_recipes() {
        for (name, _) in RECIPES {
            let recipe = read(name).unwrap();
            assert!(!recipe.hypotheses.is_empty() && !recipe.arms.is_empty(), "{name}");
        }
    }
}
