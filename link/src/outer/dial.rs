//! The program's end: dials the relay, sends HELLO, makes calls, opens and accepts streams.
//!
//! HELLO is sent without waiting for the answer, which saves a cold command a round trip; a refusal
//! fails the first call or stream. Dropping the last clone of a [`Connection`] closes it.

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
use crate::outer::socket::Socket;
use crate::outer::window::ReceiveWindow;
use crate::outer::{Closed, control, tls, transport};

/// How long an attempt at one address may take.
const ATTEMPT: Duration = Duration::from_secs(6);

/// The head start of an address before the next one is tried beside it.
const HEAD_START: Duration = Duration::from_millis(300);

/// How often to yield to other tasks when closing a connection, so that the close gets sent. Once
/// suffices, unless the socket is full.
const GOODBYE: usize = 64;

/// How long the relay may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// The number of calls that may queue for writing. Further callers wait.
const CALLS: usize = 16;

/// The number of notices that may queue for a reader. A slower reader misses some, and asks again.
const NOTICES: usize = 16;

/// The identity with which a program dials.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The role.
    pub role: Role,
    /// The bundle.
    pub bundle: SignedBundle,
    /// The key of the outer TLS, which the bundle names.
    pub kt: SigningKey,
    /// 16 random bytes of this process.
    pub instance: Nonce,
    /// Program and version.
    pub build: String,
    /// An invite to create a workspace, with the signed genesis event.
    pub found: Option<(Invite, Vec<u8>)>,
    /// The enrollment, for [`Role::Enrolling`].
    pub enrollment: Option<Nonce>,
    /// Whether somebody is at a terminal over this connection, which then keeps queues short.
    pub attended: Attended,
}

/// Why there is no connection to the relay.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No name resolves, or no address was given.
    #[error("the relay's address {0} cannot be resolved")]
    Unresolved(String),
    /// No address answers.
    #[error("the relay at {address} does not answer: {reason}")]
    Unreachable {
        /// The last address tried.
        address: String,
        /// The cause.
        reason: String,
        /// Whether nothing at all came back.
        silent: bool,
    },
    /// Another program answers, which does not hold the pinned key.
    #[error("the program that answers at {0} does not have the relay's key")]
    KeyMismatch(String),
    /// Our own socket or key is unusable.
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
                failure.with_hint("check the name, and that this machine can resolve names")
            }
            DialError::KeyMismatch(_) | DialError::Local(_) => failure,
        }
    }
}

fn port(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(_, port)| port)
}

/// The hint for an address that does not answer at all.
pub fn blocked(address: &str) -> String {
    format!(
        "UDP port {} may be blocked on the path: allow outgoing UDP to it, and check that the relay runs",
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
    /// The receive window for streams that the relay opens.
    window: ReceiveWindow,
    /// To the only task that writes, so that a cancelled caller cannot truncate a message.
    calls: mpsc::Sender<Call>,
    pending: Arc<PendingCalls>,
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

/// Calls that have not been answered, by id.
#[derive(Debug, Default)]
struct PendingCalls(Mutex<HashMap<u32, oneshot::Sender<Answer>>>);

impl PendingCalls {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u32, oneshot::Sender<Answer>>> {
        self.0.lock().expect("nothing panics while it is held")
    }
}

/// Keeps a call pending until it is dropped.
struct PendingCall<'a> {
    pending: &'a PendingCalls,
    id: u32,
}

impl<'a> PendingCall<'a> {
    fn new(pending: &'a PendingCalls, id: u32) -> (Self, oneshot::Receiver<Answer>) {
        let (caller, answer) = oneshot::channel();
        pending.lock().insert(id, caller);
        (Self { pending, id }, answer)
    }
}

impl Drop for PendingCall<'_> {
    fn drop(&mut self) {
        self.pending.lock().remove(&self.id);
    }
}

/// Dials a relay: tries its addresses in order, each with a head start before the next.
pub async fn dial(relay: &Relay, identity: &Identity) -> Result<Connection, DialError> {
    let mut addresses = Vec::new();
    for name in &relay.addresses {
        if let Ok(resolved) = tokio::net::lookup_host(name).await {
            addresses.extend(resolved.map(|address| (name.clone(), address)));
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
            // A wrong key is more important to report than a silent address.
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
        // The connection keeps its endpoint alive.
        Ok(Ok(quic)) => Ok(quic),
        Ok(Err(_)) if mismatch.load(Ordering::Relaxed) => Err(DialError::KeyMismatch(name)),
        Ok(Err(error)) => {
            let closed = Closed::from(error);
            Err(unreachable(closed.to_string(), closed == Closed::Silent))
        }
        Err(_) => Err(unreachable("no answer".to_owned(), true)),
    }
}

/// Sends HELLO and returns without waiting for the answer.
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
    let pending = Arc::new(PendingCalls::default());
    let (notices, _) = broadcast::channel(NOTICES);
    let (welcomed, welcome) = watch::channel(None);
    let reader = tokio::spawn(listen(recv, pending.clone(), notices.clone(), welcomed));
    let (calls, asked) = mpsc::channel(CALLS);
    let writer = tokio::spawn(write_calls(send, asked));
    let shared = Shared {
        window: ReceiveWindow::new(quic.clone()),
        quic,
        calls,
        pending,
        next: AtomicU32::new(2),
        welcome,
        notices,
        reader: reader.abort_handle(),
        writer: writer.abort_handle(),
    };
    Ok(Connection { shared: Arc::new(shared) })
}

/// The priority of the control stream: above every other stream.
const CONTROL_PRIORITY: i32 = 30;

/// The TLS exporter of a connection, to which HELLO is bound.
pub(super) fn exporter(quic: &quinn::Connection) -> [u8; 32] {
    let mut out = [0; 32];
    quic.export_keying_material(&mut out, EXPORTER_LABEL, b"")
        .expect("32 bytes are within what TLS exports");
    out
}

/// Writes the queued calls, one after another, until the stream breaks.
async fn write_calls(mut send: SendHalf, mut asked: mpsc::Receiver<Call>) {
    while let Some(call) = asked.recv().await {
        if control::write(&mut send, &call).await.is_err() {
            return;
        }
    }
}

/// Reads the answers and notices of the relay, until the stream ends.
async fn listen(
    mut recv: RecvHalf,
    pending: Arc<PendingCalls>,
    notices: broadcast::Sender<Notice>,
    welcomed: watch::Sender<Option<Result<Welcome, Failure>>>,
) {
    while let Ok(answer) = control::read::<Answer>(&mut recv).await {
        match answer.id {
            0 => {
                // An unknown notice is skipped, and so is one without a subscriber.
                if let Ok(notice) = peer::decode(&answer.body, LIMIT) {
                    let _ = notices.send(notice);
                }
            }
            1 => {
                // Only the first answer counts. A later refusal says nothing about streams.
                let answer = read_answer::<Hello>(&answer)
                    .map_err(|failure| restrict(failure, Kind::is_of_hello));
                welcomed.send_if_modified(|welcome| {
                    let first = welcome.is_none();
                    if first {
                        *welcome = Some(answer);
                    }
                    first
                });
            }
            id => {
                if let Some(caller) = pending.lock().remove(&id) {
                    // The caller may have been cancelled.
                    let _ = caller.send(answer);
                }
            }
        }
    }
    pending.lock().clear();
}

/// Replaces a kind that the relay must not report, so that it cannot pass for the word of an agent.
fn restrict(failure: Failure, is_allowed: impl Fn(Kind) -> bool) -> Failure {
    match is_allowed(failure.kind) {
        true => failure,
        false => Failure { kind: Kind::RelayDenied, ..failure },
    }
}

fn read_answer<V: Verb>(answer: &Answer) -> Result<V::Answer, Failure> {
    if let Some(failure) = &answer.failure {
        return Err(restrict(failure.clone(), Kind::is_of_relay));
    }
    peer::decode(&answer.body, LIMIT).map_err(|error| {
        Failure::caused(Kind::ProtocolViolation, "the relay's answer is malformed", &error)
    })
}

fn unanswered() -> Failure {
    Failure::new(Kind::RelayUnreachable, "the relay did not answer")
}

impl Connection {
    /// Waits for the relay's answer to HELLO.
    pub async fn welcome(&self) -> Result<Welcome, Failure> {
        let mut welcome = self.shared.welcome.clone();
        let answered = async {
            match welcome.wait_for(Option::is_some).await {
                Ok(answer) => answer.clone().expect("it was waited for"),
                Err(_) => Err(self.connection_lost()),
            }
        };
        timeout(PATIENCE, answered).await.unwrap_or_else(|_| Err(unanswered()))
    }

    /// Returns the refusal of HELLO, if it has arrived.
    pub fn refusal(&self) -> Option<Failure> {
        self.shared.welcome.borrow().as_ref().and_then(|answer| answer.as_ref().err().cloned())
    }

    /// Calls the relay.
    pub async fn call<V: Verb>(&self, verb: &V) -> Result<V::Answer, Failure> {
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let call = Call { id, verb: V::NUMBER, body: Blob(cbor::encode(verb)) };
        let (_pending, answer) = PendingCall::new(&self.shared.pending, id);
        let asked = async {
            self.shared.calls.send(call).await.map_err(|_| self.connection_lost())?;
            answer.await.map_err(|_| self.refusal().unwrap_or_else(|| self.connection_lost()))
        };
        let answer = timeout(PATIENCE, asked).await;
        read_answer::<V>(&answer.unwrap_or_else(|_| Err(unanswered()))?)
    }

    /// Subscribes to the relay's notices from now on.
    pub fn notices(&self) -> broadcast::Receiver<Notice> {
        self.shared.notices.subscribe()
    }

    /// Opens a stream.
    pub async fn open(&self) -> Result<(SendHalf, RecvHalf), Closed> {
        let (send, recv) = self.shared.quic.open_bi().await?;
        Ok((SendHalf::new(send), RecvHalf::new(recv)))
    }

    /// Accepts the next stream that the relay opens, which it does towards agents only. All of
    /// these streams share a small window until [`RecvHalf::authenticated`] is called for them.
    pub async fn accept(&self) -> Result<(SendHalf, RecvHalf), Closed> {
        let (send, recv) = self.shared.quic.accept_bi().await?;
        Ok((SendHalf::new(send), RecvHalf::with_window(recv, self.shared.window.clone())))
    }

    /// Waits until the connection has ended.
    pub async fn closed(&self) -> Closed {
        self.shared.quic.closed().await.into()
    }

    /// Why the connection has ended, if it has.
    pub fn close_reason(&self) -> Option<Closed> {
        self.shared.quic.close_reason().map(Closed::from)
    }

    /// Closes the connection.
    pub fn close(&self, reason: Reset) {
        self.shared.quic.close(reason.code().into(), b"");
    }

    /// Closes the connection and lets the transport send the close, without waiting for QUIC's
    /// draining period.
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

    /// The address of the relay.
    pub fn remote(&self) -> SocketAddr {
        self.shared.quic.remote_address()
    }

    /// The round trip to the relay, as QUIC estimates it.
    pub fn rtt(&self) -> Duration {
        self.shared.quic.rtt()
    }

    fn connection_lost(&self) -> Failure {
        let why = self.close_reason().map_or_else(|| "it broke off".to_owned(), |c| c.to_string());
        Failure::new(Kind::RelayUnreachable, format!("the connection to the relay is lost: {why}"))
    }
}
