//! What is held in memory for questions: bounded for all of them together.

use std::fs::File;
use std::io::Read as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::TEXT_LIMIT;

use super::VerbError;
use crate::path::Rel;
use crate::peer::Peer;

/// So many bytes at most.
const MOST: usize = 192 << 20;

#[cfg(not(test))]
fn account<T>(look: impl FnOnce(&AtomicUsize) -> T) -> T {
    static HELD: AtomicUsize = AtomicUsize::new(0);
    look(&HELD)
}

/// Each test has an account of its own, so that one may use it up.
#[cfg(test)]
fn account<T>(look: impl FnOnce(&AtomicUsize) -> T) -> T {
    thread_local!(static HELD: AtomicUsize = const { AtomicUsize::new(0) });
    HELD.with(look)
}

/// A share of the memory. It is given back when this is dropped.
#[derive(Debug, Default)]
pub(super) struct MemoryShare(usize);

impl MemoryShare {
    /// Takes so many bytes more.
    ///
    /// # Errors
    ///
    /// `busy` if others have too much of it.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), Failure> {
        self.take_up_to(bytes, MOST)
    }

    /// Takes so many bytes more if no more than so many are held with them, by all questions together.
    fn take_up_to(&mut self, bytes: usize, most: usize) -> Result<(), Failure> {
        let more = |held: usize| held.checked_add(bytes).filter(|held| *held <= most);
        account(|held| held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more))
            .map_err(|_| full())?;
        self.0 += bytes;
        Ok(())
    }

    /// Takes room for so many bytes. What is not more grows no further.
    ///
    /// # Errors
    ///
    /// As [`Self::take`] has it.
    pub(super) fn buffer(&mut self, bytes: usize) -> Result<Vec<u8>, Failure> {
        self.take(bytes)?;
        let mut room = Vec::new();
        room.try_reserve_exact(bytes).map_err(|_| full())?;
        Ok(room)
    }

    /// Reads so many bytes of a file, or what it has.
    pub(super) fn read(&mut self, path: &Rel, file: File, bytes: u64) -> Result<Vec<u8>, Failure> {
        let mut held = self.buffer(usize::try_from(bytes).map_err(|_| full())?)?;
        let read = file.take(bytes).read_to_end(&mut held);
        read.map_err(|error| Failure::new(Kind::Io, format!("{path}: {error}")))?;
        Ok(held)
    }
}

fn full() -> Failure {
    Failure::new(Kind::Busy, "other questions need the memory that this one needs")
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        account(|held| held.fetch_sub(self.0, Ordering::Relaxed));
    }
}

/// Gathers the content of a question, up to the limit of texts.
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

/// Holds all but so many bytes.
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
