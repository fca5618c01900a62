//! Collects the outputs of runs into the cells of a study.

mod read;

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use pcrm_eval::study::curve::{self, PolicyPoint};
use pcrm_eval::study::measures::{ScoredPair, measures, win_rate};
use pcrm_eval::study::plan::{follow_of, model_of, slug};
use pcrm_eval::study::recipe::{Arm, Follow, Verb, world_and_pairs};
use pcrm_eval::study::results::{ScoredSample, WorldFound};
use pcrm_eval::study::{Cell, Recipe, StudyPlan};
use pcrm_eval::worlds::{Carried, Likeness, World};
use pcrm_rl::online::CHANGES;

use self::read::{before_and_after, best_points, curve_points, lines, read_pairs, truths_of_samples};
use super::runner::State;

/// The number of prompts whose answers are shown.
const SHOWN: usize = 2;
/// The number of pairs for testing a world's preference strength.
const PAIRS: usize = 1200;

/// The results of a plan's completed jobs, in the order of the plan.
pub struct Collector<'a> {
    pub recipe: &'a Recipe,
    pub plan: &'a StudyPlan,
    pub state: &'a State,
    pub output: &'a Path,
}

/// A held-out pair: the index of its prompt, its true margin, and the labellers' probability.
type Pair = (usize, f64, f64);

impl Collector<'_> {
    /// Returns a cell for every completed combination of arm, world and seed.
    pub fn cells(&self) -> Result<Vec<Cell>> {
        let mut cells: Vec<Cell> = Vec::new();
        let mut pairs: HashMap<(String, u64), Vec<Pair>> = HashMap::new();
        for job in &self.plan.jobs {
            let Some(arm) = &job.arm else { continue };
            let is_new = |cell: &Cell| (&cell.arm, &cell.world, cell.seed) != (arm, &job.world, job.seed);
            if !cells.iter().all(is_new) {
                continue;
            }
            let Some(of) = self.recipe.arms.iter().find(|known| known.name.get_ref() == arm) else {
                continue;
            };
            let folder = format!("{}/seed-{}", slug(&job.world), job.seed);
            let key = (job.world.clone(), job.seed);
            if self.recipe.data.is_some() {
                // Pairs of a user's files are read by the runs that measure models.
                pairs.entry(key.clone()).or_default();
            }
            if !pairs.contains_key(&key) && self.is_done(&format!("{folder}/world")) {
                pairs.insert(key.clone(), read_pairs(&self.output.join(&folder).join("world/test.jsonl"))?);
            }
            let Some(pairs) = pairs.get(&key) else { continue };
            let mut cell =
                Cell { arm: arm.clone(), world: job.world.clone(), seed: job.seed, ..Cell::default() };
            match of.is_policy() {
                true => self.policy(&folder, arm, &mut cell)?,
                false => {
                    self.model(&folder, of, pairs, &mut cell)?;
                    self.recipe
                        .follow
                        .iter()
                        .try_for_each(|follow| self.follow(&folder, follow, &mut cell))?;
                }
            }
            if !cell.figures.is_empty() {
                cells.push(cell);
            }
        }
        Ok(cells)
    }

    /// Returns answers of every arm in the first world with the first seed.
    pub fn samples(&self) -> Result<Vec<ScoredSample>> {
        let mut samples = Vec::new();
        let Some(first) = self.plan.jobs.first() else { return Ok(samples) };
        let folder = format!("{}/seed-{}", slug(&first.world), first.seed);
        let best: Vec<&Follow> =
            self.recipe.follow.iter().filter(|follow| follow.verb == Verb::BestOfN).collect();
        for arm in &self.recipe.arms {
            let name = arm.name.get_ref();
            let places = match arm.is_policy() {
                true => {
                    vec![("its own answer".to_owned(), format!("answers-of-{}", slug(name)), "samples.jsonl")]
                }
                false => best
                    .iter()
                    .map(|follow| (follow.name.clone(), follow_of(&follow.name, name), "best.jsonl"))
                    .collect(),
            };
            for (from, place, file) in places {
                let place = format!("{folder}/{place}");
                if !self.is_done(&place) {
                    continue;
                }
                let mut prompts = Vec::new();
                for line in lines(&self.output.join(&place).join(file))? {
                    let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
                    let prompt = text("prompt");
                    if prompts.contains(&prompt) {
                        continue;
                    }
                    if prompts.len() == SHOWN {
                        break;
                    }
                    prompts.push(prompt.clone());
                    // A policy's own answer is not chosen by any score, so its score is the world's reward.
                    let truth = line["true_reward"]
                        .as_f64()
                        .or_else(|| line["score"].as_f64().filter(|_| arm.is_policy()));
                    let (from, arm) = (from.clone(), name.clone());
                    samples.push(ScoredSample { from, arm, prompt, answer: text("completion"), truth });
                }
            }
        }
        Ok(samples)
    }

    fn is_done(&self, name: &str) -> bool {
        let at = self.plan.jobs.iter().position(|job| job.name == name);
        at.is_some_and(|at| self.state.done[at])
    }

    /// Measures an arm's reward model; several models are measured by the mean of their scores. A minimum of
    /// several is measured by its policies only.
    fn model(&self, folder: &str, arm: &Arm, pairs: &[Pair], cell: &mut Cell) -> Result<()> {
        if arm.minimum_of.is_some() {
            return Ok(());
        }
        let name = model_of(arm.name.get_ref());
        if self.recipe.data.is_some() {
            return self.measured(&format!("{folder}/{name}.measured.json"), cell);
        }
        let names: Vec<String> = match arm.mean_of {
            None => vec![format!("{folder}/{name}.scores.jsonl")],
            Some(members) => (0..members).map(|at| format!("{folder}/{name}-{at}.scores.jsonl")).collect(),
        };
        if !names.iter().all(|name| self.is_done(name)) {
            return Ok(());
        }
        let mut margins = vec![0.0; pairs.len()];
        for name in &names {
            let path = self.output.join(name);
            let scored = lines(&path)?;
            ensure!(
                scored.len() == pairs.len(),
                "{}: {} rows, expected {}",
                path.display(),
                scored.len(),
                pairs.len()
            );
            for (margin, row) in margins.iter_mut().zip(&scored) {
                let score =
                    |key: &str| row[key].as_f64().with_context(|| format!("{}: no {key}", path.display()));
                *margin += (score("chosen_score")? - score("rejected_score")?) / names.len() as f64;
            }
        }
        let scored: Vec<ScoredPair> = pairs
            .iter()
            .zip(margins)
            .map(|((prompt, true_margin, probability), margin)| ScoredPair {
                prompt: *prompt,
                margin,
                true_margin: *true_margin,
                probability: *probability,
            })
            .collect();
        cell.figures.extend(measures(&scored)?);
        Ok(())
    }

    /// Adds the measures of a report on held-out pairs.
    fn measured(&self, name: &str, cell: &mut Cell) -> Result<()> {
        if self.is_done(name) {
            cell.figures.extend(read::measured(&self.output.join(name))?);
        }
        Ok(())
    }

    fn follow(&self, folder: &str, follow: &Follow, cell: &mut Cell) -> Result<()> {
        let name = format!("{folder}/{}", follow_of(&follow.name, &cell.arm));
        if !self.is_done(&name) {
            return Ok(());
        }
        let place = self.output.join(&name);
        let mut add = |name: String, value: f64| {
            cell.figures.insert(format!("{}/{name}", follow.name), value);
        };
        if follow.verb == Verb::BestOfN {
            let points = best_points(&place)?;
            points.iter().for_each(|[n, _, _, truth]| add(format!("truth@{n}"), *truth));
            if let Some([_, _, score, truth]) = points.last() {
                add("truth".to_owned(), *truth);
                add("proxy".to_owned(), *score);
            }
            cell.best.insert(follow.name.clone(), points);
            return Ok(());
        }
        let mut points = Vec::new();
        for line in lines(&place.join("metrics.jsonl"))? {
            let of = |key: &str| line[key].as_f64();
            let Some(kl) = of("eval_objective/kl") else { continue };
            points.push(PolicyPoint {
                step: line["step"].as_u64().unwrap_or_default(),
                kl,
                proxy: of("eval_reward").with_context(|| format!("{name}: no eval_reward"))?,
                truth: of("eval_rewards/world/mean").with_context(|| format!("{name}: no true reward"))?,
                length: of("eval_completions/mean_length").unwrap_or_default(),
            });
        }
        curve::figures(&points, &follow.kl).into_iter().for_each(|(name, value)| add(name, value));
        if let Some(rate) = win_rate(&before_and_after(&place.join(CHANGES))?) {
            add("win_rate".to_owned(), rate);
        }
        cell.courses.insert(follow.name.clone(), points);
        Ok(())
    }

    /// Measures a policy trained on preferences, including the true reward of its own answers.
    fn policy(&self, folder: &str, arm: &str, cell: &mut Cell) -> Result<()> {
        self.measured(&format!("{folder}/dpo-{}.measured.json", slug(arm)), cell)?;
        let answers = format!("{folder}/answers-of-{}", slug(arm));
        if self.is_done(&answers) {
            // The mean of all answers equals best-of-1 by any score; here the score is the true reward.
            let points = curve_points(&self.output.join(&answers))?;
            let one = points.iter().find(|point| point["n"] == 1);
            cell.figures.extend(
                one.and_then(|point| point["score"]["value"].as_f64()).map(|mean| ("truth".to_owned(), mean)),
            );
            let baseline = format!("{folder}/answers-of-{}", slug(&self.recipe.baseline));
            if baseline != answers && self.is_done(&baseline) {
                let truths = |name: &str| truths_of_samples(&self.output.join(name).join("samples.jsonl"));
                let pairs: Vec<(f64, f64)> = truths(&baseline)?.into_iter().zip(truths(&answers)?).collect();
                cell.figures.extend(win_rate(&pairs).map(|rate| ("win_rate".to_owned(), rate)));
            }
        }
        Ok(())
    }
}

/// Returns the worlds of a plan with their tests, or the user's files.
pub fn worlds(recipe: &Recipe, plan: &StudyPlan) -> Result<Vec<WorldFound>> {
    let mut names: Vec<&str> = Vec::new();
    for job in &plan.jobs {
        if !names.contains(&job.world.as_str()) {
            names.push(&job.world);
        }
    }
    if let Some(data) = &recipe.data {
        let init = if data.random_init { ", from random weights" } else { "" };
        let found = |name: &&str| {
            let file = data.file_of(name).and_then(|file| Path::new(file).file_name()).unwrap_or_default();
            let model = Path::new(&data.model).file_name().unwrap_or_default();
            let about = format!("{}; model {}{init}", file.display(), model.display());
            WorldFound { name: (*name).to_owned(), about, carried: Vec::new() }
        };
        return Ok(names.iter().map(found).collect());
    }
    let found = |text: &str| -> Result<WorldFound> {
        let (name, pairs) = world_and_pairs(text);
        let about = World::all().into_iter().find(|(known, _)| *known == name).context("a world")?.1;
        let about = match pairs {
            Some(pairs) => format!("{about} Here with {pairs} training pairs."),
            None => about.to_owned(),
        };
        let world = World::named(name, 0, PAIRS).context("a world")?;
        let carried = Likeness::ALL.map(|likeness| Carried::of(likeness, &world.train));
        let carried = carried.into_iter().collect::<pcrm_eval::Result<_>>()?;
        Ok(WorldFound { name: text.to_owned(), about, carried })
    };
    names.into_iter().map(found).collect()
}
