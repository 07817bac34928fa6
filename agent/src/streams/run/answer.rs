//! The answer to a question about a run: pieces of its output, and the state of the run.

use farwire_link::inner::sealed::{BATCH, Writer};
use farwire_protocol::conversation::{Counts, message};
use farwire_protocol::failure::Failure;
use farwire_protocol::streams::run::{PIECE, Piece as PieceMessage, ToBridge};
use tokio::io::AsyncWrite;

use crate::spool::SpoolPiece;
use crate::streams::context::link_lost;

/// The largest answer.
pub(super) const BUDGET: u32 = 4 << 20;

/// Sends a piece of output, and counts it.
pub(super) async fn send_piece<W: AsyncWrite + Unpin>(
    writer: &mut Writer<W>,
    counts: &mut Counts,
    piece: SpoolPiece,
) -> Result<(), Failure> {
    let head = PieceMessage {
        first_line: piece.first_line,
        length: u32::try_from(piece.bytes.len()).unwrap_or(u32::MAX),
        starts_within: Some(piece.starts_within),
        ends_within: Some(piece.ends_within),
        offset: piece.offset,
    };
    writer.message(&message(&ToBridge::Piece(head)));
    writer.data(PIECE, &piece.bytes);
    counts.add(PIECE, piece.bytes.len()).expect("a piece is small");
    if writer.waiting() >= BATCH {
        writer.flush().await.map_err(|_| link_lost())?;
    }
    Ok(())
}
