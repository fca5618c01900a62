use super::*;

fn refused(loss: LossConfig) -> String {
    let config = RewardConfig { loss, ..RewardConfig::default() };
    config.check().err().map(|error| error.to_string()).unwrap_or_default()
}

/// Protects: numbers out of range, and undefined combinations of losses, are refused by the option's name
/// before data are read.
#[test]
fn undefined_losses_are_refused() {
    let usual = LossConfig::default();
    let smoothed = |share| RankingForm::Smoothed { label_smoothing: WrongShare::Given(share) };
    let robust = |share| RankingForm::Robust { label_smoothing: WrongShare::Given(share) };
    let form = |form| LossConfig { form, ..usual };
    let whole = LossConfig { ranking: Ranking::PlackettLuce, ..usual };
    let rao = TieModel::RaoKupper { theta: 2.0 };
    for (loss, expected) in [
        (form(smoothed(0.7)), "label-smoothing: 0.7: "),
        (form(robust(0.5)), "label-smoothing: 0.5: "),
        (form(RankingForm::Floor { floor: f64::NAN }), "floor: NaN: "),
        (LossConfig { center_rewards: -1.0, ..usual }, "center-rewards: -1: "),
        (LossConfig { ties: TieModel::Davidson { nu: -2.0 }, ..usual }, "tie-strength: -2: "),
        (LossConfig { ties: rao, ..whole }, "ties: "),
        (LossConfig { form: smoothed(0.1), ..whole }, "loss: expected bt"),
        (LossConfig { form: RankingForm::Floor { floor: -0.5 }, ..whole }, "loss: expected bt"),
    ] {
        assert!(refused(loss).starts_with(expected), "{:?}, not {expected:?}", refused(loss));
    }
    assert_eq!(refused(form(robust(0.3))), "");
}

/// Protects: equal scores count as collapsed at any magnitude, and close ones do not.
#[test]
fn scores_that_are_all_equal_are_a_collapse() {
    assert_eq!(collapsed(&[0.0, 0.0]), Some(0.0));
    assert_eq!(collapsed(&[-3.25e5, -3.25e5, -3.250001e5]), Some(-3.25e5));
    assert_eq!(collapsed(&[0.001, 0.0011]), None);
    assert_eq!(collapsed(&[-1.0, 1.0]), None);
    assert_eq!(collapsed(&[]), None);
}
