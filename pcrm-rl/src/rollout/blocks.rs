//! The blocks of a cache, with free blocks and reader counts.

/// Blocks of a cache with reference counts.
#[derive(Debug)]
pub(super) struct Blocks {
    readers: Vec<u32>,
    /// Free blocks; the lowest is allocated first.
    free: Vec<u32>,
}

impl Blocks {
    pub fn new(count: usize) -> Self {
        Self { readers: vec![0; count], free: (0..count as u32).rev().collect() }
    }

    /// Returns the number of free blocks.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Allocates a block for `readers` readers; `None` if none is free.
    pub fn take(&mut self, readers: u32) -> Option<u32> {
        let block = self.free.pop()?;
        self.readers[block as usize] = readers;
        Some(block)
    }

    /// Releases one reader's hold on these blocks.
    pub fn release(&mut self, blocks: &[u32]) {
        for block in blocks {
            let readers = &mut self.readers[*block as usize];
            *readers -= 1;
            if *readers == 0 {
                self.free.push(*block);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: a block becomes free with its last reader, and not before.
    #[test]
    fn a_block_is_free_after_its_last_reader() {
        let mut blocks = Blocks::new(2);
        let shared = blocks.take(2);
        let own = blocks.take(1);
        assert_eq!((shared, own, blocks.take(1), blocks.free()), (Some(0), Some(1), None, 0));
        blocks.release(&[0]);
        assert_eq!(blocks.free(), 0);
        blocks.release(&[0, 1]);
        assert_eq!(blocks.free(), 2);
    }
}
