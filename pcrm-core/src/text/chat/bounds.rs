//! Bounds on the bytes that a template handles while it renders. minijinja counts steps, but a step may
//! double a text: sixty of them exceed any memory.
//!
//! Text comes from three places: operators (`+`, `~`, `*`), whose operands [`super::operators`] passes
//! through the filters of this module; filters and methods, which are wrapped; and output, of values by the
//! formatter and of plain text by a call at the head of every loop and macro. Each charges the bytes it makes
//! to the budget of the rendering, which runs on one thread.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;

use minijinja::value::{Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, Value};

/// The maximum number of bytes that a rendering may make in total.
const BUDGET: u64 = 1 << 30;

/// The maximum number of bytes of a value or of the rendered text.
pub(super) const LARGEST: u64 = 256 << 20;

/// The maximum nesting depth of values.
const DEEPEST: usize = 100;

/// The maximum width or count passed to a filter.
const WIDEST: i64 = 10_000;

/// The maximum number of items passed to a filter.
const MOST: i64 = 1_000_000;

/// Filters that write any value as text.
const WRITERS: [&str; 23] = [
    "capitalize",
    "center",
    "e",
    "escape",
    "filesizeformat",
    "format",
    "indent",
    "join",
    "lines",
    "lower",
    "pprint",
    "replace",
    "split",
    "string",
    "striptags",
    "sum",
    "title",
    "tojson",
    "trim",
    "truncate",
    "upper",
    "urlencode",
    "wordcount",
];

/// Filters that create lists.
const LISTERS: [&str; 6] = ["batch", "chain", "list", "reverse", "slice", "zip"];

/// The error of a template that exceeds a limit.
#[derive(Debug)]
pub(super) struct TooMuch(String);

impl fmt::Display for TooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TooMuch {}

/// A factor of a product.
#[derive(Clone, Copy)]
enum Factor {
    Number(u64),
    /// The bytes of a text or of a list of values.
    Bytes(u64),
}

thread_local! {
    static LEFT: Cell<u64> = const { Cell::new(0) };
    /// Left factors of products whose right factor is still being computed.
    static FACTORS: RefCell<Vec<Factor>> = const { RefCell::new(Vec::new()) };
}

/// Starts a rendering on this thread.
pub(super) fn begin() {
    LEFT.set(BUDGET);
    FACTORS.with_borrow_mut(Vec::clear);
}

fn too_much(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, "too much").with_source(TooMuch(message))
}

fn charge(bytes: u64) -> Result<(), Error> {
    if bytes > LARGEST {
        return Err(too_much(format!("makes a text of more than {} MiB", LARGEST >> 20)));
    }
    match LEFT.get().checked_sub(bytes) {
        Some(left) => {
            LEFT.set(left);
            Ok(())
        }
        None => Err(too_much(format!("makes more than {} MiB of text for one conversation", BUDGET >> 20))),
    }
}

/// Returns the bytes of a value that is passed on: the length of a text, the slots of a list.
fn held(value: &Value) -> u64 {
    match value.as_str() {
        Some(text) => text.len() as u64,
        None => 32 * value.len().unwrap_or(1) as u64,
    }
}

/// Returns a lower bound of a value's bytes as text.
fn printed(value: &Value) -> Result<u64, Error> {
    fn add(value: &Value, depth: usize, sum: &mut u64) -> Result<(), Error> {
        if let Some(text) = value.as_str() {
            *sum += text.len() as u64;
        } else if matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map) {
            if depth > DEEPEST {
                return Err(too_much(format!("writes values nested more than {DEEPEST} deep")));
            }
            for item in value.try_iter()? {
                *sum += 16;
                add(&item, depth + 1, sum)?;
                if value.kind() == ValueKind::Map {
                    add(&value.get_item(&item)?, depth + 1, sum)?;
                }
            }
        }
        match *sum <= LARGEST {
            true => Ok(()),
            false => Err(too_much(format!("makes a text of more than {} MiB", LARGEST >> 20))),
        }
    }
    let mut sum = 0;
    add(value, 0, &mut sum)?;
    Ok(sum)
}

/// Charges the bytes that `{{ .. }}` writes.
pub(super) fn write(value: &Value) -> Result<(), Error> {
    charge(printed(value)?)
}

fn factor(value: &Value) -> Factor {
    match value.kind() {
        ValueKind::String | ValueKind::Seq | ValueKind::Iterable => Factor::Bytes(held(value)),
        _ => Factor::Number(value.as_i64().map_or(0, |number| number.max(0) as u64)),
    }
}

/// Multiplies with the left factor, and charges the product if it is a text or a list.
fn product(right: &Value) -> Result<Factor, Error> {
    let left = FACTORS.with_borrow_mut(Vec::pop).unwrap_or(Factor::Number(1));
    Ok(match (left, factor(right)) {
        (Factor::Number(a), Factor::Number(b)) => Factor::Number(a.saturating_mul(b)),
        (Factor::Number(times), Factor::Bytes(bytes)) | (Factor::Bytes(bytes), Factor::Number(times)) => {
            let bytes = bytes.saturating_mul(times);
            charge(bytes)?;
            Factor::Bytes(bytes)
        }
        (Factor::Bytes(bytes), Factor::Bytes(_)) => Factor::Bytes(bytes),
    })
}

/// Checks the bytes that a filter or method will make from its arguments.
fn check_call(name: &str, args: &[Value]) -> Result<(), Error> {
    let Some(value) = args.first() else { return Ok(()) };
    if WRITERS.contains(&name) {
        args.iter().try_for_each(|arg| printed(arg).map(drop))?;
    }
    let widest = |most: i64| {
        let arguments = args[1..].iter().flat_map(|arg| match arg.kind() {
            ValueKind::Map => {
                arg.try_iter().into_iter().flatten().filter_map(|key| arg.get_item(&key).ok()).collect()
            }
            _ => vec![arg.clone()],
        });
        let numbers = arguments.filter_map(|arg| arg.as_i64());
        match numbers.max() {
            Some(found) if found > most => {
                Err(too_much(format!("calls {name} with {found}; expected at most {most}")))
            }
            found => Ok(found.unwrap_or(4).max(0) as u64),
        }
    };
    let text = |at: usize| args.get(at).and_then(Value::as_str).unwrap_or_default();
    match name {
        "indent" => {
            let lines = value.as_str().map_or(0, |text| text.matches('\n').count()) as u64 + 1;
            charge(lines * widest(WIDEST)?)
        }
        "batch" | "slice" => widest(MOST).and_then(|count| charge(32 * count)),
        "replace" => {
            let (from, to) = (text(1), text(2));
            let times =
                if from.is_empty() { text(0).chars().count() + 1 } else { text(0).matches(from).count() };
            charge((times as u64).saturating_mul(to.len() as u64))
        }
        "join" => {
            // The method is called on the separator, the filter on the items.
            let (between, items) =
                if value.as_str().is_some() { (text(0), args.get(1)) } else { (text(1), Some(value)) };
            let items = items.and_then(Value::len).map_or(MOST as u64, |items| items as u64);
            charge(items.saturating_mul(between.len() as u64))
        }
        "format" => {
            let digits = text(0).split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
            let wide =
                digits.clone().find(|digits| digits.parse::<i64>().map_or(true, |width| width > WIDEST));
            match wide {
                Some(wide) => Err(too_much(format!("formats with {wide}; expected at most {WIDEST}"))),
                None if text(0).contains('*') => widest(WIDEST).map(drop),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// Adds the bounds to an environment that has all its filters; `originals` has the same filters.
pub(super) fn install(env: &mut Environment<'static>, originals: Environment<'static>) {
    let originals = Arc::new(originals);
    for name in WRITERS.into_iter().chain(LISTERS) {
        let originals = Arc::clone(&originals);
        env.add_filter(name, move |args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
            let args = args.into_values();
            check_call(name, &args)?;
            let made = originals.empty_state().apply_filter(name, &args)?;
            charge(held(&made))?;
            Ok(made)
        });
    }
    env.set_unknown_method_callback(|state, value, method, args| {
        let all: Vec<Value> = std::iter::once(value).chain(args).cloned().collect();
        check_call(method, &all)?;
        let made = minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)?;
        charge(held(&made))?;
        Ok(made)
    });
    env.add_function("__pass", |bytes: u64| charge(bytes).map(|()| false));
    let charging = |cost: fn(&Value) -> Result<u64, Error>| {
        move |value: Value| -> Result<Value, Error> {
            charge(cost(&value)?)?;
            Ok(value)
        }
    };
    env.add_filter("__added", charging(|value| Ok(held(value))));
    env.add_filter("__joined", charging(printed));
    env.add_filter("__left", |value: Value| {
        FACTORS.with_borrow_mut(|factors| factors.push(factor(&value)));
        value
    });
    env.add_filter("__middle", |value: Value| -> Result<Value, Error> {
        let product = product(&value)?;
        FACTORS.with_borrow_mut(|factors| factors.push(product));
        Ok(value)
    });
    env.add_filter("__right", |value: Value| product(&value).map(|_| value));
}
