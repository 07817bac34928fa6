//! The memory that questions hold, with one limit for all of them together.

use std::fs::File;
use std::io::Read as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::TEXT_LIMIT;

use super::desk::VerbError;
use crate::path::Rel;
use crate::peer::Peer;

/// The most bytes that all questions hold.
const MOST: usize = 192 << 20;

#[cfg(not(test))]
fn account<T>(look: impl FnOnce(&AtomicUsize) -> T) -> T {
    static HELD: AtomicUsize = AtomicUsize::new(0);
    look(&HELD)
}

/// Each test has its own account, so that it may use it up.
#[cfg(test)]
fn account<T>(look: impl FnOnce(&AtomicUsize) -> T) -> T {
    thread_local!(static HELD: AtomicUsize = const { AtomicUsize::new(0) });
    HELD.with(look)
}

/// A share of the memory. It is released on drop.
#[derive(Debug, Default)]
pub(super) struct MemoryShare(usize);

impl MemoryShare {
    /// Takes more memory.
    ///
    /// # Errors
    ///
    /// `busy` if other questions hold too much.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), Failure> {
        self.take_up_to(bytes, MOST)
    }

    /// Takes more memory if all questions together then hold at most `most` bytes.
    fn take_up_to(&mut self, bytes: usize, most: usize) -> Result<(), Failure> {
        let more = |held: usize| held.checked_add(bytes).filter(|held| *held <= most);
        account(|held| held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more))
            .map_err(|_| full())?;
        self.0 += bytes;
        Ok(())
    }

    /// Allocates a buffer of this size, which does not grow unless it overflows.
    ///
    /// # Errors
    ///
    /// Those of [`Self::take`].
    pub(super) fn buffer(&mut self, bytes: usize) -> Result<Vec<u8>, Failure> {
        self.take(bytes)?;
        let mut room = Vec::new();
        room.try_reserve_exact(bytes).map_err(|_| full())?;
        Ok(room)
    }

    /// Reads at most `bytes` bytes of a file.
    pub(super) fn read(&mut self, path: &Rel, file: File, bytes: u64) -> Result<Vec<u8>, Failure> {
        let mut held = self.buffer(usize::try_from(bytes).map_err(|_| full())?)?;
        let read = file.take(bytes).read_to_end(&mut held);
        read.map_err(|error| Failure::new(Kind::Io, format!("{path}: {error}")))?;
        Ok(held)
    }
}

fn full() -> Failure {
    Failure::new(
        Kind::Busy,
        "the file worker is short of memory for this request: others are using it",
    )
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        account(|held| held.fetch_sub(self.0, Ordering::Relaxed));
    }
}

/// Reads the content of a question, up to the limit for texts.
pub(super) fn gather(peer: &mut dyn Peer, share: &mut MemoryShare) -> Result<Vec<u8>, VerbError> {
    let mut content = Vec::new();
    while let Some(piece) = peer.content()? {
        let length = content.len() + piece.len();
        if length > TEXT_LIMIT {
            return Err(Failure::new(Kind::TooLarge, "the content has more than 8 MiB").into());
        }
        if length > content.capacity() {
            let more = length.max(content.len() * 2).min(TEXT_LIMIT) - content.len();
            share.take(content.len() + more - content.capacity())?;
            content.try_reserve_exact(more).map_err(|_| full())?;
        }
        content.extend_from_slice(&piece);
    }
    Ok(content)
}

/// Holds all memory except this much.
#[cfg(test)]
pub(super) fn all_but(bytes: usize) -> MemoryShare {
    let mut share = MemoryShare::default();
    share.take(MOST - bytes).unwrap();
    share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_much_is_refused_and_given_back() {
        let mut one = MemoryShare::default();
        one.take(1 << 20).unwrap();
        let mut other = MemoryShare::default();
        assert_eq!(other.take(MOST).unwrap_err().kind, Kind::Busy);
        drop(other);
        one.take(1 << 20).unwrap();
    }
}
