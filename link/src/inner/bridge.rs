//! The bridge's end of a link: the handshake, and opening streams without a round trip.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use farwire_protocol::bundle::SignedBundle;
use farwire_protocol::cbor::Blob;
use farwire_protocol::conversation;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::handshake::{
    self, Accept, HandshakeError, Initiator, Introduce, LONG_LIMIT, Peer, SHORT_LIMIT, Verdict,
};
use farwire_protocol::header::{self, Class, Header, Reset};
use farwire_protocol::id::{Kind as IdKind, Nonce};
use farwire_protocol::keys::{LinkKeys, Opener};
use farwire_protocol::surface::SurfaceProof;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::inner::clock::{LinkClock, boottime};
use crate::inner::sealed::{ReadError, Reader, Writer};
use crate::outer::reset_of;

/// After this time the bridge opens no new streams on a link, and establishes a new one.
const RENEW_AFTER: Duration = Duration::from_secs(3600);

/// After this many bytes, too.
const RENEW_BYTES: u64 = 64 << 30;

/// After this time without an authenticated frame a link gets no new streams.
const SILENCE: Duration = Duration::from_secs(600);

/// How long a handshake may take. The agent, which has to be fair to others, times out sooner.
pub const HANDSHAKE: Duration = Duration::from_secs(10);

/// The device's keys and credentials for a handshake.
#[derive(Clone)]
pub struct Me {
    /// The Noise static secret.
    pub kn: Zeroizing<[u8; 32]>,
    /// The bundle.
    pub bundle: SignedBundle,
    /// The signed delegation of the acting surface.
    pub delegation: Vec<u8>,
    /// The surface's key.
    pub surface: ed25519_dalek::SigningKey,
    /// 16 random bytes of this process.
    pub instance: Nonce,
    /// Program and version.
    pub build: String,
}

impl std::fmt::Debug for Me {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Me").field("id", &self.bundle.id).finish_non_exhaustive()
    }
}

/// Why no link was established.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The stream was reset before the agent's verdict. Not authenticated.
    #[error("the handshake was reset ({0:?})")]
    Reset(Reset),
    /// The stream or the connection ended.
    #[error("the handshake was cut off")]
    Cut(#[source] io::Error),
    /// No answer in time: the agent is stopped, or somebody on the path holds its messages back.
    #[error("the server did not answer the handshake within {} s", HANDSHAKE.as_secs())]
    Silent,
    /// A handshake message was invalid.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The verdict could not be read.
    #[error(transparent)]
    Verdict(#[from] ReadError),
    /// The agent authenticated, and refused.
    #[error("{0}")]
    Rejected(Failure),
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Rejected(failure) => failure,
            LinkError::Reset(reset) => reset_failure(reset),
            LinkError::Handshake(
                HandshakeError::NoVersion { .. } | HandshakeError::Downgrade(_),
            ) => Self::caused(Kind::IncompatibleVersion, "no link to the server", &error),
            // The responder does not hold the pinned key, or the bytes were altered.
            LinkError::Handshake(_) | LinkError::Verdict(ReadError::Bad(_)) => {
                Self::caused(Kind::HandshakeFailed, "no link to the server", &error)
            }
            LinkError::Silent => Self::new(Kind::LinkLost, error.to_string()),
            LinkError::Cut(_) | LinkError::Verdict(_) => {
                Self::caused(Kind::LinkLost, "no link to the server", &error)
            }
        }
    }
}

/// The failure for an unauthenticated reset, which can only say that something is unavailable now.
pub fn reset_failure(reset: Reset) -> Failure {
    let (kind, message) = match reset {
        Reset::UnknownServer => {
            let message = "the relay knows no such server for this device";
            return Failure::new(Kind::UnknownServer, message).with_hint(
                "it was removed, or belongs to another workspace: then authorize this device with `farwire-agent device add` on it",
            );
        }
        Reset::Offline => (Kind::ServerOffline, "the server's agent is not connected"),
        Reset::Suspended => (Kind::ServerSuspended, "the server is suspended"),
        Reset::Overloaded => (Kind::Overloaded, "the relay or the server has reached a limit"),
        Reset::Integrity | Reset::Malformed => (
            Kind::HandshakeFailed,
            "the server could not read the handshake: its keys may differ from the pinned ones",
        ),
        _ => (Kind::LinkLost, "the stream was reset"),
    };
    Failure::new(kind, message)
}

/// A link with one agent: the keys and state that one handshake established. Its streams may use
/// any connection.
#[derive(Debug)]
pub struct Link {
    keys: LinkKeys,
    peer: Peer,
    clock: LinkClock,
    version: u16,
    accept: Accept,
    next_sid: AtomicU64,
    carried: AtomicU64,
    heard: Mutex<Duration>,
}

impl Link {
    /// Performs the handshake over a new stream to the agent, within [`HANDSHAKE`].
    pub async fn establish(
        me: &Me,
        peer: &Peer,
        send: impl AsyncWrite + Unpin,
        recv: impl AsyncRead + Unpin,
    ) -> Result<Self, LinkError> {
        let handshake = timeout(HANDSHAKE, Self::shake_hands(me, peer, send, recv)).await;
        handshake.unwrap_or(Err(LinkError::Silent))
    }

    async fn shake_hands(
        me: &Me,
        peer: &Peer,
        mut send: impl AsyncWrite + Unpin,
        mut recv: impl AsyncRead + Unpin,
    ) -> Result<Self, LinkError> {
        let offer = handshake::offer();
        let rest = u16::try_from(offer.len()).expect("few versions");
        let header = Header::handshake(peer.id.target(), rest).encode();
        let hash = header::hash(&header, &offer);
        let (initiator, first) = Initiator::start(&me.kn, peer, &hash)?;
        let mut out = [header.as_slice(), &offer].concat();
        append_message(&mut out, &first);
        write(&mut send, &out).await?;

        let second = read(&mut recv, SHORT_LIMIT).await?;
        let clock = LinkClock::start();
        let introduction = initiator.read(&second)?;
        let version = introduction.version();
        let proof =
            SurfaceProof::new(&me.delegation, &me.surface, &introduction.hash(), &me.bundle.kn);
        let introduce = Introduce {
            bundle: Blob(me.bundle.encode()),
            log_head: None,
            grants: None,
            beacon: None,
            surface: Some(proof),
            instance: me.instance,
            limits: None,
            build: me.build.clone(),
        };
        let (third, keys) = introduction.write(&introduce)?;
        out.clear();
        append_message(&mut out, &third);
        write(&mut send, &out).await?;
        write_end(&mut send).await?;

        let mut verdict = Reader::new(recv, keys.verdict(&hash).back);
        let frame = verdict.next().await.map_err(|error| match error {
            ReadError::Reset(reset) => LinkError::Reset(reset),
            other => LinkError::Verdict(other),
        })?;
        let accept = read_verdict(&frame.payload, frame.last, peer)?;
        if keys.link_id() == [0; 16] {
            return Err(HandshakeError::Unauthentic.into());
        }
        Ok(Self {
            keys,
            peer: peer.clone(),
            clock,
            version,
            accept,
            next_sid: AtomicU64::new(2),
            carried: AtomicU64::new(0),
            heard: Mutex::new(boottime()),
        })
    }

    /// Wraps a new stream: the writer begins with the stream's header, and both halves have its
    /// keys. Each call uses up a stream number.
    pub fn stream<W, R>(&self, class: Class, send: W, recv: R) -> (Writer<W>, Reader<R>)
    where
        W: AsyncWrite + Unpin,
        R: AsyncRead + Unpin,
    {
        let header = Header {
            class,
            target: self.peer.id.target(),
            link: self.keys.link_id(),
            epoch: 0,
            sid: self.next_sid.fetch_add(2, Ordering::Relaxed),
            not_after: self.clock.deadline_ms(),
            rest: 0,
        }
        .encode();
        let keys = self.keys.stream(Opener::Bridge, &header::hash(&header, &[]));
        (Writer::new(send, keys.forth, &header), Reader::new(recv, keys.back))
    }

    /// The agent's acceptance.
    pub fn accept(&self) -> &Accept {
        &self.accept
    }

    /// The handshake version that was negotiated.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// The agent.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Records an authenticated frame of this many bytes, which keeps the link alive.
    pub fn note_activity(&self, bytes: usize) {
        self.carried(bytes);
        *self.heard.lock().expect("nothing panics while it is held") = boottime();
    }

    /// How long ago something authentic came.
    pub fn silent_for(&self) -> Duration {
        let heard = *self.heard.lock().expect("nothing panics while it is held");
        boottime().saturating_sub(heard)
    }

    /// Counts bytes that were sealed.
    pub fn carried(&self, bytes: usize) {
        self.carried.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Whether new streams should go to a new link: this one is too old, has carried too much, was
    /// silent for too long, or the wall clock was stepped.
    pub fn is_stale(&self) -> bool {
        self.clock.elapsed() > RENEW_AFTER
            || self.carried.load(Ordering::Relaxed) > RENEW_BYTES
            || self.silent_for() > SILENCE
            || self.clock.wall_stepped()
    }
}

fn read_verdict(payload: &[u8], last: bool, peer: &Peer) -> Result<Accept, LinkError> {
    let malformed = || LinkError::Handshake(HandshakeError::Malformed("verdict"));
    if !last {
        return Err(malformed());
    }
    let verdict: Verdict = conversation::read(payload).map_err(|_| malformed())?;
    let accept = match verdict {
        Verdict::Accept(accept) => accept,
        Verdict::Reject(failure) => return Err(LinkError::Rejected(failure)),
    };
    let bundle = SignedBundle::decode_kind(&accept.bundle, IdKind::Agent);
    let bundle = bundle.map_err(HandshakeError::Bundle)?;
    if bundle.id != peer.id || bundle.kn != peer.kn {
        return Err(HandshakeError::KeyMismatch.into());
    }
    Ok(accept)
}

/// Appends a message with its u16 length.
pub(crate) fn append_message(out: &mut Vec<u8>, message: &[u8]) {
    let length = u16::try_from(message.len()).expect("a handshake message is below 64 KiB");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(message);
}

/// Reads a message with its u16 length, which is checked first.
pub(crate) async fn read(
    recv: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> Result<Vec<u8>, LinkError> {
    let length = usize::from(recv.read_u16().await.map_err(carrier_error)?);
    if length > limit.min(LONG_LIMIT) {
        return Err(HandshakeError::Malformed("handshake message").into());
    }
    let mut message = vec![0; length];
    recv.read_exact(&mut message).await.map_err(carrier_error)?;
    Ok(message)
}

pub(crate) async fn write(
    send: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
) -> Result<(), LinkError> {
    send.write_all(bytes).await.map_err(carrier_error)
}

async fn write_end(send: &mut (impl AsyncWrite + Unpin)) -> Result<(), LinkError> {
    send.shutdown().await.map_err(carrier_error)
}

fn carrier_error(error: io::Error) -> LinkError {
    reset_of(&error).map_or(LinkError::Cut(error), LinkError::Reset)
}
