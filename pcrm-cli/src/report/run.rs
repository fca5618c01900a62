//! The report of a training run: how it went, from what, with which options.

use pcrm_eval::accuracy::{LEVEL, Share};
use pcrm_eval::quantiles::Summary;
use serde_json::Value;

use super::curves::{Curves, smooth, thin};
use super::data::{self, Source};
use super::document::{Block, Document, Fact, Section, Severity, Table};
use super::number::{count, duration, number, percent};
use super::plot::{Axis, Ink, Layer, Mark, Plot};

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// All steps were made.
    Finished,
    /// Evaluations did not get better for as long as `--patience` allows.
    Early,
    /// It was stopped and can be gone on with.
    Interrupted,
    /// It failed, for this reason.
    Failed(String),
}

/// A training run.
#[derive(Debug, Clone)]
pub struct Run<'a> {
    /// What it is called.
    pub name: String,
    /// What it began from.
    pub base: String,
    /// The constraint with its settings.
    pub constraint: &'a Value,
    /// Its measures.
    pub curves: Curves,
    /// The step whose weights are the model.
    pub kept: Option<u64>,
    /// How it ended.
    pub ending: Ending,
    /// The data it read.
    pub sources: &'a [Source],
    /// Pairs learned from and pairs evaluated on.
    pub pairs: (usize, Option<usize>),
    /// Δ* of the pairs learned from; infinity for none.
    pub bounds: &'a [f32],
    /// How many parameters the model has.
    pub parameters: usize,
    /// The largest gradient norm that is not scaled down.
    pub max_grad_norm: Option<f64>,
    /// All options, as TOML.
    pub options: &'a str,
}

impl Run<'_> {
    /// The evaluation of the weights that were kept.
    pub fn evaluation(&self) -> Option<&Value> {
        match self.kept {
            Some(step) => self.curves.evaluation(step),
            None => self.curves.last_evaluation(),
        }
    }

    /// The accuracy of that evaluation with its interval.
    pub fn accuracy(&self) -> Option<Share> {
        let (accuracy, pairs) = (self.evaluation()?["eval_accuracy"].as_f64()?, self.pairs.1?);
        // A mean of halves and wholes: rounding undoes the division.
        let right = (2.0 * accuracy * pairs as f64).round() / 2.0;
        Share::wilson(right, pairs, LEVEL).ok()
    }
}

/// The report of a run.
pub fn document(run: &Run<'_>) -> Document {
    let mut summary = vec![Block::Figures(figures(run))];
    summary.extend(notes(run));
    let mut sections = vec![Section::open("", summary)];
    if run.curves.last().is_some() {
        let plots = plots(run).into_iter().filter(|plot| plot.layers.iter().any(|layer| !layer.is_empty()));
        sections.push(Section::open("Course of training", vec![Block::Plots(plots.collect())]));
    }
    sections.push(Section::open("Model", vec![Block::Facts(facts(run))]));
    sections.push(Section::open("Data", data::blocks(run.sources)));
    sections.push(Section::closed("All options", vec![Block::Table(options(run.options))]));
    Document {
        title: format!("Reward model {}", run.name),
        about: format!(
            "Trained from {} with the constraint {}.",
            run.base,
            run.constraint["kind"].as_str().unwrap_or("?")
        ),
        sections,
    }
}

fn figures(run: &Run<'_>) -> Vec<Fact> {
    let mut figures = Vec::new();
    let of = |line: Option<&Value>, name: &str| line.and_then(|line| line[name].as_f64());
    if let (Some(accuracy), Some(pairs)) = (run.accuracy(), run.pairs.1) {
        let interval = format!(
            "95 %: {:.1} to {:.1} %, {} pairs",
            100.0 * accuracy.low,
            100.0 * accuracy.high,
            count(pairs as u64)
        );
        figures.push(Fact::new("Accuracy, held out", percent(accuracy.value)).with_note(interval));
    }
    if let Some(loss) = of(run.evaluation(), "eval_loss") {
        figures.push(Fact::new("Loss, held out", number(loss)).with_note("nats per pair; a coin has 0.693"));
    }
    if let Some(margin) = of(run.evaluation(), "eval_margin") {
        let std = of(run.evaluation(), "eval_margin_std").map(|std| format!("± {} (std)", number(std)));
        figures.push(Fact::new("Mean margin, held out", number(margin)).with_note(std.unwrap_or_default()));
    }
    if let Some(beyond) = of(run.evaluation(), "eval_beyond_bound") {
        figures.push(Fact::new("Beyond the bound", percent(beyond)).with_note("of the held-out margins"));
    }
    if let Some(last) = run.curves.last() {
        let step = last["step"].as_u64().unwrap_or(0);
        let epochs = format!("{:.2} epochs", last["epoch"].as_f64().unwrap_or(0.0));
        figures.push(Fact::new("Steps", count(step)).with_note(epochs));
        let tokens = last["num_tokens"].as_u64().unwrap_or(0);
        let time = format!("{} in steps", duration(run.curves.seconds()));
        figures.push(Fact::new("Tokens", count(tokens)).with_note(time));
    }
    if let Some(speed) = run.curves.median("tokens_per_second") {
        let saved = run.curves.median("padding_avoided").unwrap_or(0.0);
        let note = format!("tokens per second; {:.0} % of padded batches not computed", 100.0 * saved);
        figures.push(Fact::new("Speed, median", count(speed.round() as u64)).with_note(note));
    }
    figures
}

fn notes(run: &Run<'_>) -> Vec<Block> {
    let mut notes = Vec::new();
    let mut note = |severity, text: String| notes.push(Block::Note(severity, text));
    match &run.ending {
        Ending::Finished => {}
        Ending::Early => note(
            Severity::Info,
            "Ended early: evaluations did not get better for as long as --patience allows.".into(),
        ),
        Ending::Interrupted => {
            note(Severity::Warning, "Interrupted: the same command with --resume goes on.".into())
        }
        Ending::Failed(why) => note(Severity::Error, format!("Failed: {why}")),
    }
    if let Some(share) = run.accuracy()
        && share.low <= 0.5
        && share.high >= 0.5
    {
        note(Severity::Warning, "The interval of the held-out accuracy holds 50 %: on these pairs the model cannot be told from a coin.".into());
    }
    let losses = run.curves.eval("loss");
    let best = losses.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1));
    if let (Some((step, least)), Some((last, loss))) = (best, losses.last().copied())
        && loss > least * 1.02
        && run.kept.is_none_or(|kept| kept as f64 > step)
    {
        note(
            Severity::Warning,
            format!(
                "The loss on held-out pairs was least after step {step} ({}) and is {} after step {last}: the model over-fits. --final best keeps the best weights.",
                number(least),
                number(loss)
            ),
        );
    }
    if run.pairs.1.is_none() {
        note(Severity::Info, "Nothing was held out: --eval-split 0.1 or --eval-data show what the model is worth on other pairs.".into());
    }
    notes
}

fn facts(run: &Run<'_>) -> Vec<Fact> {
    let mut facts = vec![
        Fact::new("Begun from", run.base.clone()),
        Fact::new("Parameters", count(run.parameters as u64)),
        Fact::new("Constraint", constraint(run.constraint)),
        Fact::new("Pairs learned from", count(run.pairs.0 as u64)),
    ];
    if let Some(pairs) = run.pairs.1 {
        facts.push(Fact::new("Pairs held out", count(pairs as u64)));
    }
    if let Some(bounds) = bounds(run) {
        let spread = match bounds.min == bounds.max {
            true => "all alike".to_owned(),
            false => format!("5–95 %: {} to {}", number(bounds.p5), number(bounds.p95)),
        };
        facts.push(
            Fact::new("Bounds Δ* of the pairs", format!("median {}", number(bounds.p50))).with_note(spread),
        );
    }
    if let Some(step) = run.kept {
        facts.push(Fact::new("Weights kept", format!("those after step {}", count(step))));
    }
    facts
}

/// A constraint as people read it: `length_ratio (beta1 20, beta2 0.001, beta3 −15)`; what was fitted in bulk (a model per
/// fold, its evidence) is left to the file.
pub fn constraint(tagged: &Value) -> String {
    let kind = tagged["kind"].as_str().unwrap_or("none").to_owned();
    let fields =
        tagged.as_object().into_iter().flatten().filter(|(name, value)| is_setting(name.as_str(), value));
    let settings: Vec<String> = fields.map(|(name, value)| format!("{name} {}", setting(value))).collect();
    if settings.is_empty() { kind } else { format!("{kind} ({})", settings.join(", ")) }
}

/// Whether a field of a tagged object is a setting, and not its kind or something that was fitted in bulk.
pub fn is_setting(name: &str, value: &Value) -> bool {
    !["kind", "digest"].contains(&name) && !is_bulk(value)
}

/// What a fitted constraint says of how it was fitted, in a sentence; none of one that says nothing.
pub fn evidence(tagged: &Value) -> Option<String> {
    let evidence = tagged.get("evidence")?;
    let number = |path: &str| evidence.pointer(path).and_then(Value::as_f64);
    let of = |path: &str| number(path).map(|value| format!("{value:+.4}").replace('-', "−"));
    Some(format!(
        "{} pairs of {} prompts; nats per pair on prompts not fitted to: {}, one probability for all pairs {}, a coin \
         {}; the features bring {} (95 %: {} to {})",
        number("/pairs")?,
        number("/prompts")?,
        of("/log_likelihood/learned")?,
        of("/log_likelihood/constant")?,
        of("/log_likelihood/coin")?,
        of("/gain/mean")?,
        of("/gain/low")?,
        of("/gain/high")?
    ))
}

fn is_bulk(value: &Value) -> bool {
    match value {
        Value::Object(fields) => {
            !fields.contains_key("kind") && fields.values().any(|value| !value.is_string())
        }
        Value::Array(values) => values.iter().any(is_bulk),
        _ => false,
    }
}

/// A parameter's value as people read it; what is tagged itself is told as a constraint is.
pub fn setting(value: &Value) -> String {
    match value {
        Value::Object(fields) if fields.contains_key("kind") => constraint(value),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| format!("{name} {}", setting(value)))
            .collect::<Vec<_>>()
            .join(", "),
        Value::Array(values) => values.iter().map(setting).collect::<Vec<_>>().join(", "),
        Value::String(text) => text.clone(),
        value => value.as_f64().map_or_else(|| value.to_string(), number_of),
    }
}

fn number_of(value: f64) -> String {
    value.to_string().replace('-', "−")
}

fn bounds(run: &Run<'_>) -> Option<Summary> {
    let finite: Vec<f64> =
        run.bounds.iter().filter(|bound| bound.is_finite()).map(|bound| f64::from(*bound)).collect();
    Summary::of("bound of pair", &finite).ok()
}

fn options(toml: &str) -> Table {
    let mut table =
        Table::of_text("config.toml in the run's folder; --config takes it", &["option", "value"]);
    let parsed: toml::Table = toml.parse().unwrap_or_default();
    table.rows = parsed.into_iter().map(|(name, value)| vec![name, shown(&value)]).collect();
    table
}

fn shown(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(values) => values.iter().map(shown).collect::<Vec<_>>().join(", "),
        value => value.to_string(),
    }
}

fn plots(run: &Run<'_>) -> Vec<Plot> {
    let mut plots = vec![loss(run), accuracy(run), margin(run)];
    if bounds(run).is_some() {
        plots.push(beyond(run));
    }
    plots.extend([scores(run), gradient(run), learning_rate(run), speed(run)]);
    plots
}

fn steps() -> Axis {
    Axis::counts("step")
}

/// A measure of training, pale as it was and smoothed, and of evaluations.
fn both(run: &Run<'_>, name: &str) -> Vec<Layer> {
    let train = run.curves.train(name);
    let mut layers = Vec::new();
    if run.curves.window() > 1 {
        layers.push(Layer::unnamed(Ink::Blue, Mark::Faint(thin(&train))));
    }
    layers.push(Layer::new("training", Ink::Blue, Mark::Line(smooth(&train))));
    let eval = run.curves.eval(name);
    if eval.len() > 1 {
        layers.push(Layer::unnamed(Ink::Orange, Mark::Line(eval.clone())));
    }
    layers.push(Layer::new("held out", Ink::Orange, Mark::Dots(eval)));
    layers
}

fn smoothing(run: &Run<'_>) -> String {
    match run.curves.window() {
        1 => String::new(),
        window => format!("Strong lines are means over {window} logged steps."),
    }
}

fn loss(run: &Run<'_>) -> Plot {
    let mut layers = both(run, "loss");
    if bounds(run).is_some() {
        // Beneath the whole, of which they are parts: where there is one alone, the whole covers it.
        let part = |name: &str| Mark::Dashes(smooth(&run.curves.train(name)));
        layers.insert(0, Layer::new("its ranking part", Ink::Green, part("ranking_loss")));
        layers.insert(1, Layer::new("its constraint part", Ink::Purple, part("constraint_loss")));
    }
    let y = Axis::new("nats per pair");
    Plot { title: "Loss".into(), about: smoothing(run), x: steps(), y, layers }
}

fn accuracy(run: &Run<'_>) -> Plot {
    let mut layers = both(run, "accuracy");
    layers.insert(0, Layer::new("a coin", Ink::Grey, Mark::Across(0.5)));
    let y = Axis::shares("share of pairs ordered as labelled").within(0.0, 1.0);
    Plot { title: "Accuracy".into(), about: String::new(), x: steps(), y, layers }
}

fn margin(run: &Run<'_>) -> Plot {
    let (mean, std) = (smooth(&run.curves.train("margin")), smooth(&run.curves.train("margin_std")));
    let band: Vec<_> =
        mean.iter().zip(&std).map(|((x, mean), (_, std))| (*x, mean - std, mean + std)).collect();
    let highest = band.iter().map(|(.., high)| *high).fold(0.0, f64::max);
    let mut layers = vec![
        Layer::new("± standard deviation", Ink::Blue, Mark::Band(band)),
        Layer::new("mean, training", Ink::Blue, Mark::Line(mean)),
    ];
    let eval = run.curves.eval("margin");
    if eval.len() > 1 {
        layers.push(Layer::unnamed(Ink::Orange, Mark::Line(eval.clone())));
    }
    layers.push(Layer::new("mean, held out", Ink::Orange, Mark::Dots(eval)));
    let mut about = String::new();
    if let Some(bounds) = bounds(run) {
        // Bounds of very different answers are far above any margin: they would flatten the plot.
        let fits = |bound: f64| bound <= 4.0 * highest.max(1.0);
        let lines = match bounds.max - bounds.min < 1e-6 {
            true => vec![("the bound Δ*", bounds.min)],
            false => vec![("lowest bound Δ*", bounds.min), ("median bound", bounds.p50)],
        };
        let (inside, outside): (Vec<_>, Vec<_>) = lines.into_iter().partition(|(_, bound)| fits(*bound));
        for ((name, bound), ink) in inside.into_iter().zip([Ink::Red, Ink::Purple]) {
            layers.push(Layer::new(format!("{name} ({})", number(bound)), ink, Mark::Across(bound)));
        }
        let above = outside.iter().map(|(name, bound)| format!("{name} {}", number(*bound)));
        let above = above.collect::<Vec<_>>();
        if !above.is_empty() {
            about = format!("Above what is drawn: {}.", above.join(", "));
        }
    }
    let y = Axis::new("Δ = score(chosen) − score(rejected)");
    Plot { title: "Margin against its bound".into(), about, x: steps(), y, layers }
}

fn beyond(run: &Run<'_>) -> Plot {
    let y = Axis::shares("share of pairs with Δ > Δ*");
    let layers = both(run, "beyond_bound");
    let most = run.curves.train("beyond_bound").into_iter().chain(run.curves.eval("beyond_bound"));
    let most = most.map(|(_, share)| share).fold(0.0, f64::max);
    let y = y.within(0.0, (1.1 * most).clamp(0.05, 1.0));
    Plot { title: "Beyond the bound".into(), about: String::new(), x: steps(), y, layers }
}

fn scores(run: &Run<'_>) -> Plot {
    let (low, high) = (thin(&run.curves.train("min_reward")), thin(&run.curves.train("max_reward")));
    let band = low.iter().zip(&high).map(|((x, low), (_, high))| (*x, *low, *high)).collect();
    let layers = vec![
        Layer::new("lowest to highest of the batch", Ink::Blue, Mark::Band(band)),
        Layer::new("mean", Ink::Blue, Mark::Line(smooth(&run.curves.train("mean_reward")))),
        Layer::new("mean, held out", Ink::Orange, Mark::Dots(run.curves.eval("mean_reward"))),
    ];
    let y = Axis::new("scores of both answers");
    Plot { title: "Scores".into(), about: String::new(), x: steps(), y, layers }
}

fn gradient(run: &Run<'_>) -> Plot {
    let norms = run.curves.train("grad_norm");
    let mut layers = vec![];
    if run.curves.window() > 1 {
        layers.push(Layer::unnamed(Ink::Blue, Mark::Faint(thin(&norms))));
    }
    layers.push(Layer::new("norm", Ink::Blue, Mark::Line(smooth(&norms))));
    let mut about = String::new();
    if let Some(most) = run.max_grad_norm {
        layers.push(Layer::new("scaled down from here", Ink::Grey, Mark::Across(most)));
        let clipped = norms.iter().filter(|(_, norm)| *norm > most).count();
        about = format!(
            "Scaled down in {} of {} logged steps.",
            count(clipped as u64),
            count(norms.len() as u64)
        );
    }
    let y = Axis::new("√Σ g², before it is scaled down");
    Plot { title: "Gradient norm".into(), about, x: steps(), y, layers }
}

fn learning_rate(run: &Run<'_>) -> Plot {
    let rates = thin(&run.curves.train("learning_rate"));
    let highest = rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    let y = match highest > 0.0 {
        true => Axis::new("of the step").within(0.0, 1.05 * highest),
        false => Axis::new("of the step"),
    };
    let layers = vec![Layer::unnamed(Ink::Blue, Mark::Line(rates))];
    Plot { title: "Learning rate".into(), about: String::new(), x: steps(), y, layers }
}

fn speed(run: &Run<'_>) -> Plot {
    let speeds = run.curves.train("tokens_per_second");
    let highest = speeds.iter().map(|(_, speed)| *speed).fold(1.0, f64::max);
    let layers = vec![
        Layer::unnamed(Ink::Blue, Mark::Faint(thin(&speeds))),
        Layer::unnamed(Ink::Blue, Mark::Line(smooth(&speeds))),
    ];
    let y = Axis::new("tokens per second, prompts counted twice").within(0.0, 1.05 * highest);
    Plot { title: "Speed".into(), about: String::new(), x: steps(), y, layers }
}
