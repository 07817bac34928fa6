//! The receive window of a connection, which grows with the streams that have authenticated.
//!
//! The relay decides how many streams it opens towards an agent, and how much it sends on them.
//! Unread data occupies memory, so that the window stays small until streams have authenticated. It
//! grows to fit the highest number of authenticated streams that were open at once, and never
//! shrinks: quinn deducts a smaller window from later reads, and streams that come and go faster
//! than they are read would add up.

use std::sync::{Arc, Mutex};

use crate::outer::transport;

/// The receive window of a connection. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct ReceiveWindow {
    quic: quinn::Connection,
    counts: Arc<Mutex<StreamCounts>>,
}

/// How many authenticated streams are open, and the most that were open at once.
#[derive(Debug, Default)]
struct StreamCounts {
    open: u32,
    most: u32,
}

impl StreamCounts {
    /// StreamCounts one more open stream. Returns the new maximum, if it has risen.
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

impl ReceiveWindow {
    pub(super) fn new(quic: quinn::Connection) -> Self {
        Self { quic, counts: Arc::default() }
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, StreamCounts> {
        self.counts.lock().expect("nothing panics while it is held")
    }
}

/// The share of one authenticated stream, as long as the stream is open.
#[derive(Debug)]
pub(super) struct WindowShare(ReceiveWindow);

impl WindowShare {
    pub(super) fn new(window: ReceiveWindow) -> Self {
        let mut counts = window.counts();
        if let Some(most) = counts.add() {
            // Under the lock, so that no smaller window follows a larger one.
            window.quic.set_receive_window(transport::window(most).into());
        }
        drop(counts);
        Self(window)
    }
}

impl Drop for WindowShare {
    fn drop(&mut self) {
        self.0.counts().remove();
    }
}

#[cfg(test)]
mod tests {
    use super::StreamCounts;

    #[test]
    fn the_window_follows_the_most_that_were_open_at_once() {
        let mut counts = StreamCounts::default();
        assert_eq!((counts.add(), counts.add()), (Some(1), Some(2)));
        counts.remove();
        assert_eq!((counts.add(), counts.add()), (None, Some(3)));
        (0..9).for_each(|_| counts.remove());
        assert_eq!(counts.open, 0);
    }
}
