use serde_json::json;

use super::testing::{OwnedAnswers, sources};
use super::*;

/// A source that returns fixed results.
struct Given(&'static str, Scored);

impl RewardSource for Given {
    fn name(&self) -> &str {
        self.0
    }

    fn score(&mut self, _: &Answers<'_>) -> Result<Scored> {
        Ok(self.1.clone())
    }
}

fn given(name: &'static str, rewards: &[Option<f32>]) -> Box<dyn RewardSource> {
    Box::new(Given(name, Scored::of(rewards.to_vec())))
}

/// Protects: TRL's sum: `torch.nansum` of weight·reward, and `None` if no source scores an answer. Expected
/// numbers are those of `torch.nansum(torch.tensor(rows) * torch.tensor([1.0, 0.5]), dim=1)`.
#[test]
fn sums_leave_out_what_is_not_scored() {
    let mut both = Weighted::default();
    both.push(given("a", &[Some(1.0), None, Some(-0.25), None]), 1.0, None);
    both.push(given("a", &[Some(3.0), Some(3.0), None, None]), 0.5, None);
    let rewards = OwnedAnswers::of(&["w", "x", "y", "z"]).weighed_by(&mut both).unwrap();
    assert_eq!(rewards.total, [Some(2.5), Some(1.5), Some(-0.25), None]);
    let names: Vec<&str> = rewards.sources.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(names, ["a", "a_2"]);
    // torch.tensor([1.0, -0.25]).mean() and .std()
    let (mean, std) = rewards.sources[0].mean_and_std().unwrap();
    assert!((mean - 0.375).abs() < 1e-12 && (std - 0.883_883_476).abs() < 1e-8, "{mean} {std}");
}

/// Protects: invalid rewards stop the run, and the error names the source and the row.
#[test]
fn bad_rewards_are_errors() {
    let rows = OwnedAnswers::of(&["x", "y"]);
    let said = |scored: Scored| rows.scored_by(&mut Given("mine", scored)).unwrap_err().to_string();
    for (rewards, message) in [
        (vec![Some(1.0)], "gave 1 rewards for 2 answers; expected one per answer"),
        (vec![Some(1.0); 3], "gave 3 rewards for 2 answers"),
        (
            vec![None, Some(f32::NAN)],
            "answer 2 of 2 (rows.jsonl:2): the reward is NaN; expected a finite number",
        ),
        (vec![Some(f32::NEG_INFINITY), None], "answer 1 of 2 (rows.jsonl:1): the reward is -inf"),
    ] {
        let said = said(Scored::of(rewards));
        assert!(said.starts_with("reward \"mine\": ") && said.contains(message), "{said}");
    }
    let mut scored = Scored::of(vec![None, None]);
    scored.logs.insert("a".to_owned(), vec![f32::INFINITY]);
    assert!(said(scored).contains("the log \"a\" has the value inf"));
    let mut scored = Scored::of(vec![None, None]);
    scored.columns.insert("c".to_owned(), vec![json!("x")]);
    assert!(said(scored).contains("the column \"c\" has 1 values for 2 answers"));
    let mut large = Weighted::default();
    large.push(given("a", &[Some(3e38), None]), 10.0, None);
    assert!(rows.weighed_by(&mut large).unwrap_err().to_string().contains("beyond f32"));
}

/// Protects: weights and names are parsed from the text, and an empty list of sources is refused.
#[test]
fn texts_become_sources() {
    let text = r#"{"kind": "length", "per_unit": 1, "name": "long"}:-2"#;
    let mut both = sources(&[text, "repetition"]).unwrap();
    assert_eq!(both.weights().collect::<Vec<_>>(), [("long", -2.0), ("repetition", 1.0)]);
    let rewards = OwnedAnswers::of(&["abc", ""]).weighed_by(&mut both).unwrap();
    assert_eq!(rewards.total, [Some(-6.0), Some(0.0)]);
    let said = sources(&[]).err().map(|error| error.to_string());
    assert_eq!(said.as_deref(), Some("reward: expected at least one"));
}

/// Protects: columns stay beside their answers if a source gives them for some batches only.
#[test]
fn columns_stay_with_their_answers() {
    let of = |count: usize, columns: &[(&str, &[&str])]| Rewards {
        total: vec![Some(0.0); count],
        columns: columns
            .iter()
            .map(|(name, values)| ((*name).to_owned(), values.iter().map(|value| json!(value)).collect()))
            .collect(),
        ..Rewards::default()
    };
    let mut all = of(1, &[("a", &["1"])]);
    all.append(of(2, &[("b", &["2", "3"])]));
    assert_eq!(all.columns["a"], [json!("1"), Value::Null, Value::Null]);
    assert_eq!(all.columns["b"], [Value::Null, json!("2"), json!("3")]);
}
