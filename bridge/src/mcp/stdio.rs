//! MCP on standard input and output, in both eras of the protocol, for one client.
//!
//! It answers before anything is opened or dialled, never writes anything but its answers to
//! standard output, and ends within a second after standard input or its parent does.

use std::io::{self, Write as _};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use rmcp::ServiceExt as _;
use rmcp::transport::{StdioReader, stdio_pipes};
use tokio::io::AsyncRead;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::handler::Handler;
use super::parent;
use crate::tools::seat::Seat;

/// After standard input has ended, calls that are under way get this long, and closing connections
/// as long again. Clients kill servers that take longer.
const FAREWELL: Duration = Duration::from_millis(300);

/// Serves one client until its standard input ends.
pub async fn serve(seat: Seat, banner: &str) -> Result<(), Failure> {
    // Serve even if the banner cannot be printed.
    let _ = writeln!(io::stderr(), "{banner}");
    let seat = Arc::new(seat);
    let broken = |error: &dyn std::fmt::Display| {
        Failure::new(Kind::Io, format!("standard input or output broke: {error}"))
    };
    let left = CancellationToken::new();
    let (input, output) = stdio_pipes();
    let input = StdinReader { input, left: left.clone() };
    let leaving = CancellationToken::new();
    let handler = Handler::new(seat.clone(), leaving.clone());
    let mut gone = pin!(parent::wait_for_exit());
    let met = tokio::select! {
        met = handler.serve((input, output)) => met,
        () = &mut gone => return Ok(()),
    };
    let running = match met {
        Ok(running) => running,
        // A client that leaves before it has sent anything is not an error.
        Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        Err(error) => return Err(broken(&error)),
    };
    let mut waiting = pin!(running.waiting());
    let ended = tokio::select! {
        ended = &mut waiting => ended.map(drop).map_err(|error| broken(&error)),
        // The service itself would wait longer for calls that are under way.
        () = async { left.cancelled().await; sleep(FAREWELL).await } => Ok(()),
        () = &mut gone => Ok(()),
    };
    // Runs continue; only the connections are closed.
    leaving.cancel();
    let goodbye = async {
        seat.close().await;
        seat.process.leave().await;
    };
    let _ = timeout(FAREWELL, goodbye).await;
    ended
}

/// Standard input that signals its end.
struct StdinReader {
    input: StdioReader,
    left: CancellationToken,
}

impl AsyncRead for StdinReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buffer.remaining();
        let read = ready!(Pin::new(&mut self.input).poll_read(context, buffer));
        if read.is_err() || (room > 0 && buffer.remaining() == room) {
            self.left.cancel();
        }
        Poll::Ready(read)
    }
}
