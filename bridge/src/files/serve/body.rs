//! The body of an answer, as the server sends it.

use std::io;

use bytes::Bytes;
use farwire_protocol::streams::files::ToBridge;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::sync::{OwnedMutexGuard, mpsc};

use super::Body;
use crate::files::{Files, Said};

/// So many pieces of an answer wait for a client that reads slowly.
const WAITING: usize = 8;

/// A body that comes as the server sends it.
pub(super) fn stream(line: OwnedMutexGuard<Option<Files>>, given_up: bool) -> Body {
    let (pieces, waiting) = mpsc::channel(WAITING);
    tokio::spawn(bring(line, pieces, given_up));
    let stream = futures_util::stream::unfold(waiting, async |mut waiting| {
        waiting.recv().await.map(|piece: io::Result<Bytes>| (piece.map(Frame::data), waiting))
    });
    StreamBody::new(stream).boxed()
}

/// Brings the body of an answer. The stream is free for the next request once the server is done.
async fn bring(
    mut line: OwnedMutexGuard<Option<Files>>,
    pieces: mpsc::Sender<io::Result<Bytes>>,
    given_up: bool,
) {
    let Some(files) = line.as_mut() else { return };
    loop {
        match files.down.next().await {
            Ok(Said::Content(bytes)) => {
                // A client that has gone ends the stream: nobody wants the rest.
                if pieces.send(Ok(bytes)).await.is_err() {
                    *line = None;
                    return;
                }
            }
            Ok(Said::Message(ToBridge::Done(done))) => {
                if done.failure.is_some() && !given_up {
                    let _ = pieces.send(Err(io::ErrorKind::UnexpectedEof.into())).await;
                }
                return;
            }
            _ => {
                let _ = pieces.send(Err(io::ErrorKind::UnexpectedEof.into())).await;
                *line = None;
                return;
            }
        }
    }
}
