//! Parts of a session's log, byte for byte.

use std::ops::Range;
use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::run::{Delivery, Digest, Request, Take};

use crate::client::{Client, Server};
use crate::runs::answer::{NoAnswer, ask};

/// How many bytes are requested at once.
const STEP: u64 = 1 << 20;

/// How long one step may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Reads part of the log, chunk by chunk, and passes each chunk on. Returns how many of them are no
/// longer kept.
pub async fn read(
    client: &Client,
    server: &Server,
    session: Nonce,
    part: Range<u64>,
    mut pass: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<u64, Failure> {
    let (mut at, mut gone) = (part.start, 0);
    while at < part.end {
        let length = (part.end - at).min(STEP);
        let digest = Digest {
            wait_ms: 0,
            head: u32::try_from(length).unwrap_or(u32::MAX),
            tail: 0,
            from: Some(at),
            until: None,
            until_new: None,
            progress: None,
        };
        let delivery = Delivery::Digest(digest);
        let request = Request::Take(Take { job: session, delivery });
        let answer = ask(client, server, &request, PATIENCE, |_| ()).await;
        let answer = answer.map_err(NoAnswer::failure)?;
        let Some(piece) = answer.pieces.first().filter(|piece| !piece.bytes.is_empty()) else {
            return Ok(gone + (part.end - at));
        };
        // Dropped bytes are skipped, and the log continues at the first byte that is kept.
        gone += piece.offset.min(part.end).saturating_sub(at);
        at = at.max(piece.offset);
        let left = usize::try_from(part.end.saturating_sub(at)).unwrap_or(usize::MAX);
        let bytes = piece.bytes.get(..left.min(piece.bytes.len())).unwrap_or_default();
        if piece.bytes.len() as u64 > STEP {
            return Err(Failure::new(
                Kind::ProtocolViolation,
                "the answer has more of the log than was asked for",
            ));
        }
        pass(bytes)?;
        at += bytes.len() as u64;
    }
    Ok(gone)
}
