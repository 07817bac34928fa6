//! MCP on standard input and output, in both eras of the protocol, for one client.
//!
//! It answers before anything is opened or dialled, never writes anything but its answers to
//! standard output, and ends within a second after standard input or its parent does.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::transport::{StdioReader, StdioWriter, Transport, stdio_pipes};
use rmcp::{RoleServer, ServiceExt as _};
use tokio::io::{AsyncReadExt as _, Empty};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::handler::Handler;
use super::lines::{Decoded, Line, LineReader, Refusal, decode};
use super::parent;
use crate::tools::seat::Seat;

/// After standard input has ended, calls that are under way get this long, and closing connections
/// as long again. Clients kill servers that take longer.
const FAREWELL: Duration = Duration::from_millis(300);

/// How much is read at once.
const READ: usize = 64 << 10;

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
    let transport = LineTransport::new(input, output, left.clone());
    let leaving = CancellationToken::new();
    let handler = Handler::new(seat.clone(), leaving.clone());
    let mut gone = pin!(parent::wait_for_exit());
    let met = tokio::select! {
        met = handler.serve(transport) => met,
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

/// Messages as lines of standard input and output. Signals the end of the input.
struct LineTransport {
    input: StdioReader,
    /// What has been read at once.
    read: Vec<u8>,
    lines: LineReader,
    /// Lines that have been read and not yet been looked at.
    waiting: VecDeque<Line>,
    /// All that is written, by the handler and here: one line after the other.
    output: AsyncRwTransport<RoleServer, Empty, StdioWriter>,
    /// An answer of ours that is being written. It goes on when whoever receives is interrupted.
    answering: Option<Answering>,
    left: CancellationToken,
}

type Answering = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

impl LineTransport {
    fn new(input: StdioReader, output: StdioWriter, left: CancellationToken) -> Self {
        Self {
            input,
            read: vec![0; READ],
            lines: LineReader::default(),
            waiting: VecDeque::new(),
            output: AsyncRwTransport::new_server(tokio::io::empty(), output),
            answering: None,
            left,
        }
    }

    /// The next message; an error is the end.
    async fn next(&mut self) -> io::Result<RxJsonRpcMessage<RoleServer>> {
        loop {
            if let Some(answering) = &mut self.answering {
                let answered = answering.await;
                self.answering = None;
                answered?;
            }
            match self.waiting.pop_front().map(decode) {
                Some(Decoded::Message(message)) => return Ok(*message),
                Some(Decoded::Nothing) => {}
                Some(Decoded::Refused(Refusal { id, error })) => {
                    let answer = self.output.send(TxJsonRpcMessage::<RoleServer>::error(error, id));
                    self.answering = Some(Box::pin(answer));
                }
                None => match self.input.read(&mut self.read).await? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    length => {
                        let read = self.read.get(..length).unwrap_or_default();
                        self.lines.push(read, &mut self.waiting);
                    }
                },
            }
        }
    }
}

impl Transport<RoleServer> for LineTransport {
    type Error = io::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        self.output.send(message)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        let next = self.next().await;
        if next.is_err() {
            self.left.cancel();
        }
        next.ok()
    }

    async fn close(&mut self) -> io::Result<()> {
        self.output.close().await
    }
}
