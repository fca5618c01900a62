//! The order of copies between pinned host memory and a GPU that computes meanwhile.

use crate::error::Result;
use crate::kernels::Visit;
use crate::tensor::Tensor;

/// The number of parts on the device at once: one on its way there, one in use, and one on its way back.
pub const SLOTS: usize = 3;

/// Copies between parts in host memory and slots of the device. Copies and the device's work wait for each
/// other on the device; the host waits only in [`Transfers::finish`].
pub trait Transfers {
    /// Starts to copy a part to a slot, after the copy of the slot's last part to the host.
    ///
    /// # Errors
    /// Fails if the driver fails.
    fn upload(&mut self, part: usize, slot: usize) -> Result<()>;

    /// Makes later launches wait for the upload, and returns the part's vectors in the slot.
    ///
    /// # Errors
    /// Fails if the driver fails.
    fn arrived(&mut self, part: usize, slot: usize) -> Result<Vec<Tensor>>;

    /// Starts to copy a slot to a part, after everything launched so far.
    ///
    /// # Errors
    /// Fails if the driver fails.
    fn download(&mut self, part: usize, slot: usize) -> Result<()>;

    /// Waits for all copies.
    ///
    /// # Errors
    /// Fails if the driver fails.
    fn finish(&mut self) -> Result<()>;
}

/// Copies every part to the device in order, visits it and copies it back. No copy is in progress on return,
/// even after an error.
///
/// # Errors
/// Fails if the driver fails, and with the error of `visit`.
pub fn stream(parts: usize, transfers: &mut impl Transfers, visit: Visit<'_>) -> Result<()> {
    let mut pass = || -> Result<()> {
        for part in 0..parts {
            if part == 0 {
                transfers.upload(0, 0)?;
            }
            if part + 1 < parts {
                transfers.upload(part + 1, (part + 1) % SLOTS)?;
            }
            let vectors = transfers.arrived(part, part % SLOTS)?;
            visit(part, &vectors)?;
            drop(vectors);
            transfers.download(part, part % SLOTS)?;
        }
        Ok(())
    };
    let passed = pass();
    // Also after an error: memory may be freed next.
    let finished = transfers.finish();
    passed.and(finished)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    /// A device that does its work as late as possible: copies run when something waits for them.
    #[derive(Debug, Default)]
    struct Late {
        host: Vec<u32>,
        slots: [u32; SLOTS],
        /// The copies that have not run: the part, the slot and true for one to the host.
        pending: Vec<(usize, usize, bool)>,
        /// The largest number of copies in progress during a visit.
        beside: usize,
        finished: usize,
    }

    impl Late {
        /// Runs the pending copies in order, up to the last one that `fits` selects.
        fn run(&mut self, fits: impl Fn(&(usize, usize, bool)) -> bool) {
            let until = self.pending.iter().rposition(fits).map_or(0, |at| at + 1);
            for (part, slot, back) in self.pending.drain(..until) {
                match back {
                    true => self.host[part] = self.slots[slot],
                    false => self.slots[slot] = self.host[part],
                }
            }
        }
    }

    impl Transfers for Late {
        fn upload(&mut self, part: usize, slot: usize) -> Result<()> {
            self.run(|(_, of, back)| *of == slot && *back);
            self.pending.push((part, slot, false));
            Ok(())
        }

        fn arrived(&mut self, part: usize, slot: usize) -> Result<Vec<Tensor>> {
            assert!(self.pending.contains(&(part, slot, false)) || self.slots[slot] == self.host[part]);
            self.run(|(_, of, back)| *of == slot && !*back);
            self.beside = self.beside.max(self.pending.len());
            // The work of the visit.
            self.slots[slot] += 1;
            Ok(Vec::new())
        }

        fn download(&mut self, part: usize, slot: usize) -> Result<()> {
            self.pending.push((part, slot, true));
            Ok(())
        }

        fn finish(&mut self) -> Result<()> {
            self.run(|_| true);
            self.finished += 1;
            Ok(())
        }
    }

    /// Protects: every part is visited once and comes back changed, whatever the number of parts; copies of other
    /// parts are under way while one is visited; and an error leaves none under way.
    #[test]
    fn every_part_comes_back() {
        for parts in 0..8 {
            let mut device = Late { host: (0..parts).map(|part| 10 * part).collect(), ..Late::default() };
            let mut visited = Vec::new();
            for pass in 1..3 {
                let mut visit = |part: usize, _: &[Tensor]| {
                    visited.push(part);
                    Ok(())
                };
                stream(parts as usize, &mut device, &mut visit).unwrap();
                let expected: Vec<u32> = (0..parts).map(|part| 10 * part + pass).collect();
                assert_eq!((device.host.clone(), device.pending.len()), (expected, 0));
            }
            let once: Vec<usize> = (0..parts as usize).collect();
            assert_eq!(visited, [once.clone(), once].concat());
            let beside = if parts < 3 { device.beside } else { 2 };
            assert_eq!(device.beside, beside, "{parts} parts");
        }
        let mut device = Late { host: vec![0; 5], ..Late::default() };
        let mut fails = |part: usize, _: &[Tensor]| match part {
            2 => Err(Error::invalid("part", "fails")),
            _ => Ok(()),
        };
        assert!(stream(5, &mut device, &mut fails).is_err());
        assert_eq!((device.finished, device.pending.len(), &device.host[..2]), (1, 0, &[1, 1][..]));
    }
}
