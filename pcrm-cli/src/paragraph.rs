//! Text wrapped for 80-column terminals.

const WIDTH: usize = 80;

/// Wraps text to lines of at most 80 characters, after a mark at the start of the first.
pub fn paragraph(mark: &str, text: &str) -> String {
    wrapped(mark, text, WIDTH)
}

/// Wraps text to lines of at most `width` characters, after a mark at the start of the first.
pub fn wrapped(mark: &str, text: &str, width: usize) -> String {
    let indent = " ".repeat(mark.chars().count());
    let (mut lines, mut line) = (String::new(), mark.to_owned());
    let mut begun = false;
    for word in text.split_whitespace() {
        if begun && line.chars().count() + 1 + word.chars().count() > width {
            lines.push_str(&line);
            lines.push('\n');
            (line, begun) = (indent.clone(), false);
        }
        if begun {
            line.push(' ');
        }
        line.push_str(word);
        begun = true;
    }
    format!("{lines}{line}\n")
}
