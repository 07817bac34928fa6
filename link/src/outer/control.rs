//! The framing of the control conversation: u32 length, CBOR body, both bounded.

use std::io;

use farwire_protocol::outer::LIMIT;
use farwire_protocol::{cbor, peer};
use minicbor::{Decode, Encode};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Why no message could be read.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The stream ended or broke.
    #[error("the control stream broke off")]
    Broken(#[from] io::Error),
    /// The message is too long or malformed.
    #[error(transparent)]
    Bad(#[from] cbor::Error),
}

/// Reads one message. Not cancel safe: a control stream has one reader, which is never cancelled.
pub async fn read<T>(recv: &mut (impl AsyncRead + Unpin)) -> Result<T, ControlError>
where
    T: for<'b> Decode<'b, ()>,
{
    read_within(recv, LIMIT).await
}

/// Reads one message of at most `limit` bytes. Memory is allocated only after the length check.
pub async fn read_within<T>(
    recv: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> Result<T, ControlError>
where
    T: for<'b> Decode<'b, ()>,
{
    let length = recv.read_u32().await?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > limit {
        return Err(cbor::Error::TooLong { length, limit }.into());
    }
    let mut body = vec![0; length];
    recv.read_exact(&mut body).await?;
    Ok(peer::decode(&body, limit)?)
}

/// Writes one message.
pub async fn write<T: Encode<()>>(
    send: &mut (impl AsyncWrite + Unpin),
    message: &T,
) -> io::Result<()> {
    let body = cbor::encode(message);
    if body.len() > LIMIT {
        return Err(io::Error::other("a control message exceeded its limit"));
    }
    let length = u32::try_from(body.len()).expect("below the limit");
    let mut bytes = Vec::with_capacity(4 + body.len());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&body);
    send.write_all(&bytes).await
}
