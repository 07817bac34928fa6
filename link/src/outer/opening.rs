//! Reads the first bytes of a stream: the relay's route, where there is one, and the header.

use std::io;
use std::time::Duration;

use farwire_protocol::header::{BadHeader, Header, LENGTH, ROUTE_LENGTH, Route};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::timeout;

/// How long the first bytes of a stream may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the header of a stream could not be read.
#[derive(Debug, thiserror::Error)]
pub enum OpeningError {
    /// The stream broke off.
    #[error("the stream broke off before its header")]
    Broken(#[from] io::Error),
    /// The header did not arrive in time.
    #[error("the header did not arrive in time")]
    Slow,
    /// The header is malformed.
    #[error(transparent)]
    Bad(#[from] BadHeader),
}

/// The first bytes of a stream, raw and decoded.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The header.
    pub header: Header,
    /// The header as received.
    pub raw: [u8; LENGTH],
    /// The bytes after the header that it announces.
    pub rest: Vec<u8>,
}

impl Opening {
    /// Reads the header of a stream.
    pub async fn read(recv: &mut (impl AsyncRead + Unpin)) -> Result<Self, OpeningError> {
        timeout(PATIENCE, read(recv)).await.map_err(|_| OpeningError::Slow)?
    }

    /// Reads the route that the relay prepends, and the header.
    pub async fn read_routed(
        recv: &mut (impl AsyncRead + Unpin),
    ) -> Result<(Route, Self), OpeningError> {
        let both = async {
            let mut route = [0; ROUTE_LENGTH];
            recv.read_exact(&mut route).await?;
            Ok((Route::from_be_bytes(route), read(recv).await?))
        };
        timeout(PATIENCE, both).await.map_err(|_| OpeningError::Slow)?
    }
}

async fn read(recv: &mut (impl AsyncRead + Unpin)) -> Result<Opening, OpeningError> {
    let mut raw = [0; LENGTH];
    recv.read_exact(&mut raw).await?;
    let header = Header::decode(&raw)?;
    let mut rest = vec![0; usize::from(header.rest)];
    recv.read_exact(&mut rest).await?;
    Ok(Opening { header, raw, rest })
}
