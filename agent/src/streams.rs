//! Streams: each begins with an OPEN that names its kind. To add a kind: a file here, and an arm.
//!
//! A handler gets something to read and something to write, and what it may do in its
//! [`Context`]; it never learns what carries the bytes.

pub(crate) mod context;
pub(crate) mod control;
pub(crate) mod files;
mod pattern;
pub(crate) mod run;
pub(crate) mod session;

use farwire_link::inner::sealed::{Reader, Writer};
use farwire_protocol::conversation::{End, Open, message};
use farwire_protocol::failure::{Failure, Kind as FailureKind};
use farwire_protocol::streams::Kind;
use tokio::io::{AsyncRead, AsyncWrite};

use self::context::Context;

/// Serves a stream that has been admitted.
pub(crate) async fn serve<W, R>(
    context: Context,
    open: Open,
    writer: &mut Writer<W>,
    reader: Reader<R>,
) where
    W: AsyncWrite + Unpin + Send,
    R: AsyncRead + Unpin + Send,
{
    let served = match Kind::from_number(open.kind) {
        Kind::Control => control::serve(&context, writer, reader).await,
        Kind::Run => run::serve(&context, open, writer, reader).await,
        Kind::Session => session::serve(&context, open, writer, reader).await,
        Kind::Files => files::serve(&context, open, writer, reader).await,
        _ => Err(Failure::new(
            FailureKind::Unsupported,
            "this agent does not support that kind of stream",
        )
        .with_hint("update the agent")),
    };
    if let Err(failure) = served
        && !writer.has_ended()
    {
        // A refusal is sealed: nobody in between can forge one.
        writer.end(&message(&End::from_failure(failure)));
        // The peer may be gone.
        let _ = writer.finish().await;
    }
}
