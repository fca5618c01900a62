//! Encoding compared with TRL, and the guarantees of cutting.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value as Json;

use super::*;
use crate::data::answer_set::Comparison;
use crate::data::conversation::Message;
use crate::data::report::Origin;

fn golden(name: &str) -> std::path::PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/text")).join(name)
}

fn tokenizer(name: &str) -> Tokenizer {
    Tokenizer::from_dir(&golden(name)).unwrap()
}

fn origin(line: u64) -> Origin {
    Origin { file: Arc::from(Path::new("pairs.jsonl")), line, record: line }
}

fn pair(prompt: Option<&str>, chosen: &str, rejected: &str) -> AnswerSet {
    let text = |text: &str| Content::Text(text.to_owned());
    AnswerSet::pair(origin(1), prompt.map(text), text(chosen), text(rejected))
}

fn read_pair(row: &Json) -> AnswerSet {
    let content = |key: &str| Content::from_value(&row[key]);
    let prompt = row.get("prompt").map(|_| content("prompt").unwrap());
    let mut set =
        AnswerSet::pair(origin(1), prompt, content("chosen").unwrap(), content("rejected").unwrap());
    set.comparisons[0].margin = row["margin"].as_f64().map(|margin| margin as f32);
    set
}

/// Encodes without a limit for a model without padding.
fn encoded(sets: &[AnswerSet], tokenizer: &Tokenizer) -> (Vec<EncodedSet>, EncodeReport) {
    encode_sets(sets, tokenizer, &EncodeOptions::new(None)).unwrap()
}

fn ids(value: &Json) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Compares pairs with the rows that TRL keeps and their ids.
fn agree(name: &str, sets: &[AnswerSet], encoded: &[EncodedSet], kept: &[Json], tokenizer: &Tokenizer) {
    let rows: Vec<u64> = encoded.iter().map(|set| set.row as u64).collect();
    let expected: Vec<u64> = kept.iter().map(|row| row["row"].as_u64().unwrap()).collect();
    assert_eq!(rows, expected, "{name}: other rows are kept");
    for (pair, row) in pairs(encoded).zip(kept) {
        let (chosen, rejected) = (ids(&row["chosen_ids"]), ids(&row["rejected_ids"]));
        assert_eq!([pair.prompt, pair.chosen].concat(), chosen, "{name}: {row}");
        assert_eq!([pair.prompt, pair.rejected].concat(), rejected, "{name}: {row}");
        assert!(!pair.chosen.is_empty() && !pair.rejected.is_empty());
        let ended = pair.chosen.len() == 1 || pair.rejected.len() == 1;
        assert!(
            ended || pair.chosen[0] != pair.rejected[0],
            "{name}: the cut is not where they part: {pair:?}"
        );
        let source = sets[pair.row].pairs().next().unwrap();
        let alone = |answer| encode_text(source.prompt, answer, tokenizer, None).unwrap();
        assert_eq!((alone(source.chosen), alone(source.rejected)), (chosen, rejected), "{name}");
    }
}

/// Ids and kept rows equal TRL's reward trainer's for dialogues, explicit prompts, conversations, limits and
/// three tokenizers.
#[test]
fn sequences_are_those_of_trl() {
    let cases: Json = serde_json::from_slice(&std::fs::read(golden("trl.json")).unwrap()).unwrap();
    for case in cases.as_array().unwrap() {
        let tokenizer = tokenizer(case["tokenizer"].as_str().unwrap());
        let sets: Vec<AnswerSet> = case["rows"].as_array().unwrap().iter().map(read_pair).collect();
        let max_length = case["max_length"].as_u64().map(|limit| limit as usize);
        let options = EncodeOptions { max_length, ..EncodeOptions::new(None) };
        let (encoded, report) = encode_sets(&sets, &tokenizer, &options).unwrap();
        let kept = case["kept"].as_array().unwrap();
        agree(case["name"].as_str().unwrap(), &sets, &encoded, kept, &tokenizer);
        assert_eq!(report.dropped_too_long, sets.len() - kept.len());
        assert!(pairs(&encoded).all(|pair| pair.margin == sets[pair.row].comparisons[0].margin));
    }
    assert_eq!(cases.as_array().unwrap().len(), 18);
}

/// When one sequence begins with the other, or both differ at once, each answer keeps at least one token.
#[test]
fn the_cut_leaves_both_answers_a_token() {
    let tokenizer = tokenizer("plain");
    // The rejected sequence extends the chosen one, EOS included: only the reserved last token tells them
    // apart.
    let sets = [pair(None, "a</s>", "a</s>b</s>"), pair(None, "x", "y")];
    let (encoded, report) = encoded(&sets, &tokenizer);
    let pairs: Vec<_> = pairs(&encoded).collect();
    assert_eq!(pairs[0].prompt.len(), 1);
    assert_eq!(pairs[0].chosen, [tokenizer.eos().unwrap().id]);
    assert_eq!(pairs[0].rejected.len(), 3);
    assert!(pairs[1].prompt.is_empty() && encoded[1].shared == 0);
    assert_eq!((report.pairs, report.kept, report.longest), (2, 2, 4));
    assert_eq!((report.tokens, report.unique_tokens, report.padded_tokens), (10, 9, 16));
}

/// A prompt is cut from its left, its BOS stays, and both sequences then fit the limit exactly.
#[test]
fn prompts_are_cut_from_the_left() {
    let options = |limit| EncodeOptions {
        max_length: Some(limit),
        too_long: TooLong::CutPrompt,
        ..EncodeOptions::new(None)
    };
    for name in ["plain", "bos"] {
        let tokenizer = tokenizer(name);
        let sets = [pair(Some("abcdefgh"), "X", "YZ")];
        let (whole, _) = encoded(&sets, &tokenizer);
        let (cut, report) = encode_sets(&sets, &tokenizer, &options(7)).unwrap();
        assert_eq!((report.cut_prompts, report.longest), (1, 7));
        let (before, after) = (whole[0].pairs().next().unwrap(), cut[0].pairs().next().unwrap());
        assert_eq!((after.chosen, after.rejected), (before.chosen, before.rejected));
        assert!(before.prompt.ends_with(&after.prompt[1..]));
        let bos = tokenizer.bos().unwrap().id;
        assert_eq!(after.prompt[0] == bos, name == "bos");
        assert_eq!(after.identity, before.identity);
        assert!(cut[0].answers.iter().all(|answer| answer.answer_start == after.prompt.len()));
        // The answers alone need three tokens, and a BOS one more.
        let least = if name == "bos" { 4 } else { 3 };
        assert!(encode_sets(&sets, &tokenizer, &options(least)).is_ok());
        let error = encode_sets(&sets, &tokenizer, &options(least - 1)).unwrap_err().to_string();
        assert!(error.contains("no pair is left: of 1, 1 exceed"), "{error}");
    }
}

/// The identity depends on the content, not on the file or the order, and differs for the reversed pair.
#[test]
fn identities_belong_to_the_content() {
    let tokenizer = tokenizer("plain");
    let mut sets = vec![pair(Some("q"), "a", "b"), pair(Some("q"), "b", "a"), pair(None, "qa", "qb")];
    let encode = |sets: &[AnswerSet]| {
        pairs(&encoded(sets, &tokenizer).0).map(|pair| pair.identity).collect::<Vec<_>>()
    };
    let first = encode(&sets);
    assert_ne!(first[0], first[1]);
    assert_eq!(first[0], first[2], "the same rendered texts");
    sets.reverse();
    sets[2].origin = origin(99);
    let mut second = encode(&sets);
    second.reverse();
    assert_eq!(first, second);
}

/// Texts for people and sentence encoders have templates in the prompt and none in the answers.
#[test]
fn readable_texts_are_taken_apart() {
    let tokenizer = tokenizer("plain");
    let message = |role: &str, text: &str| Message::new(role, text);
    let answer = |said: &str| Content::Messages(vec![message("user", "q"), message("assistant", said)]);
    let chat = AnswerSet::pair(origin(1), None, answer("yes"), answer("yeah"));
    let hh = pair(None, "\n\nHuman: q\n\nAssistant: I do", "\n\nHuman: q\n\nAssistant: I am");
    let (encoded, _) = encoded(&[chat, hh, pair(Some("q "), "a", "b")], &tokenizer);
    let texts: Vec<[&str; 3]> =
        pairs(&encoded).map(|pair| [pair.prompt_text, pair.chosen_text, pair.rejected_text]).collect();
    assert_eq!(
        texts,
        [
            ["<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n", "yes", "yeah"],
            ["\n\nHuman: q\n\nAssistant:", " I do", " I am"],
            ["q ", "a", "b"],
        ]
    );
}

/// Errors name the fault: no EOS, no template, a refusal by the template with its line, only identical
/// answers.
#[test]
fn sets_that_cannot_be_encoded_are_refused() {
    let bare = tempfile::tempdir().unwrap();
    std::fs::copy(golden("plain/tokenizer.json"), bare.path().join("tokenizer.json")).unwrap();
    let bare = Tokenizer::from_dir(bare.path()).unwrap();
    let said = |set: AnswerSet, tokenizer: &Tokenizer| {
        encode_sets(&[set], tokenizer, &EncodeOptions::new(None)).unwrap_err().to_string()
    };
    assert!(said(pair(None, "a", "b"), &bare).starts_with("tokenizer: no EOS token is known"));
    let turn = |role: &str, said: &str| Content::Messages(vec![Message::new(role, said)]);
    let chat = |role: &str| AnswerSet::pair(origin(1), None, turn(role, "a"), turn(role, "b"));
    assert!(said(chat("user"), &bare).contains("no chat template"));
    let refused = said(chat("system"), &tokenizer("bos"));
    assert_eq!(refused, "pairs.jsonl:1: the chat template refuses these messages: only user and assistant");
    let mixed = AnswerSet { prompt: Some(Content::Text("q".to_owned())), ..chat("user") };
    assert!(said(mixed, &tokenizer("bos")).starts_with("pairs.jsonl:1: a conversation beside a plain text"));
    let beyond = AnswerSet { comparisons: vec![Comparison::preferring(0, 2)], ..pair(None, "a", "b") };
    assert!(said(beyond, &tokenizer("plain")).contains("answer 2 is compared, of 2 answers"));
    assert!(said(pair(None, "a", "a</s>"), &tokenizer("plain")).contains("1 are identical as tokens"));
    assert!("cut".parse::<TooLong>().unwrap_err().to_string().contains("expected drop or cut-prompt"));
}

/// Creates a ranked set where every answer is preferred to those after it.
fn ranked(prompt: &str, answers: &[&str]) -> AnswerSet {
    let count = answers.len() as u32;
    let text = |text: &&str| Content::Text((*text).to_owned());
    let comparisons = (0..count).flat_map(|chosen| (chosen + 1..count).map(move |other| (chosen, other)));
    AnswerSet {
        answers: answers.iter().map(text).collect(),
        comparisons: comparisons.map(|(chosen, other)| Comparison::preferring(chosen, other)).collect(),
        ranked: Some(0),
        ..pair(Some(prompt), "", "")
    }
}

/// Protects: a set of K answers takes K tokenisations of answers and one of the prompt, and gives the same
/// pairs as separate records.
#[test]
fn every_answer_is_tokenised_once() {
    let tokenizer = tokenizer("plain");
    let answers = ["good", "fair", "poor", "bad", "worse"];
    let set = ranked("q: ", &answers);
    let before = tokenizer.calls();
    let (sets, _) = encoded(std::slice::from_ref(&set), &tokenizer);
    assert_eq!(tokenizer.calls() - before, answers.len() + 1);
    assert_eq!((sets[0].answers.len(), sets[0].comparisons.len()), (5, 10));
    for (pair, source) in sets[0].pairs().zip(set.pairs()) {
        let two = [source.chosen, source.rejected].map(Clone::clone);
        let [chosen, rejected] = two;
        let alone = AnswerSet::pair(origin(1), set.prompt.clone(), chosen, rejected);
        let (alone, _) = encoded(&[alone], &tokenizer);
        let alone = alone[0].pairs().next().unwrap();
        assert_eq!(EncodedPair { row: 0, in_set: None, ..pair }, alone);
    }
}

/// Protects: answers with the same tokens become one answer, and pairs of such answers are counted.
#[test]
fn equal_sequences_are_one_answer() {
    let tokenizer = tokenizer("plain");
    let (sets, report) = encoded(&[ranked("q ", &["a", "b", "a</s>"])], &tokenizer);
    let compared: Vec<_> = sets[0].comparisons.iter().map(|pair| (pair.chosen, pair.rejected)).collect();
    assert_eq!((sets[0].answers.len(), compared), (2, vec![(0, 1), (1, 0)]));
    assert_eq!((report.pairs, report.kept, report.identical_after_tokenisation), (3, 2, 1));
    assert_eq!(report.tokens, sets[0].tokens());
}

/// Protects: an answer beyond the limit removes its own comparisons only; a prompt is cut once for the whole
/// set, as far as the longest answer that can be kept requires.
#[test]
fn long_answers_leave_their_set() {
    let tokenizer = tokenizer("plain");
    let set = [ranked("ABCD", &["X", "YZXYZX", "XYZ"])];
    let at = |max_length, too_long| {
        let options = EncodeOptions { max_length: Some(max_length), too_long, ..EncodeOptions::new(None) };
        let (sets, report) = encode_sets(&set, &tokenizer, &options).unwrap();
        let lengths: Vec<usize> = sets[0].answers.iter().map(|answer| answer.ids.len()).collect();
        let in_set = sets[0].pairs().filter_map(|pair| pair.in_set).map(|pair| (pair.chosen, pair.rejected));
        (lengths, in_set.collect::<Vec<_>>(), report.dropped_too_long, report.cut_prompts)
    };
    // Every capital is a token; each answer has an EOS.
    assert_eq!(at(11, TooLong::Drop), (vec![6, 11, 8], vec![(0, 1), (0, 2), (1, 2)], 0, 0));
    assert_eq!(at(10, TooLong::Drop), (vec![6, 8], vec![(0, 2)], 2, 0));
    assert_eq!(at(9, TooLong::CutPrompt), (vec![4, 9, 6], vec![(0, 1), (0, 2), (1, 2)], 0, 3));
    assert_eq!(at(6, TooLong::CutPrompt), (vec![4, 6], vec![(0, 2)], 2, 1));
}

/// Protects: padding is removed from the ends only, and before sequences are compared and counted, so the
/// report counts training tokens.
#[test]
fn padding_is_removed_while_encoding() {
    let tokenizer = tokenizer("plain");
    let eos = tokenizer.eos().unwrap().id;
    let options = EncodeOptions::new(Some(eos));
    let sets = [pair(Some("Q"), "X", "Y"), pair(Some("Q"), "X</s></s>", "X"), pair(Some("Q"), "X</s>Y", "Z")];
    let (encoded, report) = encode_sets(&sets, &tokenizer, &options).unwrap();
    assert!(encoded.iter().flat_map(|set| &set.answers).all(|answer| answer.ids.last() != Some(&eos)));
    assert_eq!((report.kept, report.identical_after_tokenisation), (2, 1));
    assert_eq!(report.tokens, (2 + 2) + (4 + 2));
    assert_eq!((report.unique_tokens, report.longest), (3 + 5, 4));
}

/// Protects: sets from another tool's tokens; sequences part where the tokens do, regardless of the given
/// prompt, and sets without a valid comparison are dropped.
#[test]
fn sets_are_made_of_tokens() {
    let of = |prompt: &[u32], answers: &[&[u32]]| {
        let answers: Vec<Vec<u32>> = answers.iter().map(|ids| ids.to_vec()).collect();
        let count = answers.len() as u32;
        let comparisons: Vec<Comparison> = (0..count)
            .flat_map(|chosen| (chosen + 1..count).map(move |other| Comparison::preferring(chosen, other)))
            .collect();
        EncodedSet::of_tokens(origin(1), prompt, &answers, &comparisons)
    };
    let set = of(&[1, 2], &[&[3, 4], &[3, 5], &[6]]).unwrap();
    assert_eq!((set.prompt(), set.shared, set.longest()), (&[1, 2][..], 2, 4));
    let cuts: Vec<_> = set.comparisons.iter().map(|pair| (pair.chosen, pair.rejected, pair.cut)).collect();
    assert_eq!(cuts, [(0, 1, 3), (0, 2, 2), (1, 2, 2)]);
    assert_eq!((set.tokens(), set.unique_tokens()), (11, 7));
    assert!(set.answers.iter().all(|answer| answer.answer_start == 2));
    let pair = of(&[1], &[&[2, 3], &[2, 4, 5]]).unwrap();
    let view = pair.pairs().next().unwrap();
    assert_eq!((view.prompt, view.chosen, view.rejected), (&[1, 2][..], &[3][..], &[4, 5][..]));
    assert_eq!((view.longest(), view.tokens(), view.unique_tokens()), (4, 7, 5));
    let apart: Vec<_> = set.apart().map(|set| (set.shared, set.answers.len())).collect();
    assert_eq!(apart, [(3, 2), (2, 2), (2, 2)]);
    assert_eq!(of(&[1], &[&[2], &[]]), None);
    assert_eq!(of(&[1], &[&[2], &[2]]), None);
}

/// Protects: padding is removed from the ends of sequences only, even where that shortens the common prefix.
#[test]
fn padding_goes_from_the_ends_alone() {
    let of = |prompt: &[u32], chosen: &[u32], rejected: &[u32]| {
        let answers = [chosen.to_vec(), rejected.to_vec()];
        EncodedSet::of_tokens(origin(1), prompt, &answers, &[Comparison::preferring(0, 1)]).unwrap()
    };
    for (set, prompt, chosen, rejected) in [
        (of(&[1, 9], &[2, 9, 9], &[3, 9]), &[1, 9][..], &[2][..], &[3][..]),
        (of(&[1, 2], &[9], &[3, 9]), &[1], &[2], &[2, 3]),
        (of(&[9], &[9], &[3]), &[], &[9], &[9, 3]),
        (of(&[1], &[9, 2], &[3]), &[1], &[9, 2], &[3]),
    ] {
        let stripped = set.without_padding(9, &mut Removed::default()).unwrap();
        let pair = stripped.pairs().next().unwrap();
        assert_eq!((pair.prompt, pair.chosen, pair.rejected), (prompt, chosen, rejected));
    }
}

/// Protects: the beginning of an answer that the template writes before every answer is part of the prompt,
/// even if the template writes more when it asks for one, as those of reasoning models do.
#[test]
fn answers_begin_after_the_tokens_that_open_them() {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(golden("plain")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                    {% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}";
    std::fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
    let tokenizer = Tokenizer::from_dir(dir.path()).unwrap();
    let opened = tokenizer.encode_rendered("<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n").unwrap();
    let chat = |turns: &[(&str, &str)]| {
        Content::Messages(turns.iter().map(|(role, said)| Message::new(*role, *said)).collect())
    };
    let answers = ["yes", "no"].map(|said| chat(&[("assistant", said)]));
    let whole = ["yes", "no"].map(|said| chat(&[("user", "q"), ("assistant", said)]));
    for (prompt, [chosen, rejected]) in [(Some(chat(&[("user", "q")])), answers), (None, whole)] {
        let (sets, _) = encoded(&[AnswerSet::pair(origin(1), prompt, chosen, rejected)], &tokenizer);
        for answer in &sets[0].answers {
            assert_eq!(answer.ids[..answer.answer_start], opened);
        }
    }
}

/// Protects: both answers begin at the same token, the earlier of the two, as in TRL's DPO trainer: " I" is
/// one token, so that the blank that ends the prompt belongs to the answers.
#[test]
fn answers_of_a_set_begin_at_one_token() {
    let tokenizer = tokenizer("plain");
    for (chosen, rejected) in [("I", "x"), ("x", "I")] {
        let (sets, _) = encoded(&[pair(Some("q "), chosen, rejected)], &tokenizer);
        let lengths: Vec<usize> = sets[0].answers.iter().map(|answer| answer.ids.len()).collect();
        assert_eq!(lengths.iter().sum::<usize>(), 3 + 4, "q, \" I\", end and q, blank, x, end");
        assert!(sets[0].answers.iter().all(|answer| answer.answer_start == 1), "{sets:?}");
    }
}

/// Protects: an answer begins where TRL's SFT trainer starts training on it, even if a token covers the end
/// of the prompt and the beginning of the answer, and regardless of the other answer.
#[test]
fn answers_begin_where_trl_learns_them() {
    let golden: Json = serde_json::from_slice(&std::fs::read(golden("sft.json")).unwrap()).unwrap();
    let mut checked = 0;
    for case in golden["cases"].as_array().unwrap() {
        let prompted = ["completion", "chat"].contains(&case["name"].as_str().unwrap());
        if !prompted || !case["template"].is_null() || !case["config"]["max_length"].is_null() {
            continue;
        }
        let tokenizer = tokenizer(case["tokenizer"].as_str().unwrap());
        for kept in case["kept"].as_array().unwrap() {
            let row = &case["rows"][kept["row"].as_u64().unwrap() as usize];
            let [prompt, completion] =
                ["prompt", "completion"].map(|key| Content::from_value(&row[key]).unwrap());
            let other = match &completion {
                Content::Text(_) => Content::Text("zebra".to_owned()),
                Content::Messages(_) => Content::Messages(vec![Message::new("assistant", "zebra")]),
            };
            let set = AnswerSet::pair(origin(1), Some(prompt), completion, other);
            let answer = &encoded(&[set], &tokenizer).0[0].answers[0];
            let learned = kept["learned"].as_str().unwrap().find('1').unwrap();
            assert_eq!((&answer.ids, answer.answer_start), (&ids(&kept["ids"]), learned), "{row}");
            checked += 1;
        }
    }
    assert_eq!(checked, 3 * (5 + 3));
}
