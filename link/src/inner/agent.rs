//! The agent's end of links: answering handshakes, and admitting each stream once.
//!
//! The order is what makes it safe. A handshake has no effect before message 3. A stream is known by
//! its first frame: when that authenticates, the stream's number is claimed in one step, and only
//! then is anything in it looked at. What does not authenticate costs the link nothing.

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

use crate::inner::bridge::{LinkError, put, read, write};
use crate::inner::clock::{LinkClock, boottime};
use crate::inner::sealed::{OpenError, Reader, Writer};
use crate::outer::opening::Opening;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// How long a stream may take to authenticate.
const FIRST_FRAME: Duration = Duration::from_secs(5);

/// A link takes no new streams after this time.
const OPENS_END: Duration = Duration::from_secs(2 * 3600);

/// A link dies so long after its last authenticated frame.
const SILENCE: Duration = Duration::from_secs(600);

/// The agent as handshakes need it: read anew for each, because enrollment changes it.
pub struct Me {
    /// The Noise static secret.
    pub kn: Zeroizing<[u8; 32]>,
    /// Its own identity, Noise key and trust domain.
    pub peer: Peer,
}

impl std::fmt::Debug for Me {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Me").field(&self.peer.id).finish()
    }
}

/// Why a handshake or a stream came to nothing. The reset is all that the other side learns.
#[derive(Debug, thiserror::Error)]
pub enum Turned {
    /// The handshake did not hold.
    #[error(transparent)]
    Handshake(#[from] LinkError),
    /// It took too long.
    #[error("it took too long")]
    Slow,
    /// The device authenticated, and was told why it stays out.
    #[error("rejected: {0}")]
    Rejected(Failure),
    /// The stream does not begin as it must.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The stream's number is not acceptable.
    #[error(transparent)]
    Sid(#[from] Refused),
    /// The stream's time is up, or the link takes no more.
    #[error("it came too late")]
    Late,
}

impl Turned {
    /// What to reset the stream with.
    pub fn reset(&self) -> Reset {
        match self {
            Self::Sid(_) | Self::Late | Self::Slow => Reset::Stale,
            Self::Rejected(_) => Reset::Closing,
            Self::Open(OpenError::Read(_)) => Reset::Integrity,
            Self::Handshake(_) | Self::Open(_) => Reset::Malformed,
        }
    }
}

/// One handshake's worth of keys with one device.
#[derive(Debug)]
pub struct Link {
    keys: LinkKeys,
    clock: LinkClock,
    sids: Mutex<Sids>,
    heard: Mutex<Duration>,
    /// Whether it was ended.
    ended: watch::Sender<bool>,
}

fn hash(opening: &Opening) -> [u8; 32] {
    header::hash(&opening.raw, &opening.rest)
}

impl Link {
    /// Answers a handshake. `admit` decides, and is asked only once the device has proven itself.
    pub async fn answer<T>(
        me: &Me,
        opening: &Opening,
        mut send: impl AsyncWrite + Unpin,
        mut recv: impl AsyncRead + Unpin,
        admit: impl FnOnce(&Claim) -> Result<(Accept, T), Failure>,
    ) -> Result<(Self, T), Turned> {
        let shaken = timeout(HANDSHAKE, shake(me, opening, &mut send, &mut recv)).await;
        let (claim, keys, clock) = shaken.map_err(|_| Turned::Slow)??;
        let (verdict, admitted) = match admit(&claim) {
            Ok((accept, admitted)) => (Verdict::Accept(accept), Ok(admitted)),
            Err(failure) => (Verdict::Reject(failure.clone()), Err(failure)),
        };
        let mut writer = Writer::new(send, keys.verdict(&hash(opening)).back, &[]);
        writer.end(&conversation::message(&verdict));
        let sent = timeout(HANDSHAKE, writer.finish()).await.map_err(|_| Turned::Slow)?;
        sent.map_err(|error| Turned::Handshake(LinkError::Cut(error)))?;
        let (sids, heard) = (Mutex::default(), Mutex::new(boottime()));
        let link = Self { keys, clock, sids, heard, ended: watch::Sender::default() };
        admitted.map(|admitted| (link, admitted)).map_err(Turned::Rejected)
    }

    /// Admits one stream of this link: authenticates its first frame, claims its number, and checks
    /// its time when the whole request is there.
    pub async fn admit<W, R>(
        &self,
        opening: &Opening,
        send: W,
        recv: R,
    ) -> Result<(Open, Writer<W>, Reader<R>), (Turned, W, R)>
    where
        W: AsyncWrite + Unpin,
        R: AsyncRead + Unpin,
    {
        let keys = self.keys.stream(Opener::Bridge, &hash(opening));
        let mut reader = Reader::new(recv, keys.forth);
        match self.first(&opening.header, &mut reader).await {
            Ok(open) => Ok((open, Writer::new(send, keys.back, &[]), reader)),
            Err(turned) => Err((turned, send, reader.into_io())),
        }
    }

    async fn first<R>(&self, header: &Header, reader: &mut Reader<R>) -> Result<Open, Turned>
    where
        R: AsyncRead + Unpin,
    {
        if header.epoch != 0 || self.is_over() || self.clock.elapsed() > OPENS_END {
            return Err(Turned::Late);
        }
        timeout(FIRST_FRAME, reader.authenticate())
            .await
            .map_err(|_| Turned::Slow)?
            .map_err(OpenError::Read)?;
        // Nothing in the frame has been looked at, and nothing was sent under the stream's keys.
        self.sids.lock().expect("nothing panics while it is held").claim(header.sid)?;
        self.heard();
        let open = timeout(FIRST_FRAME, reader.open_message()).await;
        let open = open.map_err(|_| Turned::Slow)??;
        if self.clock.admits(header.not_after) { Ok(open) } else { Err(Turned::Late) }
    }

    /// Its id.
    pub fn id(&self) -> [u8; 16] {
        self.keys.link_id()
    }

    /// An authenticated frame has come: the link lives.
    pub fn heard(&self) {
        *self.heard.lock().expect("nothing panics while it is held") = boottime();
    }

    /// How long nothing authentic has been heard.
    pub fn silence(&self) -> Duration {
        boottime().saturating_sub(*self.heard.lock().expect("nothing panics while it is held"))
    }

    /// Ends the link, and with it every stream on it.
    pub fn end(&self) {
        self.ended.send_replace(true);
    }

    /// Waits until the link was ended by [`Link::end`].
    pub async fn ended(&self) {
        // The sender lives as long as the link that is waited for.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    /// Whether the link takes nothing any more: it was ended, is too old, was silent for too long, or the
    /// wall clock was stepped.
    pub fn is_over(&self) -> bool {
        *self.ended.borrow()
            || self.silence() > SILENCE
            || self.clock.elapsed() > OPENS_END + OPENS_END / 2
            || self.clock.wall_stepped()
    }
}

async fn shake(
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
    put(&mut out, &second);
    write(send, &out).await?;
    let third = read(recv, LONG_LIMIT).await?;
    let (claim, keys) = listening.read(&third)?;
    if keys.link_id() == [0; 16] {
        return Err(HandshakeError::Unauthentic.into());
    }
    Ok((claim, keys, clock))
}
