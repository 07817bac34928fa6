//! What a handler works with: on whose behalf a stream acts, and the services of the agent.

use std::sync::Arc;

use farwire_link::inner::agent::Link;
use farwire_link::inner::sealed::Writer;
use farwire_link::outer::congestion::Attended;
use farwire_protocol::cbor::{self, Blob};
use farwire_protocol::conversation::{CREATE_LIMIT, Counts, End, message};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use minicbor::{Decode, Encode};
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use crate::conversations::Conversations;
use crate::files::Roots;
use crate::gate::Asker;
use crate::jobs::Jobs;
use crate::jobs::users::Users;
use crate::links::{Entered, Links};
use crate::sessions::Sessions;

/// One stream's view of the agent.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) asker: Asker,
    pub(crate) link: Arc<Link>,
    pub(crate) services: Arc<Services>,
    /// The stream counts as open until all clones of this are dropped.
    pub(crate) entered: Arc<Entered>,
}

/// The services of the agent for all streams. Its keys, its devices and its connection are not
/// among them.
#[derive(Debug)]
pub(crate) struct Services {
    /// The id of this agent process.
    pub(crate) instance: Nonce,
    pub(crate) started: Instant,
    pub(crate) jobs: Arc<Jobs>,
    /// The jobs that have a terminal.
    pub(crate) sessions: Arc<Sessions>,
    /// Where users are looked up, which may wait for a network.
    pub(crate) users: Users,
    /// Conversations about runs and sessions.
    pub(crate) conversations: Conversations,
    pub(crate) file_conversations: Conversations<()>,
    /// Conversations about what is done to a session besides typing.
    pub(crate) control_conversations: Conversations<()>,
    pub(crate) links: Links,
    /// The directories that the owner has opened.
    pub(crate) roots: Roots,
    /// Whether somebody is at a terminal.
    pub(crate) attended: Attended,
}

/// The request in a stream's OPEN. If it may be secret, the caller wipes its bytes.
pub(crate) fn request<'b, T: Decode<'b, ()>>(create: &'b [u8]) -> Result<T, Failure> {
    cbor::decode(create, CREATE_LIMIT).map_err(|error| {
        Failure::caused(Kind::ProtocolViolation, "the request is malformed", &error)
    })
}

/// Ends a stream with its answer. `counts` has counted what was sent before.
pub(crate) async fn finish<W: AsyncWrite + Unpin>(
    writer: &mut Writer<W>,
    counts: Counts,
    answer: &impl Encode<()>,
) -> Result<(), Failure> {
    let body = Some(Blob(message(answer)));
    writer.end(&message(&End { ends: counts.offsets(), failure: None, body }));
    writer.finish().await.map_err(|_| link_lost())
}

/// The failure of a stream's carrier: the conversation may be resumed on another stream.
pub(crate) fn link_lost() -> Failure {
    Failure::new(Kind::LinkLost, "the stream broke off")
}
