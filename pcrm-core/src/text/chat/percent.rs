//! Python's `'%s' % x` for minijinja, which supports the operator only for numbers: a text literal with `%`
//! after it becomes `('%s' | format(x))`.

use super::tags::{end_of_brackets, end_of_operand, end_of_text, skip_blanks, tags};

/// The maximum nesting depth of formatted texts; deeper ones are left unchanged.
const DEEPEST: usize = 32;

/// Returns a template that formats text literals by the filter `format`.
pub(super) fn with_format_filter(source: &str) -> String {
    let (mut out, mut at) = (String::with_capacity(source.len()), 0);
    for tag in tags(source) {
        out.push_str(&source[at..tag.code.start]);
        out.push_str(&rewritten(&source[tag.code.clone()], 0));
        at = tag.code.end;
    }
    out.push_str(&source[at..]);
    out
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
        // Adjacent literals form one literal.
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
                // Parentheses hold one or more arguments.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: deeply nested templates neither overflow the stack nor take exponential time.
    #[test]
    fn nesting_without_end_ends() {
        let open = format!("{{{{ {}", "'%s' % (".repeat(2000));
        assert_eq!(with_format_filter(&open), open);
        let closed = format!("{open}1{} }}}}", ")".repeat(2000));
        assert!(with_format_filter(&closed).starts_with("{{ ('%s'|format(('%s'|format("));
    }

    /// Protects: only text literals with the operator are rewritten, inside code, with their whole operand.
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
