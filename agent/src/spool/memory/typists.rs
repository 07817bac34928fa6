//! How much of each client's typed input was taken, where the next agent finds it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Memory;

/// At most this many typists of a terminal are remembered.
pub(super) const TYPISTS: usize = u64::BITS as usize;

/// Nobody knows how much was taken of what a client typed, until it has typed something that it
/// counts from 0.
const UNKNOWN: u64 = u64::MAX;

/// A client that types into a terminal. Only the agent uses this.
#[repr(C)]
pub(super) struct Typist {
    id: [AtomicU64; 2],
    /// How many bytes were about to be passed on; [`UNKNOWN`] until the client counts anew.
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

    /// The slot of a typist: its own from before, or the next one that is not `taken`, a mask with
    /// a bit for each slot. Returns `None` if there is none. Whether bytes of a client that was
    /// here before (`returns`) were taken is unknown where its slot was given away, or an agent
    /// died in the middle.
    pub(crate) fn seat(&self, id: [u8; 16], returns: bool, taken: u64) -> Option<TypistSlot> {
        let number = u128::from_ne_bytes(id);
        let id = [number as u64, (number >> 64) as u64];
        let known =
            self.head().typists.iter().position(|typist| {
                typist.id.each_ref().map(|part| part.load(Ordering::Relaxed)) == id
            });
        if let Some(place) = known.map(TypistSlot) {
            if self.bytes_taken(place).is_none() {
                self.forget_taken(place);
            }
            return Some(place);
        }
        let next = || self.head().next_typist.fetch_add(1, Ordering::Relaxed);
        let places = std::iter::repeat_with(|| usize::try_from(next()).unwrap_or(0) % TYPISTS);
        let place = places.take(TYPISTS).map(TypistSlot).find(|place| taken & place.bit() == 0)?;
        let typist = self.typist(place.0)?;
        self.forget_taken(place);
        if !returns {
            typist.begun.store(0, Ordering::Relaxed);
        }
        typist.id.iter().zip(id).for_each(|(part, id)| part.store(id, Ordering::Relaxed));
        Some(place)
    }

    /// Counts a typist's bytes from 0 from now on; how many were taken is unknown until it types.
    fn forget_taken(&self, place: TypistSlot) {
        if let Some(typist) = self.typist(place.0) {
            typist.begun.store(UNKNOWN, Ordering::Relaxed);
            typist.taken.store(0, Ordering::Relaxed);
        }
    }

    /// How much of a typist's input has been taken, if that is known.
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
    /// between two writes. An unknown count stays unknown: the client may not have heard that it is
    /// to count anew.
    pub(crate) fn settle(&self, place: TypistSlot) {
        if let Some(typist) = self.typist(place.0)
            && typist.begun.load(Ordering::Relaxed) != UNKNOWN
        {
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
