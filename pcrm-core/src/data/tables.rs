//! Detects tables: CSV and TSV, which are read, and YAML, which is not.

use std::path::Path;

/// The form of a text that is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    /// Rows of cells with this separator.
    Separated(u8),
    /// YAML.
    Yaml,
}

/// Returns the form of a table, by the file's name or by its beginning; `None` if it may be JSON.
pub(super) fn table(path: &Path, head: &[u8]) -> Option<Table> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let plain = name.strip_suffix(".gz").or(name.strip_suffix(".zst")).unwrap_or(&name);
    if plain.ends_with(".tsv") {
        return Some(Table::Separated(b'\t'));
    }
    let text = String::from_utf8_lossy(head);
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let (first, second) = (lines.next()?.trim_end(), lines.next());
    let is_json = |line: &str| line.trim_start().starts_with(['{', '[']);
    if is_json(first) || second.is_some_and(is_json) {
        return None;
    }
    for separator in [',', '\t', ';'] {
        let columns: Vec<&str> =
            first.split(separator).map(|column| column.trim().trim_matches('"')).collect();
        if columns.len() > 1 && columns.iter().all(|column| is_name(column)) {
            return Some(Table::Separated(separator as u8));
        }
    }
    if plain.ends_with(".csv") {
        return Some(Table::Separated(b','));
    }
    let yaml = first == "---" || first.strip_prefix("- ").is_some_and(|entry| entry.contains(": "));
    yaml.then_some(Table::Yaml)
}

/// Returns true if a table could have a column with this name.
fn is_name(column: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | ' ' | '.' | '/');
    !column.is_empty() && column.len() <= 64 && column.split(' ').count() <= 4 && column.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: tables are recognised by their header or their name; prose and JSON are not tables.
    #[test]
    fn tables_are_recognised() {
        let of = |name: &str, text: &str| table(Path::new(name), text.as_bytes());
        for (text, expected) in [
            ("prompt,chosen,rejected\nq,a,b\n", Table::Separated(b',')),
            ("\"prompt\",\"chosen\"\n\"q, r\",a\n", Table::Separated(b',')),
            ("prompt\tchosen\trejected\r\nq\ta\tb\r\n", Table::Separated(b'\t')),
            ("prompt;chosen\nq;a\n", Table::Separated(b';')),
            ("- prompt: q\n  chosen: a\n", Table::Yaml),
        ] {
            assert_eq!(of("data", text), Some(expected), "{text}");
        }
        for text in [
            "",
            "{\"a\": 1, \"b\": 2}\n",
            "# a, b\n{\"a\": 1}\n",
            "First Citizen:\nBefore we proceed, hear me\n",
        ] {
            assert_eq!(of("data", text), None, "{text}");
        }
        assert_eq!(of("texts.csv.gz", "text\nHello!\n"), Some(Table::Separated(b',')));
        assert_eq!(of("texts.TSV", "text\nHello!\n"), Some(Table::Separated(b'\t')));
        assert_eq!(of("rows.csv", "{\"a\": 1}\n"), None);
    }
}
