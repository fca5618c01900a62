//! The report of a training run: its course, data, model and options.

use pcrm_eval::accuracy::{LEVEL, Share};
use pcrm_eval::quantiles::Summary;
use pcrm_eval::table::percents;
use serde_json::Value;

use super::calibration;
use super::curves::{Curves, smooth, thin};
use super::data::{self, Source};
use super::document::{Block, Document, Fact, Section, Severity, Table};
use super::number::{count, duration, number, percent};
use super::plot::{Axis, Ink, Layer, Mark, Plot};
use crate::crossfit::Evidence;

/// The held-out pairs below which a report warns that there are few.
const FEW: usize = 30;
/// The least span of an axis of losses, in nats: less is noise and not to be blown up.
const LEAST_NATS: f64 = 0.05;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// All steps were made.
    Finished,
    /// Patience ran out: evaluations stopped improving.
    Early,
    /// The run was stopped and can be resumed.
    Interrupted,
    /// The run failed, for this reason.
    Failed(String),
}

/// Pairs that were held out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldOut {
    /// The pairs with a preferred answer, over which accuracy is a mean.
    pub pairs: usize,
    /// Their prompts.
    pub prompts: usize,
}

impl HeldOut {
    /// A share of the pairs with its interval. Pairs of one prompt are not independent: where they share prompts, the
    /// interval is that of as many trials as there are prompts, the widest that such data can need.
    pub fn share(&self, share: f64) -> Option<Share> {
        let trials = self.prompts.min(self.pairs);
        let successes = share * trials as f64;
        // A mean of halves and wholes: rounding undoes the division.
        let successes = if trials == self.pairs { (2.0 * successes).round() / 2.0 } else { successes };
        let found = Share::wilson(successes.clamp(0.0, trials as f64), trials, LEVEL).ok()?;
        Some(Share { value: share, ..found })
    }

    /// The number of pairs, and of prompts where there are fewer.
    pub fn text(&self) -> String {
        let pairs = format!("{} pair{}", count(self.pairs as u64), if self.pairs == 1 { "" } else { "s" });
        match self.prompts < self.pairs {
            true => format!("{pairs} of {} prompts", count(self.prompts as u64)),
            false => pairs,
        }
    }
}

/// A constraint that the run fitted to its own data.
#[derive(Debug, Clone, Copy)]
pub struct FittedTo<'a> {
    /// The constraint that was asked for.
    pub asked: &'a Value,
    /// What it was fitted to.
    pub evidence: &'a Evidence,
}

/// A training run.
#[derive(Debug, Clone)]
pub struct Run<'a> {
    /// Its name.
    pub name: String,
    /// The base model.
    pub base: String,
    /// The constraint with its settings, as it bounded the pairs.
    pub constraint: &'a Value,
    /// What it was fitted from, where the run fitted it.
    pub fitted: Option<FittedTo<'a>>,
    /// Its measures.
    pub curves: Curves,
    /// The step whose weights are the model.
    pub kept: Option<u64>,
    /// How it ended.
    pub ending: Ending,
    /// The warnings that it printed.
    pub warnings: &'a [String],
    /// The data it read.
    pub sources: &'a [Source],
    /// The number of training pairs.
    pub pairs: usize,
    /// The held-out pairs.
    pub held_out: Option<HeldOut>,
    /// Δ* of the training pairs; infinity for none.
    pub bounds: &'a [f32],
    /// The number of parameters.
    pub parameters: usize,
    /// The gradient norm above which gradients are clipped.
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
        self.held_out?.share(self.evaluation()?["eval_accuracy"].as_f64()?)
    }

    /// The constraint that was asked for: `calibrated`, where the run used the `length_ratio` that it fitted.
    pub fn asked(&self) -> &Value {
        self.fitted.map_or(self.constraint, |fitted| fitted.asked)
    }

    /// The evaluation with the lowest loss: its step, and the loss.
    pub fn best(&self) -> Option<(u64, f64)> {
        let best = self.curves.eval("loss").into_iter().min_by(|a, b| a.1.total_cmp(&b.1))?;
        Some((best.0 as u64, best.1))
    }
}

/// The report of a run.
pub fn document(run: &Run<'_>) -> Document {
    let mut summary = vec![Block::Figures(figures(run))];
    summary.extend(run.warnings.iter().map(|text| Block::Note(Severity::Warning, text.clone())));
    summary.extend(notes(run));
    let mut sections = vec![Section::open("", summary)];
    if run.curves.last().is_some() {
        let plots = plots(run).into_iter().filter(|plot| plot.layers.iter().any(|layer| !layer.is_empty()));
        sections.push(Section::open("Course of training", vec![Block::Plots(plots.collect())]));
    }
    sections.push(Section::open("Model", vec![Block::Facts(facts(run))]));
    sections.extend(run.fitted.map(|fitted| calibrated(run.constraint, fitted)));
    sections.push(Section::open("Data", data::blocks(run.sources)));
    sections.push(Section::closed("All options", vec![Block::Table(options(run.options))]));
    let kind = |tagged: &Value| tagged["kind"].as_str().unwrap_or("?").to_owned();
    let fitted = run.fitted.map(|_| format!(", fitted as {}", kind(run.constraint))).unwrap_or_default();
    Document {
        title: format!("Reward model {}", run.name),
        about: format!("Trained from {} with the constraint {}{fitted}.", run.base, kind(run.asked())),
        sections,
    }
}

/// The evidence for a constraint that the run fitted.
fn calibrated(constraint: &Value, fitted: FittedTo<'_>) -> Section {
    let FittedTo { asked, evidence } = fitted;
    let accuracy = evidence.accuracy;
    let mut blocks = vec![Block::Text(format!(
        "Judges ({}) prefer the chosen answer in {} of {} pairs (95 %: {}).",
        evidence.judges,
        percent(accuracy.value),
        count(evidence.pairs as u64),
        percents(&accuracy.interval)
    ))];
    blocks.extend(
        self::evidence(constraint).map(|text| Block::Note(Severity::Info, format!("Fitted to {text}."))),
    );
    match &evidence.calibration {
        Some(calibration) => blocks.extend(calibration::blocks(asked, constraint, calibration)),
        None => blocks.push(Block::Facts(vec![
            Fact::new("As asked for", self::constraint(asked)),
            Fact::new("Fitted", self::constraint(constraint)),
        ])),
    }
    Section::open("The constraint's evidence", blocks)
}

fn figures(run: &Run<'_>) -> Vec<Fact> {
    let mut figures = Vec::new();
    let of = |line: Option<&Value>, name: &str| line.and_then(|line| line[name].as_f64());
    let held_out = |name: &str| of(run.evaluation(), name);
    if let (Some(accuracy), Some(pairs)) = (run.accuracy(), run.held_out) {
        let interval = format!("95 %: {}, {}", percents(&accuracy.interval), pairs.text());
        figures.push(Fact::new("Accuracy, held out", percent(accuracy.value)).with_note(interval));
    }
    if let Some(loss) = held_out("eval_ranking_loss") {
        let note = beside_guessing("nats per pair", held_out("eval_coin_ranking_loss"));
        figures.push(Fact::new("Ranking loss, held out", number(loss)).with_note(note));
    }
    if let Some(loss) = held_out("eval_loss").filter(|_| bounds(run).is_some()) {
        let note = beside_guessing("all parts", held_out("eval_coin_loss"));
        figures.push(Fact::new("Loss with bounds, held out", number(loss)).with_note(note));
    }
    if let Some(margin) = held_out("eval_margin") {
        let std = held_out("eval_margin_std").map(|std| format!("± {} (std)", number(std)));
        figures.push(Fact::new("Mean margin, held out", number(margin)).with_note(std.unwrap_or_default()));
    }
    if let Some(beyond) = held_out("eval_beyond_bound") {
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

/// A note with the loss of a model that guesses, under the same bounds.
fn beside_guessing(unit: &str, coin: Option<f64>) -> String {
    coin.map_or(unit.to_owned(), |coin| format!("{unit}; guessing has {}", number(coin)))
}

fn notes(run: &Run<'_>) -> Vec<Block> {
    let mut notes = Vec::new();
    let mut note = |severity, text: String| notes.push(Block::Note(severity, text));
    match &run.ending {
        Ending::Finished => {}
        Ending::Early => note(
            Severity::Info,
            "Stopped early: evaluations did not improve for as long as --patience allows.".into(),
        ),
        Ending::Interrupted => {
            note(Severity::Warning, "Interrupted: rerun the same command with --resume to continue.".into())
        }
        Ending::Failed(why) => note(Severity::Error, format!("Failed: {why}")),
    }
    if let Some(score) = collapsed(run) {
        note(
            Severity::Error,
            format!("All scores are equal ({}): the model tells nothing apart.", number(score)),
        );
    } else if let Some(share) = run.accuracy()
        && share.interval.contains(0.5)
    {
        let interval = percents(&share.interval);
        note(
            Severity::Warning,
            format!(
                "The 95 % interval of the held-out accuracy ({interval}) includes 50 %: no evidence that the model \
                 beats guessing on these pairs."
            ),
        );
    }
    if let Some(held_out) = run.held_out.filter(|held_out| held_out.pairs < FEW) {
        note(Severity::Warning, format!("Only {} held out: the figures are rough.", held_out.text()));
    }
    let last = run.curves.eval("loss").last().copied();
    if let (Some((step, least)), Some((last, loss))) = (run.best(), last)
        && loss > least * 1.02
        && run.kept.is_none_or(|kept| kept > step)
    {
        note(
            Severity::Warning,
            format!(
                "The held-out loss was lowest after step {step} ({}) and is {} after step {last}: the model overfits. \
                 --final best keeps the weights with the lowest loss.",
                number(least),
                number(loss)
            ),
        );
    }
    if run.held_out.is_none() {
        note(
            Severity::Info,
            "Nothing was held out: --eval-split 0.1 or --eval-data measure the model on other pairs.".into(),
        );
    }
    notes
}

/// The score of all held-out answers, or of the last batch's, where it is one for all.
fn collapsed(run: &Run<'_>) -> Option<f64> {
    let (line, prefix) = match run.evaluation() {
        Some(line) => (line, "eval_"),
        None => (run.curves.last()?, ""),
    };
    let of = |name: &str| line[format!("{prefix}{name}")].as_f64();
    of("min_reward").filter(|least| of("max_reward") == Some(*least))
}

fn facts(run: &Run<'_>) -> Vec<Fact> {
    let mut facts = vec![
        Fact::new("Base model", run.base.clone()),
        Fact::new("Parameters", count(run.parameters as u64)),
        Fact::new("Constraint", constraint(run.constraint)),
        Fact::new("Training pairs", count(run.pairs as u64)),
    ];
    if run.fitted.is_some() {
        facts[2].note = format!("fitted by {}", constraint(run.asked()));
    }
    if let Some(held_out) = run.held_out {
        facts.push(Fact::new("Held-out pairs", held_out.text()));
    }
    if let Some(bounds) = bounds(run) {
        let spread = match bounds.min == bounds.max {
            true => "the same for all".to_owned(),
            false => format!("5–95 %: {} to {}", number(bounds.p5), number(bounds.p95)),
        };
        facts.push(
            Fact::new("Bounds Δ* of the pairs", format!("median {}", number(bounds.p50))).with_note(spread),
        );
    }
    if let Some(step) = run.kept {
        let best =
            run.best().filter(|_| run.curves.eval("loss").len() > 1).map(|(best, _)| match best == step {
                true => "the lowest held-out loss".to_owned(),
                false => format!("the held-out loss was lowest after step {}", count(best)),
            });
        facts.push(
            Fact::new("Saved weights", format!("step {}", count(step))).with_note(best.unwrap_or_default()),
        );
    }
    facts
}

/// A constraint as people read it: `length_ratio (beta1 20, beta2 0.001, beta3 −15)`; fields fitted in bulk (a model per
/// fold, its evidence) are left out.
pub fn constraint(tagged: &Value) -> String {
    let kind = tagged["kind"].as_str().unwrap_or("none").to_owned();
    let fields =
        tagged.as_object().into_iter().flatten().filter(|(name, value)| is_setting(name.as_str(), value));
    let settings: Vec<String> = fields.map(|(name, value)| format!("{name} {}", setting(value))).collect();
    if settings.is_empty() { kind } else { format!("{kind} ({})", settings.join(", ")) }
}

/// Whether a field of a tagged object is a setting: neither its kind, nor fitted in bulk, nor empty.
pub fn is_setting(name: &str, value: &Value) -> bool {
    let is_empty =
        value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(|of| of.is_empty());
    !["kind", "digest"].contains(&name) && !is_bulk(value) && !is_empty
}

/// The evidence that a fitted constraint carries, in a sentence; none where it carries none.
pub fn evidence(tagged: &Value) -> Option<String> {
    let evidence = tagged.get("evidence")?;
    let number = |path: &str| evidence.pointer(path).and_then(Value::as_f64);
    let of = |path: &str| number(path).map(|value| format!("{value:+.4}").replace('-', "−"));
    Some(format!(
        "{} pairs of {} prompts; log-likelihood in nats per pair on prompts not fitted to: {}, one probability for all \
         pairs {}, guessing {}; the features bring {} (95 %: {} to {}, normal approximation over prompts)",
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

/// A parameter's value as people read it; a tagged value reads as a constraint does.
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
    let mut plots = vec![ranking_loss(run), accuracy(run), margin(run)];
    if bounds(run).is_some() {
        plots.extend([bounded_loss(run), beyond(run)]);
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
        window => format!("Bold lines are means over {window} logged steps."),
    }
}

fn ranking_loss(run: &Run<'_>) -> Plot {
    let mut layers = guessing(run, "coin_ranking_loss");
    layers.extend(both(run, "ranking_loss"));
    let y = Axis::new("−ln σ(Δ), nats per pair").spanning(LEAST_NATS);
    Plot { title: "Ranking loss".into(), about: smoothing(run), x: steps(), y, layers }
}

/// The whole loss and its constraint part.
fn bounded_loss(run: &Run<'_>) -> Plot {
    let mut layers = guessing(run, "coin_loss");
    let part = Mark::Dashes(smooth(&run.curves.train("constraint_loss")));
    layers.push(Layer::new("constraint part, training", Ink::Purple, part));
    layers.extend(both(run, "loss"));
    let y = Axis::new("ranking and constraint, nats per pair").spanning(LEAST_NATS);
    Plot { title: "Loss with bounds".into(), about: smoothing(run), x: steps(), y, layers }
}

/// A line at the loss of a model that guesses, as evaluations have it.
fn guessing(run: &Run<'_>, name: &str) -> Vec<Layer> {
    let coin = run.curves.eval(name).last().copied();
    coin.map(|(_, coin)| Layer::new("guessing", Ink::Grey, Mark::Across(coin))).into_iter().collect()
}

fn accuracy(run: &Run<'_>) -> Plot {
    let mut layers = both(run, "accuracy");
    layers.insert(0, Layer::new("guessing", Ink::Grey, Mark::Across(0.5)));
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
            about = format!("Above the plot: {}.", above.join(", "));
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
    let y = Axis::new("score of an answer");
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
        layers.push(Layer::new("clipped above", Ink::Grey, Mark::Across(most)));
        let clipped = norms.iter().filter(|(_, norm)| *norm > most).count();
        about =
            format!("Clipped in {} of {} logged steps.", count(clipped as u64), count(norms.len() as u64));
    }
    let y = Axis::new("√Σ g², before clipping");
    Plot { title: "Gradient norm".into(), about, x: steps(), y, layers }
}

fn learning_rate(run: &Run<'_>) -> Plot {
    let rates = thin(&run.curves.train("learning_rate"));
    let highest = rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    let y = match highest > 0.0 {
        true => Axis::new("learning rate").within(0.0, 1.05 * highest),
        false => Axis::new("learning rate"),
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
