//! The words of a shell command that may name files it reads.

/// Splits a command at blanks and at the shell's operators. Quotes keep a word together; a quoted command and
/// the value of `name=value` also count word by word. The targets of `>` are left out, since the command
/// writes them.
pub fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quote, mut is_written) = (String::new(), None, false);
    // The blank at the end completes the last word.
    let mut rest = command.chars().chain([' ']);
    while let Some(c) = rest.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None | Some('"'), '\\') if cfg!(unix) => word.extend(rest.next()),
            (None, c) if c.is_whitespace() || "|&;<>()".contains(c) => {
                if !word.is_empty() {
                    let word = std::mem::take(&mut word);
                    if !is_written {
                        add(word, &mut words);
                    }
                    is_written = false;
                }
                is_written |= c == '>';
            }
            (_, c) => word.push(c),
        }
    }
    words
}

fn add(word: String, words: &mut Vec<String>) {
    if word.contains(char::is_whitespace) {
        words.extend(self::words(&word));
    }
    if let Some((_, value)) = word.split_once('=').filter(|(_, value)| !value.is_empty()) {
        words.push(value.to_owned());
    }
    words.push(word);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: the files of a command are found behind operators, in quotes and after `=`; those that it
    /// writes are not among them.
    #[test]
    fn words_that_may_name_files_are_found() {
        for (command, found, absent) in [
            ("python judge.py --rules=r.json", &["python", "judge.py", "r.json"][..], &[][..]),
            ("cd a;./judge|tee log.txt", &["cd", "a", "./judge", "tee", "log.txt"][..], &[][..]),
            ("judge <in.txt >out.txt 2>>err.txt 2>&1 last", &["in.txt", "last"][..], &["out.txt", "err.txt"]),
            ("'my judge.py' \"other one\"", &["my judge.py", "other one"][..], &[][..]),
            ("sh -c 'python judge.py 2> log'", &["judge.py"][..], &["log"]),
        ] {
            let words = words(command);
            assert!(found.iter().all(|word| words.iter().any(|one| one == word)), "{command}: {words:?}");
            assert!(!absent.iter().any(|word| words.iter().any(|one| one == word)), "{command}: {words:?}");
        }
        assert!(words(" ").is_empty() && words("\"").is_empty());
    }
}
