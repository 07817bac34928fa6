//! The agent's end of links: answers handshakes, and admits each stream once.
//!
//! The order of steps makes this safe. A handshake has no effect before message 3. Of a stream, the
//! first frame is authenticated, then the stream's number (sid) is claimed atomically in the replay
//! window, and only then is the content looked at. A stream that does not authenticate costs the
//! link nothing.

use std::sync::Mutex;
use std::time::Duration;

use farwire_protocol::conversation::{self, Open};
use farwire_protocol::failure::Failure;
use farwire_protocol::handshake::{
    Accept, Claim, HandshakeError, LONG_LIMIT, Peer, Responder, SHORT_LIMIT, Verdict,
};
use farwire_protocol::header::{self, Header, Reset};
use farwire_protocol::keys::{LinkKeys, Opener};
use farwire_protocol::sids::{Refused, Sids};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::inner::bridge::{LinkError, append_message, read, write};
use crate::inner::clock::{LinkClock, boottime};
use crate::inner::sealed::{OpenError, Reader, Writer};
use crate::outer::opening::Opening;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// How long a stream may take to authenticate.
const FIRST_FRAME: Duration = Duration::from_secs(5);

/// After this time a link admits no new streams.
const OPENS_END: Duration = Duration::from_secs(2 * 3600);

/// After this time without an authenticated frame a link is over.
const SILENCE: Duration = Duration::from_secs(600);

/// The agent's keys for a handshake. Reload them for each handshake: enrollment changes them.
pub struct Me {
    /// The Noise static secret.
    pub kn: Zeroizing<[u8; 32]>,
    /// The agent's identity, Noise key and trust domain.
    pub peer: Peer,
}

impl std::fmt::Debug for Me {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Me").field(&self.peer.id).finish()
    }
}

/// Why a handshake or a stream was rejected. The other side learns only the reset code.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] LinkError),
    /// The handshake or the first frame took too long.
    #[error("it took too long")]
    Slow,
    /// The device authenticated, and got a refusal with the reason.
    #[error("rejected: {0}")]
    Rejected(Failure),
    /// The stream does not begin with a valid OPEN.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The stream's number is not acceptable.
    #[error(transparent)]
    Sid(#[from] Refused),
    /// The stream's `not_after` has passed, or the link admits no more streams.
    #[error("it came too late")]
    Late,
}

impl Rejection {
    /// The code with which to reset the stream.
    pub fn reset(&self) -> Reset {
        match self {
            Self::Sid(_) | Self::Late | Self::Slow => Reset::Stale,
            Self::Rejected(_) => Reset::Closing,
            Self::Open(OpenError::Read(_)) => Reset::Integrity,
            Self::Handshake(_) | Self::Open(_) => Reset::Malformed,
        }
    }
}

/// A link with one device: the keys and state that one handshake established.
#[derive(Debug)]
pub struct Link {
    keys: LinkKeys,
    clock: LinkClock,
    sids: Mutex<Sids>,
    heard: Mutex<Duration>,
    /// Whether [`Link::end`] was called.
    ended: watch::Sender<bool>,
}

fn hash(opening: &Opening) -> [u8; 32] {
    header::hash(&opening.raw, &opening.rest)
}

impl Link {
    /// Answers a handshake. `admit` decides whether to accept, and is called only once the device
    /// has proven its keys.
    pub async fn answer<T>(
        me: &Me,
        opening: &Opening,
        mut send: impl AsyncWrite + Unpin,
        mut recv: impl AsyncRead + Unpin,
        admit: impl FnOnce(&Claim) -> Result<(Accept, T), Failure>,
    ) -> Result<(Self, T), Rejection> {
        let handshake = timeout(HANDSHAKE, shake_hands(me, opening, &mut send, &mut recv)).await;
        let (claim, keys, clock) = handshake.map_err(|_| Rejection::Slow)??;
        let (verdict, admitted) = match admit(&claim) {
            Ok((accept, admitted)) => (Verdict::Accept(accept), Ok(admitted)),
            Err(failure) => (Verdict::Reject(failure.clone()), Err(failure)),
        };
        let mut writer = Writer::new(send, keys.verdict(&hash(opening)).back, &[]);
        writer.end(&conversation::message(&verdict));
        let sent = timeout(HANDSHAKE, writer.finish()).await.map_err(|_| Rejection::Slow)?;
        sent.map_err(|error| Rejection::Handshake(LinkError::Cut(error)))?;
        let (sids, heard) = (Mutex::default(), Mutex::new(boottime()));
        let link = Self { keys, clock, sids, heard, ended: watch::Sender::default() };
        admitted.map(|admitted| (link, admitted)).map_err(Rejection::Rejected)
    }

    /// Admits one stream of this link: authenticates its first frame, claims its number, and checks
    /// its `not_after` once the whole request has arrived.
    pub async fn admit<W, R>(
        &self,
        opening: &Opening,
        send: W,
        recv: R,
    ) -> Result<(Open, Writer<W>, Reader<R>), (Rejection, W, R)>
    where
        W: AsyncWrite + Unpin,
        R: AsyncRead + Unpin,
    {
        let keys = self.keys.stream(Opener::Bridge, &hash(opening));
        let mut reader = Reader::new(recv, keys.forth);
        match self.first(&opening.header, &mut reader).await {
            Ok(open) => Ok((open, Writer::new(send, keys.back, &[]), reader)),
            Err(rejection) => Err((rejection, send, reader.into_io())),
        }
    }

    async fn first<R>(&self, header: &Header, reader: &mut Reader<R>) -> Result<Open, Rejection>
    where
        R: AsyncRead + Unpin,
    {
        if header.epoch != 0 || self.is_over() || self.clock.elapsed() > OPENS_END {
            return Err(Rejection::Late);
        }
        timeout(FIRST_FRAME, reader.authenticate())
            .await
            .map_err(|_| Rejection::Slow)?
            .map_err(OpenError::Read)?;
        // So far the frame's content has not been looked at, and nothing was sent under its keys.
        self.sids.lock().expect("nothing panics while it is held").claim(header.sid)?;
        self.note_activity();
        let open = timeout(FIRST_FRAME, reader.open_message()).await;
        let open = open.map_err(|_| Rejection::Slow)??;
        if self.clock.admits(header.not_after) { Ok(open) } else { Err(Rejection::Late) }
    }

    /// The link's id.
    pub fn id(&self) -> [u8; 16] {
        self.keys.link_id()
    }

    /// Records that an authenticated frame has arrived, which keeps the link alive.
    pub fn note_activity(&self) {
        *self.heard.lock().expect("nothing panics while it is held") = boottime();
    }

    /// The time since the last authenticated frame.
    pub fn silence(&self) -> Duration {
        boottime().saturating_sub(*self.heard.lock().expect("nothing panics while it is held"))
    }

    /// Ends the link, and with it every stream on it.
    pub fn end(&self) {
        self.ended.send_replace(true);
    }

    /// Waits until [`Link::end`] is called.
    pub async fn wait_for_end(&self) {
        // The sender lives as long as this link, so that waiting cannot fail.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    /// Whether the link is over: it was ended, is too old, was silent for too long, or the wall
    /// clock was stepped.
    pub fn is_over(&self) -> bool {
        *self.ended.borrow()
            || self.silence() > SILENCE
            || self.clock.elapsed() > OPENS_END + OPENS_END / 2
            || self.clock.wall_stepped()
    }
}

async fn shake_hands(
    me: &Me,
    opening: &Opening,
    send: &mut (impl AsyncWrite + Unpin),
    recv: &mut (impl AsyncRead + Unpin),
) -> Result<(Claim, LinkKeys, LinkClock), LinkError> {
    let first = read(recv, SHORT_LIMIT).await?;
    let responder = Responder::read(&me.kn, &me.peer, &opening.rest, &hash(opening), &first)?;
    let (second, listening) = responder.write()?;
    let clock = LinkClock::start();
    let mut out = Vec::with_capacity(second.len() + 2);
    append_message(&mut out, &second);
    write(send, &out).await?;
    let third = read(recv, LONG_LIMIT).await?;
    let (claim, keys) = listening.read(&third)?;
    if keys.link_id() == [0; 16] {
        return Err(HandshakeError::Unauthentic.into());
    }
    Ok((claim, keys, clock))
}
