//! The second part of the quickstart: policies trained on reward models with and without bounds, and with DPO
//! with and without bounds, as two built-in studies.

use anyhow::Result;
use clap::{Command, ValueEnum};

use super::folder::Folder;
use crate::paragraph::paragraph;
use crate::report::Document;
use crate::report::document::{Block, Section};
use crate::study::{Choices, Chosen, Played};

/// The studies: their recipes, and their folders inside the quickstart's.
const STUDIES: [(&str, &str); 2] = [("quickstart", "ppo"), ("quickstart-dpo", "dpo")];

/// The extent of the second part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Size {
    /// Five worlds.
    Full,
    /// One small world.
    Quick,
    /// No policies.
    None,
}

/// Runs the studies, one after the other.
///
/// # Errors
/// Fails if a run that others need fails, or Ctrl-C interrupts.
pub fn play(size: Size, folder: &Folder, command: &Command) -> Result<Vec<Played>> {
    let play = |(recipe, place): (&str, &str)| {
        let choices = Choices { quick: size == Size::Quick, ..Choices::default() };
        Chosen::of(recipe, choices, command)?.play(&folder.study(place))
    };
    STUDIES.into_iter().map(play).collect()
}

/// Returns the first sentence of each study.
pub fn learned(played: &[Played]) -> Vec<String> {
    played.iter().filter_map(|study| study.written.learned.first().cloned()).collect()
}

/// Returns the other sentences of the studies.
pub fn text(played: &[Played]) -> String {
    let said = played.iter().flat_map(|study| study.written.learned.iter().skip(1));
    let mut text: String = said.map(|said| paragraph("* ", said)).collect();
    for study in played.iter().filter(|study| study.failed > 0) {
        text.push_str(&paragraph(
            "* ",
            &format!("{}: {} runs failed", study.written.page.title, study.failed),
        ));
    }
    text
}

/// Returns the quickstart's page with the studies below.
pub fn beside(mut page: Document, played: &[Played]) -> Document {
    let said = learned(played).into_iter().map(Block::Text).collect();
    page.sections.insert(1.min(page.sections.len()), Section::open("Policies", said));
    for study in played {
        page.sections.push(Section::open(study.written.page.title.clone(), Vec::new()));
        page.sections.extend(study.written.page.sections.clone());
    }
    page
}
