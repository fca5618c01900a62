//! A page of text for a terminal: headings, wrapped lines, columns.

use anstream::AutoStream;
use anstream::stream::RawStream;
use anstyle::{AnsiColor, Color, Style};
use clap::ColorChoice;
use pcrm_core::text::visible;
use terminal_size::terminal_size;
use unicode_width::UnicodeWidthStr;

/// The width without a terminal, in columns.
const WIDTH: usize = 80;
/// The widest page, in columns.
const WIDEST: usize = 120;
const NARROWEST: usize = 60;

/// The use of colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// Marks only.
    Plain,
    /// Colours and marks.
    Coloured,
}

impl Paint {
    /// Applies a style to text, if styles are used.
    pub fn styled(self, text: &str, style: Style) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Coloured => format!("{style}{text}{style:#}"),
        }
    }
}

/// Returns a style of this colour.
pub fn coloured(colour: AnsiColor) -> Style {
    Style::new().fg_color(Some(Color::Ansi(colour)))
}

/// The printed lines.
#[derive(Debug)]
pub struct Page {
    /// The largest width of a line.
    pub width: usize,
    /// The use of colours.
    pub paint: Paint,
    text: String,
}

impl Page {
    /// Returns an empty page for this stream.
    pub fn on<S: RawStream>(stream: &S, colours: ColorChoice) -> Self {
        let coloured = match colours {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => AutoStream::choice(stream) != anstream::ColorChoice::Never,
        };
        let columns =
            stream.is_terminal().then(terminal_size).flatten().map(|(width, _)| usize::from(width.0));
        Self {
            width: columns.unwrap_or(WIDTH).clamp(NARROWEST, WIDEST),
            paint: if coloured { Paint::Coloured } else { Paint::Plain },
            text: String::new(),
        }
    }

    /// Returns an empty page without colours.
    #[cfg(test)]
    pub fn plain(width: usize) -> Self {
        Self { width, paint: Paint::Plain, text: String::new() }
    }

    /// Returns the written text. It contains no control sequences but the styles of [`Paint`].
    pub fn text(&self) -> String {
        let mut parts = self.text.split('\u{1b}');
        let mut shown = visible(parts.next().unwrap_or_default()).into_owned();
        for part in parts {
            let style = part.split_once('m').filter(|(codes, _)| {
                self.paint == Paint::Coloured
                    && codes
                        .strip_prefix('[')
                        .is_some_and(|codes| codes.bytes().all(|byte| byte.is_ascii_digit()))
            });
            shown.push_str(if style.is_some() { "\u{1b}" } else { "\\u001b" });
            shown.push_str(&visible(part));
        }
        shown
    }

    /// Writes a heading after a blank line.
    pub fn heading(&mut self, text: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        let rule = "─".repeat(self.width.saturating_sub(text.width() + 4));
        let text = self.paint.styled(text, Style::new().bold());
        self.line(&format!("── {text} {rule}"));
    }

    /// Writes a line unchanged.
    pub fn line(&mut self, text: &str) {
        self.text.push_str(text.trim_end());
        self.text.push('\n');
    }

    /// Writes a label of `indent` columns, and text wrapped beside it.
    pub fn labelled(&mut self, label: &str, indent: usize, text: &str) {
        for (at, line) in wrapped(text, self.width.saturating_sub(indent)).iter().enumerate() {
            let label = if at == 0 { label } else { "" };
            self.line(&format!("{}{line}", padded(label, indent)));
        }
    }

    /// Writes rows of cells; the first column is left-aligned, the others right-aligned.
    pub fn columns(&mut self, rows: &[Vec<String>]) {
        let count = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..count).map(width).collect();
        for row in rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let blank = " ".repeat(widths[column] - cell.width());
                match column {
                    0 => line.push_str(&format!("{cell}{blank}")),
                    _ => line.push_str(&format!("  {blank}{cell}")),
                }
            }
            self.line(&line);
        }
    }
}

/// Pads text with blanks on the right.
pub fn padded(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

/// Wraps text to lines of at most `width` columns at blanks, but not before units; a word wider than a line
/// gets its own line.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match words.last_mut().filter(|_| word.starts_with('%') || word.starts_with("MiB")) {
            Some(number) => number.extend([" ", word]),
            None => words.push(word.to_owned()),
        }
    }
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut().filter(|line| line.width() + 1 + word.width() <= width) {
            Some(line) => line.extend([" ", &word]),
            None => lines.push(word),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: a page contains its own styles and no other control sequences, whatever text it is given.
    #[test]
    fn only_styles_pass() {
        for paint in [Paint::Plain, Paint::Coloured] {
            let mut page = Page { width: 80, paint, text: String::new() };
            page.line(&format!(
                "{} \u{1b}[2J\u{1b}]0;a\u{7}\u{9b}",
                paint.styled("bold", Style::new().bold())
            ));
            let bold = if paint == Paint::Coloured { "\u{1b}[1mbold\u{1b}[0m" } else { "bold" };
            assert_eq!(page.text(), format!("{bold} \\u001b[2J\\u001b]0;a\\u0007\\u009b\n"));
        }
    }

    /// Protects: no line exceeds the page, labels appear once, and columns are aligned.
    #[test]
    fn pages_keep_their_width() {
        let mut page = Page::plain(60);
        page.heading("data");
        page.labelled(
            "warning",
            10,
            "a sentence that is long enough to need more than a single line of sixty columns",
        );
        page.columns(&[vec!["a".into(), "1".into()], vec!["long".into(), "100".into()]]);
        let text = page.text();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.iter().all(|line| line.width() <= 60), "{lines:#?}");
        assert_eq!(lines[0].width(), 60);
        assert!(lines[1].starts_with("warning   a sentence") && lines[2].starts_with("          "));
        assert_eq!(wrapped("about 12 % of it", 8), ["about", "12 % of", "it"]);
        assert_eq!(lines[3..], ["a       1", "long  100"]);
    }
}
