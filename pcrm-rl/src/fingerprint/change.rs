//! Descriptions of an option's change since a run began.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::shown;

/// Options of adapters by the key of their config.
const ADAPTERS: [(&str, &str); 7] = [
    ("r", "lora-r"),
    ("lora_alpha", "lora-alpha"),
    ("lora_dropout", "lora-dropout"),
    ("use_rslora", "use-rslora"),
    ("target_modules", "lora-target-modules"),
    ("modules_to_save", "lora-modules-to-save"),
    ("ensure_weight_tying", "lora-ensure-weight-tying"),
];

/// Describes the change of an option from `then` to `now`: of an object only the keys that differ, and of digests
/// which files have changed.
pub(super) fn described(name: &str, then: &Value, now: &Value) -> Vec<String> {
    let whole = || vec![format!("--{name} was {} and is now {}", shown(then), shown(now))];
    match (then, now) {
        (Value::Object(then), Value::Object(now)) if then.get("kind") == now.get("kind") => {
            of_keys(name, then, now)
        }
        // Without adapters there is no rank.
        (Value::Object(_), Value::Null) | (Value::Null, Value::Object(_)) if name == "lora" => {
            let rank = |value: &Value| shown(value.get("r").unwrap_or(&Value::Null));
            vec![format!("--lora-r was {} and is now {}", rank(then), rank(now))]
        }
        (Value::String(_), Value::String(_)) if is_digest(then) && is_digest(now) => {
            vec![format!("the files in --{name} have changed")]
        }
        (Value::Array(then), Value::Array(now)) if then.iter().chain(now).all(is_digest) => {
            vec![of_files(name, then, now)]
        }
        _ => whole(),
    }
}

fn of_keys(name: &str, then: &Map<String, Value>, now: &Map<String, Value>) -> Vec<String> {
    let keys: BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    let value = |of: &Map<String, Value>, key: &str| of.get(key).cloned().unwrap_or_default();
    let changed = keys.into_iter().filter(|key| value(then, key) != value(now, key));
    changed
        .map(|key| {
            let option = ADAPTERS.iter().find(|(known, _)| name == "lora" && known == key);
            let option =
                option.map_or_else(|| format!("--{name}: {key}"), |(_, option)| format!("--{option}"));
            format!("{option} was {} and is now {}", shown(&value(then, key)), shown(&value(now, key)))
        })
        .collect()
}

fn of_files(name: &str, then: &[Value], now: &[Value]) -> String {
    if then.len() != now.len() {
        let files = if then.len() == 1 { "file" } else { "files" };
        return format!("--{name} had {} {files} and has {} now", then.len(), now.len());
    }
    let pairs = then.iter().zip(now).enumerate();
    let changed: Vec<String> =
        pairs.filter(|(_, (then, now))| then != now).map(|(at, _)| (at + 1).to_string()).collect();
    match changed.len() {
        _ if then.len() == 1 => format!("the file of --{name} has changed"),
        1 => format!("file {} of --{name} has changed", changed[0]),
        _ => format!("files {} of --{name} have changed", changed.join(", ")),
    }
}

/// Returns true for a digest of content (SHA-256), which the slice of a file may follow.
fn is_digest(value: &Value) -> bool {
    let split = value.as_str().and_then(|text| text.split_at_checked(64));
    split.is_some_and(|(digits, slice)| {
        digits.bytes().all(|byte| byte.is_ascii_hexdigit()) && (slice.is_empty() || slice.starts_with('['))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Protects: a changed file is described as one, by its place among several, and not by its digests.
    #[test]
    fn changed_files_are_named() {
        let [a, b, c] = ["a", "b", "c"].map(|digit| digit.repeat(64));
        let unset = format!("--device was {a} and is now unset");
        for (name, then, now, expected) in [
            ("model", json!(a), json!(b), "the files in --model have changed"),
            ("data", json!([a]), json!([b]), "the file of --data has changed"),
            ("data", json!([a, b]), json!([a, c]), "file 2 of --data has changed"),
            (
                "data",
                json!([format!("{a}[:5]")]),
                json!([format!("{a}[:6]")]),
                "the file of --data has changed",
            ),
            ("data", json!([a, b, c]), json!([b, b, a]), "files 1, 3 of --data have changed"),
            ("data", json!([a]), json!([a, b]), "--data had 1 file and has 2 now"),
            ("eval-data", json!([]), json!([a]), "--eval-data had 0 files and has 1 now"),
            ("data", json!("old"), json!("new"), "--data was old and is now new"),
            ("device", json!(a), Value::Null, unset.as_str()),
        ] {
            assert_eq!(described(name, &then, &now), [expected]);
        }
    }

    /// Protects: of a changed object, only the keys that differ are named, those of adapters by their options.
    #[test]
    fn only_changed_keys_are_named() {
        let adapters = |alpha: f64| json!({"r": 8, "lora_alpha": alpha, "target_modules": ["q_proj"]});
        let said = described("lora", &adapters(16.0), &adapters(32.0));
        assert_eq!(said, ["--lora-alpha was 16.0 and is now 32.0"]);
        let said = described("lora", &Value::Null, &adapters(16.0));
        assert_eq!(said, ["--lora-r was unset and is now 8"]);
        let fixed = |bound: f64| json!({"kind": "fixed", "bound": bound});
        let said = described("constraint", &fixed(1.0), &fixed(2.0));
        assert_eq!(said, ["--constraint: bound was 1.0 and is now 2.0"]);
        let none = json!({"kind": "none"});
        let said = described("constraint", &none, &fixed(2.0));
        assert_eq!(said, [format!("--constraint was {none} and is now {}", fixed(2.0))]);
    }
}
