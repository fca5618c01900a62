//! Tracks the position in JSON text: string or not, and the depth of brackets.

/// The state of a scan that is fed byte by byte.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The number of open brackets.
    pub depth: usize,
    /// True if the next byte is inside a string.
    pub in_string: bool,
    escaped: bool,
}

impl Scan {
    /// Returns a position inside `depth` brackets.
    pub(super) fn at_depth(depth: usize) -> Self {
        Self { depth, ..Self::default() }
    }

    /// Processes the next byte.
    pub(super) fn feed(&mut self, byte: u8) {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }

    /// Returns true if no string and no bracket is open.
    pub(super) fn outside(&self) -> bool {
        self.depth == 0 && !self.in_string
    }
}
