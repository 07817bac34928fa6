//! Input that has been read here and that the agent has not acknowledged.

use std::collections::VecDeque;

use bytes::Bytes;

/// Bytes in order, from an offset on.
#[derive(Debug, Default)]
pub(crate) struct Unsent {
    base: u64,
    chunks: VecDeque<Bytes>,
}

impl Unsent {
    /// The offset of the first byte.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    /// The offset behind the last byte.
    pub(crate) fn end(&self) -> u64 {
        self.base + self.len()
    }

    /// How many bytes there are.
    pub(crate) fn len(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.len() as u64).sum()
    }

    /// Adds bytes at the end.
    pub(crate) fn push(&mut self, bytes: Bytes) {
        self.chunks.push_back(bytes);
    }

    /// All of them, in order.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = &Bytes> {
        self.chunks.iter()
    }

    /// Forgets what is before this offset, and counts the rest from 0.
    pub(crate) fn count_anew(&mut self, until: u64) {
        self.forget(until);
        self.base = 0;
    }

    /// The agent has everything before this offset.
    pub(crate) fn forget(&mut self, until: u64) {
        while let Some(front) = self.chunks.front_mut() {
            let gone = usize::try_from(until.saturating_sub(self.base)).unwrap_or(usize::MAX);
            if gone == 0 {
                return;
            }
            let gone = gone.min(front.len());
            self.base += gone as u64;
            drop(front.split_to(gone));
            if front.is_empty() {
                self.chunks.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_acknowledged_is_forgotten_and_the_rest_keeps_its_offsets() {
        let mut unsent = Unsent::default();
        unsent.push(Bytes::from_static(b"one "));
        unsent.push(Bytes::from_static(b"two"));
        unsent.forget(2);
        let left: Vec<_> = unsent.chunks().map(|chunk| &chunk[..]).collect();
        assert_eq!((unsent.base(), unsent.end(), left), (2, 7, vec![&b"e "[..], b"two"]));
        unsent.forget(u64::MAX);
        assert_eq!((unsent.base(), unsent.len()), (7, 0));
        unsent.push(Bytes::from_static(b"three"));
        unsent.count_anew(8);
        assert_eq!((unsent.base(), unsent.end()), (0, 4));
    }
}
