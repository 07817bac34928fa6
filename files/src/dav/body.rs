//! The body of a request that is kept in memory.

use super::reply::Refusal;
use crate::peer::{Broken, Peer};

/// Reads a body of at most `limit` bytes.
pub(super) fn body(peer: &mut dyn Peer, limit: usize) -> Result<Result<Vec<u8>, Refusal>, Broken> {
    let mut body = Vec::new();
    while let Some(piece) = peer.content()? {
        if body.len().saturating_add(piece.len()) > limit {
            return Ok(Err(Refusal::status(413)));
        }
        body.extend_from_slice(&piece);
    }
    Ok(Ok(body))
}
