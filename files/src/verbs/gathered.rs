//! What is held in memory for questions: bounded for all of them together.

use std::sync::atomic::{AtomicUsize, Ordering};

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::TEXT_LIMIT;

use super::Stop;
use crate::peer::Peer;

/// So many bytes at most.
const MOST: usize = 192 << 20;

static HELD: AtomicUsize = AtomicUsize::new(0);

/// A share of the memory. It is given back when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Share(usize);

impl Share {
    /// Takes so many bytes more.
    ///
    /// # Errors
    ///
    /// `busy` if others have too much of it.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), Failure> {
        let before = HELD.fetch_add(bytes, Ordering::Relaxed);
        self.0 += bytes;
        if before + bytes > MOST {
            return Err(Failure::new(
                Kind::Busy,
                "other questions need the memory that this one needs",
            ));
        }
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        HELD.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// Gathers the content of a question, up to the limit of texts.
pub(super) fn gather(peer: &mut dyn Peer, share: &mut Share) -> Result<Vec<u8>, Stop> {
    let mut content = Vec::new();
    while let Some(piece) = peer.content()? {
        if content.len() + piece.len() > TEXT_LIMIT {
            return Err(Failure::new(Kind::TooLarge, "the content has more than 8 MiB").into());
        }
        share.take(piece.len())?;
        content.extend_from_slice(&piece);
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_much_is_refused_and_given_back() {
        let mut one = Share::default();
        one.take(1 << 20).unwrap();
        let mut other = Share::default();
        assert_eq!(other.take(MOST).unwrap_err().kind, Kind::Busy);
        drop(other);
        one.take(1 << 20).unwrap();
    }
}
