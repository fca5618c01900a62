//! Detects tables, which pcrm does not read: CSV, TSV and YAML.

/// Describes a text that is not JSON and how to convert it; returns `None` if it may be JSON.
pub(super) fn table(head: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let (first, second) = (lines.next()?.trim_end(), lines.next());
    let is_json = |line: &str| line.trim_start().starts_with(['{', '[']);
    if is_json(first) || second.is_some_and(is_json) {
        return None;
    }
    for (separator, name, pandas) in [
        (',', "CSV", ""),
        ('\t', "TSV (tab-separated columns)", ", sep='\\t'"),
        (';', "CSV with semicolons", ", sep=';'"),
    ] {
        let columns: Vec<&str> =
            first.split(separator).map(|column| column.trim().trim_matches('"')).collect();
        if columns.len() > 1 && columns.iter().all(|column| is_name(column)) {
            return Some(format!(
                "{name}, with the columns {}; expected JSON lines, JSON or Parquet: with Python's pandas, \
                 read_csv(\"in\"{pandas}).to_json(\"out.jsonl\", orient=\"records\", lines=True) writes JSON \
                 lines",
                columns.join(", ")
            ));
        }
    }
    let yaml = first == "---" || first.strip_prefix("- ").is_some_and(|entry| entry.contains(": "));
    yaml.then(|| "YAML; expected JSON lines, JSON or Parquet".to_owned())
}

/// Returns true if a table could have a column with this name.
fn is_name(column: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | ' ' | '.' | '/');
    !column.is_empty() && column.len() <= 64 && column.split(' ').count() <= 4 && column.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: tables are named with their columns and the conversion to JSON lines; prose and JSON are not
    /// tables.
    #[test]
    fn tables_are_named() {
        for (text, expected) in [
            ("prompt,chosen,rejected\nq,a,b\n", "CSV, with the columns prompt, chosen, rejected;"),
            ("\"prompt\",\"chosen\"\n\"q, r\",a\n", "CSV, with the columns prompt, chosen;"),
            (
                "prompt\tchosen\trejected\r\nq\ta\tb\r\n",
                "TSV (tab-separated columns), with the columns prompt",
            ),
            ("prompt;chosen\nq;a\n", "CSV with semicolons, with the columns prompt, chosen;"),
            ("- prompt: q\n  chosen: a\n", "YAML;"),
        ] {
            let said = table(text.as_bytes()).unwrap_or_default();
            assert!(said.starts_with(expected), "{said}");
        }
        for text in [
            "",
            "{\"a\": 1, \"b\": 2}\n",
            "# a, b\n{\"a\": 1}\n",
            "First Citizen:\nBefore we proceed, hear me\n",
        ] {
            assert_eq!(table(text.as_bytes()), None, "{text}");
        }
    }
}
