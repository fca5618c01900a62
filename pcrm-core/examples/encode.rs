//! Prints token ids of texts and conversations under the tokenizers of folders, for comparisons with other
//! tools.
//!
//! Reads one request per line, `{"dir": "..", "texts": [".."], "conversations": [[{"role": "user", ..}]]}`,
//! and writes one answer per line: `{"class": "..", "texts": [[..]], "bare": [[..]], "conversations":
//! [[..]]}`. `texts` has ids with special tokens, `bare` without. Failures are `{"error": ".."}` in place of
//! the ids, or of the whole answer. `scripts/differential-tokenizers` compares the answers with
//! transformers'.

use std::io::{BufRead, Write};
use std::path::Path;

use pcrm_core::Result;
use pcrm_core::data::conversation::Message;
use pcrm_core::text::Tokenizer;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Request {
    dir: String,
    #[serde(default)]
    texts: Vec<String>,
    #[serde(default)]
    conversations: Vec<Vec<Message>>,
}

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let answer = match serde_json::from_str::<Request>(&line?) {
            Ok(request) => answer(&request).unwrap_or_else(|error| failed(&error)),
            Err(error) => failed(&error),
        };
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

fn answer(request: &Request) -> Result<Value> {
    let tokenizer = Tokenizer::from_dir(Path::new(&request.dir))?;
    let texts = |special: bool| -> Vec<Value> {
        let ids = |text: &String| match special {
            true => tokenizer.encode(text),
            false => tokenizer.encode_rendered(text),
        };
        request.texts.iter().map(|text| shown(ids(text))).collect()
    };
    let conversations: Vec<Value> = request
        .conversations
        .iter()
        .map(|turns| {
            shown(tokenizer.render_chat(turns, false).and_then(|text| tokenizer.encode_rendered(&text)))
        })
        .collect();
    let id = |token: Option<&pcrm_core::text::SpecialToken>| token.map(|token| token.id);
    Ok(json!({
        "class": tokenizer.class(),
        "bos": id(tokenizer.bos()),
        "eos": id(tokenizer.eos()),
        "pad": id(tokenizer.pad()),
        "texts": texts(true),
        "bare": texts(false),
        "conversations": conversations,
    }))
}

fn shown(ids: Result<Vec<u32>>) -> Value {
    ids.map_or_else(|error| failed(&error), |ids| json!(ids))
}

fn failed(error: &dyn std::fmt::Display) -> Value {
    json!({"error": error.to_string()})
}
