//! `pcrm serve` as its clients meet it: the scores of every protocol, refusals, limits, and shutdown.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pcrm_core::data::conversation::{Content, Message};
use pcrm_core::data::prompts::Prompt;
use pcrm_core::data::report::Origin;
use pcrm_core::text::Tokenizer;
use pcrm_rl::reward_source::{self, Answer, AnswerTexts, Answers, Preparation, Spec};
use serde_json::{Map, Value, json};

use crate::binary::World;
use crate::server::{Reply, Server};
use crate::support::{TWO_ROLES, beside};

/// Questions, each with its answers.
const ASKED: [(&str, &[&str]); 3] = [
    ("What is by the sea?", &["Old trees.", "A road and some rain.", "Old trees."]),
    ("Who has a cat?", &["My house.", "My cat."]),
    ("Ünïcode?", &["€ 5 <b>\"quoted\"</b>\n", "good good good"]),
];

fn rows() -> Vec<(&'static str, &'static str)> {
    ASKED
        .iter()
        .flat_map(|(question, answers)| answers.iter().map(move |answer| (*question, *answer)))
        .collect()
}

fn turns(question: &str, answer: &str) -> Value {
    json!([{"role": "user", "content": question}, {"role": "assistant", "content": answer}])
}

fn tokenizer(world: &World) -> Result<Tokenizer> {
    Ok(Tokenizer::from_dir(&world.path("base"))?)
}

/// Renders a conversation with the model's template.
fn rendered(tokenizer: &Tokenizer, (question, answer): (&str, &str)) -> Result<String> {
    let turns = [Message::new("user", question), Message::new("assistant", answer)];
    Ok(tokenizer.render_chat(&turns, false)?)
}

/// Returns the scores that `pcrm score` gives these rows.
fn scores(world: &World, rows: &[Value]) -> Result<Vec<f32>> {
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    world.write("asked.jsonl", &lines.join("\n"))?;
    world.run("score --model base --data asked.jsonl --output scored.jsonl")?;
    let lines = world.lines("scored.jsonl")?;
    lines.iter().map(|line| number(&line["score"])).collect()
}

fn number(value: &Value) -> Result<f32> {
    Ok(value.as_f64().with_context(|| format!("expected a number, found {value}"))? as f32)
}

fn sigmoid(score: f32) -> f32 {
    (1.0 / (1.0 + (-f64::from(score)).exp())) as f32
}

/// Protects: every protocol returns the score of `pcrm score`, to the bit, in its own format and with its own
/// activation.
#[test]
fn every_protocol_gives_the_scores_of_pcrm_score() -> Result<()> {
    let world = World::new()?;
    let rows = rows();
    let messages = rows.iter().map(|(question, answer)| json!({"messages": turns(question, answer)}));
    let raw = scores(&world, &messages.collect::<Vec<_>>())?;
    let activated: Vec<f32> = raw.iter().map(|score| sigmoid(*score)).collect();
    let tokenizer = tokenizer(&world)?;
    let texts = rows.iter().map(|row| rendered(&tokenizer, *row)).collect::<Result<Vec<_>>>()?;
    // Texts as a policy's tokenizer decodes them: no line break after the end of the turn, an EOS, padding.
    let decoded: Vec<String> = texts
        .iter()
        .enumerate()
        .map(|(at, text)| format!("{}</s>{}", text.trim_end(), "<pad>".repeat(at)))
        .collect();
    let ids = texts.iter().map(|text| Ok(tokenizer.encode(text)?)).collect::<Result<Vec<Vec<u32>>>>()?;
    let server = Server::start(&world, "--model rm=base")?;
    let check = |path: &str, body: &Value, at: &str, expected: &[f32]| -> Result<()> {
        let answer = server.post(path, body)?.ok()?;
        for (row, expected) in expected.iter().enumerate() {
            let place = at.replace('#', &row.to_string());
            let found =
                number(answer.pointer(&place).with_context(|| format!("{path}: {place}: {answer}"))?)?;
            ensure!(
                found.to_bits() == expected.to_bits(),
                "{path} {body}: {found} at {place}, expected {expected}"
            );
        }
        Ok(())
    };
    for path in ["/get_reward", "/"] {
        let prompts: Vec<_> = rows.iter().map(|row| row.0).collect();
        let body = json!({"query": decoded, "prompts": prompts, "labels": [""]});
        for key in ["/rewards/#", "/scores/#", "/extra_logs/reward/#"] {
            check(path, &body, key, &raw)?;
        }
    }
    for path in ["/classify", "/v1/classify"] {
        check(path, &json!({"model": "rm", "input": texts}), "/data/#/probs/0", &activated)?;
        check(path, &json!({"input": texts, "use_activation": false}), "/data/#/probs/0", &raw)?;
        check(path, &json!({"input": ids, "use_activation": false}), "/data/#/probs/0", &raw)?;
        let messages = turns(rows[0].0, rows[0].1);
        let one = json!({"messages": messages, "use_activation": false, "add_special_tokens": false});
        check(path, &one, "/data/#/probs/0", &raw[..1])?;
    }
    check("/classify", &json!({"text": texts}), "/#/embedding/0", &raw)?;
    check("/classify", &json!({"text": texts[1]}), "/embedding/0", &raw[1..2])?;
    check("/classify", &json!({"input_ids": ids}), "/#/embedding/0", &raw)?;
    check("/pooling", &json!({"input": texts, "use_activation": false}), "/data/#/data/0", &raw)?;
    check("/v1/embeddings", &json!({"model": "rm", "input": texts}), "/data/#/embedding/0", &raw)?;
    let (questions, answers): (Vec<&str>, Vec<&str>) = rows.iter().copied().unzip();
    for names in [["text_1", "text_2"], ["queries", "documents"], ["queries", "items"], ["data_1", "data_2"]]
    {
        check("/score", &json!({names[0]: questions, names[1]: answers}), "/data/#/score", &activated)?;
    }
    let body = json!({"text_1": questions[0], "text_2": answers[..3], "use_activation": false});
    check("/v1/score", &body, "/data/#/score", &raw[..3])?;
    let batch: Vec<[&String; 1]> = texts.iter().map(|text| [text]).collect();
    check("/predict", &json!({"inputs": batch}), "/#/0/score", &activated)?;
    check("/predict", &json!({"inputs": batch, "raw_scores": true}), "/#/0/score", &raw)?;
    check("/predict", &json!({"inputs": [questions[0], answers[0]]}), "/0/score", &activated[..1])?;
    let pairs: Vec<[&str; 2]> = rows.iter().map(|(question, answer)| [*question, *answer]).collect();
    check("/predict", &json!({"inputs": pairs, "raw_scores": true}), "/#/0/score", &raw)?;

    // Rankings are sorted; equal scores stay in the order of the request.
    let mut ranked: Vec<usize> = (0..3).collect();
    ranked.sort_by(|left, right| raw[*right].total_cmp(&raw[*left]));
    let order = |answer: &Value, at: &str| -> Vec<u64> {
        let all = answer.pointer(at).and_then(Value::as_array).into_iter().flatten();
        all.filter_map(|one| one["index"].as_u64()).collect()
    };
    let tei = server
        .post("/rerank", &json!({"query": questions[0], "texts": answers[..3], "return_text": true}))?
        .ok()?;
    ensure!(order(&tei, "") == ranked.iter().map(|at| *at as u64).collect::<Vec<_>>(), "{tei}");
    ensure!(tei[0]["text"] == answers[ranked[0]], "{tei}");
    for path in ["/rerank", "/v1/rerank", "/v2/rerank"] {
        let body = json!({"query": questions[0], "documents": answers[..3], "top_n": 2, "model": "rm"});
        let vllm = server.post(path, &body)?.ok()?;
        ensure!(
            order(&vllm, "/results") == ranked[..2].iter().map(|at| *at as u64).collect::<Vec<_>>(),
            "{vllm}"
        );
        ensure!(number(&vllm["results"][0]["relevance_score"])? == activated[ranked[0]], "{vllm}");
    }
    let coded = server.post("/pooling", &json!({"input": texts[0], "encoding_format": "base64"}))?.ok()?;
    ensure!(coded["data"][0]["data"].as_str().is_some_and(|text| text.len() == 8), "{coded}");
    let counted = server.post("/classify", &json!({"input": ids[0]}))?.ok()?;
    ensure!(counted["usage"]["prompt_tokens"] == ids[0].len(), "{counted}");
    Ok(())
}

/// Protects: OpenRLHF's path ends plain texts with an EOS, as `pcrm score` does, and scores them like the
/// other paths.
#[test]
fn plain_texts_end_as_in_training_where_that_is_asked() -> Result<()> {
    let world = World::new()?;
    let raw = scores(
        &world,
        &[json!({"text": "A question? An answer."}), json!({"text": "A question? An answer.</s>"})],
    )?;
    ensure!(raw[0] == raw[1], "{raw:?}");
    let server = Server::start(&world, "--model base")?;
    for query in
        ["A question? An answer.", "A question? An answer.</s>", "A question? An answer.</s><pad><pad>"]
    {
        let answer = server.post("/get_reward", &json!({"query": [query]}))?.ok()?;
        ensure!(number(&answer["rewards"][0])? == raw[0], "{query}: {answer}, expected {}", raw[0]);
    }
    let classified = |text: &str| -> Result<f32> {
        let answer = server.post("/classify", &json!({"input": text, "use_activation": false}))?.ok()?;
        number(&answer["data"][0]["probs"][0])
    };
    ensure!(classified("A question? An answer.</s>")? == raw[0]);
    ensure!(classified("A question? An answer.")? != raw[0]);
    Ok(())
}

/// Protects: the clients of `--reward http` get the rewards of the saved model from this server.
#[test]
fn the_projects_own_clients_read_its_scores() -> Result<()> {
    let world = World::new()?;
    let tokenizer = tokenizer(&world)?;
    let rows = rows();
    let messages = rows.iter().map(|(question, answer)| json!({"messages": turns(question, answer)}));
    let raw = scores(&world, &messages.collect::<Vec<_>>())?;
    let mut held: Vec<(Prompt, AnswerTexts, Vec<u32>)> = Vec::new();
    for (line, (question, answer)) in (1..).zip(&rows) {
        let asked = [Message::new("user", *question)];
        let read = tokenizer.encode_rendered(&tokenizer.render_chat(&asked, true)?)?;
        let ids = tokenizer.encode_rendered(&format!("{answer}</s>"))?;
        let origin = Origin { file: Arc::from(Path::new("rows.jsonl")), line, record: line };
        let prompt = Prompt { origin, prompt: Content::Messages(asked.to_vec()), columns: Map::new() };
        held.push((prompt, AnswerTexts::decode(&tokenizer, &read, &ids)?, ids));
    }
    let prompts: Vec<Prompt> = held.iter().map(|(prompt, ..)| prompt.clone()).collect();
    let answers: Vec<Answer<'_>> = held
        .iter()
        .map(|(prompt, texts, ids)| Answer { prompt, texts, completion_ids: ids, ended: true })
        .collect();
    let server = Server::start(&world, "--model base")?;
    for (path, needs_tokenizer) in [
        ("/get_reward", false),
        ("/classify", false),
        ("/classify", true),
        ("/classify#sglang", true),
        ("/pooling", false),
        ("/score", false),
        ("/v1/embeddings", true),
        ("/predict", true),
        ("/rerank", false),
        ("/v1/rerank", false),
    ] {
        let mut config = json!({"kind": "http", "url": format!("{}{path}", server.address), "timeout": 60});
        if needs_tokenizer {
            config["tokenizer"] = world.path("base").display().to_string().into();
        }
        let spec: Spec = config.to_string().parse()?;
        let mut sources = reward_source::open(&[spec], &mut |dir| unreachable!("{}", dir.display()))?;
        sources.prepare(&Preparation { prompts: &prompts, logs: None })?;
        let scored = sources.score(&Answers { step: 0, rows: &answers })?.total;
        let bits: Vec<Option<u32>> = scored.iter().map(|reward| reward.map(f32::to_bits)).collect();
        ensure!(
            bits == raw.iter().map(|score| Some(score.to_bits())).collect::<Vec<_>>(),
            "{path}: {scored:?} {raw:?}"
        );
    }
    Ok(())
}

/// Protects: many clients at once get the scores that each gets alone, and the shared prompt of waiting
/// answers is computed once per batch.
#[test]
fn scores_do_not_depend_on_load_and_prompts_are_computed_once() -> Result<()> {
    let world = World::new()?;
    let tokenizer = tokenizer(&world)?;
    let question = "Tell me of the sea, the rain, the old trees and a road. ".repeat(4);
    let answers: Vec<String> = (0..32).map(|at| format!("It is {}.", "good ".repeat(1 + at % 8))).collect();
    let rows = answers.iter().map(|answer| json!({"messages": turns(&question, answer)}));
    let raw = scores(&world, &rows.collect::<Vec<_>>())?;
    let texts =
        answers.iter().map(|answer| rendered(&tokenizer, (&question, answer))).collect::<Result<Vec<_>>>()?;
    let prompt =
        tokenizer.encode_rendered(&tokenizer.render_chat(&[Message::new("user", &question)], true)?)?.len();
    let server = Server::start(&world, "--model base --batch-wait 300")?;
    let sent: Vec<Result<f32>> = thread::scope(|scope| {
        let send = |text: &String| -> Result<f32> {
            number(&server.post("/get_reward", &json!({"query": [text]}))?.ok()?["rewards"][0])
        };
        let threads: Vec<_> = texts.iter().map(|text| scope.spawn(move || send(text))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("panic"))))
            .collect()
    });
    for (sent, raw) in sent.into_iter().zip(&raw) {
        ensure!(sent?.to_bits() == raw.to_bits());
    }
    let batches = server.metric("pcrm_batch_tokens_count")?;
    let saved = server.metric("pcrm_prefix_tokens_saved_total")?;
    ensure!(
        batches < 32.0 && saved >= (32.0 - batches) * (prompt - 1) as f64,
        "{batches} batches save {saved} of {prompt}"
    );
    ensure!(server.metric("pcrm_score_count")? == 32.0 && server.metric("pcrm_queue_sequences")? == 0.0);
    Ok(())
}

/// Protects: each refusal has its status and the format of its protocol.
#[test]
fn refusals_have_the_form_of_the_protocol() -> Result<()> {
    let world = World::new()?;
    let server = Server::start(
        &world,
        "--model base --max-client-batch-size 3 --max-body-bytes 4000 --max-length 40",
    )?;
    let long = "word ".repeat(60);
    for (path, body, status, at, part) in [
        ("/classify", json!({"input": 7}), 400, "/error/message", "input: it is 7; expected a string"),
        ("/classify", json!({}), 400, "/error/message", "input: the field is missing"),
        ("/classify", json!({"input": []}), 400, "/error/message", "empty list"),
        ("/classify", json!({"input": ["a", 7]}), 400, "/error/message", "input[1]: it is 7"),
        (
            "/classify",
            json!({"input": [70000]}),
            400,
            "/error/message",
            "70000 is outside the model's vocabulary of 384",
        ),
        (
            "/classify",
            json!({"input": "a", "model": "other"}),
            404,
            "/error/message",
            "\"other\" is not served; expected one of: base",
        ),
        ("/classify", json!({"input": "a", "use_activation": "no"}), 400, "/error/message", "use_activation"),
        (
            "/classify",
            json!({"messages": [{"role": "user"}]}),
            400,
            "/error/message",
            "messages[0]: a message has no content",
        ),
        (
            "/classify",
            json!({"messages": turns("a", "b"), "chat_template": "x"}),
            400,
            "/error/message",
            "chat_template",
        ),
        ("/classify", json!({"text": {"a": 1}}), 400, "/message", "text: it is an object"),
        (
            "/score",
            json!({"text_1": ["a", "b"], "text_2": ["c"]}),
            400,
            "/error/message",
            "2 texts for 1 of text_2",
        ),
        (
            "/v1/score",
            json!({"query": "a", "items": ["b"], "label_token_ids": [1]}),
            400,
            "/message",
            "this is a reward model",
        ),
        (
            "/pooling",
            json!({"input": "a", "encoding_format": "hex"}),
            400,
            "/error/message",
            "encoding_format",
        ),
        ("/predict", json!({"inputs": [["a", "b", "c"]]}), 422, "/error", "inputs[0]: it is a list of 3"),
        ("/predict", json!({"inputs": []}), 400, "/error", "empty list"),
        ("/predict", json!({"inputs": long}), 422, "/error", "tokens; expected at most 40"),
        ("/rerank", json!({"query": "a", "texts": []}), 400, "/error", "empty list"),
        ("/get_reward", json!({"query": long}), 400, "/error", "tokens; expected at most 40"),
        ("/get_reward", json!({"query": ["a", "b", "c", "d"]}), 400, "/error", "4 texts; expected at most 3"),
        ("/get_reward", json!({"query": ["x".repeat(5000)]}), 413, "/error", "4000 bytes"),
        ("/get_reward", json!([1]), 400, "/error", "the body is a list of 1; expected a JSON object"),
        ("/nowhere", json!({}), 404, "/error/message", "/nowhere is not a path"),
    ] {
        let reply = server.post(path, &body)?;
        let json = reply.json()?;
        let message = json.pointer(at).and_then(Value::as_str).unwrap_or_default();
        ensure!(reply.status == status && message.contains(part), "{path} {body}: {} {json}", reply.status);
    }
    let tei = server.post("/predict", &json!({"inputs": 1}))?.json()?;
    ensure!(tei["error_type"] == "validation", "{tei}");
    ensure!(server.send("/predict", "application/json", b"{\"inputs\": ")?.status == 422);
    ensure!(server.send("/classify", "application/json", b"\xff\xfe")?.status == 400);
    ensure!(server.send("/classify", "text/plain", b"{\"input\": \"a\"}")?.status == 415);
    ensure!(server.get("/classify")?.status == 405);
    ensure!(server.get("/health")?.status == 200 && server.get("/health")?.text.is_empty());
    ensure!(server.metric("pcrm_requests_total")? >= 25.0);
    Ok(())
}

/// Protects: a conversation with a turn that the chat template leaves out is refused on every route that renders one,
/// since it has the score of another conversation.
#[test]
fn turns_that_vanish_are_refused() -> Result<()> {
    let world = World::new()?;
    world.write("base/chat_template.jinja", TWO_ROLES)?;
    let server = Server::start(&world, "--model base")?;
    let chat = json!([{"role": "human", "content": "a"}, {"role": "assistant", "content": "b"}]);
    for (path, messages) in [
        ("/classify", &chat),
        ("/tokenize", &chat),
        ("/classify", &json!([{"role": "human", "content": "a"}])),
    ] {
        let body = json!({"messages": messages, "add_generation_prompt": messages != &chat});
        let reply = server.post(path, &body)?;
        let text = &reply.text;
        ensure!(reply.status == 400 && text.contains("leaves no trace"), "{path}: {} {text}", reply.status);
    }
    server.post("/classify", &json!({"messages": turns("a", "b")}))?.ok()?;
    Ok(())
}

/// Protects: texts are truncated only if a request asks for it, on the side and to the length it names.
#[test]
fn texts_are_cut_only_where_that_is_asked() -> Result<()> {
    let world = World::new()?;
    let tokenizer = tokenizer(&world)?;
    let text = (0..80).map(|at| format!("w{at} ")).collect::<String>();
    let ids = tokenizer.encode(&text)?;
    let server = Server::start(&world, "--model base --max-length 40")?;
    let score = |path: &str, body: Value| -> Result<Value> { server.post(path, &body)?.ok() };
    let of_ids = |ids: &[u32]| -> Result<Value> {
        Ok(score("/classify", json!({"input": ids, "use_activation": false}))?["data"][0]["probs"][0].clone())
    };
    let (left, right) = (of_ids(&ids[ids.len() - 40..])?, of_ids(&ids[..40])?);
    ensure!(left != right);
    let vllm = |extra: Value| -> Result<Value> {
        let mut body = json!({"input": text, "use_activation": false});
        extra.as_object().into_iter().flatten().for_each(|(key, value)| body[key] = value.clone());
        Ok(score("/classify", body)?["data"][0]["probs"][0].clone())
    };
    ensure!(vllm(json!({"truncate_prompt_tokens": -1}))? == left);
    ensure!(vllm(json!({"truncate_prompt_tokens": 40, "truncation_side": "right"}))? == right);
    ensure!(vllm(json!({"truncate_prompt_tokens": 7}))? == of_ids(&ids[ids.len() - 7..])?);
    let tei = |direction: &str| -> Result<Value> {
        let body =
            json!({"inputs": text, "truncate": true, "raw_scores": true, "truncation_direction": direction});
        Ok(score("/predict", body)?[0]["score"].clone())
    };
    ensure!(tei("Left")? == left && tei("right")? == right);
    ensure!(server.post("/classify", &json!({"input": text, "truncate_prompt_tokens": 41}))?.status == 400);
    Ok(())
}

/// Protects: texts become tokens and tokens become texts as with the model's tokenizer, in the formats of vLLM and TEI,
/// and invalid requests are refused.
#[test]
fn texts_become_tokens_and_texts_again() -> Result<()> {
    let world = World::new()?;
    let tokenizer = tokenizer(&world)?;
    let server = Server::start(&world, "--model rm=base --max-client-batch-size 2")?;
    let text = "h\u{e9}llo, two  w\u{f6}rlds \u{1F600}</s>";
    let (ids, bare) = (tokenizer.encode(text)?, tokenizer.encode_rendered(text)?);
    let tei = server.post("/tokenize", &json!({"inputs": [text, "b"], "add_special_tokens": false}))?.ok()?;
    let rows = tei.as_array().context("no rows")?;
    let tokens = rows[0].as_array().context("no tokens")?;
    ensure!(rows.len() == 2 && tokens.len() == bare.len(), "{tei}");
    let mut covered = vec![false; text.len()];
    for (token, id) in tokens.iter().zip(&bare) {
        ensure!(token["id"] == *id, "{token}");
        if token["special"] == true {
            ensure!(
                token["text"] == "</s>" && token["start"].is_null() && token["stop"].is_null(),
                "{token}"
            );
            continue;
        }
        let place = |name: &str| token[name].as_u64().map(|at| at as usize).context("no place");
        let bytes = place("start")?..place("stop")?;
        let part = String::from_utf8_lossy(&text.as_bytes()[bytes.clone()]);
        ensure!(token["text"].as_str() == Some(&*part), "{token}");
        covered[bytes].fill(true);
    }
    let uncovered = covered.iter().filter(|covered| !**covered).count();
    ensure!(uncovered == 0 || uncovered == "</s>".len(), "{uncovered} bytes are in no token: {tei}");
    let vllm = server.post("/tokenize", &json!({"prompt": text, "return_token_strs": true}))?.ok()?;
    ensure!(
        vllm["tokens"] == json!(ids) && vllm["count"] == ids.len() && vllm["max_model_len"] == 512,
        "{vllm}"
    );
    ensure!(vllm["token_strs"].as_array().is_some_and(|names| names.len() == ids.len()), "{vllm}");
    let asked = json!({"messages": [{"role": "user", "content": "a"}], "model": "rm"});
    let rendered = tokenizer.render_chat(&[Message::new("user", "a")], true)?;
    let chat = server.post("/tokenize", &asked)?.ok()?;
    ensure!(chat["tokens"] == json!(tokenizer.encode_rendered(&rendered)?) && chat["token_strs"].is_null());
    let back = server.post("/detokenize", &json!({"tokens": ids}))?.ok()?;
    ensure!(back["prompt"] == tokenizer.decode(&ids)?, "{back}");
    let decoded = server.post("/decode", &json!({"ids": [ids, bare]}))?.ok()?;
    ensure!(decoded == json!([tokenizer.decode_plain(&ids)?, tokenizer.decode_plain(&bare)?]), "{decoded}");
    let single = server.post("/decode", &json!({"ids": bare, "skip_special_tokens": false}))?.ok()?;
    ensure!(single == json!([tokenizer.decode(&bare)?]), "{single}");
    for (path, body, status, part) in [
        ("/tokenize", json!({"inputs": ["a", "b", "c"]}), 422, "it has 3 texts; expected at most 2"),
        ("/tokenize", json!({"inputs": 7}), 422, "inputs: it is 7"),
        ("/tokenize", json!({}), 400, "prompt: the field is missing"),
        ("/tokenize", json!({"prompt": "a", "model": "other"}), 404, "other"),
        ("/detokenize", json!({"tokens": [70000]}), 400, "70000 is outside the tokenizer's vocabulary"),
        ("/detokenize", json!({"tokens": ["a"]}), 400, "tokens[0]"),
        ("/decode", json!({"ids": []}), 200, ""),
        ("/decode", json!({"ids": [[1], 2]}), 422, "ids[1]: it is 2"),
    ] {
        let answer = server.post(path, &body)?;
        ensure!(answer.status == status && answer.text.contains(part), "{path} {body}: {}", answer.text);
    }
    Ok(())
}

/// Protects: without the token only the health check answers, and without a token the server listens only on
/// the local machine.
#[test]
fn tokens_are_asked_for() -> Result<()> {
    let world = World::new()?;
    world.refuses("serve --model base --host 0.0.0.0", &["--host 0.0.0.0", "--open-to-all"])?;
    world.write("keys", "first\n\nsecond\n")?;
    let server = Server::start(&world, "--model base --api-key-file keys")?;
    let body = json!({"query": ["a"]});
    ensure!(server.post("/get_reward", &body)?.status == 401 && server.get("/metrics")?.status == 401);
    ensure!(server.get("/info")?.status == 401 && server.post("/reload", &json!({}))?.status == 401);
    ensure!(server.get("/health")?.status == 200);
    let server = server.with_token("second");
    ensure!(server.post("/get_reward", &body)?.status == 200 && server.get("/metrics")?.status == 200);
    let server = server.with_token("secon");
    ensure!(server.post("/get_reward", &body)?.status == 401);
    Ok(())
}

/// Protects: a full queue is refused at once with a retry time, and a client that disconnects costs no
/// computation.
#[test]
fn full_queues_are_said_and_clients_that_went_away_cost_nothing() -> Result<()> {
    let world = World::new()?;
    // A batch begins with its third text.
    let limits = "--max-concurrent-requests 2 --max-batch-requests 3 --batch-wait 100000";
    let server = Server::start(&world, &format!("--model base {limits}"))?;
    let post = |text: &str| server.post("/get_reward", &json!({"query": [text]}));
    let first = thread::scope(|scope| -> Result<Reply> {
        let first = scope.spawn(|| post("a"));
        server.await_metric("pcrm_queue_sequences", 1.0)?;
        let mut gone = TcpStream::connect(server.socket())?;
        let text = json!({"query": ["word ".repeat(60)]}).to_string();
        write!(gone, "POST /get_reward HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{text}", text.len())?;
        server.await_metric("pcrm_queue_sequences", 2.0)?;
        let refused = post("b")?;
        ensure!(
            refused.status == 429 && refused.header("retry-after") == Some("1"),
            "{} {}",
            refused.status,
            refused.text
        );
        drop(gone);
        server.await_metric("pcrm_clients_gone_total", 1.0)?;
        let third = post("c")?;
        ensure!(third.status == 200, "{} {}", third.status, third.text);
        first.join().map_err(|_| anyhow::anyhow!("panic"))?
    })?;
    ensure!(first.status == 200, "{} {}", first.status, first.text);
    ensure!(server.metric("pcrm_queue_sequences")? == 0.0);
    // The text of the client that went away has more than 100 tokens.
    let computed = server.metric("pcrm_computed_tokens_total")?;
    ensure!(0.0 < computed && computed < 100.0, "{computed} tokens were computed");
    Ok(())
}

/// Protects: after SIGTERM, pending requests are answered, even one that is still being sent; the server exits with
/// success, and new clients are refused.
#[cfg(unix)]
#[test]
fn requests_on_their_way_are_answered_before_the_end() -> Result<()> {
    let world = World::new()?;
    // A batch begins with its eighteenth text.
    let mut server = Server::start(&world, "--model base --max-batch-requests 18 --batch-wait 100000")?;
    let body = json!({"query": ["a", "b"]});
    let (replies, late) = thread::scope(|scope| -> Result<(Vec<u16>, String)> {
        let post = || server.post("/get_reward", &body).map(|reply| reply.status);
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(post)).collect();
        let text = body.to_string();
        let (begin, rest) = text.split_at(5);
        let head = "POST /get_reward HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length:";
        let mut late = TcpStream::connect(server.socket())?;
        late.set_read_timeout(Some(Duration::from_secs(60)))?;
        write!(late, "{head} {}\r\n\r\n{begin}", text.len())?;
        server.await_metric("pcrm_requests_in_flight", 9.0)?;
        server.signal("TERM")?;
        server.hears("stopping after the requests in flight")?;
        late.write_all(rest.as_bytes())?;
        let mut answer = String::new();
        late.read_to_string(&mut answer)?;
        let replies = threads.into_iter().map(|thread| thread.join().unwrap_or(Ok(0)));
        Ok((replies.collect::<Result<_>>()?, answer))
    })?;
    ensure!(late.starts_with("HTTP/1.1 200"), "{late}");
    ensure!(replies == [200; 8], "{replies:?}");
    ensure!(server.ended()?.success());
    ensure!(server.post("/get_reward", &body).is_err());
    Ok(())
}

/// Protects: models have names; a changed folder is reloaded without losing a request; a folder that does not
/// load leaves the old model in use.
#[cfg(unix)]
#[test]
fn models_have_names_and_are_reloaded_under_load() -> Result<()> {
    let world = World::new()?;
    world.run(
        "reward --model base --data train.jsonl --max-steps 3 --batch 4 --learning-rate 1e-2 --output other",
    )?;
    world.run(
        "reward --model base --data train.jsonl --eval-data test.jsonl --max-steps 2 --batch 4 --output rm",
    )?;
    let server = Server::start(&world, "--model first=rm --model other --api-key k")?.with_token("k");
    let score = |model: &str| -> Result<String> {
        let body = json!({"model": model, "input": "a text", "use_activation": false});
        Ok(server.post("/classify", &body)?.ok()?["data"][0]["probs"][0].to_string())
    };
    let (first, other) = (score("first")?, score("other")?);
    ensure!(first != other && score("default")? == first);
    let by_query =
        server.post("/get_reward?model=other", &json!({"query": "a text"}))?.ok()?["rewards"].to_string();
    ensure!(
        by_query != server.post("/get_reward", &json!({"query": "a text"}))?.ok()?["rewards"].to_string()
    );
    let info = server.get("/info")?.ok()?;
    ensure!(info["models"][0]["training_scores"]["low"].is_number(), "{info}");
    ensure!(server.get("/v1/models")?.ok()?["data"][1]["id"] == "other");
    ensure!(server.metric("pcrm_score_training_low")? != 0.0, "the training scores' range is missing");

    let weights = world.path("rm/model.safetensors");
    let old = std::fs::read(&weights)?;
    std::fs::rename(world.path("other/model.safetensors"), &weights)?;
    let seen = thread::scope(|scope| -> Result<Vec<String>> {
        let client = || (0..60).map(|_| score("first")).collect::<Result<Vec<_>>>();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(client)).collect();
        server.post("/reload", &json!({"model": "first"}))?.ok()?;
        let all: Vec<Vec<String>> =
            threads.into_iter().map(|thread| thread.join().unwrap_or(Ok(vec![]))).collect::<Result<_>>()?;
        Ok(all.concat())
    })?;
    ensure!(seen.len() == 240 && seen.iter().all(|score| *score == first || *score == other));
    ensure!(score("first")? == other);
    // SIGHUP reloads all models; the folder without weights does not load, and its model stays.
    std::fs::write(&weights, old)?;
    server.signal("HUP")?;
    server.hears("reloaded first")?;
    server.hears("the model \"other\" is unchanged")?;
    ensure!(score("first")? == first && score("other")? == other);
    ensure!(server.metric("pcrm_reloads_total")? == 3.0);
    Ok(())
}

/// Protects: TLS works with a certificate, the OpenAPI document has every scoring path, and slow clients are
/// disconnected.
#[test]
fn connections_are_encrypted_described_and_timed() -> Result<()> {
    let world = World::new()?;
    for name in ["cert.pem", "key.pem"] {
        std::fs::copy(beside("golden/tls").join(name), world.path(name))?;
    }
    world.refuses(
        "serve --model base --tls-cert key.pem --tls-key key.pem",
        &["--tls-cert key.pem", "no certificate"],
    )?;
    let server = Server::start(&world, "--model base --tls-cert cert.pem --tls-key key.pem")?;
    ensure!(server.address.starts_with("https://"), "{}", server.address);
    ensure!(server.post("/get_reward", &json!({"query": ["a"]}))?.status == 200);
    let document = server.get("/openapi.json")?.ok()?;
    for path in [
        "/",
        "/get_reward",
        "/classify",
        "/v1/classify",
        "/pooling",
        "/score",
        "/v1/score",
        "/rerank",
        "/predict",
    ] {
        ensure!(document["paths"][path]["post"]["responses"]["200"].is_object(), "{path} is not described");
    }
    let server = Server::start(&world, "--model base --header-timeout 3 --body-timeout 3")?;
    let open = |text: &str| -> Result<TcpStream> {
        let mut stream = TcpStream::connect(server.socket())?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.write_all(text.as_bytes())?;
        Ok(stream)
    };
    let mut slow = open("POST /get_reward HTTP/1.1\r\nhost: x\r\ncontent-length: 20\r\n\r\n{")?;
    let mut silent = open("POST /get_rew")?;
    let mut answer = String::new();
    slow.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 408") && answer.contains("within 3 seconds"), "{answer}");
    let mut answer = String::new();
    // The connection is closed, with or without a reply.
    let closed = silent.read_to_string(&mut answer);
    let is_late = |error: &Error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
    ensure!(!closed.is_err_and(|error| is_late(&error)), "the connection is open after a minute");
    ensure!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    ensure!(server.get("/health")?.status == 200);
    Ok(())
}
