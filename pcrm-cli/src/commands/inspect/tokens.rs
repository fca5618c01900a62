//! Tokens as text on a page, with visible marks for token ends, special tokens, the scored token and
//! invisible characters.
//!
//! Without colours, `|` separates tokens; with colours, they alternate between two.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use unicode_width::UnicodeWidthStr;

use super::examples::Cell;
use crate::page::{Paint, coloured};

/// Returns the legend of the marks.
pub fn legend(paint: Paint) -> String {
    let parted = match paint {
        Paint::Plain => "| separates tokens".to_owned(),
        Paint::Coloured => {
            format!("tokens {}{}", paint.styled("altern", even()), paint.styled("ate", odd()))
        }
    };
    format!(
        "{parted}; {}; {}; ⏎ newline; ⇥ tab",
        drawn(&Cell::Special("special".to_owned()), paint, false),
        drawn(&Cell::Scored("carries the score".to_owned()), paint, false)
    )
}

fn even() -> Style {
    Style::new()
}

fn odd() -> Style {
    coloured(AnsiColor::Cyan)
}

/// Lays out cells in lines of at most `width` columns. A newline in the text ends a line.
pub fn lines(cells: &[Cell], width: usize, paint: Paint) -> Vec<String> {
    let (mut lines, mut line, mut used) = (Vec::new(), String::new(), 0);
    // Without colours, a mark at the end of a line shows that a token ends there.
    let width = if paint == Paint::Plain { width.max(9) - 1 } else { width.max(8) };
    for (at, cell) in cells.iter().enumerate() {
        for (part, text) in split(&marked(cell), width).into_iter().enumerate() {
            let parted = paint == Paint::Plain && used > 0 && part == 0;
            let needed = text.width() + usize::from(parted);
            if used + needed > width && used > 0 {
                if parted {
                    line.push('|');
                }
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            if parted && used > 0 {
                line.push('|');
                used += 1;
            }
            used += text.width();
            let _ = write!(line, "{}", paint.styled(&text, style(cell, at % 2 == 1)));
        }
        let next_is_newline = matches!(cells.get(at + 1), Some(Cell::Text(text)) if text.starts_with('\n'));
        if matches!(cell, Cell::Text(text) if text.ends_with('\n')) && !next_is_newline && used > 0 {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
    }
    if used > 0 {
        lines.push(line);
    }
    lines
}

fn drawn(cell: &Cell, paint: Paint, odd: bool) -> String {
    paint.styled(&marked(cell), style(cell, odd))
}

/// Returns a cell's text with its marks.
fn marked(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) => visible(text),
        Cell::Special(text) => format!("[{}]", visible(text)),
        Cell::Scored(text) => format!("▶{}◀", visible(text)),
        Cell::LeftOut(count) => format!("‹… {count} tokens …›"),
    }
}

fn style(cell: &Cell, is_odd: bool) -> Style {
    match cell {
        Cell::Text(_) if is_odd => odd(),
        Cell::Text(_) => even(),
        Cell::Special(_) => coloured(AnsiColor::Magenta),
        Cell::Scored(_) => coloured(AnsiColor::Green).bold(),
        Cell::LeftOut(_) => Style::new().dimmed(),
    }
}

/// Makes newlines, tabs, control characters, direction marks and other invisible characters visible.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push('⏎'),
            '\t' => out.push('⇥'),
            '\0'..='\u{1f}' => out.extend(char::from_u32(0x2400 + u32::from(c))),
            '\u{7f}' => out.push('␡'),
            c if c.is_control() || is_hidden(c) => {
                let _ = write!(out, "{}", c.escape_unicode());
            }
            c => out.push(c),
        }
    }
    out
}

/// Returns true for direction marks, zero-width blanks, and blanks that look like others.
fn is_hidden(c: char) -> bool {
    matches!(c, '\u{a0}' | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}')
}

/// Splits text that is wider than a line.
fn split(text: &str, width: usize) -> Vec<String> {
    let mut parts = vec![String::new()];
    for c in text.chars() {
        let mut whole = parts.pop().unwrap_or_default();
        let mut one = [0; 4];
        let own: &str = c.encode_utf8(&mut one);
        if whole.width() + own.width() > width {
            parts.push(std::mem::take(&mut whole));
        }
        whole.push(c);
        parts.push(whole);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }

    fn answer() -> Vec<Cell> {
        vec![
            text("Yes"),
            text(","),
            text(" it"),
            text("\n"),
            text("\n"),
            text("is"),
            Cell::LeftOut(40),
            text(" so"),
            Cell::Special("<|im_end|>".to_owned()),
            Cell::Scored("\n".to_owned()),
        ]
    }

    /// Protects: without colours, token ends, special tokens and the scored token are recognisable, and no
    /// line exceeds the width.
    #[test]
    fn marks_are_read_without_colours() {
        let lines = lines(&answer(), 41, Paint::Plain);
        assert_eq!(lines, ["Yes|,| it|⏎|⏎", "is|‹… 40 tokens …›| so|[<|im_end|>]|▶⏎◀"]);
        assert!(!lines.concat().contains('\x1b'));
    }

    /// Protects: long lines break between tokens, whose ends stay marked; a token wider than a line is split.
    #[test]
    fn lines_break_between_tokens() {
        let words: Vec<Cell> = ["alpha", " beta", " gamma", " delta"].map(text).to_vec();
        assert_eq!(lines(&words, 12, Paint::Plain), ["alpha| beta|", " gamma|", " delta"]);
        assert_eq!(lines(&words, 14, Paint::Plain), ["alpha| beta|", " gamma| delta"]);
        assert_eq!(lines(&[text("0123456789abc")], 9, Paint::Plain), ["01234567", "89abc"]);
        let wide: Vec<Cell> = ["世界", "世界", "世界"].map(text).to_vec();
        assert!(lines(&wide, 10, Paint::Plain).iter().all(|line| line.width() <= 10));
        assert_eq!(lines(&[], 10, Paint::Plain), Vec::<String>::new());
    }

    /// Protects: colours only add styles: without them the marks and text remain, and each token has its own
    /// style.
    #[test]
    fn colours_alternate_and_keep_marks() {
        let line =
            lines(&[text("a"), text("b"), Cell::Scored("</s>".to_owned())], 40, Paint::Coloured).concat();
        let plain = anstream::adapter::strip_str(&line).to_string();
        assert_eq!(plain, "ab▶</s>◀");
        assert!(line.contains("\x1b[36mb\x1b[0m") && line.contains("▶</s>◀\x1b[0m"), "{line:?}");
    }

    /// Protects: no control character reaches the terminal, and nothing stays invisible.
    #[test]
    fn nothing_stays_invisible() {
        assert_eq!(visible("a\tb\r\x1b[31m\u{7f}\u{202e}\u{85}"), "a⇥b␍␛[31m␡\\u{202e}\\u{85}");
        assert_eq!(visible("Grüße 世界"), "Grüße 世界");
    }
}
