//! Puts questions to a judge, except those with a kept reply, and keeps new replies.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;

use super::{Judge, Kept, Question, Reply, TIE, Usage, Words};
use crate::error::{Error, Result};

/// The replies to a list of questions.
#[derive(Debug, Default)]
pub struct Asked {
    /// Replies, in the order of the questions.
    pub replies: Vec<Reply>,
    /// Number of questions with two identical answers, which are ties without asking.
    pub identical: usize,
    /// Number of questions whose reply was already kept.
    pub kept: usize,
    /// Cost of the other replies.
    pub usage: Usage,
}

/// Asks a judge all questions. After every reply, `seen` gets the number of replies so far.
///
/// # Errors
/// Fails if the judge cannot continue, if the budget is spent, or if `stop` is set. The message has the
/// number of replies so far, all of which are kept.
pub fn ask(
    judge: &mut dyn Judge,
    questions: &[Question<'_>],
    mut kept: Option<&mut Kept>,
    stop: &AtomicBool,
    seen: &mut dyn FnMut(usize),
) -> Result<Asked> {
    let mut asked = Asked::default();
    let mut replies: Vec<Option<Reply>> = vec![None; questions.len()];
    // Questions with the same content are asked once; the map has the number of the one that is asked.
    let mut groups: HashMap<String, usize> = HashMap::new();
    let mut copies: Vec<(usize, usize)> = Vec::new();
    let (mut open, mut keys): (Vec<usize>, Vec<Option<String>>) = (Vec::new(), Vec::new());
    for (at, question) in questions.iter().enumerate() {
        if question.first == question.second {
            replies[at] = Some(Reply::free(TIE));
            asked.identical += 1;
            continue;
        }
        let key = judge.content(question)?.map(|content| Kept::key(&content));
        let known = key.as_ref().and_then(|key| kept.as_ref()?.get(key));
        if let Some(words) = known {
            let verdict = judge.read(&words.text);
            replies[at] = Some(Reply { verdict, text: Some(words.text.clone()), usage: Usage::default() });
            asked.kept += 1;
            continue;
        }
        match key.as_ref().and_then(|key| groups.get(key)) {
            Some(first) => copies.push((at, *first)),
            None => {
                groups.extend(key.clone().map(|key| (key, at)));
                open.push(at);
                keys.push(key);
            }
        }
    }
    let mut done = asked.identical + asked.kept;
    seen(done);
    let left: Vec<Question<'_>> = open.iter().map(|at| questions[*at]).collect();
    let mut usage = Usage::default();
    let judged = judge.judge(&left, stop, &mut |number, reply| {
        if let (Some(kept), Some(key), Some(text)) = (kept.as_mut(), &keys[number], &reply.text) {
            kept.keep(key, Words { text: text.clone(), usage: reply.usage })?;
        }
        usage.add(reply.usage);
        replies[open[number]] = Some(reply);
        done += 1;
        seen(done);
        Ok(())
    });
    let all = questions.len();
    let counted = |message: String| format!("{message}; {done} of {all} verdicts are complete");
    match judged {
        Err(Error::Judge { name, message }) => {
            return Err(Error::Judge { name, message: counted(message) });
        }
        Err(Error::Unfinished { name, message }) => {
            return Err(Error::Unfinished { name, message: counted(message) });
        }
        Err(Error::Interrupted(_)) => {
            return Err(Error::Interrupted(format!("stopped; {done} of {all} verdicts are complete")));
        }
        judged => judged?,
    }
    for (at, first) in copies {
        replies[at] = replies[first].clone().map(|reply| Reply { usage: Usage::default(), ..reply });
    }
    asked.usage = usage;
    asked.replies = replies.into_iter().flatten().collect();
    match asked.replies.len() == all {
        true => Ok(asked),
        false => Err(Error::judge(judge.name(), format!("gave {} of {all} replies", asked.replies.len()))),
    }
}
