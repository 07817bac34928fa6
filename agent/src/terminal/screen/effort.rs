//! How long drawing may take.

use std::time::{Duration, Instant};

use crate::os::clock::worked;

/// Some work, by the time for which the thread that begins it really works: on a busy machine
/// nothing is lost.
#[derive(Debug)]
pub(crate) struct Effort {
    begun: Instant,
    worked: Duration,
    most: Duration,
}

impl Effort {
    /// Work of this thread from now on.
    pub(crate) fn new(most: Duration) -> Self {
        Self { begun: Instant::now(), worked: worked(), most }
    }

    /// Whether it has taken too long.
    pub(crate) fn is_spent(&self) -> bool {
        // To ask a clock that goes on by itself costs next to nothing.
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
