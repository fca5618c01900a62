use super::*;

fn tagged(text: &str) -> (Value, f64) {
    let spec: Spec = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    match spec.place {
        Place::Tagged(tagged) => (tagged, spec.weight),
        Place::Model(path) => (json!({"model": path}), spec.weight),
    }
}

/// Protects: the distinction between weights, ports, options and interpreters at the end of a text.
#[test]
fn weights_are_the_last_part() {
    let python = json!({"kind": "python", "file": "a:b/r.py", "function": "f"});
    let with = json!({"kind": "python", "file": "r.py", "function": "f", "interpreter": "/v/bin/python"});
    let module = json!({"kind": "python", "file": "trl.rewards", "function": "think_format_reward"});
    for (text, value, weight) in [
        ("world", json!({"kind": "world"}), 1.0),
        ("repetition:-0.5", json!({"kind": "repetition"}), -0.5),
        ("model:runs/rm:2e-1", json!({"model": "runs/rm"}), 0.2),
        ("model:org/name", json!({"model": "org/name"}), 1.0),
        ("command:./score --at 3", json!({"kind": "command", "command": "./score --at 3"}), 1.0),
        ("command:curl http://h/x", json!({"kind": "command", "command": "curl http://h/x"}), 1.0),
        ("command:./score:0.5", json!({"kind": "command", "command": "./score"}), 0.5),
        ("python:a:b/r.py:f:0.25", python.clone(), 0.25),
        ("python:a:b/r.py:f", python, 1.0),
        ("python:r.py:f:/v/bin/python:3", with, 3.0),
        ("python:trl.rewards:think_format_reward", module, 1.0),
        (r#"{"kind": "length", "target": 7}:0.5"#, json!({"kind": "length", "target": 7}), 0.5),
        (r#"{"kind": "length", "target": 7, "weight": 2}"#, json!({"kind": "length", "target": 7}), 2.0),
    ] {
        assert_eq!(tagged(text), (value, weight), "{text}");
    }
}

/// Protects: the port of an address is not a weight.
#[test]
#[cfg(feature = "http")]
fn ports_are_no_weights() {
    for (text, url, weight) in [
        ("http://h:8000/get_reward", "http://h:8000/get_reward", 1.0),
        ("http://h:8000/get_reward:0.5", "http://h:8000/get_reward", 0.5),
        ("http://h:8000/", "http://h:8000/", 1.0),
        ("https://[::1]:8/score:2", "https://[::1]:8/score", 2.0),
    ] {
        assert_eq!(tagged(text), (json!({"kind": "http", "url": url}), weight), "{text}");
    }
}

/// Protects: error messages say how to fix the mistake.
#[test]
fn mistakes_are_said() {
    for (text, said) in [
        ("lenght", "unknown reward \"lenght\"; known: "),
        ("mdoel:runs/rm", "json, length, model, overlong, "),
        ("length:target", "\"target\" is not a weight; write parameters as JSON: {\"kind\": \"length\", ..}"),
        ("model:", "expected model:DIR"),
        ("command:", "expected command:CMD"),
        (
            "command:python3 cmd.py --server localhost:8080",
            "expected {\"kind\":\"command\",\"command\":\"python3 cmd.py --server localhost\",\"weight\":8080.0} \
             or {\"kind\":\"command\",\"command\":\"python3 cmd.py --server localhost:8080\"}",
        ),
        ("python:r.py", "expected python:FILE.py:FUNCTION"),
        ("http://h:8000", "expected one such as http://h:8000/get_reward"),
        ("{\"kind\"", "is not valid JSON"),
        ("{}", "no \"kind\" in {}"),
        ("{\"kind\": \"world\", \"weight\": \"x\"}", "the weight is \"x\"; expected a number"),
        ("world:1e999", "the weight is inf; expected a finite number"),
        ("{\"kind\": \"model\", \"dir\": \"x\"}", "unknown key \"dir\""),
    ] {
        let error = text.parse::<Spec>().expect_err(text).to_string();
        assert!(error.contains(said), "{text}: {error}");
    }
}

/// Protects: the tagged data of a spec parse to the same source, as text or as JSON in a file of options.
#[test]
fn specs_come_back() {
    for text in ["world:0.5", "model:runs/rm", r#"{"kind": "length", "target": 7, "name": "short"}"#] {
        let spec: Spec = text.parse().unwrap();
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<Spec>(&json).unwrap(), spec, "{json}");
        let quoted = serde_json::to_string(text).unwrap();
        assert_eq!(serde_json::from_str::<Spec>(&quoted).unwrap(), spec);
    }
}
