//! The settings of a constraint, as text.

use serde_json::Value;

/// Formats a constraint: `length_ratio (beta1 20, beta2 0.001, beta3 −15)`. Bulky fitted fields (a model per
/// fold, the evidence) are left out.
pub fn constraint(tagged: &Value) -> String {
    let kind = tagged["kind"].as_str().unwrap_or("none").to_owned();
    let fields =
        tagged.as_object().into_iter().flatten().filter(|(name, value)| is_setting(name.as_str(), value));
    let settings: Vec<String> = fields.map(|(name, value)| format!("{name} {}", setting(value))).collect();
    if settings.is_empty() { kind } else { format!("{kind} ({})", settings.join(", ")) }
}

/// Returns true for fields of a tagged object that are settings: not the kind, not bulky and not empty.
pub fn is_setting(name: &str, value: &Value) -> bool {
    let is_empty =
        value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(|of| of.is_empty());
    !["kind", "digest"].contains(&name) && !is_bulk(value) && !is_empty
}

/// Describes the evidence that a fitted constraint carries, if any.
pub fn evidence(tagged: &Value) -> Option<String> {
    let evidence = tagged.get("evidence")?;
    let number = |path: &str| evidence.pointer(path).and_then(Value::as_f64);
    let of = |path: &str| number(path).map(|value| format!("{value:+.4}").replace('-', "−"));
    Some(format!(
        "{} pairs of {} prompts; log-likelihood in nats per pair on prompts not used for fitting: {}, one \
         probability for all pairs {}, guessing {}; the features gain {} (95 %: {} to {}, normal \
         approximation over prompts)",
        number("/pairs")?,
        number("/prompts")?,
        of("/log_likelihood/learned")?,
        of("/log_likelihood/constant")?,
        of("/log_likelihood/coin")?,
        of("/gain/mean")?,
        of("/gain/low")?,
        of("/gain/high")?
    ))
}

fn is_bulk(value: &Value) -> bool {
    match value {
        Value::Object(fields) => {
            !fields.contains_key("kind") && fields.values().any(|value| !value.is_string())
        }
        Value::Array(values) => values.iter().any(is_bulk),
        _ => false,
    }
}

/// Formats a parameter's value; a tagged value is formatted like a constraint.
pub fn setting(value: &Value) -> String {
    match value {
        Value::Object(fields) if fields.contains_key("kind") => constraint(value),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| format!("{name} {}", setting(value)))
            .collect::<Vec<_>>()
            .join(", "),
        Value::Array(values) => values.iter().map(setting).collect::<Vec<_>>().join(", "),
        Value::String(text) => text.clone(),
        value => value.as_f64().map_or_else(|| value.to_string(), number_of),
    }
}

fn number_of(value: f64) -> String {
    value.to_string().replace('-', "−")
}
