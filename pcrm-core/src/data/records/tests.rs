use std::io::Write;

use super::*;

fn read(text: &str) -> Vec<Result<(u64, String), String>> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    Records::open(file.path())
        .unwrap()
        .map(|record| match record {
            Ok((number, record)) => Ok((number, Value::Object(record).to_string())),
            Err(error) => Err(error.to_string()),
        })
        .collect()
}

fn ok(line: u64, text: &str) -> Result<(u64, String), String> {
    Ok((line, text.to_owned()))
}

/// Both formats yield the same records and first lines, with brackets and quotes in strings.
#[test]
fn arrays_and_lines_give_the_same_records() {
    assert_eq!(read("{\"a\":1}\n\n{\"a\":2}\n"), vec![ok(1, "{\"a\":1}"), ok(3, "{\"a\":2}")]);
    let records = read("[\n  {\n    \"a\": \"x ] \\\" } ,\"\n  },\n  {\"a\": [1, {}]}, 3\n]\n");
    assert_eq!(records[..2], [ok(2, "{\"a\":\"x ] \\\" } ,\"}"), ok(5, "{\"a\":[1,{}]}")]);
    assert!(records[2].as_ref().unwrap_err().contains(":5: a number; expected a JSON object"), "{records:?}");
    assert_eq!(read("[]"), vec![]);
}

/// A truncated download must not be read as a shorter data set.
#[test]
fn an_array_that_does_not_close_is_an_error() {
    let records = read("[{\"a\":1},\n{\"a\":");
    assert_eq!(records[0], ok(1, "{\"a\":1}"));
    assert!(records[1].as_ref().unwrap_err().contains(":2: the file ends inside its array"), "{records:?}");
}

/// Protects: objects over several lines, or several on a line, are read as `datasets` reads them; a broken
/// one among them is reported with its line and the others are kept.
#[test]
fn objects_may_be_spread_or_glued() {
    assert_eq!(
        read("{\n \"a\": 1\n}\n{\n \"a\": \"}\\n{\"\n}\n"),
        vec![ok(1, "{\"a\":1}"), ok(4, "{\"a\":\"}\\n{\"}")]
    );
    assert_eq!(
        read("{\"a\":1}{\"a\":2} {\"a\":3}\n"),
        (1..4).map(|n| ok(1, &format!("{{\"a\":{n}}}"))).collect::<Vec<_>>()
    );
    // Lines joined without a line break in the middle of a file.
    assert_eq!(read("{\"a\":1}\n{\"a\":2}\u{feff}{\"a\":3}\n").len(), 2);
    assert_eq!(read("{\"a\":1}\n{\"a\":2}{\"a\":3}\n")[1..], [ok(2, "{\"a\":2}"), ok(2, "{\"a\":3}")]);
    let broken = read("{\n \"a\": 1\n}\n{\n \"a\": x\n}\n{\n \"a\": 2\n}\n{\"a\":");
    assert_eq!((&broken[0], &broken[2]), (&ok(1, "{\"a\":1}"), &ok(7, "{\"a\":2}")));
    assert!(broken[1].as_ref().unwrap_err().contains(":4: broken JSON"), "{broken:?}");
    assert!(broken[3].as_ref().unwrap_err().contains(":10: the file ends inside an object"), "{broken:?}");
}

/// Protects: a truncated line is one broken record, regardless of the lines after it.
#[test]
fn broken_lines_do_not_swallow_their_neighbours() {
    for first in ["{\"a\": \"cut", "{\"a\": [1,", "{\"a\":1}}", "# made by hand"] {
        let records = read(&format!("{first}\n{{\"a\":2}}\n{{\"a\":3}}\n"));
        assert_eq!(records[1..], [ok(2, "{\"a\":2}"), ok(3, "{\"a\":3}")], "{first}");
        assert!(records[0].is_err(), "{first}");
    }
    let marks = read("{\"a\":1}\n\u{feff}{\"a\":2}\n");
    assert_eq!(marks, vec![ok(1, "{\"a\":1}"), ok(2, "{\"a\":2}")]);
}

fn refusal(text: &str) -> String {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    match Records::open(file.path()) {
        Ok(records) => {
            records.filter_map(Result::err).last().map_or(String::new(), |error| error.to_string())
        }
        Err(error) => error.to_string(),
    }
}

/// Protects: a file with two lists is refused regardless of the second's position, and so are objects
/// separated by commas.
#[test]
fn lists_are_not_chosen_among() {
    for text in [
        "{\"train\": [{\"a\": 1}], \"test\": [{\"a\": 2}]}",
        "{\"validation\": [{\"a\": 2}], \"version\": 3, \"train\": [ {\"a\": 1}]}",
        "{\"data\": [{\"a\": 1}],\n \"more\": {\"x\": [1]}, \"held_out\" : [\n{\"a\": 2}]}",
    ] {
        assert!(refusal(text).contains("two lists of objects"), "{}", refusal(text));
    }
    assert!(refusal("{\"train\": [{\"a\": 1}], \"test\": [{\"a\": 2}]}").contains("\"train\" and \"test\""));
    assert_eq!(
        read("{\"tags\": [\"x\"], \"data\": [{\"a\": [{}]}], \"ids\": [3]}"),
        vec![ok(1, "{\"a\":[{}]}")]
    );
    let commas = refusal("{\"a\": 1},\n{\"a\": 2}\n");
    assert!(commas.contains("a comma after the first object"), "{commas}");
    assert!(refusal("{\n\"a\": 1\n},\n{\"a\": 2}\n").contains("a comma after the first object"));
}
