//! Example commands in help texts, broken between options with backslashes, so that they can be copied from any
//! terminal.

use clap::Command;

/// The largest width of help texts, as clap formats them; also the width without a terminal.
const WIDEST: usize = 100;

/// Breaks the examples of a command and of its subcommands that are wider than the terminal.
pub fn fitted(command: Command) -> Command {
    let terminal = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    within(command, terminal.map_or(WIDEST, |width| width.min(WIDEST)))
}

fn within(command: Command, width: usize) -> Command {
    let [short, long] =
        [command.get_after_help(), command.get_after_long_help()].map(|text| Some(text?.to_string()));
    let command = match short {
        Some(text) => command.after_help(broken(&text, width)),
        None => command,
    };
    let command = match long {
        Some(text) => command.after_long_help(broken(&text, width)),
        None => command,
    };
    command.mut_subcommands(|command| within(command, width))
}

/// Breaks the commands of a text that are wider than `width` characters; other lines stay.
fn broken(text: &str, width: usize) -> String {
    let line = |line: &str| match line.starts_with("  pcrm ") && line.chars().count() > width {
        true => in_lines(line, width),
        false => line.to_owned(),
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

fn in_lines(command: &str, width: usize) -> String {
    let (mut lines, mut last) = (Vec::new(), String::new());
    for part in parts(command) {
        let fits = last.chars().count() + 1 + part.chars().count() + " \\".len() <= width;
        if last.is_empty() || fits {
            last += if last.is_empty() { "" } else { " " };
            last += &part;
        } else {
            lines.push(std::mem::replace(&mut last, format!("    {part}")) + " \\");
        }
    }
    lines.push(last);
    lines.join("\n")
}

/// Splits a command before each option and each further command; quoted texts stay whole.
fn parts(command: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut quotes = 0;
    for word in command.split(' ') {
        let begins = quotes % 2 == 0 && (word.starts_with("--") || ["|", "&&"].contains(&word));
        match parts.last_mut() {
            Some(part) if !begins => {
                part.push(' ');
                part.push_str(word);
            }
            _ => parts.push(word.to_owned()),
        }
        quotes += word.matches('\'').count();
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: a wide command is broken between options alone, and its words stay the same.
    #[test]
    fn wide_examples_can_be_copied() {
        let example =
            r#"  pcrm data split --data a.jsonl --field '{"x": --y}' -n 3 | jq . && pcrm score --model rm"#;
        let text = format!("Examples:\n{example}\n  pcrm plugins");
        assert_eq!(broken(&text, 100), text);
        let got = broken(&text, 40);
        assert_eq!(
            got,
            "Examples:\n  pcrm data split --data a.jsonl \\\n    --field '{\"x\": --y}' -n 3 | jq . \\\n    \
             && pcrm score --model rm\n  pcrm plugins"
        );
        let words =
            |text: &str| text.replace(" \\\n", " ").split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&got), words(&text));
    }

    /// Protects: no help text has an example that a terminal of 80 columns would wrap, except for words that are
    /// wider themselves.
    #[test]
    fn every_example_fits() {
        fn check(command: &Command) {
            for text in [command.get_after_help(), command.get_after_long_help()].into_iter().flatten() {
                let text = text.to_string();
                let wide =
                    text.lines().filter(|line| line.starts_with("  pcrm ") && line.chars().count() > 80);
                assert_eq!(wide.collect::<Vec<_>>(), Vec::<&str>::new(), "{}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&within(crate::command(), 80));
    }
}
