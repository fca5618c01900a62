//! Puts questions to a judge: what is known is not asked, and what is answered is kept.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;

use super::{Judge, Kept, Question, Reply, TIE, Usage, Words};
use crate::error::{Error, Result};

/// The replies to questions, in their order.
#[derive(Debug, Default)]
pub struct Asked {
    /// The replies.
    pub replies: Vec<Reply>,
    /// Questions whose answers are the same text, which are ties without asking.
    pub identical: usize,
    /// Questions whose reply was kept before.
    pub kept: usize,
    /// The cost of the other replies.
    pub usage: Usage,
}

/// Asks a judge all questions. `seen` is told after every reply how many of all there are.
///
/// # Errors
/// A judge that cannot go on, a budget that is spent, Ctrl-C by `stop`: the message says how many replies there are, all
/// of which are kept.
pub fn ask(
    judge: &mut dyn Judge,
    questions: &[Question<'_>],
    mut kept: Option<&mut Kept>,
    stop: &AtomicBool,
    seen: &mut dyn FnMut(usize),
) -> Result<Asked> {
    let mut asked = Asked::default();
    let mut replies: Vec<Option<Reply>> = vec![None; questions.len()];
    // Questions of the same content are asked once: the number of the one that is asked.
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
    match judged {
        Err(Error::Judge { name, message }) => {
            let message = format!("{message}; {done} of {all} verdicts are there");
            return Err(Error::Judge { name, message });
        }
        Err(Error::Interrupted(_)) => {
            return Err(Error::Interrupted(format!("stopped; {done} of {all} verdicts are there")));
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
