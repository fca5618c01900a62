//! The figures computed from verdicts.

use anyhow::Result;
use pcrm_eval::Bootstrap;
use pcrm_eval::judging::{
    Agreement, League, LengthControlled, Match, MatchOutcome, PositionBias, WinRate, agreement, league,
    length_controlled, position_bias, win_rate,
};
use pcrm_rl::judge::{Prices, Reply, Usage};
use serde::Serialize;
use serde_json::{Value, json};

use super::answers::{Field, Pairing, Policy};
use super::judges::Verdicts;

/// The most replies without a verdict to show.
const EXAMPLES: usize = 5;
/// The most characters of a reply to show.
const SHOWN: usize = 160;

/// All measurements.
#[derive(Debug, Serialize)]
pub struct Judged {
    /// The policies.
    pub policies: Vec<PolicyFacts>,
    /// The number of prompts answered by all policies.
    pub prompts: usize,
    /// The number of pairs of answers.
    pub matches: usize,
    /// The judges; the first one is `--judge`.
    pub judges: Vec<JudgeFigures>,
    /// The agreement of every pair of judges.
    pub agreement: Vec<Pair>,
}

/// A policy.
#[derive(Debug, Serialize)]
pub struct PolicyFacts {
    /// The name of the policy.
    pub label: String,
    /// The file of its answers.
    pub file: String,
    /// The number of its answers.
    pub answers: usize,
    /// The number of answers not compared.
    pub left_out: usize,
    /// Mean length of its answers, in characters.
    pub mean_length: f64,
}

/// The figures of one judge.
#[derive(Debug, Serialize)]
pub struct JudgeFigures {
    /// The name of the judge.
    pub name: String,
    /// The digest of the settings that determine its verdicts.
    pub digest: String,
    /// The replies behind the figures.
    pub replies: Replies,
    /// The figures of every pair of policies.
    pub pairs: Vec<Rates>,
    /// Its position bias over all matches; absent for a symmetric judge.
    pub position: Option<PositionBias>,
    /// The ratings of the policies; absent with only two policies.
    pub league: Option<League>,
}

/// The origin of verdicts.
#[derive(Debug, Serialize)]
pub struct Replies {
    /// The number of requested verdicts.
    pub asked: usize,
    /// Pairs of identical answers, which are ties without asking.
    pub identical: usize,
    /// The number of replies reused from earlier calls.
    pub kept: usize,
    /// The usage of the new replies.
    pub usage: Usage,
    /// The cost of the new replies, if prices are known.
    pub cost: Option<f64>,
    /// The prices.
    pub prices: Option<Prices>,
    /// Replies without a verdict.
    pub without_verdict: usize,
    /// Examples of replies without a verdict.
    pub examples: Vec<NoVerdict>,
}

/// A reply without a verdict.
#[derive(Debug, Serialize)]
pub struct NoVerdict {
    /// The location of the first policy's answer.
    pub prompt: String,
    /// The reason.
    pub reason: String,
    /// The beginning of the reply.
    pub reply: String,
}

/// The comparison of two policies.
#[derive(Debug, Serialize)]
pub struct Rates {
    /// The policy whose wins are counted.
    pub first: String,
    /// The other policy.
    pub second: String,
    /// The win rate; absent if there is no verdict.
    pub win_rate: Option<WinRate>,
    /// The win rate at equal length; absent if matches are too few or lengths never differ.
    pub length_controlled: Option<LengthControlled>,
    /// The judge's position bias on these matches.
    pub position: Option<PositionBias>,
}

/// The comparison of two judges.
#[derive(Debug, Serialize)]
pub struct Pair {
    /// The first judge.
    pub first: String,
    /// The second judge.
    pub second: String,
    /// Their agreement; absent if they judged nothing in common.
    pub agreement: Option<Agreement>,
}

impl Judged {
    /// Computes all figures.
    ///
    /// # Errors
    /// Fails if a measure fails.
    pub fn of(
        policies: &[Policy],
        field: &Field,
        verdicts: &[Verdicts],
        bootstrap: &Bootstrap,
    ) -> Result<Self> {
        let facts = |(policy, left_out): (&Policy, &usize)| PolicyFacts {
            label: policy.label.clone(),
            file: policy.file.display().to_string(),
            answers: policy.rows.len(),
            left_out: *left_out,
            mean_length: policy.mean_length(),
        };
        let judges = verdicts.iter().map(|one| JudgeFigures::of(one, policies, field, bootstrap));
        Ok(Self {
            policies: policies.iter().zip(&field.left_out).map(facts).collect(),
            prompts: field.prompts.len(),
            matches: field.pairings.len(),
            judges: judges.collect::<Result<_>>()?,
            agreement: agreements(field, verdicts, bootstrap)?,
        })
    }
}

impl JudgeFigures {
    fn of(verdicts: &Verdicts, policies: &[Policy], field: &Field, bootstrap: &Bootstrap) -> Result<Self> {
        let matches = verdicts.matches(field);
        let mut pairs = Vec::new();
        for a in 0..policies.len() {
            for b in a + 1..policies.len() {
                let these: Vec<Match> =
                    matches.iter().filter(|one| one.a == a && one.b == b).copied().collect();
                pairs.push(Rates {
                    first: policies[a].label.clone(),
                    second: policies[b].label.clone(),
                    win_rate: win_rate(&these, bootstrap)?,
                    length_controlled: length_controlled(&these, bootstrap)?,
                    position: position_bias(&these, bootstrap)?,
                });
            }
        }
        let league = match policies.len() {
            ..=2 => None,
            count => Some(league(&matches, count, bootstrap)?),
        };
        Ok(Self {
            name: verdicts.name.clone(),
            digest: verdicts.digest.clone(),
            replies: Replies::of(verdicts, policies, field),
            pairs,
            position: position_bias(&matches, bootstrap)?,
            league,
        })
    }
}

impl Replies {
    fn of(verdicts: &Verdicts, policies: &[Policy], field: &Field) -> Self {
        let failed: Vec<(usize, &Reply, &String)> = verdicts
            .replies()
            .filter_map(|(at, _, reply)| Some((at, reply, reply.verdict.as_ref().err()?)))
            .collect();
        let example = |(at, reply, reason): &(usize, &Reply, &String)| NoVerdict {
            prompt: place(policies, &field.pairings[*at]),
            reason: (*reason).clone(),
            reply: short(reply.text.as_deref().unwrap_or_default(), SHOWN),
        };
        Self {
            asked: verdicts.replies().count(),
            identical: verdicts.identical,
            kept: verdicts.kept,
            usage: verdicts.usage,
            cost: verdicts.prices.map(|prices| verdicts.usage.cost(prices)),
            prices: verdicts.prices,
            without_verdict: failed.len(),
            examples: failed.iter().take(EXAMPLES).map(example).collect(),
        }
    }
}

fn agreements(field: &Field, verdicts: &[Verdicts], bootstrap: &Bootstrap) -> Result<Vec<Pair>> {
    let prompts: Vec<usize> = field.pairings.iter().map(|pairing| pairing.prompt).collect();
    // Identical answers are not judged, so agreement on them means nothing.
    let differs = |at: usize| {
        let question = field.question(&field.pairings[at]);
        question.first != question.second
    };
    let outcomes: Vec<Vec<Option<MatchOutcome>>> = verdicts
        .iter()
        .map(|one| {
            let matches = one.matches(field);
            matches.iter().enumerate().map(|(at, one)| one.outcome().filter(|_| differs(at))).collect()
        })
        .collect();
    let mut pairs = Vec::new();
    for first in 0..verdicts.len() {
        for second in first + 1..verdicts.len() {
            pairs.push(Pair {
                first: verdicts[first].name.clone(),
                second: verdicts[second].name.clone(),
                agreement: agreement(&outcomes[first], &outcomes[second], &prompts, bootstrap)?,
            });
        }
    }
    Ok(pairs)
}

/// Returns all verdicts as lines for the judge `replay`, those of a symmetric judge in both orders.
///
/// # Errors
/// Fails only if a line cannot be serialised.
pub fn lines(policies: &[Policy], field: &Field, verdicts: &[Verdicts]) -> Result<String> {
    let mut lines = String::new();
    for one in verdicts {
        let turned =
            one.forward.iter().filter(|_| one.backward.is_empty()).cloned().enumerate().map(|(at, reply)| {
                (at, false, Reply { verdict: reply.verdict.map(|preference| 1.0 - preference), ..reply })
            });
        let given = one.replies().map(|(at, forward, reply)| (at, forward, reply.clone()));
        for (at, forward, reply) in given.chain(turned) {
            let pairing = &field.pairings[at];
            let question = field.question(pairing);
            let labels = [&policies[pairing.a].label, &policies[pairing.b].label];
            let turn = |[a, b]: [Value; 2]| if forward { [a, b] } else { [b, a] };
            let [first, second] = turn([json!(question.first), json!(question.second)]);
            let [first_policy, second_policy] = turn(labels.map(|label| json!(label)));
            let verdict = match &reply.verdict {
                Ok(preference) if *preference == 1.0 => json!("first"),
                Ok(preference) if *preference == 0.0 => json!("second"),
                Ok(preference) if *preference == 0.5 => json!("tie"),
                Ok(preference) => json!(preference),
                Err(_) => Value::Null,
            };
            let mut line = json!({
                "judge": one.name,
                "prompt": question.prompt.prompt,
                "first_policy": first_policy,
                "second_policy": second_policy,
                "first": first,
                "second": second,
                "verdict": verdict,
            });
            if let Err(reason) = &reply.verdict {
                line["reason"] = json!(reason);
            }
            if let Some(text) = &reply.text {
                line["reply"] = json!(text);
            }
            lines.push_str(&(serde_json::to_string(&line)? + "\n"));
        }
    }
    Ok(lines)
}

/// Returns the location of a pairing, which is that of the first policy's answer.
fn place(policies: &[Policy], pairing: &Pairing) -> String {
    policies[pairing.a].rows[pairing.row_a].0.origin.to_string()
}

/// Shortens a text to at most `most` characters, on one line.
pub fn short(text: &str, most: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut: String = line.chars().take(most).collect();
    if cut.len() < line.len() { format!("{cut} …") } else { cut }
}
