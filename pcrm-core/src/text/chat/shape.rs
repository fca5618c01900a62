//! Limits on the shape of a template. The compiler recurses over it, and a deep template would overflow the
//! stack, which cannot be turned into an error.

use super::tags::{Tag, end_of_text};

/// The maximum number of bytes in a template. The longest published ones have some tens of thousands.
const LONGEST: usize = 1 << 20;

/// The maximum number of nested words and signs in an expression.
const DEEPEST: usize = 1000;

/// The maximum number of `elif` branches of an `if`.
const MOST_BRANCHES: usize = 300;

/// Refuses a template that is too long.
///
/// # Errors
/// Fails with a message if the template exceeds the limit.
pub(super) fn check_length(source: &str) -> Result<(), String> {
    match source.len() {
        length if length <= LONGEST => Ok(()),
        length => Err(format!("the chat template has {length} bytes; expected at most {LONGEST}")),
    }
}

/// Refuses a template that is nested too deep.
///
/// # Errors
/// Fails with a message that names the line.
pub(super) fn check_depth(source: &str, tags: &[Tag]) -> Result<(), String> {
    let mut branches = vec![0];
    for tag in tags {
        match tag.word(source) {
            "if" => branches.push(0),
            "elif" => *branches.last_mut().unwrap_or(&mut 0) += 1,
            "endif" if branches.len() > 1 => drop(branches.pop()),
            _ => {}
        }
        let line = || source[..tag.code.start].matches('\n').count() + 1;
        if branches.last().is_some_and(|branches| *branches > MOST_BRANCHES) {
            return Err(format!(
                "the chat template has an if of more than {MOST_BRANCHES} branches in line {}",
                line()
            ));
        }
        if depth(&source[tag.code.clone()]) > DEEPEST {
            return Err(format!(
                "the chat template has an expression of more than {DEEPEST} words and signs in line {}; \
                 expected a shorter one",
                line()
            ));
        }
    }
    Ok(())
}

/// Returns an upper bound on the nesting depth of code: the largest number of words and signs between two
/// commas, counting those before brackets that are still open.
fn depth(code: &str) -> usize {
    let (mut open, mut all, mut deepest, mut at) = (vec![0_usize], 0, 0, 0);
    let bytes = code.as_bytes();
    while at < bytes.len() {
        let start = at;
        at += 1;
        let counts = match bytes[start] {
            b'\'' | b'"' => {
                at = end_of_text(code, start).min(code.len());
                true
            }
            byte if byte.is_ascii_whitespace() => false,
            byte if byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii() => {
                while bytes
                    .get(at)
                    .is_some_and(|next| next.is_ascii_alphanumeric() || *next == b'_' || !next.is_ascii())
                {
                    at += 1;
                }
                true
            }
            b',' => {
                all -= open.last_mut().map_or(0, std::mem::take);
                false
            }
            b')' | b']' | b'}' => {
                if open.len() > 1 {
                    all -= open.pop().unwrap_or(0);
                }
                false
            }
            _ => true,
        };
        if counts {
            all += 1;
            *open.last_mut().unwrap_or(&mut 0) += 1;
            deepest = deepest.max(all);
        }
        if matches!(bytes[start], b'(' | b'[' | b'{') {
            open.push(0);
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: chains and brackets count towards the depth, lists do not, regardless of their length.
    #[test]
    fn what_lies_in_each_other_counts() {
        for (code, expected) in [
            ("", 0),
            (" a.b ", 3),
            ("'a b' ~ c", 3),
            ("[1, 2, 3, 4]", 2),
            ("f(a + b, c) + d", 5),
            ("f(g(h(a)))", 7),
            ("---1", 4),
            ("a, b, c", 1),
            (") a", 1),
        ] {
            assert_eq!(depth(code), expected, "{code}");
        }
        assert!(depth(&format!("{{{}}}", "'ab': 'Abkhazian', ".repeat(5000))) < 10);
    }
}
