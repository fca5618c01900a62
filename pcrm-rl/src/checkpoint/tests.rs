use super::*;

/// Protects: a run that is killed while it removes a checkpoint leaves none that lacks its state, so it
/// can be resumed.
#[test]
fn a_checkpoint_is_removed_at_once() -> Result<()> {
    let run = tempfile::tempdir().map_err(pcrm_core::Error::io(Path::new("")))?;
    let dir = folder(run.path(), 1);
    let state = dir.join(STATE);
    fs::create_dir(&dir).map_err(pcrm_core::Error::io(&dir))?;
    for name in std::iter::once(STATE.to_owned()).chain((0..2000).map(|at| format!("{at}.safetensors"))) {
        fs::write(dir.join(&name), "x").map_err(pcrm_core::Error::io(&dir))?;
    }
    let watcher = std::thread::spawn({
        let dir = dir.clone();
        move || loop {
            match (state.exists(), dir.exists()) {
                (true, _) => {}
                (false, half) => return half,
            }
        }
    });
    remove_all(run.path())?;
    assert!(!watcher.join().expect("the watcher"), "a checkpoint without its state was seen");
    let left = fs::read_dir(run.path()).map_err(pcrm_core::Error::io(run.path()))?.count();
    assert_eq!(left, 0);
    Ok(())
}

/// Makes a checkpoint of one file, and returns the file.
fn checkpoint_of(run: &Path, step: u64, text: &str) -> Result<PathBuf> {
    let file = folder(run, step).join(STATE);
    fs::create_dir(folder(run, step)).map_err(pcrm_core::Error::io(run))?;
    fs::write(&file, text).map_err(pcrm_core::Error::io(&file))?;
    Ok(file)
}

/// Protects: a process that ends between the two renames of a replacement loses no checkpoint, and one that ends
/// while it removes a checkpoint brings no part of it back.
#[test]
fn a_checkpoint_that_was_being_replaced_is_kept() -> Result<()> {
    let run = tempfile::tempdir().map_err(pcrm_core::Error::io(Path::new("")))?;
    let run = run.path();
    let read = |file: &Path| fs::read_to_string(file).map_err(pcrm_core::Error::io(file));
    let file = checkpoint_of(run, 3, "whole")?;
    // A killed process runs no destructors.
    std::mem::forget(Draft::new(run, 3)?);
    replaced(run, 3)?;
    assert!(steps(run)?.is_empty());
    sweep(run)?;
    assert_eq!((steps(run)?, read(&file)?), (vec![3], "whole".to_owned()));
    // The second rename was made, and the old checkpoint was not removed.
    replaced(run, 3)?;
    checkpoint_of(run, 3, "new")?;
    sweep(run)?;
    assert_eq!((steps(run)?, read(&file)?), (vec![3], "new".to_owned()));
    let count = fs::read_dir(run).map_err(pcrm_core::Error::io(run))?.count();
    assert_eq!(count, 1, "a draft or an old checkpoint stays");
    let half = run.join(".old-checkpoint-2");
    fs::create_dir(&half).map_err(pcrm_core::Error::io(&half))?;
    sweep(run)?;
    assert!(steps(run)? == [3] && !half.exists());
    // A run that never began has no folder.
    recover(&run.join("absent"))
}

/// Protects: if an older checkpoint of the same step cannot be replaced, it is restored unchanged.
#[test]
fn a_replacement_that_fails_changes_nothing() -> Result<()> {
    let run = tempfile::tempdir().map_err(pcrm_core::Error::io(Path::new("")))?;
    let run = run.path();
    let file = checkpoint_of(run, 3, "whole")?;
    let draft = Draft::new(run, 3)?;
    fs::remove_dir(draft.path()).map_err(pcrm_core::Error::io(run))?;
    assert!(publish(draft, run, 3).is_err(), "a draft without a folder has replaced a checkpoint");
    assert_eq!(fs::read_to_string(&file).map_err(pcrm_core::Error::io(&file))?, "whole");
    assert_eq!(fs::read_dir(run).map_err(pcrm_core::Error::io(run))?.count(), 1);
    Ok(())
}

/// Protects: the best loss is read back to the bit, since the choice of the best weights after resuming
/// depends on it.
#[test]
fn the_best_loss_is_read_as_it_was_written() {
    for step in 1..2000u64 {
        let loss = f64::from_bits(0.5f64.to_bits() + step * 0x1234_5678_9abc % (1 << 53));
        let best = Best { step, loss };
        let text = serde_json::to_string(&best).unwrap_or_default();
        assert_eq!(serde_json::from_str::<Best>(&text).ok(), Some(best), "{text}");
    }
}

/// A part that moves the run's folder away: before its files are written, or between two of them.
struct Mover<'a> {
    run: &'a Path,
    moves_first: bool,
}

impl Mover<'_> {
    fn go(&self) -> Result<()> {
        Ok(fs::rename(self.run, self.run.with_extension("moved")).map_err(pcrm_core::Error::io(self.run))?)
    }
}

impl CheckpointPart for Mover<'_> {
    fn moments(&self) -> Result<Moments> {
        if self.moves_first {
            self.go()?;
        }
        Ok(Moments::new())
    }

    fn write(&self, dir: &Path, moments: &Moments) -> Result<()> {
        weights::save(&dir.join("model.safetensors"), moments)?;
        if !self.moves_first {
            self.go()?;
        }
        Ok(weights::save(&dir.join(OPTIMISER), moments)?)
    }

    fn read(&mut self, _: &Path, _: u64) -> Result<()> {
        Ok(())
    }
}

/// Protects: if a run's folder is moved while a checkpoint is written, the folder is not created again, and no part of
/// the checkpoint has a final name in either place. A missing folder is not created for a checkpoint.
#[test]
fn a_folder_that_is_moved_is_not_made_again() -> Result<()> {
    for moves_first in [true, false] {
        let dir = tempfile::tempdir().map_err(pcrm_core::Error::io(Path::new("")))?;
        let run = dir.path().join("run");
        let part = Mover { run: &run, moves_first };
        let save =
            || super::save(&pcrm_core::collective::Alone, &run, &[(MAIN, &part)], &mut State::default());
        assert!(save().is_err() && !run.exists(), "a folder was made for a checkpoint");
        fs::create_dir(&run).map_err(pcrm_core::Error::io(&run))?;
        let said = save().expect_err("no folder is left to write to").to_string();
        assert!(said.contains("was deleted, moved or replaced"), "{said}");
        assert!(!run.exists(), "the folder was made again");
        assert!(steps(&run.with_extension("moved"))?.is_empty(), "a part of a checkpoint has a final name");
    }
    Ok(())
}
