//! The page of `pcrm calibrate`.

use pcrm_eval::table::percents;

use super::result::{Calibrated, Calibrations};
use crate::report::calibration;
use crate::report::data::{self, Source};
use crate::report::document::{Block, Document, Fact, Section, Severity};
use crate::report::run::constraint;
use crate::report::{count, percent};

/// Returns the page of a calibration.
pub fn document(all: &Calibrations, sources: &[Source]) -> Document {
    let accuracy = &all.accuracy;
    let interval = format!("95 %: {}", percents(&accuracy.interval));
    let mut figures = vec![
        Fact::new("Chosen wins", percent(accuracy.value)).with_note(interval),
        Fact::new("Pairs", count(all.pairs as u64))
            .with_note(format!("{} prompts", count(all.prompts as u64))),
    ];
    figures.extend(all.best().map(|best| {
        Fact::new("Best similarity", best.name.clone())
            .with_note("highest likelihood of wins on prompts not used for fitting")
    }));
    let how = "A bound Δ* corresponds to a probability: P(chosen is better) = σ(Δ*/2). Judges that were not \
               trained on a pair estimate how often its chosen answer wins, and the bounds are fitted to \
               these estimates.";
    let mut sections = vec![Section::open("", vec![Block::Figures(figures), Block::Text(how.to_owned())])];
    sections.extend(all.constraints.iter().map(section));
    sections.push(Section::closed("Data", data::blocks(sources)));
    let names: Vec<&str> = all.constraints.iter().map(|one| one.name.as_str()).collect();
    Document {
        title: format!("Calibration of {}", names.join(", ")),
        about: format!("Wins: {}.", all.judges),
        sections,
    }
}

fn section(one: &Calibrated) -> Section {
    let mut blocks = match &one.calibration {
        Some(calibration) => calibration::blocks(&one.asked, &one.fitted, calibration),
        None => {
            let evidence =
                one.verdict.iter().map(|text| Block::Note(Severity::Info, format!("Fitted to {text}.")));
            let facts = vec![
                Fact::new("As given", constraint(&one.asked)),
                Fact::new("Fitted", constraint(&one.fitted)),
            ];
            evidence.chain([Block::Facts(facts)]).collect()
        }
    };
    blocks.push(Block::Facts(vec![Fact::new("File", one.file.display().to_string())]));
    Section::open(one.name.clone(), blocks)
}
