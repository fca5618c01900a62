//! Options of sampling.

use super::*;

/// Protects: a stop string that is a special token stops at its id, other strings stop at their text, and
/// a mixture, which no answer's text contains, is refused.
#[test]
fn special_tokens_stop_by_their_ids() {
    let special = [SpecialToken { text: "<|im_end|>".to_owned(), id: 5 }];
    let split = |stops: &[&str]| {
        let mut ids = BTreeSet::from([2]);
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        split_stops(&stops, &special, &mut ids).map(|strings| (strings, ids))
    };
    assert_eq!(split(&["<|im_end|>", "\n\n"]).unwrap(), (vec!["\n\n".to_owned()], BTreeSet::from([2, 5])));
    let said = split(&["<|im_end|>\n"]).unwrap_err().to_string();
    assert!(said.contains(r#"--stop "<|im_end|>\n""#) && said.contains(r#""<|im_end|>" alone"#), "{said}");
}
