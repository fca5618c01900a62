//! Gradients here are texts, so that a sum shows the order of its terms.

use super::*;

type Log = Arc<Mutex<Vec<String>>>;

fn note(log: &Log, line: String) {
    log.lock().unwrap().push(line);
}

/// Records an operation that logs its backward step, and names a gradient after itself and its operand.
fn op(log: &Log, name: &'static str, operands: &[&History<String>]) -> History<String> {
    let log = Arc::clone(log);
    record(operands.iter().map(|operand| (*operand).clone()).collect(), move |gradient, wanted| {
        note(&log, format!("{name} {gradient}"));
        let of = |(at, wanted): (usize, bool)| wanted.then(|| format!("{name}{at}"));
        Ok(wanted.flags().into_iter().enumerate().map(of).collect())
    })
}

fn walked(log: &Log, roots: &[&History<String>], leaves: &[(&'static str, &History<String>)]) {
    let names: HashMap<u64, &str> =
        leaves.iter().filter_map(|(name, leaf)| Some((leaf.as_ref()?.id, *name))).collect();
    let roots = roots.iter().filter_map(|root| Some(((*root).clone()?, "1".to_owned()))).collect();
    let add = |a: String, b: String| Ok(format!("({a} + {b})"));
    walk(roots, add, |id, gradient| {
        note(log, format!("{} is ready: {gradient}", names[&id]));
        Ok(())
    })
    .unwrap();
}

fn leaf() -> History<String> {
    Some(Node::leaf())
}

/// Protects: a leaf is reported right after the last operation that uses it, long before the pass ends, once,
/// and with its terms in the order of the pass.
#[test]
fn leaves_are_reported_as_soon_as_they_are_complete() {
    let log = Log::default();
    // The leaves are made first, so their numbers are the smallest. The table is used at both ends.
    let [table, first, second] = [leaf(), leaf(), leaf()];
    let bottom = op(&log, "embed", &[&table]);
    let low = op(&log, "low", &[&bottom, &first]);
    let twice = op(&log, "twice", &[&second, &low, &second]);
    let top = op(&log, "top", &[&twice, &table]);
    let leaves = [("table", &table), ("first", &first), ("second", &second)];
    walked(&log, &[&top], &leaves);
    let expected = [
        "top 1",
        "twice top0",
        "second is ready: (twice0 + twice2)",
        "low twice1",
        "first is ready: low1",
        "embed low0",
        "table is ready: (top1 + embed0)",
    ];
    assert_eq!(*log.lock().unwrap(), expected);
}

/// Protects: operations that no gradient reaches, operands without a gradient, and leaves that are outputs
/// themselves neither hide a gradient nor report one twice.
#[test]
fn leaves_off_the_path_of_gradients_are_reported_at_the_end() {
    let log = Log::default();
    let [leaf, other, output, constant] = [leaf(), leaf(), leaf(), None];
    let unreached = op(&log, "unreached", &[&leaf, &other]);
    let used = op(&log, "used", &[&leaf, &constant]);
    // This one has a gradient for its first operand only.
    let cut = {
        let log = Arc::clone(&log);
        record(vec![used, unreached], move |gradient: &String, _| {
            note(&log, format!("cut {gradient}"));
            Ok(vec![Some("cut0".to_owned()), None])
        })
    };
    walked(&log, &[&cut, &output], &[("leaf", &leaf), ("other", &other), ("output", &output)]);
    let expected = ["cut 1", "used cut0", "output is ready: 1", "leaf is ready: used0"];
    assert_eq!(*log.lock().unwrap(), expected);
}

/// Protects: the error of the receiver ends the pass.
#[test]
fn a_receiver_can_end_the_pass() {
    let log = Log::default();
    let [below, above] = [leaf(), leaf()];
    let low = op(&log, "low", &[&below]);
    let top = op(&log, "top", &[&low, &above]);
    let refuse = |_, _| Err(Error::invalid("leaf", "is refused"));
    let ended = walk(vec![(top.unwrap(), String::new())], |a, _| Ok(a), refuse);
    assert!(ended.is_err_and(|error| error.to_string().contains("is refused")));
    assert_eq!(*log.lock().unwrap(), ["top "]);
}
