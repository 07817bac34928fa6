//! How much of each client's typed input was taken, where the next agent finds it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Memory;

/// At most this many typists of a terminal are remembered.
pub(super) const TYPISTS: usize = u64::BITS as usize;

/// A client that types into a terminal. Only the agent uses this.
#[repr(C)]
pub(super) struct Typist {
    id: [AtomicU64; 2],
    /// How many bytes were about to be passed on.
    begun: AtomicU64,
    /// How many were passed on.
    taken: AtomicU64,
}

/// The number of a typist's slot in the memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TypistSlot(usize);

impl TypistSlot {
    /// Its bit in a set of slots.
    pub(crate) const fn bit(self) -> u64 {
        1 << (self.0 % TYPISTS)
    }
}

impl Memory {
    fn typist(&self, place: usize) -> Option<&Typist> {
        self.head().typists.get(place % TYPISTS)
    }

    /// The slot of a typist: its own from before, or the next one that is not `taken`. Returns
    /// `None` if there is none.
    pub(crate) fn seat(&self, id: [u8; 16], taken: u64) -> Option<TypistSlot> {
        let number = u128::from_ne_bytes(id);
        let id = [number as u64, (number >> 64) as u64];
        let known =
            self.head().typists.iter().position(|typist| {
                typist.id.each_ref().map(|part| part.load(Ordering::Relaxed)) == id
            });
        if known.is_some() {
            return known.map(TypistSlot);
        }
        let next = || self.head().next_typist.fetch_add(1, Ordering::Relaxed);
        let places = std::iter::repeat_with(|| usize::try_from(next()).unwrap_or(0) % TYPISTS);
        let place = places.take(TYPISTS).map(TypistSlot).find(|place| taken & place.bit() == 0)?;
        let typist = self.typist(place.0)?;
        typist.begun.store(0, Ordering::Relaxed);
        typist.taken.store(0, Ordering::Relaxed);
        typist.id.iter().zip(id).for_each(|(part, id)| part.store(id, Ordering::Relaxed));
        Some(place)
    }

    /// How much of a typist's input has been taken; `None` if an agent died in the middle.
    pub(crate) fn bytes_taken(&self, place: TypistSlot) -> Option<u64> {
        let typist = self.typist(place.0)?;
        let taken = typist.taken.load(Ordering::Relaxed);
        (typist.begun.load(Ordering::Relaxed) == taken).then_some(taken)
    }

    /// Records that bytes up to `until` are about to be passed on.
    pub(crate) fn begin_taking(&self, place: TypistSlot, until: u64) {
        if let Some(typist) = self.typist(place.0) {
            typist.begun.store(until, Ordering::Relaxed);
        }
    }

    /// Records how many more of them were passed on, immediately after the write.
    pub(crate) fn took_more(&self, place: TypistSlot, bytes: usize) {
        if let Some(typist) = self.typist(place.0) {
            typist.taken.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Records that no more of the announced bytes will be passed on: the typist has stopped
    /// between two writes.
    pub(crate) fn settle(&self, place: TypistSlot) {
        if let Some(typist) = self.typist(place.0) {
            typist.begun.store(typist.taken.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Records that they were passed on, up to here.
    pub(crate) fn took(&self, place: TypistSlot, until: u64) {
        if let Some(typist) = self.typist(place.0) {
            typist.taken.store(until, Ordering::Relaxed);
            typist.begun.store(until, Ordering::Relaxed);
        }
    }
}
