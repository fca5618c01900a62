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
    assert!(
        records[1].as_ref().unwrap_err().contains(": line 2: the file ends inside its array"),
        "{records:?}"
    );
}

/// Protects: objects over several lines, or several on a line, are read as `datasets` reads them.
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
    // A number that is not finite is found in its own object.
    let text = "{\"margin\":1} {\"margin\":NaN,\"t\":\"}{\"}\n";
    let Ok(objects) = parse(text) else { panic!("{text}") };
    assert_eq!(objects.iter().map(|(_, found)| found.len()).collect::<Vec<_>>(), [0, 1]);
    // Files joined with their byte order marks.
    assert_eq!(
        read("{\n\"a\":1\n}\n\u{feff}{\n\"a\":2\n}\n\u{feff}"),
        [ok(1, "{\"a\":1}"), ok(4, "{\"a\":2}")]
    );
}

/// Protects: a fault that hides where the next record begins refuses the file, with its line. Counting it as
/// one malformed record would hide how many are lost.
#[test]
fn faults_that_hide_records_refuse_the_file() {
    let (pair, array) = ("{\n \"a\": 1\n}\n", "[{\"a\": 1}, {\"a\": 2}]\n");
    for (text, kept, expected) in [
        (format!("{array}{array}"), 2, "line 2: '[' after the closing bracket of the array"),
        (format!("{array}{{\"a\": 3}}\n"), 2, "line 2: '{' after the closing bracket of the array"),
        ("[{\"a\": 1},\n{\"a\": 2".to_owned(), 1, "line 2: the file ends inside its array"),
        ("{\"data\": [{\"a\": 1}]\n".to_owned(), 1, "line 2: the file ends inside its object"),
        (
            "[{\"a\": 1},\n{\"a\": \"x},\n{\"b\": 2}]\n".to_owned(),
            1,
            "line 2: the file ends inside its array",
        ),
        ("[{\"a\": 1},\n{\"a\": \"x},\n{\"b\": y\"}]\n".to_owned(), 1, "line 2: broken JSON"),
        ("[{\"a\": 1},\n{\"a\": 2}},\n{\"b\": 3}]\n".to_owned(), 1, "line 2: broken JSON"),
        (format!("{pair}{{\n \"a\": x\n}}\n{pair}"), 1, "line 5: broken JSON"),
        (format!("{pair}{{\n \"a\": \"x\n}}\n{pair}{{\n \"a\": y\"\n}}\n"), 1, "line 5: broken JSON"),
        (format!("{pair}{{\n \"a\": 1\n{pair}{pair}"), 1, "line 4: the file ends inside an object"),
        (format!("{pair} \"a\": 1\n}}\n{pair}"), 1, "line 4: broken JSON"),
    ] {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let mut records: Vec<_> = Records::open(file.path()).unwrap().collect();
        let error = records.pop().unwrap().unwrap_err();
        assert!(
            matches!(error, Error::File { .. }) && error.to_string().contains(expected),
            "{text}: {error}"
        );
        assert!(records.len() == kept && records.iter().all(Result::is_ok), "{text}: {records:?}");

        // A slice that ends before the fault is whole; one that begins after it is refused.
        let slice = |range: &str| Records::open(&PathBuf::from(format!("{}{range}", file.path().display())));
        assert!(slice("[:1]").unwrap().all(|record| record.is_ok()), "{text}");
        let after = slice("[5:]").map(|_| ()).unwrap_err().to_string();
        assert!(after.contains(expected), "{text}: {after}");
    }
}

/// Protects: half of a surrogate pair, which Python writes for a text cut within a character, costs only its
/// own record, because the brackets around it are intact.
#[test]
fn unreadable_values_cost_one_record() {
    for text in ["[{\"a\":1}, {\"a\":\"\\ud83d\"}, {\"a\":3}]", "{\"a\":1}{\"a\":\"\\ud83d\"}\n{\"a\":3}"] {
        let records = read(text);
        let texts: Vec<_> =
            records.iter().map(|record| record.as_ref().ok().map(|(_, text)| &**text)).collect();
        assert_eq!(texts, [Some("{\"a\":1}"), None, Some("{\"a\":3}")], "{records:?}");
        let error = records[1].as_ref().unwrap_err();
        assert!(error.contains(":1: broken JSON: half of a surrogate pair (\\ud83d)"), "{error}");
    }
}

/// Protects: records that hold a list under a key such as `examples` are records. Only an object that is alone
/// in its file is searched for the records of the file.
#[test]
fn lists_in_records_are_not_the_records() {
    let record = |n: usize, long: &str| {
        format!("{{\"a\":{n},\"items\":[{{\"b\":1}},{{\"b\":2}}],\"long\":\"{long}\"}}")
    };
    let long = "x".repeat(3 * HEAD);
    for long in ["", &long] {
        let records: Vec<_> = (1..4).map(|n| ok(n as u64, &record(n, long))).collect();
        let lines: Vec<_> = (1..4).map(|n| record(n, long)).collect();
        assert!(read(&lines.join("\n")) == records, "one a line, of {} bytes", lines[0].len());
        let spread: Vec<_> = lines.iter().map(|line| line.replace("],", "],\n")).collect();
        let found = read(&spread.join("\n"));
        let texts = found.into_iter().map(|record| record.unwrap().1);
        assert!(texts.eq(lines.iter().cloned()), "spread, of {} bytes", lines[0].len());
        assert_eq!(read(&lines[0]), [ok(1, "{\"b\":1}"), ok(1, "{\"b\":2}")], "an object that is alone");
    }
    let two = "{\"chat\":[{\"b\":1}],\"items\":[{\"b\":2}]}";
    assert_eq!(read(&format!("{two}\n{two}\n")), [ok(1, two), ok(2, two)]);

    // An object that is too long for a record is not one, and nothing may follow it.
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "{}\n{{\"a\":2}}\n", record(1, &long)).unwrap();
    let last = Records::open_with(file.path(), HEAD).unwrap().last().unwrap().unwrap_err();
    let expected = "line 2: '{' after the object whose list \"items\" was read as the records";
    assert!(matches!(last, Error::File { .. }) && last.to_string().contains(expected), "{last}");
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

/// Protects: a Parquet or Arrow file with two columns of one name is refused, as a CSV file is: a record would hold
/// the last of them only.
#[test]
fn columns_of_one_name_refuse_the_file() {
    use arrow_schema::{DataType, Field, Schema};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    let parquet = |last: &str| {
        let columns = ["chosen", "rejected", last].map(|name| format!("optional binary {name} (UTF8);"));
        let schema = parse_message_type(&format!("message rows {{ {} }}", columns.concat())).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let properties = WriterProperties::builder().build();
        SerializedFileWriter::new(file.reopen().unwrap(), schema.into(), properties.into())
            .and_then(SerializedFileWriter::close)
            .unwrap();
        file
    };
    let arrow = |last: &str| {
        let columns = ["chosen", "rejected", last].map(|name| Field::new(name, DataType::Utf8, true));
        let file = tempfile::NamedTempFile::new().unwrap();
        let schema = Schema::new(columns.to_vec());
        let mut writer = arrow_ipc::writer::FileWriter::try_new(file.reopen().unwrap(), &schema).unwrap();
        writer.finish().unwrap();
        file
    };
    for write in [&parquet as &dyn Fn(&str) -> tempfile::NamedTempFile, &arrow] {
        assert_eq!(Records::open(write("margin").path()).unwrap().count(), 0);
        let said = Records::open(write("rejected").path()).map(|_| ()).unwrap_err().to_string();
        assert!(
            said.contains("names the column \"rejected\" twice; expected columns of different"),
            "{said}"
        );
    }
}
