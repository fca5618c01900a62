//! Scores the answers in a file with reward sources, as a training loop does:
//!
//! ```text
//! cargo run --release --example rewards -- answers.jsonl model:runs/rm python:reward.py:score
//! ```
//!
//! Every line of the file has a `prompt`, a `completion` and any other columns. An argument is a reward
//! source with its weight; `model:DIR` names a saved reward model.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use pcrm_backend_candle as _;
use pcrm_core::data::preference::Strictness;
use pcrm_core::data::prompts::{Prompt, load_prompts};
use pcrm_core::model::RewardModel;
use pcrm_core::registry::{self, BackendPlugin};
use pcrm_core::text::Tokenizer;
use pcrm_core::{DType, Device};
use pcrm_rl::reward_source::{
    self, Answer, AnswerTexts, Answers, ModelOptions, ModelReward, Preparation, RewardSource, Spec,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = PathBuf::from(arguments.next().ok_or("expected a file and reward sources")?);
    let specs: Vec<Spec> = arguments.map(|text| text.parse()).collect::<Result<_, _>>()?;
    let mut sources = reward_source::open(&specs, &mut |dir| model(dir))?;

    let (prompts, _) = load_prompts(&[file], Strictness::Refuse)?;
    sources.prepare(&Preparation { prompts: &prompts, logs: None })?;
    let texts: Vec<AnswerTexts> = prompts.iter().map(texts).collect::<Result<_, _>>()?;
    // A training loop passes the policy's own tokens. Here, every byte is a token.
    let ids: Vec<Vec<u32>> =
        texts.iter().map(|texts| texts.completion.bytes().map(u32::from).collect()).collect();
    let rows: Vec<Answer<'_>> = (prompts.iter().zip(&texts).zip(&ids))
        .map(|((prompt, texts), ids)| Answer { prompt, texts, completion_ids: ids, ended: true })
        .collect();

    let began = Instant::now();
    let rewards = sources.score(&Answers { step: 0, rows: &rows })?;
    for (prompt, total) in prompts.iter().zip(&rewards.total) {
        println!("{}: {total:?}", prompt.origin);
    }
    for source in &rewards.sources {
        println!("{} (weight {}): mean and std {:?}", source.name, source.weight, source.mean_and_std());
    }
    println!("{} answers in {:.3} s", rows.len(), began.elapsed().as_secs_f64());
    Ok(())
}

/// Opens a saved reward model. Its tokenizer is also used as the policy's.
fn model(dir: &Path) -> pcrm_rl::Result<Box<dyn RewardSource>> {
    let backend = (registry::find::<BackendPlugin>("candle")?.open)(Device::Cpu.into())?;
    let model = RewardModel::load(backend.as_ref(), dir, DType::F32)?;
    let tokenizer = Tokenizer::from_dir(dir)?;
    let name = dir.display().to_string();
    Ok(Box::new(ModelReward::new(name, &model, tokenizer.clone(), &tokenizer, ModelOptions::default())?))
}

fn texts(prompt: &Prompt) -> Result<AnswerTexts, String> {
    let text = |key: &str| prompt.columns.get(key).and_then(|value| value.as_str()).map(str::to_owned);
    let completion = text("completion").ok_or_else(|| format!("{}: no completion", prompt.origin))?;
    let asked = match &prompt.prompt {
        pcrm_core::data::conversation::Content::Text(text) => text.clone(),
        pcrm_core::data::conversation::Content::Messages(_) => String::new(),
    };
    Ok(AnswerTexts { sequence: format!("{asked}{completion}"), prompt: asked, completion })
}
