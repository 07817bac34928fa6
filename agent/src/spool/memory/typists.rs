//! How much of what each client typed into a terminal was taken, where the next agent finds it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Memory;

/// At most this many who type into a terminal are remembered.
pub(super) const TYPISTS: usize = u64::BITS as usize;

/// Somebody who types into a terminal. For the agent alone.
#[repr(C)]
pub(super) struct Typist {
    id: [AtomicU64; 2],
    /// How many bytes were about to be passed on.
    begun: AtomicU64,
    /// How many were.
    taken: AtomicU64,
}

/// Somebody who types, by the number of a place in the memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TypistSlot(usize);

impl TypistSlot {
    /// Its bit, of one for each place.
    pub(crate) const fn bit(self) -> u64 {
        1 << (self.0 % TYPISTS)
    }
}

impl Memory {
    fn typist(&self, place: usize) -> Option<&Typist> {
        self.head().typists.get(place % TYPISTS)
    }

    /// The place of somebody who types: their own from before, or the next one that nobody has now.
    /// `None` if there is none; `taken` has a bit for each place.
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

    /// How much of what somebody typed has been taken; none where an agent died over it.
    pub(crate) fn bytes_taken(&self, place: TypistSlot) -> Option<u64> {
        let typist = self.typist(place.0)?;
        let taken = typist.taken.load(Ordering::Relaxed);
        (typist.begun.load(Ordering::Relaxed) == taken).then_some(taken)
    }

    /// Bytes are about to be passed on.
    pub(crate) fn begin_taking(&self, place: TypistSlot, until: u64) {
        if let Some(typist) = self.typist(place.0) {
            typist.begun.store(until, Ordering::Relaxed);
        }
    }

    /// So many more of them were: written at once after they were passed on.
    pub(crate) fn took_more(&self, place: TypistSlot, bytes: usize) {
        if let Some(typist) = self.typist(place.0) {
            typist.taken.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Nothing more of what was begun is passed on: whoever did that has stopped between two
    /// writes.
    pub(crate) fn settle(&self, place: TypistSlot) {
        if let Some(typist) = self.typist(place.0) {
            typist.begun.store(typist.taken.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// They were, up to here.
    pub(crate) fn took(&self, place: TypistSlot, until: u64) {
        if let Some(typist) = self.typist(place.0) {
            typist.taken.store(until, Ordering::Relaxed);
            typist.begun.store(until, Ordering::Relaxed);
        }
    }
}
