//! Passes the operands of operators that make text through the filters of [`super::bounds`]: `a ~ b` becomes
//! `a|__joined ~ b|__joined`. Loops and macros begin with a call that charges their plain text.

use super::tags::{Tag, end_of_name, end_of_operand, end_of_text, skip_blanks, tags};

/// An operator, named by the filters of its operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Join,
    Multiply,
}

/// Words that are not operands.
const WORDS: [&str; 27] = [
    "and",
    "as",
    "block",
    "call",
    "do",
    "elif",
    "else",
    "extends",
    "filter",
    "for",
    "from",
    "if",
    "import",
    "in",
    "include",
    "is",
    "loop_",
    "macro",
    "not",
    "or",
    "recursive",
    "set",
    "with",
    "without",
    "ignore",
    "missing",
    "context",
];

/// Returns the template with its operators bounded.
pub(super) fn with_bounds(source: &str) -> String {
    let all = tags(source);
    let bodies = bodies(source, &all);
    let mut out = String::with_capacity(source.len() * 2);
    let mut at = 0;
    for (tag, body) in all.iter().zip(bodies) {
        out.push_str(&source[at..tag.code.start]);
        let code = &source[tag.code.clone()];
        at = tag.code.end;
        match body {
            Some(bytes) => {
                // The whitespace control of the tag's end moves to the end of the inserted block.
                let (code, sign) = match code.as_bytes().last() {
                    Some(b'-') => (&code[..code.len() - 1], "-"),
                    Some(b'+') => (&code[..code.len() - 1], "+"),
                    _ => (code, ""),
                };
                out.push_str(&bounded(code));
                out.push_str(&format!("%}}{{% if __pass({bytes}) %}}{{% endif {sign}"));
            }
            None => out.push_str(&bounded(code)),
        }
    }
    out.push_str(&source[at..]);
    out
}

/// Returns, for each tag that begins a loop, a macro or a call, the bytes of its body.
fn bodies(source: &str, all: &[Tag]) -> Vec<Option<usize>> {
    let mut bodies = vec![None; all.len()];
    let mut open: Vec<(usize, &str)> = Vec::new();
    for (at, tag) in all.iter().enumerate() {
        let word = tag.word(source);
        if let "for" | "macro" | "call" = word {
            let ends = source[tag.code.end..].starts_with(tag.close);
            if ends {
                bodies[at] = Some(source.len() - tag.code.end);
                open.push((at, word));
            }
        } else if let Some(begun) = word.strip_prefix("end")
            && open.last().is_some_and(|(_, word)| *word == begun)
            && let Some((first, _)) = open.pop()
        {
            bodies[first] = Some(tag.code.start - all[first].code.end);
        }
    }
    bodies
}

/// Returns the code of a tag with its operators bounded.
fn bounded(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let (mut at, mut is_operand, mut done) = (0, false, None);
    while let Some(c) = code[at..].chars().next() {
        let start = at;
        at += c.len_utf8();
        match c {
            _ if c.is_whitespace() => {
                out.push(c);
                continue;
            }
            '\'' | '"' => {
                at = end_of_text(code, start).min(code.len());
                is_operand = true;
            }
            _ if c.is_alphanumeric() || c == '_' => {
                at = end_of_word(code, start);
                let attribute = code[..start].trim_end().ends_with('.');
                is_operand = attribute || !WORDS.contains(&&code[start..at]);
            }
            ')' | ']' | '}' => is_operand = true,
            '*' if code[at..].starts_with('*') => {
                at += 1;
                is_operand = false;
            }
            '+' | '~' | '*' if is_operand && !code[at..].trim().is_empty() => {
                let operator = match c {
                    '+' => Operator::Add,
                    '~' => Operator::Join,
                    _ => Operator::Multiply,
                };
                if done != Some(operator) {
                    out.truncate(out.trim_end().len());
                    out.push_str(operator.left());
                    out.push(' ');
                }
                out.push(c);
                // The sign of a number stays before it.
                let from = at + code[at..].find(|c: char| !(c.is_whitespace() || c == '-')).unwrap_or(0);
                out.push_str(&code[at..from]);
                (at, is_operand, done) = (from, false, None);
                let word = &code[from..end_of_name(code, from)];
                if let Some(end) = end_of_operand(code, from).filter(|_| !WORDS.contains(&word)) {
                    let end = end.min(code.len());
                    let next = skip_blanks(code, end);
                    let goes_on = code[next..].starts_with('*') && !code[next..].starts_with("**");
                    out.push_str(&bounded(&code[from..end]));
                    out.push_str(operator.right(goes_on));
                    (at, is_operand) = (end, true);
                    done = Some(operator);
                }
                continue;
            }
            _ => is_operand = false,
        }
        done = None;
        out.push_str(&code[start..at]);
    }
    out
}

/// Returns the end of a name or a number; the exponent of a number may have a sign.
fn end_of_word(code: &str, start: usize) -> usize {
    let end = end_of_name(code, start);
    let word = &code[start..end];
    let is_number = word.starts_with(|c: char| c.is_ascii_digit()) && word.ends_with(['e', 'E']);
    match is_number && code[end..].starts_with(['+', '-']) {
        true => end_of_name(code, end + 1),
        false => end,
    }
}

impl Operator {
    fn left(self) -> &'static str {
        match self {
            Self::Add => "|__added",
            Self::Join => "|__joined",
            Self::Multiply => "|__left",
        }
    }

    fn right(self, goes_on: bool) -> &'static str {
        match self {
            Self::Multiply if goes_on => "|__middle",
            Self::Multiply => "|__right",
            other => other.left(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: every operand of an operator that makes text is bounded once, and nothing else changes.
    #[test]
    fn operands_are_bounded() {
        for (code, expected) in [
            (" a ~ b ", " a|__joined ~ b|__joined "),
            ("a+b+'c d'", "a|__added +b|__added+'c d'|__added"),
            ("a + b ~ c", "a|__added + b|__added|__joined ~ c|__joined"),
            ("a * b * c", "a|__left * b|__middle * c|__right"),
            ("x ** 2 * 3", "x ** 2|__left * 3|__right"),
            (
                "f(a + b)[c ~ d].e + 1",
                "f(a|__added + b|__added)[c|__joined ~ d|__joined].e|__added + 1|__added",
            ),
            ("a + (b ~ c)|trim", "a|__added + (b|__joined ~ c|__joined)|trim|__added"),
            ("- set x = a + -b -", "- set x = a|__added + -b|__added -"),
            ("+ if a +", "+ if a +"),
            ("f(*a, **b)", "f(*a, **b)"),
            ("x if a else +b", "x if a else +b"),
            ("1e+5 + m.in + 'é'", "1e+5|__added + m.in|__added + 'é'|__added"),
            ("a ~ not b", "a|__joined ~ not b"),
            ("'a + b'", "'a + b'"),
        ] {
            assert_eq!(bounded(code), expected, "{code}");
        }
    }

    /// Protects: plain text in loops and macros is charged, and whitespace control keeps its position.
    #[test]
    fn bodies_are_charged() {
        for (source, expected) in [
            (
                "{% for x in y -%} a {% endfor %}b",
                "{% for x in y %}{% if __pass(7) %}{% endif -%} a {% endfor %}b",
            ),
            (
                "{%- macro f(x) %}a{% endmacro %}",
                "{%- macro f(x) %}{% if __pass(5) %}{% endif %}a{% endmacro %}",
            ),
            ("{# {% for #}{% raw %}{% for %}{% endraw %}", "{# {% for #}{% raw %}{% for %}{% endraw %}"),
            ("{% for x in", "{% for x in"),
        ] {
            assert_eq!(with_bounds(source), expected);
        }
    }
}
