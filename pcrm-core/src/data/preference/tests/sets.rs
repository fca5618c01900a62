//! Sets of answers: their pairs, the order of pairs, and the treatment of ties.

use super::*;

/// Returns the set, answers and verdict of each pair.
fn verdicts(sets: &[AnswerSet]) -> Vec<(u32, u32, u32, Verdict)> {
    let verdicts = |pair: Preference<'_>| {
        let InSet { set, chosen, rejected } = pair.in_set.unwrap();
        (set, chosen, rejected, pair.verdict)
    };
    pairs(sets).map(verdicts).collect()
}

fn with_ties(text: &str, ties: Ties, strictness: Strictness) -> Result<(Vec<AnswerSet>, Report)> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    load_preferences(&[file.path().to_path_buf()], ReadOptions { strictness, ties, ..ReadOptions::default() })
}

const RANKED: &str = r#"{"prompt": "q", "responses": ["a", "b", "c"], "scores": [1, 3.5, 1.0]}
{"prompt": "p", "responses": ["d", "e"], "scores": [2, 2]}
{"prompt": "o", "responses": ["f", "g"], "ranks": [1, 2]}
"#;

/// Ties among answers are counted; a set of only ties is one problem; numbers count all sets.
#[test]
fn ties_in_sets_are_dropped_and_counted() {
    use Verdict::Preferred;
    let (sets, report) = with_ties(RANKED, Ties::Drop, Strictness::Skip).unwrap();
    assert_eq!(verdicts(&sets), [(0, 1, 0, Preferred), (0, 1, 2, Preferred), (2, 0, 1, Preferred)]);
    assert_eq!(sets[0].comparisons[0].scores, Some((3.5, 1.0)));
    let counts = report.counts();
    assert_eq!((counts[&ProblemKind::TieInSet], counts[&ProblemKind::Tie]), (1, 1));
    let refused = with_ties(RANKED, Ties::Drop, Strictness::Refuse).unwrap_err().to_string();
    assert!(refused.contains(":2: all answers rank equally"), "{refused}");
}

/// Kept ties stay in order with the first answer as `chosen`, and sets of only ties are kept too.
#[test]
fn ties_are_kept_in_their_place() {
    use Verdict::{Preferred, Tied};
    let (sets, report) = with_ties(RANKED, Ties::Keep, Strictness::Refuse).unwrap();
    let expected =
        [(0, 1, 0, Preferred), (0, 0, 2, Tied), (0, 1, 2, Preferred), (1, 0, 1, Tied), (2, 0, 1, Preferred)];
    assert_eq!(verdicts(&sets), expected);
    assert_eq!(pairs(&sets).nth(1).unwrap().chosen, &Content::Text("a".to_owned()));
    assert!(report.counts().is_empty());
}

/// Protects: equal scores make a tie of a record that is one pair; a margin of 0 in a record with an order does
/// not.
#[test]
fn tied_pairs_are_kept() {
    let text = "{\"chosen\": \"a\", \"rejected\": \"b\", \"margin\": 0}\n\
                {\"chosen\": \"c\", \"rejected\": \"d\", \"score_chosen\": 1, \"score_rejected\": 2}\n\
                {\"chosen\": \"e\", \"rejected\": \"f\", \"score_chosen\": 2, \"score_rejected\": 2}\n";
    let (sets, _) = with_ties(text, Ties::Keep, Strictness::Refuse).unwrap();
    let verdicts: Vec<Verdict> = pairs(&sets).map(|pair| pair.verdict).collect();
    assert_eq!(verdicts, [Verdict::Preferred, Verdict::Preferred, Verdict::Tied]);
    let (sets, report) = with_ties(text, Ties::Drop, Strictness::Skip).unwrap();
    assert_eq!((sets.len(), sets[0].comparisons[0].margin), (2, Some(0.0)));
    assert_eq!(report.counts()[&ProblemKind::Tie], 1);
    assert!(pairs(&sets).all(|pair| pair.in_set.is_none()));
}

/// RewardBench 2 does not compare its rejected answers with each other: they are not ties.
#[test]
fn answers_of_one_class_are_not_compared() {
    use Verdict::Preferred;
    let text = r#"{"prompt": "q", "chosen": ["a", "b"], "rejected": ["c", "d"], "subset": "Ties"}"#;
    let (sets, report) = with_ties(text, Ties::Keep, Strictness::Refuse).unwrap();
    let expected = [(0, 0, 2, Preferred), (0, 0, 3, Preferred), (0, 1, 2, Preferred), (0, 1, 3, Preferred)];
    assert_eq!(verdicts(&sets), expected);
    assert_eq!(report.schema, Some(Schema::RewardBench2));
}

/// A tree of messages and its separate messages give the same pairs.
#[test]
fn trees_and_messages_make_the_same_pairs() {
    let tree = r#"{"message_tree_id": "1", "prompt": {"message_id": "1", "text": "q", "role": "prompter", "replies": [
        {"message_id": "2", "parent_id": "1", "text": "a", "role": "assistant", "rank": 1, "replies": [
            {"message_id": "4", "parent_id": "2", "text": "and?", "role": "prompter", "replies": [
                {"message_id": "5", "parent_id": "4", "text": "x", "role": "assistant", "rank": 0, "replies": []},
                {"message_id": "6", "parent_id": "4", "text": "y", "role": "assistant", "rank": 1, "replies": []}]}]},
        {"message_id": "3", "parent_id": "1", "text": "b", "role": "assistant", "rank": 0, "replies": []},
        {"message_id": "7", "parent_id": "1", "text": "c", "role": "assistant", "deleted": true, "rank": 2}]}}"#
        .replace('\n', " ");
    let messages = r#"{"message_id": "1", "parent_id": null, "text": "q", "role": "prompter"}
{"message_id": "2", "parent_id": "1", "text": "a", "role": "assistant", "rank": 1}
{"message_id": "3", "parent_id": "1", "text": "b", "role": "assistant", "rank": 0}
{"message_id": "4", "parent_id": "2", "text": "and?", "role": "prompter"}
{"message_id": "5", "parent_id": "4", "text": "x", "role": "assistant", "rank": 0}
{"message_id": "6", "parent_id": "4", "text": "y", "role": "assistant", "rank": 1}
{"message_id": "7", "parent_id": "1", "text": "c", "role": "assistant", "rank": 2, "deleted": true}
"#;
    let read = |text: &str| {
        let (sets, _) = load_text(text, Strictness::Refuse).unwrap();
        let of = |pair: Preference<'_>| {
            (pair.prompt.cloned(), pair.chosen.clone(), pair.rejected.clone(), pair.in_set)
        };
        pairs(&sets).map(of).collect::<Vec<_>>()
    };
    let pairs = read(&tree);
    assert_eq!(pairs, read(messages));
    assert_eq!(messages_of(&pairs[0]), (vec!["q"], "b", "a"));
    assert_eq!(messages_of(&pairs[1]), (vec!["q", "a", "and?"], "x", "y"));
    assert_eq!(pairs[1].3, Some(InSet { set: 1, chosen: 0, rejected: 1 }));
}

type Pair = (Option<Content>, Content, Content, Option<InSet>);

fn messages_of((prompt, chosen, rejected, _): &Pair) -> (Vec<&str>, &str, &str) {
    let said = |content| messages(content).into_iter().map(|(_, said)| said).collect::<Vec<_>>();
    (said(prompt.as_ref().unwrap()), said(chosen)[0], said(rejected)[0])
}
