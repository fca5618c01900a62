//! A saved reward model as the reward of a policy's answers: the tokens it scores, and scores that depend
//! only on the answer.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use pcrm_core::data::conversation::{Content, Message};
use pcrm_core::data::encode::encode_text;
use pcrm_core::data::prompts::Prompt;
use pcrm_core::data::report::Origin;
use pcrm_core::model::{ModelConfig, RewardModel};
use pcrm_core::text::Tokenizer;
use pcrm_core::{Backend, DType};
use pcrm_rl::reward_source::{
    self, Answer, AnswerTexts, Answers, ModelOptions, ModelReward, Preparation, RewardSource, Scored, Spec,
};
use pcrm_rl::score::{score_answers, score_sequences};
use serde_json::{Map, json};

use crate::subject::{Subject, every_backend};
use crate::support::beside;

fn tokenizer(name: &str) -> Result<Tokenizer> {
    Ok(Tokenizer::from_dir(&beside("golden/text").join(name))?)
}

fn model(backend: &dyn Backend, extra: &serde_json::Value) -> Result<RewardModel> {
    let mut config = json!({
        "model_type": "qwen2", "vocab_size": 400, "hidden_size": 16, "intermediate_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "pad_token_id": 1,
        "max_position_embeddings": 64,
        "initializer_range": 0.2, "architectures": ["Qwen2ForSequenceClassification"]
    });
    for (key, value) in extra.as_object().context("an object")? {
        config[key] = value.clone();
    }
    let config = config.as_object().cloned().context("an object")?;
    Ok(RewardModel::random(backend, ModelConfig::from_json(config, Path::new("x"))?, DType::F32, 4)?)
}

/// Prompts and answers with the data that they borrow.
struct Batch {
    prompts: Vec<Prompt>,
    texts: Vec<AnswerTexts>,
    ids: Vec<Vec<u32>>,
}

impl Batch {
    /// Makes answers of a policy with this tokenizer.
    fn new(policy: &Tokenizer, rows: &[(Content, &str)]) -> Result<Self> {
        let mut batch = Self { prompts: Vec::new(), texts: Vec::new(), ids: Vec::new() };
        for (line, (prompt, answer)) in (1..).zip(rows) {
            let read = match prompt {
                Content::Text(text) => policy.encode(text)?,
                Content::Messages(turns) => policy.encode_rendered(&policy.render_chat(turns, true)?)?,
            };
            let mut ids = policy.encode_rendered(answer)?;
            ids.extend(policy.eos().map(|eos| eos.id));
            batch.texts.push(AnswerTexts::decode(policy, &read, &ids)?);
            batch.ids.push(ids);
            let origin = Origin { file: Arc::from(Path::new("rows.jsonl")), line, record: line };
            batch.prompts.push(Prompt { origin, prompt: prompt.clone(), columns: Map::new() });
        }
        Ok(batch)
    }

    fn scored_by(&self, source: &mut dyn RewardSource) -> Result<Scored> {
        source.prepare(&Preparation { prompts: &self.prompts, logs: None })?;
        let rows: Vec<Answer<'_>> = (self.prompts.iter().zip(&self.texts).zip(&self.ids))
            .map(|((prompt, texts), ids)| Answer { prompt, texts, completion_ids: ids, ended: true })
            .collect();
        Ok(source.checked_score(&Answers { step: 0, rows: &rows })?)
    }
}

fn text(text: &str) -> Content {
    Content::Text(text.to_owned())
}

fn asked(text: &str) -> Content {
    Content::Messages(vec![Message::new("system", "Be brief."), Message::new("user", text)])
}

fn source(model: &RewardModel, tokens: &str, policy: &str, options: ModelOptions) -> Result<ModelReward> {
    Ok(ModelReward::new("rm", model, tokenizer(tokens)?, &tokenizer(policy)?, options)?)
}

/// Returns the scores of prompts with answers, computed one at a time from the tokens that training encodes.
fn alone(model: &RewardModel, rows: &[(Content, &str)], tokenizer: &Tokenizer) -> Result<Vec<Option<f32>>> {
    let score = |(prompt, answer): &(Content, &str)| {
        let answer = match prompt {
            Content::Text(_) => text(answer),
            Content::Messages(_) => Content::Messages(vec![Message::new("assistant", *answer)]),
        };
        let ids = encode_text(Some(prompt), &answer, tokenizer, model.config().pad)?;
        Ok(score_sequences(model, &[&ids], 8192)?.first().copied())
    };
    rows.iter().map(score).collect()
}

fn bits(rewards: &[Option<f32>]) -> Vec<Option<u32>> {
    rewards.iter().map(|reward| reward.map(f32::to_bits)).collect()
}

/// Protects: a reward is the score that training and `pcrm score` give the same text, with the reward model's
/// own template and any tokenizer of the policy; its bits depend on no other answer and no token budget.
#[test]
fn rewards_are_the_scores_of_the_text() -> Result<()> {
    let rows = [
        (asked("Two and two?"), "Four."),
        (asked("Two and two?"), "Four, I think."),
        (asked("Two and two?"), "Four."),
        (text("Question: why?\nAnswer:"), " Because."),
        (text("Question: why?\nAnswer:"), ""),
        (asked("One?"), "Ünïcode €"),
    ];
    every_backend(|backend: &Subject| {
        for (shape, policy) in [
            (json!({}), "qwen2"),
            (json!({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}), "qwen2"),
        ] {
            let model = model(backend, &shape)?;
            let batch = Batch::new(&tokenizer(policy)?, &rows)?;
            let want = alone(&model, &rows, &tokenizer("qwen2")?)?;
            for micro_tokens in [1, 40, 70, 8192] {
                let options = ModelOptions { micro_tokens, ..ModelOptions::default() };
                let mut source = source(&model, "qwen2", policy, options)?;
                ensure!(
                    source.notes().len() == 1 && source.notes()[0].contains("does not record"),
                    "{:?}",
                    source.notes()
                );
                let given = batch.scored_by(&mut source)?.rewards;
                match backend.exact() {
                    true => ensure!(bits(&given) == bits(&want), "{given:?} {want:?}"),
                    false => backend.check_close(
                        "rewards",
                        &given.into_iter().flatten().collect::<Vec<_>>(),
                        &want.iter().flatten().copied().collect::<Vec<_>>(),
                        1e-5,
                    )?,
                }
            }
        }
        Ok(())
    })
}

/// Protects: a policy with another tokenizer is scored by its text, not by its ids.
#[test]
fn another_tokenizer_is_no_other_text() -> Result<()> {
    let rows =
        [(text("Question: why?\nAnswer:"), " Because."), (text("Question: why?\nAnswer:"), " Über alles €.")];
    every_backend(|backend: &Subject| {
        let model = model(backend, &json!({}))?;
        let want = alone(&model, &rows, &tokenizer("qwen2")?)?;
        let batch = Batch::new(&tokenizer("bos")?, &rows)?;
        ensure!(batch.texts[1].completion == " Über alles €.", "{:?}", batch.texts);
        let mut source = source(&model, "qwen2", "bos", ModelOptions::default())?;
        ensure!(source.notes().len() == 2 && source.notes()[0].contains("reads answers as text"));
        let given = batch.scored_by(&mut source)?.rewards;
        backend.check_close(
            "rewards",
            &given.into_iter().flatten().collect::<Vec<_>>(),
            &want.into_iter().flatten().collect::<Vec<_>>(),
            if backend.exact() { 0.0 } else { 1e-5 },
        )
    })
}

/// Protects: an answer that is not valid text or is too long has no reward and is counted; the others have
/// theirs.
#[test]
fn what_cannot_be_read_is_not_scored() -> Result<()> {
    every_backend(|backend: &Subject| {
        let model = model(backend, &json!({}))?;
        let long = "x ".repeat(80);
        let rows = [(text("q"), "a"), (text("q"), "€"), (text("q"), &*long), (text("q"), "b")];
        let policy = tokenizer("qwen2")?;
        let mut batch = Batch::new(&policy, &rows)?;
        // The second answer is the first byte of a longer character.
        let cut: Vec<u32> = policy.encode_rendered("€")?[..1].to_vec();
        batch.texts[1] = AnswerTexts::decode(&policy, &policy.encode("q")?, &cut)?;
        let scored = batch.scored_by(&mut source(&model, "qwen2", "qwen2", ModelOptions::default())?)?;
        let is_scored: Vec<bool> = scored.rewards.iter().map(Option::is_some).collect();
        ensure!(is_scored == [true, false, false, true], "{scored:?}");
        ensure!(scored.logs["broken"] == [0.0, 1.0, 0.0, 0.0], "{scored:?}");
        ensure!(scored.logs["too_long"] == [0.0, 0.0, 1.0, 0.0], "{scored:?}");
        Ok(())
    })
}

/// Protects: conversations for a reward model without a template, unknown tokens, and limits beyond its
/// positions are refused, with the row if it is one row's fault.
#[test]
fn what_a_model_cannot_read_is_refused() -> Result<()> {
    every_backend(|backend: &Subject| {
        let whole = model(backend, &json!({}))?;
        let policy = tokenizer("qwen2")?;
        let batch = Batch::new(&policy, &[(asked("q"), "a")])?;
        let said =
            |result: Result<Scored>| result.err().map(|error| format!("{error:#}")).unwrap_or_default();
        let dir = tempfile::tempdir()?;
        policy.save_to(dir.path())?;
        std::fs::remove_file(dir.path().join("chat_template.jinja"))?;
        let plain = Tokenizer::from_dir(dir.path())?;
        let mut plain = ModelReward::new("rm", &whole, plain, &policy, ModelOptions::default())?;
        let untemplated = said(batch.scored_by(&mut plain));
        ensure!(untemplated.contains("reward \"rm\": the prompts are conversations"), "{untemplated}");
        let small = model(backend, &json!({"vocab_size": 60}))?;
        let beyond = said(batch.scored_by(&mut source(&small, "qwen2", "qwen2", ModelOptions::default())?));
        ensure!(
            beyond.contains("answer 1 of 1 (rows.jsonl:1): token id ") && beyond.contains("vocabulary of 60"),
            "{beyond}"
        );
        let options = ModelOptions { max_length: Some(65), ..ModelOptions::default() };
        let limit = source(&whole, "qwen2", "qwen2", options).err().map(|error| error.to_string());
        ensure!(limit.is_some_and(|said| said.contains("expected 1 to 64, the model's positions")));
        Ok(())
    })
}

/// Protects: `model:DIR` opens a reward model with its weight, beside rules.
#[test]
fn models_are_opened_by_their_folder() -> Result<()> {
    every_backend(|backend: &Subject| {
        let dir = tempfile::tempdir()?;
        model(backend, &json!({}))?.save(dir.path())?;
        tokenizer("qwen2")?.save_to(dir.path())?;
        let specs =
            [format!("model:{}:2", dir.path().display()), r#"{"kind": "length", "per_unit": 1}"#.to_owned()];
        let specs: Vec<Spec> = specs.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        let policy = tokenizer("qwen2")?;
        let mut sources = reward_source::open(&specs, &mut |path| {
            let model = RewardModel::load(backend, path, DType::F32)?;
            let source =
                ModelReward::new("rm", &model, Tokenizer::from_dir(path)?, &policy, ModelOptions::default())?;
            Ok(Box::new(source))
        })?;
        ensure!(sources.weights().collect::<Vec<_>>() == [("rm", 2.0), ("length", 1.0)]);
        let batch = Batch::new(&policy, &[(text("q"), "a")])?;
        let rows = [Answer {
            prompt: &batch.prompts[0],
            texts: &batch.texts[0],
            completion_ids: &batch.ids[0],
            ended: true,
        }];
        let rewards = sources.score(&Answers { step: 0, rows: &rows })?;
        let model = RewardModel::load(backend, dir.path(), DType::F32)?;
        let score = alone(&model, &[(text("q"), "a")], &policy)?[0].context("a score")?;
        let want = 2.0 * f64::from(score) + batch.ids[0].len() as f64;
        backend.check_close("the sum", &[rewards.total[0].context("a reward")?], &[want as f32], 1e-6)
    })
}

/// Protects: groups share only their common prefix: no group, one answer, equal answers, no common token.
#[test]
fn groups_of_every_sort_score_as_alone() -> Result<()> {
    let sequences: [&[u32]; 7] = [&[9], &[9], &[5, 6, 7], &[5, 6, 7], &[5, 6], &[8, 6], &[5, 6, 7, 9]];
    every_backend(|backend: &Subject| {
        let model = model(backend, &json!({}))?;
        let want = score_sequences(&model, &sequences, 8192)?;
        for groups in [vec![7], vec![2, 5], vec![0, 1, 6, 0], vec![2, 3, 2]] {
            let mut rest = &sequences[..];
            let split = groups.iter().map(|count| {
                let (group, after) = rest.split_at(*count);
                rest = after;
                group.to_vec()
            });
            let split: Vec<Vec<&[u32]>> = split.collect();
            for micro_tokens in [1, 5, 8192] {
                let scores = score_answers(&model, &split, micro_tokens)?;
                ensure!(scores.iter().map(Vec::len).eq(groups.iter().copied()));
                backend.check_close(
                    "scores",
                    &scores.concat(),
                    &want,
                    if backend.exact() { 0.0 } else { 1e-5 },
                )?;
            }
        }
        Ok(())
    })
}
