use super::*;

fn card() -> Card {
    Card {
        name: "rm".into(),
        base: Some("acme/qwen2".into()),
        begun_from: "acme/qwen2".into(),
        constraint: "fixed".into(),
        scored_by_transformers: true,
        ..Card::default()
    }
}

/// Protects: the card of a family for which transformers has no class of reward models promises none: it
/// scores with pcrm, and with the folder's own class.
#[test]
fn the_example_loads_only_where_a_class_exists() {
    for kind in [ModelKind::RewardModel, ModelKind::Scaled] {
        let with = render(&Card { kind, ..card() }).unwrap();
        let own = render(&Card { kind, scored_by_transformers: false, own_class: true, ..card() }).unwrap();
        for with in [&with, &own] {
            assert!(with.starts_with("---\nlibrary_name: transformers\npipeline_tag"), "{with}");
        }
        assert!(!with.contains("trust_remote_code"), "{with}");
        let trusts = own.contains("from_pretrained(folder, trust_remote_code=True).eval()");
        assert_eq!(trusts, kind == ModelKind::RewardModel, "{own}");
        let without = render(&Card { kind, scored_by_transformers: false, ..card() }).unwrap();
        assert!(without.starts_with("---\npipeline_tag: text-classification\n"), "{without}");
        assert!(!without.contains("AutoModel") && !without.contains("```python"), "{without}");
        let shown = without.contains("pcrm score --model .");
        assert_eq!(shown, kind == ModelKind::RewardModel, "{without}");
    }
}

/// Protects: a README that a user wrote or changed is not overwritten; an unchanged card is replaced by a
/// newer one.
#[test]
fn readmes_of_users_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("README.md");
    assert_eq!(write(dir.path(), &card()).unwrap(), CardOutcome::Yes);
    let longer = Card { name: "rm after more steps".into(), ..card() };
    assert_eq!(write(dir.path(), &longer).unwrap(), CardOutcome::Yes);
    let ours = fs::read_to_string(&path).unwrap();
    assert!(ours.contains("rm after more steps"), "{ours}");
    for theirs in ["# mine\n".to_owned(), ours.replace("rm after", "my model after"), format!("{ours}\nmore")]
    {
        fs::write(&path, &theirs).unwrap();
        assert_eq!(write(dir.path(), &card()).unwrap(), CardOutcome::LeftAlone);
        assert_eq!(fs::read_to_string(&path).unwrap(), theirs);
    }
}

/// Protects: names cannot break out of front matter, tables and code.
#[test]
fn hostile_names_stay_names() {
    let bad = "x\n---\nlicense: mit\n`<script>` | y\"";
    let hostile =
        Card { base: Some(bad.into()), files: vec![bad.into()], datasets: vec![bad.into()], ..card() };
    let text = render(&hostile).unwrap();
    assert_eq!(text.lines().filter(|line| *line == "---").count(), 2, "{text}");
    assert!(!text.lines().any(|line| line.starts_with("license:")), "{text}");
    assert!(!text.contains("\n`<script>") && text.contains("base_model: \"x\\n---"), "{text}");
    assert_eq!(code("a`b``c"), "``` a`b``c ```");
}

/// Protects: the example has the form of the data (a text frame, roles, or the prompt alone); a local
/// base model is not linked to the Hub.
#[test]
fn the_example_has_the_form_of_the_data() {
    let of = |form: DataForm| render(&Card { form, ..card() }).unwrap();
    let text = |before: &str, after: &str, gap: &str, prompts: bool| {
        let [before, after, gap] = [before, after, gap].map(str::to_owned);
        of(DataForm::Text { before, after, gap, prompts })
    };
    let dialogue = text("\n\nHuman: ", "\n\nAssistant:", " ", true);
    let line = r#"prompt = "\n\nHuman: What is the capital of France?\n\nAssistant:""#;
    assert!(dialogue.contains(line) && dialogue.contains("answer = \" Paris.\""), "{dialogue}");
    let plain = text("", "", "", true);
    assert!(
        plain.contains("prompt = \"What is the capital of France?\"") && !plain.contains("Human"),
        "{plain}"
    );
    assert!(plain.contains("tokenizer.eos_token") && plain.contains("pipeline"), "{plain}");
    let alone = text("", "", "", false);
    assert!(
        alone.contains("text = \"The capital of France is Paris.\"") && !alone.contains("prompt ="),
        "{alone}"
    );
    let turns = of(DataForm::Conversation { system: false });
    assert!(turns.contains("apply_chat_template") && !turns.contains("\"system\""), "{turns}");
    assert!(of(DataForm::Conversation { system: true }).contains("{\"role\": \"system\""));
    let local = Card { base: None, begun_from: "gpt2".into(), ..card() };
    let local = render(&local).unwrap();
    assert!(!local.contains("base_model") && local.contains("a local checkpoint"), "{local}");
}

#[test]
fn licences_come_from_the_base_model_alone() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(license(dir.path()), [""; 0]);
    fs::write(dir.path().join("README.md"), "---\nlicense: apache-2.0\ntags:\n- x\n---\nlicense: no\n")
        .unwrap();
    assert_eq!(license(dir.path()), ["license: \"apache-2.0\""]);
    fs::write(dir.path().join("README.md"), "license: mit\n").unwrap();
    assert_eq!(license(dir.path()), [""; 0]);
}

#[test]
fn repositories_are_distinguished_from_paths() {
    assert_eq!(repository(Path::new("Anthropic/hh-rlhf")).as_deref(), Some("Anthropic/hh-rlhf"));
    for path in ["data.jsonl", "a/b/c", "/data/x", "../x", "src/main.rs"] {
        assert_eq!(repository(Path::new(path)), None, "{path}");
    }
}
