//! How much may come on a connection: more with the streams that have authenticated.
//!
//! The relay decides how many streams it opens towards an agent, and how much it says on them. What
//! nobody has read lies in memory, so that a connection's window is small until the ends of its streams
//! have proven themselves. It grows to what the most that were open at once need, and does not shrink:
//! quinn takes a smaller window back from what is read later, and streams that come and go faster than
//! they are read would add up.

use std::sync::{Arc, Mutex};

use crate::outer::transport;

/// The window of a connection. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Room {
    quic: quinn::Connection,
    counts: Arc<Mutex<Counts>>,
}

/// How many streams have authenticated.
#[derive(Debug, Default)]
struct Counts {
    open: u32,
    most: u32,
}

impl Counts {
    /// One more. Gives the most that there were, if that has changed.
    fn add(&mut self) -> Option<u32> {
        self.open = self.open.saturating_add(1);
        (self.open > self.most).then(|| {
            self.most = self.open;
            self.most
        })
    }

    fn remove(&mut self) {
        self.open = self.open.saturating_sub(1);
    }
}

impl Room {
    pub(super) fn new(quic: quinn::Connection) -> Self {
        Self { quic, counts: Arc::default() }
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().expect("nothing panics while it is held")
    }
}

/// That one stream has authenticated, as long as it is open.
#[derive(Debug)]
pub(super) struct Share(Room);

impl Share {
    pub(super) fn of(room: Room) -> Self {
        let mut counts = room.counts();
        if let Some(most) = counts.add() {
            // Within the lock, so that no smaller window comes after a larger one.
            room.quic.set_receive_window(transport::window(most).into());
        }
        drop(counts);
        Self(room)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.counts().remove();
    }
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn the_window_follows_the_most_that_were_open_at_once() {
        let mut counts = Counts::default();
        assert_eq!((counts.add(), counts.add()), (Some(1), Some(2)));
        counts.remove();
        assert_eq!((counts.add(), counts.add()), (None, Some(3)));
        (0..9).for_each(|_| counts.remove());
        assert_eq!(counts.open, 0);
    }
}
