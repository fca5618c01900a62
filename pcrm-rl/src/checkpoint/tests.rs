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

impl Part for Mover<'_> {
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

/// Protects: a run's folder that is moved while a checkpoint is written is not made again, and no part of the
/// checkpoint has a final name, in either place; a folder that is gone is not made for a checkpoint.
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
