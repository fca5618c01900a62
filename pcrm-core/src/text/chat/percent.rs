//! Python's `'%s' % x` for minijinja, which knows the operator for numbers alone: a text literal with `%`
//! after it becomes `('%s' | format(x))`.

/// How deep formatted texts may be in each other; what is deeper is left as it is.
const DEEPEST: usize = 32;

/// A template whose text literals are formatted by the filter `format`.
pub(super) fn with_format_filter(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = ["{{", "{%", "{#"].iter().filter_map(|open| rest.find(open)).min() {
        let (before, block) = rest.split_at(at);
        out.push_str(before);
        let close = match &block[..2] {
            "{{" => "}}",
            "{%" => "%}",
            _ => {
                let end = block.find("#}").map_or(block.len(), |end| end + 2);
                out.push_str(&block[..end]);
                rest = &block[end..];
                continue;
            }
        };
        let inside = &block[2..];
        let end = end_of_block(inside, close);
        let code = &inside[..end];
        out.push_str(&block[..2]);
        out.push_str(&rewritten(code, 0));
        rest = &inside[end..];
        let name = code.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        if close == "%}" && name == "raw" {
            let end = rest.find("endraw").unwrap_or(rest.len());
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        } else {
            let end = rest.len().min(close.len());
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        }
    }
    out.push_str(rest);
    out
}

/// Where a block's code ends: at its closing mark, outside of text literals.
fn end_of_block(code: &str, close: &str) -> usize {
    let mut at = 0;
    while at < code.len() {
        match code.as_bytes()[at] {
            b'\'' | b'"' => at = end_of_text(code, at),
            _ if code[at..].starts_with(close) => return at,
            _ => at += code[at..].chars().next().map_or(1, char::len_utf8),
        }
    }
    code.len()
}

/// Where the text literal that begins at `at` ends.
fn end_of_text(code: &str, at: usize) -> usize {
    let quote = code.as_bytes()[at];
    let mut end = at + 1;
    while end < code.len() {
        match code.as_bytes()[end] {
            b'\\' => end += 2,
            byte if byte == quote => return end + 1,
            _ => end += 1,
        }
    }
    code.len()
}

fn rewritten(code: &str, depth: usize) -> String {
    if depth > DEEPEST {
        return code.to_owned();
    }
    let mut out = String::with_capacity(code.len());
    let mut at = 0;
    while at < code.len() {
        if !matches!(code.as_bytes()[at], b'\'' | b'"') {
            let length = code[at..].chars().next().map_or(1, char::len_utf8);
            out.push_str(&code[at..at + length]);
            at += length;
            continue;
        }
        // Literals beside each other are one.
        let start = at;
        let mut end = end_of_text(code, at).min(code.len());
        loop {
            let next = skip_blanks(code, end);
            if !matches!(code.as_bytes().get(next), Some(b'\'' | b'"')) {
                break;
            }
            end = end_of_text(code, next).min(code.len());
        }
        let sign = skip_blanks(code, end);
        let operand = (code.as_bytes().get(sign) == Some(&b'%')).then(|| skip_blanks(code, sign + 1));
        match operand.and_then(|from| Some((from, end_of_operand(code, from)?))) {
            Some((from, to)) => {
                let operand = &code[from..to];
                // A pair of parentheses holds several arguments, or one.
                let inner = operand
                    .strip_prefix('(')
                    .filter(|_| end_of_brackets(code, from) == Some(to))
                    .and_then(|inner| inner.strip_suffix(')'))
                    .map_or(operand, |inner| inner.trim_end().trim_end_matches(','));
                out.push_str(&format!("({}|format({}))", &code[start..end], rewritten(inner, depth + 1)));
                at = to;
            }
            None => {
                out.push_str(&code[start..end]);
                at = end;
            }
        }
    }
    out
}

fn skip_blanks(code: &str, at: usize) -> usize {
    code.len() - code.get(at..).unwrap_or_default().trim_start().len()
}

/// Where an operand ends: a name, number, text or bracket, with what is called, indexed or filtered after it.
fn end_of_operand(code: &str, from: usize) -> Option<usize> {
    let first = code[from..].chars().next()?;
    let mut at = match first {
        '(' | '[' | '{' => end_of_brackets(code, from)?,
        '\'' | '"' => end_of_text(code, from),
        _ if first.is_alphanumeric() || first == '_' => end_of_name(code, from),
        _ => return None,
    };
    loop {
        let next = skip_blanks(code, at);
        at = match code.as_bytes().get(next) {
            Some(b'(' | b'[') if next == at => end_of_brackets(code, next)?,
            Some(b'.') => end_of_name(code, next + 1),
            Some(b'|') => end_of_name(code, skip_blanks(code, next + 1)),
            _ => return Some(at),
        };
    }
}

fn end_of_name(code: &str, from: usize) -> usize {
    let name = code[from..].find(|c: char| !(c.is_alphanumeric() || c == '_'));
    name.map_or(code.len(), |length| from + length)
}

/// Where the bracket that opens at `from` closes.
fn end_of_brackets(code: &str, from: usize) -> Option<usize> {
    let (mut depth, mut at) = (0_usize, from);
    while at < code.len() {
        match code.as_bytes()[at] {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.checked_sub(1)?,
            b'\'' | b'"' => {
                at = end_of_text(code, at);
                continue;
            }
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: templates nested without end neither overflow the stack nor take forever.
    #[test]
    fn nesting_without_end_ends() {
        let open = format!("{{{{ {}", "'%s' % (".repeat(2000));
        assert_eq!(with_format_filter(&open), open);
        let closed = format!("{open}1{} }}}}", ")".repeat(2000));
        assert!(with_format_filter(&closed).starts_with("{{ ('%s'|format(('%s'|format("));
    }

    /// Protects: only text literals with the operator are rewritten, within code, with their whole operand.
    #[test]
    fn text_literals_are_formatted_by_the_filter() {
        for (source, expected) in [
            ("{{ '%s-%d' % ('a', 3) }} 5 % 2", "{{ ('%s-%d'|format('a', 3)) }} 5 % 2"),
            ("{{ '%s' % m.role[0] | upper + '%}' }}", "{{ ('%s'|format(m.role[0] | upper)) + '%}' }}"),
            ("{% set x = \"%d%%\" % n %}{{ 7 % 2 }}", "{% set x = (\"%d%%\"|format(n)) %}{{ 7 % 2 }}"),
            ("{{ 'a' '%s' % ('x',) }}", "{{ ('a' '%s'|format('x')) }}"),
            (
                "{{ '%s' % (a) ~ '%s' % ('b' % c) }}",
                "{{ ('%s'|format(a)) ~ ('%s'|format(('b'|format(c)))) }}",
            ),
            (
                "{# '%s' % x #}{% raw %}{{ '%s' % x }}{% endraw %}",
                "{# '%s' % x #}{% raw %}{{ '%s' % x }}{% endraw %}",
            ),
            ("{{ '\\'%s' % x }} é '%s' % x", "{{ ('\\'%s'|format(x)) }} é '%s' % x"),
            ("{{ 'x' }}{%- if a -%}b{% endif %", "{{ 'x' }}{%- if a -%}b{% endif %"),
            ("{{ '%s' % -1 }}{{ '%s' % (a", "{{ '%s' % -1 }}{{ '%s' % (a"),
        ] {
            assert_eq!(with_format_filter(source), expected);
        }
    }
}
