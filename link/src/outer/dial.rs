//! The program's end: dial the relay, say HELLO, ask, open and accept streams.
//!
//! HELLO is sent and not waited for: a cold command saves a round trip, and a refusal arrives where
//! it matters. Dropping the last clone of a [`Connection`] closes it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ed25519_dalek::{Signer as _, SigningKey};
use farwire_protocol::address::{Invite, Relay};
use farwire_protocol::bundle::SignedBundle;
use farwire_protocol::cbor::{self, Blob};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::header::Reset;
use farwire_protocol::id::{Nonce, Signature};
use farwire_protocol::outer::{
    Answer, Call, EXPORTER_LABEL, Hello, LIMIT, Notice, Role, Verb, Welcome, hello_text,
};
use farwire_protocol::peer;
use quinn::crypto::rustls::QuicClientConfig;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::outer::congestion::Attended;
use crate::outer::halves::{RecvHalf, SendHalf};
use crate::outer::room::Room;
use crate::outer::socket::Socket;
use crate::outer::{Closed, control, tls, transport};

/// How long one address may take before it is given up.
const ATTEMPT: Duration = Duration::from_secs(6);

/// The head start of an address before the next one is tried beside it.
const HEAD_START: Duration = Duration::from_millis(300);

/// How often other tasks are let go first when a connection is closed. Once does, unless the socket is
/// full.
const GOODBYE: usize = 64;

/// How long an answer of the relay may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Questions that wait to be written. Whoever asks when there are more waits.
const CALLS: usize = 16;

/// Notices that wait to be read; a reader that is slower than that misses some, and asks anew.
const NOTICES: usize = 16;

/// Who dials, and as what.
#[derive(Clone, Debug)]
pub struct Identity {
    /// In what role.
    pub role: Role,
    /// The bundle.
    pub bundle: SignedBundle,
    /// The key of the outer TLS, which the bundle names.
    pub kt: SigningKey,
    /// 16 random bytes of this process.
    pub instance: Nonce,
    /// Program and version.
    pub build: String,
    /// An invite to make a workspace, with its signed genesis event.
    pub found: Option<(Invite, Vec<u8>)>,
    /// The enrollment, for [`Role::Enrolling`].
    pub enrollment: Option<Nonce>,
    /// Whether somebody is at a terminal over this connection: then it keeps queues short.
    pub attended: Attended,
}

/// Why there is no connection to the relay.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name means nothing, or no address was given.
    #[error("the relay's address {0} cannot be resolved")]
    Unresolved(String),
    /// No address answers.
    #[error("the relay at {address} does not answer: {reason}")]
    Unreachable {
        /// The last address tried.
        address: String,
        /// What happened.
        reason: String,
        /// Whether nothing at all came back.
        silent: bool,
    },
    /// Somebody answers who does not hold the pinned key.
    #[error("what answers at {0} does not hold the relay's key")]
    KeyMismatch(String),
    /// Our own socket or key.
    #[error("no QUIC endpoint: {0}")]
    Local(String),
}

impl From<DialError> for Failure {
    fn from(error: DialError) -> Self {
        let kind = match error {
            DialError::KeyMismatch(_) => Kind::RelayKeyMismatch,
            DialError::Unresolved(_) | DialError::Unreachable { .. } => Kind::RelayUnreachable,
            DialError::Local(_) => Kind::Io,
        };
        let failure = Self::new(kind, error.to_string());
        match &error {
            DialError::Unreachable { address, silent: true, .. } => {
                failure.with_hint(blocked(address))
            }
            DialError::Unreachable { address, .. } => failure.with_hint(format!(
                "check the address, and that `farwire-relay serve` listens on UDP port {}",
                port(address)
            )),
            DialError::Unresolved(_) => {
                failure.with_hint("check the name, and that this machine can look names up")
            }
            DialError::KeyMismatch(_) | DialError::Local(_) => failure,
        }
    }
}

fn port(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(_, port)| port)
}

/// What to do when nothing comes back from an address.
pub fn blocked(address: &str) -> String {
    format!(
        "UDP port {} may be blocked on the way: allow outgoing UDP to it, and check that the relay runs",
        port(address)
    )
}

/// A connection to the relay. Clones share it.
#[derive(Clone, Debug)]
pub struct Connection {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    quic: quinn::Connection,
    /// For the streams that the relay opens.
    room: Room,
    /// To the one task that writes: a caller that gives up in the middle cuts no message short.
    calls: mpsc::Sender<Call>,
    waiting: Arc<Waiting>,
    next: AtomicU32,
    welcome: watch::Receiver<Option<Result<Welcome, Failure>>>,
    notices: broadcast::Sender<Notice>,
    reader: AbortHandle,
    writer: AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.reader.abort();
        self.writer.abort();
        self.quic.close(Reset::Closing.code().into(), b"");
    }
}

/// Calls that have not been answered.
#[derive(Debug, Default)]
struct Waiting(Mutex<HashMap<u32, oneshot::Sender<Answer>>>);

impl Waiting {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u32, oneshot::Sender<Answer>>> {
        self.0.lock().expect("nothing panics while it is held")
    }
}

/// A call that waits for its answer, until this is dropped.
struct Awaited<'a> {
    waiting: &'a Waiting,
    id: u32,
}

impl<'a> Awaited<'a> {
    fn new(waiting: &'a Waiting, id: u32) -> (Self, oneshot::Receiver<Answer>) {
        let (caller, answer) = oneshot::channel();
        waiting.lock().insert(id, caller);
        (Self { waiting, id }, answer)
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.id);
    }
}

/// Dials a relay: its addresses in order, each with a head start before the next.
pub async fn dial(relay: &Relay, identity: &Identity) -> Result<Connection, DialError> {
    let mut addresses = Vec::new();
    for name in &relay.addresses {
        if let Ok(found) = tokio::net::lookup_host(name).await {
            addresses.extend(found.map(|address| (name.clone(), address)));
        }
    }
    if addresses.is_empty() {
        return Err(DialError::Unresolved(relay.addresses.join(", ")));
    }
    let mut attempts = tokio::task::JoinSet::new();
    let mut left = addresses.into_iter();
    let mut last = None;
    loop {
        let next = left.next();
        let more = next.is_some();
        if let Some((name, address)) = next {
            let (relay, kt) = (relay.key, identity.kt.clone());
            let path = transport::Path::to(address);
            let transport = transport::client(path, identity.role, &identity.attended);
            attempts.spawn(async move { attempt(name, address, relay, kt, transport).await });
        }
        let done = if more {
            timeout(HEAD_START, attempts.join_next()).await.unwrap_or(None)
        } else {
            attempts.join_next().await
        };
        match done {
            Some(Ok(Ok(quic))) => return greet(quic, identity).await,
            // Another key is the more important news than another address that is silent.
            Some(Ok(Err(error))) if !matches!(last, Some(DialError::KeyMismatch(_))) => {
                last = Some(error);
            }
            Some(_) => {}
            None if more => {}
            None => {
                return Err(last.unwrap_or_else(|| DialError::Local("the attempt died".to_owned())));
            }
        }
    }
}

async fn attempt(
    name: String,
    address: SocketAddr,
    relay: farwire_protocol::id::Kt,
    kt: SigningKey,
    transport: Arc<quinn::TransportConfig>,
) -> Result<quinn::Connection, DialError> {
    let local = |error: &dyn std::fmt::Display| DialError::Local(error.to_string());
    let any = match address.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = transport::socket(SocketAddr::new(any, 0)).map_err(|error| local(&error))?;
    let runtime = Arc::new(quinn::TokioRuntime);
    let socket = Socket::new(socket).map_err(|error| local(&error))?;
    let config = transport::client_endpoint();
    let endpoint = quinn::Endpoint::new_with_abstract_socket(config, None, socket, runtime)
        .map_err(|error| local(&error))?;
    let mismatch = Arc::new(AtomicBool::new(false));
    let tls = tls::client(&kt, relay, mismatch.clone()).map_err(|error| local(&error))?;
    let tls = QuicClientConfig::try_from(tls).map_err(|error| local(&error))?;
    let mut config = quinn::ClientConfig::new(Arc::new(tls));
    config.transport_config(transport);
    let connecting =
        endpoint.connect_with(config, address, "farwire").map_err(|error| local(&error))?;
    let unreachable =
        |reason, silent| DialError::Unreachable { address: name.clone(), reason, silent };
    match timeout(ATTEMPT, connecting).await {
        // It keeps its endpoint alive.
        Ok(Ok(quic)) => Ok(quic),
        Ok(Err(_)) if mismatch.load(Ordering::Relaxed) => Err(DialError::KeyMismatch(name)),
        Ok(Err(error)) => {
            let closed = Closed::from(error);
            Err(unreachable(closed.to_string(), closed == Closed::Silent))
        }
        Err(_) => Err(unreachable("no answer".to_owned(), true)),
    }
}

/// Sends HELLO and returns without its answer.
async fn greet(quic: quinn::Connection, identity: &Identity) -> Result<Connection, DialError> {
    let lost = |error: &dyn std::fmt::Display| DialError::Unreachable {
        address: quic.remote_address().to_string(),
        reason: error.to_string(),
        silent: false,
    };
    let (send, recv) = quic.open_bi().await.map_err(|error| lost(&error))?;
    let (mut send, recv) = (SendHalf::new(send), RecvHalf::new(recv));
    send.set_priority(CONTROL_PRIORITY);
    let proof = identity.kt.sign(&hello_text(&exporter(&quic)));
    let hello = Hello {
        role: identity.role,
        bundle: Blob(identity.bundle.encode()),
        instance: identity.instance,
        proof: Signature(proof.to_bytes()),
        build: identity.build.clone(),
        invite: identity.found.as_ref().map(|(invite, _)| Blob(invite.0.to_vec())),
        genesis: identity.found.as_ref().map(|(_, genesis)| Blob(genesis.clone())),
        enrollment: identity.enrollment,
    };
    let call = Call { id: 1, verb: Hello::NUMBER, body: Blob(cbor::encode(&hello)) };
    control::write(&mut send, &call).await.map_err(|error| lost(&error))?;
    let waiting = Arc::new(Waiting::default());
    let (notices, _) = broadcast::channel(NOTICES);
    let (welcomed, welcome) = watch::channel(None);
    let reader = tokio::spawn(listen(recv, waiting.clone(), notices.clone(), welcomed));
    let (calls, asked) = mpsc::channel(CALLS);
    let writer = tokio::spawn(write_calls(send, asked));
    let shared = Shared {
        room: Room::new(quic.clone()),
        quic,
        calls,
        waiting,
        next: AtomicU32::new(2),
        welcome,
        notices,
        reader: reader.abort_handle(),
        writer: writer.abort_handle(),
    };
    Ok(Connection { shared: Arc::new(shared) })
}

/// The control stream goes before everything else.
const CONTROL_PRIORITY: i32 = 30;

/// The exporter of a connection, to which HELLO is bound.
pub(super) fn exporter(quic: &quinn::Connection) -> [u8; 32] {
    let mut out = [0; 32];
    quic.export_keying_material(&mut out, EXPORTER_LABEL, b"")
        .expect("32 bytes are within what TLS exports");
    out
}

/// Writes all that is asked, one message after another, until the stream breaks.
async fn write_calls(mut send: SendHalf, mut asked: mpsc::Receiver<Call>) {
    while let Some(call) = asked.recv().await {
        if control::write(&mut send, &call).await.is_err() {
            return;
        }
    }
}

/// Reads all that the relay says, until it says no more.
async fn listen(
    mut recv: RecvHalf,
    waiting: Arc<Waiting>,
    notices: broadcast::Sender<Notice>,
    welcomed: watch::Sender<Option<Result<Welcome, Failure>>>,
) {
    while let Ok(answer) = control::read::<Answer>(&mut recv).await {
        match answer.id {
            0 => {
                // A notice that we do not know, or that nobody listens for, is skipped.
                if let Ok(notice) = peer::decode(&answer.body, LIMIT) {
                    let _ = notices.send(notice);
                }
            }
            1 => {
                // The first one counts. What is refused afterwards says nothing about streams.
                let answer =
                    read_answer::<Hello>(&answer).map_err(|failure| of(failure, Kind::is_of_hello));
                welcomed.send_if_modified(|welcome| {
                    let first = welcome.is_none();
                    if first {
                        *welcome = Some(answer);
                    }
                    first
                });
            }
            id => {
                if let Some(caller) = waiting.lock().remove(&id) {
                    // The caller may have given up.
                    let _ = caller.send(answer);
                }
            }
        }
    }
    waiting.lock().clear();
}

/// A failure that the relay may say. Any other kind would be taken for the word of an agent.
fn of(failure: Failure, may_be: impl Fn(Kind) -> bool) -> Failure {
    match may_be(failure.kind) {
        true => failure,
        false => Failure { kind: Kind::RelayDenied, ..failure },
    }
}

fn read_answer<V: Verb>(answer: &Answer) -> Result<V::Answer, Failure> {
    if let Some(failure) = &answer.failure {
        return Err(of(failure.clone(), Kind::is_of_relay));
    }
    peer::decode(&answer.body, LIMIT).map_err(|error| {
        Failure::caused(Kind::ProtocolViolation, "the relay's answer makes no sense", &error)
    })
}

fn unanswered() -> Failure {
    Failure::new(Kind::RelayUnreachable, "the relay did not answer")
}

impl Connection {
    /// The relay's answer to HELLO.
    pub async fn welcome(&self) -> Result<Welcome, Failure> {
        let mut welcome = self.shared.welcome.clone();
        let answered = async {
            match welcome.wait_for(Option::is_some).await {
                Ok(answer) => answer.clone().expect("it was waited for"),
                Err(_) => Err(self.lost()),
            }
        };
        timeout(PATIENCE, answered).await.unwrap_or_else(|_| Err(unanswered()))
    }

    /// The answer to HELLO, if it has come and was no.
    pub fn refusal(&self) -> Option<Failure> {
        self.shared.welcome.borrow().as_ref().and_then(|answer| answer.as_ref().err().cloned())
    }

    /// Asks the relay.
    pub async fn call<V: Verb>(&self, verb: &V) -> Result<V::Answer, Failure> {
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let call = Call { id, verb: V::NUMBER, body: Blob(cbor::encode(verb)) };
        let (_awaited, answer) = Awaited::new(&self.shared.waiting, id);
        let asked = async {
            self.shared.calls.send(call).await.map_err(|_| self.lost())?;
            answer.await.map_err(|_| self.refusal().unwrap_or_else(|| self.lost()))
        };
        let answer = timeout(PATIENCE, asked).await;
        read_answer::<V>(&answer.unwrap_or_else(|_| Err(unanswered()))?)
    }

    /// What the relay says unasked, from now on.
    pub fn notices(&self) -> broadcast::Receiver<Notice> {
        self.shared.notices.subscribe()
    }

    /// Opens a stream.
    pub async fn open(&self) -> Result<(SendHalf, RecvHalf), Closed> {
        let (send, recv) = self.shared.quic.open_bi().await?;
        Ok((SendHalf::new(send), RecvHalf::new(recv)))
    }

    /// The next stream that the relay opens. It opens some to agents only. All of them together have
    /// little room until [`RecvHalf::authenticated`] is said of them.
    pub async fn accept(&self) -> Result<(SendHalf, RecvHalf), Closed> {
        let (send, recv) = self.shared.quic.accept_bi().await?;
        Ok((SendHalf::new(send), RecvHalf::with_room(recv, self.shared.room.clone())))
    }

    /// Waits until the connection is over.
    pub async fn closed(&self) -> Closed {
        self.shared.quic.closed().await.into()
    }

    /// Why the connection is over, if it is.
    pub fn close_reason(&self) -> Option<Closed> {
        self.shared.quic.close_reason().map(Closed::from)
    }

    /// Closes the connection.
    pub fn close(&self, reason: Reset) {
        self.shared.quic.close(reason.code().into(), b"");
    }

    /// Closes the connection and lets the transport say so. QUIC's draining period is not waited for.
    pub async fn shut(self, reason: Reset) {
        let sent = || self.shared.quic.stats().udp_tx.datagrams;
        let before = sent();
        self.close(reason);
        for _ in 0..GOODBYE {
            tokio::task::yield_now().await;
            if sent() > before {
                return;
            }
        }
    }

    /// The address at which the relay is reached.
    pub fn remote(&self) -> SocketAddr {
        self.shared.quic.remote_address()
    }

    /// The round trip to the relay, as QUIC estimates it.
    pub fn rtt(&self) -> Duration {
        self.shared.quic.rtt()
    }

    fn lost(&self) -> Failure {
        let why = self.close_reason().map_or_else(|| "it broke off".to_owned(), |c| c.to_string());
        Failure::new(Kind::RelayUnreachable, format!("the connection to the relay is lost: {why}"))
    }
}
