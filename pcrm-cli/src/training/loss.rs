//! The options of a reward model's loss.

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use pcrm_core::data::preference::Ties;
use pcrm_rl::batch::ScoreAt;
use pcrm_rl::loss::{LossConfig, Ranking, RankingForm, TieModel, WrongShare};
use pcrm_rl::objective::reward::RewardConfig;

use super::idle::usual;
use crate::numbers::real;

/// Options of the loss.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Loss")]
pub struct LossArgs {
    /// Compare scores at the last token, or the mean over all tokens from the first difference
    #[arg(long, value_name = "WHERE", default_value = "last")]
    score: ScoreChoice,
    /// Train on ranked answers by all their pairs (pairs) or by the whole order (plackett-luce)
    #[arg(long, value_name = "HOW", default_value = "pairs")]
    ranking: RankingChoice,
    /// Drop tied pairs, or train on them with the tie model of Davidson or of Rao and Kupper
    #[arg(long, value_name = "HOW", default_value = "drop")]
    ties: TiesChoice,
    /// Set how common ties are: Davidson's ν > 0 [default: 1] or Rao and Kupper's θ > 1 [default: 2]; with
    /// either default, equal answers tie in a third of all cases
    #[arg(long, value_name = "X", value_parser = real)]
    tie_strength: Option<f64>,
    /// Ignore the data's margin column in the loss
    #[arg(long)]
    ignore_margin: bool,
    /// Minimise −ln σ(Δ) (bt), or a loss for partly wrong labels: smoothed, robust, floor
    ///
    /// smoothed: −(1−ε)·ln σ(Δ) − ε·ln σ(−Δ), margins settle at ln((1−ε)/ε); robust: (−(1−ε)·ln σ(Δ) + ε·ln
    /// σ(−Δ)) / (1−2ε), equals the loss of the true labels on average, margins grow (pcrm calibrate
    /// --temperature fixes the scale); floor: −ln σ(max(Δ, X)), pairs that the model strongly disagrees with
    /// have no gradient
    #[arg(long, value_name = "NAME", default_value = "bt")]
    loss: FormChoice,
    /// Set ε of smoothed and robust, the share of wrong labels: a number, or `estimate` to fit it with judges
    /// that were not trained on the pairs they judge
    #[arg(long, value_name = "E", value_parser = wrong_share)]
    label_smoothing: Option<WrongShare>,
    /// Set X of floor [default: -0.5]
    #[arg(long, value_name = "X", value_parser = real, allow_negative_numbers = true)]
    floor: Option<f64>,
    /// Add C·(r_w + r_l)² to keep scores around 0
    #[arg(long, value_name = "C", default_value_t = 0.0, value_parser = real)]
    center_rewards: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ScoreChoice {
    Last,
    DivergentMean,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FormChoice {
    Bt,
    Smoothed,
    Robust,
    Floor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RankingChoice {
    Pairs,
    PlackettLuce,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TiesChoice {
    Drop,
    Davidson,
    RaoKupper,
}

impl LossArgs {
    /// Returns the treatment of ties in the data.
    pub(super) fn kept_ties(&self) -> Ties {
        match self.ties {
            TiesChoice::Drop => Ties::Drop,
            TiesChoice::Davidson | TiesChoice::RaoKupper => Ties::Keep,
        }
    }

    /// Returns the options that matter in training only, each with whether it differs from its default.
    pub(super) fn changed(&self) -> Vec<(&'static str, bool)> {
        let Some(usual) = usual::<Self>() else { return Vec::new() };
        let Self {
            score,
            ranking,
            ties: _,
            tie_strength,
            ignore_margin,
            loss,
            label_smoothing,
            floor,
            center_rewards,
        } = self;
        vec![
            ("score", *score != usual.score),
            ("ranking", *ranking != usual.ranking),
            ("tie-strength", *tie_strength != usual.tie_strength),
            ("ignore-margin", *ignore_margin != usual.ignore_margin),
            ("loss", *loss != usual.loss),
            ("label-smoothing", *label_smoothing != usual.label_smoothing),
            ("floor", *floor != usual.floor),
            ("center-rewards", *center_rewards != usual.center_rewards),
        ]
    }

    /// Returns the loss.
    ///
    /// # Errors
    /// Fails if an option belongs to another loss, or a loss lacks its number.
    pub(super) fn config(&self) -> Result<RewardConfig> {
        Ok(RewardConfig {
            score_at: match self.score {
                ScoreChoice::Last => ScoreAt::Last,
                ScoreChoice::DivergentMean => ScoreAt::DivergentMean,
            },
            loss: LossConfig {
                ranking: match self.ranking {
                    RankingChoice::Pairs => Ranking::Pairs,
                    RankingChoice::PlackettLuce => Ranking::PlackettLuce,
                },
                ties: self.tie_model()?,
                form: self.form()?,
                center_rewards: self.center_rewards,
            },
            ignore_margin: self.ignore_margin,
        })
    }

    fn form(&self) -> Result<RankingForm> {
        let takes_share = matches!(self.loss, FormChoice::Smoothed | FormChoice::Robust);
        ensure!(
            takes_share || self.label_smoothing.is_none(),
            "--label-smoothing needs --loss smoothed or --loss robust"
        );
        ensure!(self.loss == FormChoice::Floor || self.floor.is_none(), "--floor needs --loss floor");
        let share = || {
            self.label_smoothing.context(
                "--loss smoothed and --loss robust need --label-smoothing: the share of wrong labels, such \
                 as 0.1, or estimate",
            )
        };
        Ok(match self.loss {
            FormChoice::Bt => RankingForm::Bt,
            FormChoice::Smoothed => RankingForm::Smoothed { label_smoothing: share()? },
            FormChoice::Robust => RankingForm::Robust { label_smoothing: share()? },
            FormChoice::Floor => RankingForm::Floor { floor: self.floor.unwrap_or(-0.5) },
        })
    }

    fn tie_model(&self) -> Result<TieModel> {
        ensure!(
            self.ties != TiesChoice::Drop || self.tie_strength.is_none(),
            "--tie-strength needs --ties davidson or rao-kupper"
        );
        Ok(match self.ties {
            TiesChoice::Drop => TieModel::None,
            TiesChoice::Davidson => TieModel::Davidson { nu: self.tie_strength.unwrap_or(1.0) },
            TiesChoice::RaoKupper => TieModel::RaoKupper { theta: self.tie_strength.unwrap_or(2.0) },
        })
    }
}

/// Parses ε as a number or as `estimate`.
pub(super) fn wrong_share(text: &str) -> Result<WrongShare, String> {
    match (text, text.parse()) {
        ("estimate", _) => Ok(WrongShare::ESTIMATE),
        (_, Ok(share)) => Ok(WrongShare::Given(share)),
        _ => Err("expected a number from 0 to below 0.5, or estimate".to_owned()),
    }
}
