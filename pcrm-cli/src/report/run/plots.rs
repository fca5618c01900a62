//! The plots of a training run.

use crate::report::curves::{smooth, thin};
use crate::report::number::{count, number};
use crate::report::plot::{Axis, Ink, Layer, Mark, Plot};

use super::RewardPage;
use super::summary::bounds;
use crate::report::curves::Curves;

/// The smallest span of a loss axis, in nats: smaller changes are noise and must not be magnified.
const LEAST_NATS: f64 = 0.05;

/// The plot of the routers' loss of a mixture of experts, and its axis.
pub(super) const ROUTERS: &str = "Routers' loss";
pub(super) const BALANCE: &str = "before its coefficient; even routing has the experts of a token";

pub(super) fn plots(run: &RewardPage<'_>) -> Vec<Plot> {
    let mut plots = vec![ranking_loss(run), accuracy(run), margin(run)];
    if bounds(run).is_some() {
        plots.extend([bounded_loss(run), beyond(run)]);
    }
    let course = Course::of(run);
    plots.extend([scores(run), course.gradient(), course.learning_rate(), course.speed()]);
    plots
}

pub(super) fn steps() -> Axis {
    Axis::counts("step")
}

/// The curves that all trainers share.
pub(super) struct Course<'a> {
    pub curves: &'a Curves,
    /// The threshold for clipping the gradient norm.
    pub max_grad_norm: Option<f64>,
}

/// Returns a metric of a reward model's training and its evaluations.
fn both(run: &RewardPage<'_>, name: &str) -> Vec<Layer> {
    Course::of(run).both(name)
}

fn smoothing(run: &RewardPage<'_>) -> String {
    Course::of(run).smoothing()
}

fn ranking_loss(run: &RewardPage<'_>) -> Plot {
    let mut layers = guessing(run, "coin_ranking_loss");
    layers.extend(both(run, "ranking_loss"));
    let y = Axis::new("−ln σ(Δ), nats per pair").spanning(LEAST_NATS);
    Plot { title: "Ranking loss".into(), about: smoothing(run), x: steps(), y, layers }
}

/// Returns the plot of the total loss and its constraint part.
fn bounded_loss(run: &RewardPage<'_>) -> Plot {
    let mut layers = guessing(run, "coin_loss");
    let part = Mark::Dashes(smooth(&run.curves.train("constraint_loss")));
    layers.push(Layer::new("constraint part, training", Ink::Purple, part));
    layers.extend(both(run, "loss"));
    let y = Axis::new("ranking and constraint, nats per pair").spanning(LEAST_NATS);
    Plot { title: "Loss with bounds".into(), about: smoothing(run), x: steps(), y, layers }
}

/// Returns a line at the loss of guessing, as recorded by evaluations.
fn guessing(run: &RewardPage<'_>, name: &str) -> Vec<Layer> {
    let coin = run.curves.eval(name).last().copied();
    coin.map(|(_, coin)| Layer::new("guessing", Ink::Grey, Mark::Across(coin))).into_iter().collect()
}

fn accuracy(run: &RewardPage<'_>) -> Plot {
    let mut layers = both(run, "accuracy");
    layers.insert(0, Layer::new("guessing", Ink::Grey, Mark::Across(0.5)));
    let y = Axis::shares("share of pairs ordered as labelled").within(0.0, 1.0);
    Plot { title: "Accuracy".into(), about: String::new(), x: steps(), y, layers }
}

fn margin(run: &RewardPage<'_>) -> Plot {
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
        // Bounds of very different answers are far above any margin and would flatten the plot.
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

fn beyond(run: &RewardPage<'_>) -> Plot {
    let y = Axis::shares("share of pairs with Δ > Δ*");
    let layers = both(run, "beyond_bound");
    let most = run.curves.train("beyond_bound").into_iter().chain(run.curves.eval("beyond_bound"));
    let most = most.map(|(_, share)| share).fold(0.0, f64::max);
    let y = y.within(0.0, (1.1 * most).clamp(0.05, 1.0));
    Plot { title: "Beyond the bound".into(), about: String::new(), x: steps(), y, layers }
}

fn scores(run: &RewardPage<'_>) -> Plot {
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

impl<'a> Course<'a> {
    fn of(run: &'a RewardPage<'_>) -> Self {
        Self { curves: &run.curves, max_grad_norm: run.max_grad_norm }
    }

    /// Returns a training metric, pale as recorded and bold as smoothed, and its evaluations.
    pub(super) fn both(&self, name: &str) -> Vec<Layer> {
        let train = self.curves.train(name);
        let mut layers = Vec::new();
        if self.curves.window() > 1 {
            layers.push(Layer::unnamed(Ink::Blue, Mark::Faint(thin(&train))));
        }
        layers.push(Layer::new("training", Ink::Blue, Mark::Line(smooth(&train))));
        let eval = self.curves.eval(name);
        if eval.len() > 1 {
            layers.push(Layer::unnamed(Ink::Orange, Mark::Line(eval.clone())));
        }
        layers.push(Layer::new("held out", Ink::Orange, Mark::Dots(eval)));
        layers
    }

    /// Describes the smoothing of bold lines.
    pub(super) fn smoothing(&self) -> String {
        match self.curves.window() {
            1 => String::new(),
            window => format!("Bold lines are means over {window} logged steps."),
        }
    }

    pub(super) fn gradient(&self) -> Plot {
        let norms = self.curves.train("grad_norm");
        let mut layers = vec![];
        if self.curves.window() > 1 {
            layers.push(Layer::unnamed(Ink::Blue, Mark::Faint(thin(&norms))));
        }
        layers.push(Layer::new("norm", Ink::Blue, Mark::Line(smooth(&norms))));
        let mut about = String::new();
        if let Some(most) = self.max_grad_norm {
            layers.push(Layer::new("clipped above", Ink::Grey, Mark::Across(most)));
            let clipped = norms.iter().filter(|(_, norm)| *norm > most).count();
            about = format!(
                "Clipped in {} of {} logged steps.",
                count(clipped as u64),
                count(norms.len() as u64)
            );
        }
        let y = Axis::new("√Σ g², before clipping");
        Plot { title: "Gradient norm".into(), about, x: steps(), y, layers }
    }

    pub(super) fn learning_rate(&self) -> Plot {
        let rates = thin(&self.curves.train("learning_rate"));
        let highest = rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
        let y = match highest > 0.0 {
            true => Axis::new("learning rate").within(0.0, 1.05 * highest),
            false => Axis::new("learning rate"),
        };
        let layers = vec![Layer::unnamed(Ink::Blue, Mark::Line(rates))];
        Plot { title: "Learning rate".into(), about: String::new(), x: steps(), y, layers }
    }

    pub(super) fn speed(&self) -> Plot {
        let speeds = self.curves.train("tokens_per_second");
        let highest = speeds.iter().map(|(_, speed)| *speed).fold(1.0, f64::max);
        let layers = vec![
            Layer::unnamed(Ink::Blue, Mark::Faint(thin(&speeds))),
            Layer::unnamed(Ink::Blue, Mark::Line(smooth(&speeds))),
        ];
        let y = Axis::new("tokens per second, without padding").within(0.0, 1.05 * highest);
        Plot { title: "Speed".into(), about: String::new(), x: steps(), y, layers }
    }
}
