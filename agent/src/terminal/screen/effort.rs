//! How long drawing may take.

use std::time::{Duration, Instant};

use crate::os::clock::worked;

/// Some work, measured by the processor time of the thread that begins it, so that a busy machine
/// does not count against it.
#[derive(Debug)]
pub(crate) struct Effort {
    begun: Instant,
    worked: Duration,
    most: Duration,
}

impl Effort {
    /// The work of this thread from now on.
    pub(crate) fn new(most: Duration) -> Self {
        Self { begun: Instant::now(), worked: worked(), most }
    }

    /// Whether it has taken too long.
    pub(crate) fn is_spent(&self) -> bool {
        // Reading the wall clock costs next to nothing.
        self.begun.elapsed() >= self.most && worked().saturating_sub(self.worked) >= self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_work_counts() {
        let begun = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        let effort = Effort { begun, ..Effort::new(Duration::from_millis(50)) };
        assert!(!effort.is_spent(), "it has waited");
        while !effort.is_spent() {}
        assert!(worked() >= effort.worked + effort.most);
    }
}
