//! The bridge on the network: connections to relays, links to servers, and streams on them.
//!
//! Nothing is dialled before it is needed. A connection or a link that broke is made anew by whoever
//! needs it next; several who need the same one wait for one attempt, and nobody waits for another's: see
//! `slots`. Every dial, handshake and question has a deadline.
//!
//! Mail that waits for us (agents that want to enroll) is looked after whenever a relay is reached, on a
//! task of its own: see `mail`.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use farwire_keystore::{Home, Ids, LinkMade, Pin, PinError, TicketState, Transport, Workspace};
use farwire_link::inner::bridge::{HANDSHAKE, Link, LinkError, Me};
use farwire_link::inner::sealed::{Reader, Writer};
use farwire_link::outer::congestion::Attended;
use farwire_link::outer::dial::{self, Connection, Identity};
use farwire_link::outer::{RecvHalf, SendHalf};
use farwire_protocol::address::Relay;
use farwire_protocol::bundle::SignedBundle;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::header::{Class, Reset};
use farwire_protocol::id::{Kind as IdKind, Kt, Nonce, Target};
use farwire_protocol::outer::{List, Record, Role, Verb, Welcome};
use farwire_protocol::surface::Surface;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::conversation::Trouble;
use crate::mail;
use crate::slots::{Begun, Slots};

/// How long the relay may take to tell more about a failure.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest that reaching a relay takes, by all of its addresses.
const DIAL: Duration = Duration::from_secs(15);

/// How long the relay may take to let us open a stream.
const OPEN: Duration = Duration::from_secs(10);

/// The longest that mail is looked after at once.
const MAIL: Duration = Duration::from_secs(60);

/// Mail is not looked after again within this time.
const MAIL_EVERY: Duration = Duration::from_secs(10);

/// How long the end of a command waits for mail that is being looked after.
const MAIL_PATIENCE: Duration = Duration::from_secs(5);

/// Records come in pages, of a dozen where each is as large as it may be; no workspace has more of them.
const MOST_PAGES: usize = 1_000;

/// So many servers a workspace may have, and so many are read.
const MOST_RECORDS: usize = 10_000;

/// Program and version, as others see it.
pub const BUILD: &str = concat!("farwire ", env!("CARGO_PKG_VERSION"));

/// Seconds since 1970.
pub fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// 16 random bytes.
pub fn random_nonce() -> Result<Nonce, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::new(Kind::ResourceExhausted, format!("no random numbers: {error}"))
    })?;
    Ok(Nonce(bytes))
}

/// A server by its local name.
#[derive(Clone, Debug)]
pub struct Server {
    /// What it is called here.
    pub name: String,
    /// What we know of it.
    pub pin: Pin,
}

/// One process's way to its servers. Clones share everything.
#[derive(Clone, Debug)]
pub struct Client {
    /// The files.
    pub home: Home,
    /// The workspace.
    pub workspace: Arc<Workspace>,
    /// Short ids of jobs.
    pub ids: Arc<Ids>,
    transport: Arc<Transport>,
    instance: Nonce,
    connections: Slots<Kt, Connection>,
    links: Slots<Target, Verdict>,
    /// When mail was looked after.
    mail: Slots<(), Instant>,
}

/// The agent's verdict about this device: a link, or why there is none.
type Verdict = Result<Arc<Link>, Failure>;

/// A stream on a link.
#[derive(Debug)]
pub struct Stream {
    /// Towards the agent.
    pub writer: Writer<SendHalf>,
    /// From the agent.
    pub reader: Reader<RecvHalf>,
    /// The link that it belongs to.
    pub link: Arc<Link>,
}

impl Client {
    /// Opens the files. No network, and no key but those of connections and of this surface.
    pub fn open(home: Home, surface: &Surface) -> Result<Self, Failure> {
        let none = || Failure::new(Kind::NotInitialized, "this installation has no identity yet");
        let transport = home.identity()?.ok_or_else(none)?.open_transport(Some(surface))?;
        let workspace = home.workspace()?.ok_or_else(none)?;
        Ok(Self {
            ids: Arc::new(home.ids()),
            home,
            workspace: Arc::new(workspace),
            transport: Arc::new(transport),
            instance: random_nonce()?,
            connections: Slots::default(),
            links: Slots::default(),
            mail: Slots::default(),
        })
    }

    /// The server that is called this.
    pub fn server(&self, query: &str) -> Result<Server, Failure> {
        let (name, pin) = self.home.pins().resolve(query)?;
        Ok(Server { name, pin })
    }

    /// The server that is called this; if there is none, mail may just have brought it.
    pub async fn find(&self, query: &str) -> Result<Server, Failure> {
        let unknown = match self.server(query) {
            Err(failure) if failure.kind == Kind::UnknownServer => failure,
            known => return known,
        };
        // The name is unknown whatever the relay says.
        let _ = self.look_after_mail(MAIL_PATIENCE).await;
        if let Ok(server) = self.server(query) {
            return Ok(server);
        }
        Err(self.pending(query).unwrap_or(unknown))
    }

    /// Why a server that was created here is not known here, if it was.
    fn pending(&self, name: &str) -> Option<Failure> {
        let tickets = self.home.tickets().list().ok()?.entries;
        let of_name = tickets.into_iter().map(|(_, ticket)| ticket);
        let ticket = of_name.filter(|ticket| ticket.name == name).max_by_key(|one| one.created)?;
        let pending = |what: &str| Failure::new(Kind::ServerPending, format!("`{name}` {what}"));
        match ticket.state {
            TicketState::Open if ticket.is_late(unix_time()) => {
                Some(pending("was created, and its token expired unused").with_hint(format!(
                    "`farwire server rm {name}`, then `farwire server create {name}`"
                )))
            }
            TicketState::Open => Some(pending("was created, and its agent has not enrolled yet")),
            TicketState::Late(_) => Some(
                pending("enrolled after its token's time, and waits for a decision")
                    .with_hint(format!("`farwire server accept {name}` shows its fingerprint")),
            ),
            TicketState::Alarmed { .. } => Some(
                Failure::new(
                    Kind::EnrollmentRejected,
                    format!("several agents used the token of `{name}`, and all were refused"),
                )
                .with_hint(format!(
                    "find out who has it; then `farwire server rm {name}`, and create it again"
                )),
            ),
            TicketState::Answered(_) => None,
        }
    }

    fn identity(&self) -> Identity {
        Identity {
            role: Role::Device,
            bundle: self.transport.bundle.clone(),
            kt: self.transport.kt.clone(),
            instance: self.instance,
            build: BUILD.to_owned(),
            found: None,
            enrollment: None,
            attended: Attended::default(),
        }
    }

    /// The connection to the workspace's relay. Mail that waits there is looked after meanwhile.
    pub async fn relay(&self) -> Result<Connection, Failure> {
        let connection = self.connection(&self.workspace.relay).await?;
        self.begin_mail(&connection);
        Ok(connection)
    }

    /// Looks after mail, waiting for it at most `patience`. Fails only if the relay cannot be reached.
    pub async fn look_after_mail(&self, patience: Duration) -> Result<(), Failure> {
        let looked = timeout(patience, async {
            let connection = self.connection(&self.workspace.relay).await?;
            self.begin_mail(&connection).wait().await
        });
        // What takes longer goes on.
        looked.await.map_or(Ok(()), |looked| looked.map(drop))
    }

    fn begin_mail(&self, connection: &Connection) -> Begun<Instant> {
        let fresh = |looked: &Instant| looked.elapsed() < MAIL_EVERY;
        self.mail.begin(&(), fresh, MAIL, || {
            let (client, connection) = (self.clone(), connection.clone());
            async move {
                if let Err(failure) = mail::collect(&client, &connection).await {
                    tracing::warn!(kind = %failure.kind, why = failure.message, "mail could not be looked after");
                }
                Ok(Instant::now())
            }
        })
    }

    async fn connection(&self, relay: &Relay) -> Result<Connection, Failure> {
        let usable = |open: &Connection| open.close_reason().is_none();
        let begun = self.connections.begin(&relay.key, usable, DIAL, || {
            let (relay, identity) = (relay.clone(), self.identity());
            async move { Ok(dial::dial(&relay, &identity).await?) }
        });
        begun.wait().await.map_err(|failure| match failure.kind {
            Kind::TimedOut => {
                let all = relay.addresses.join(", ");
                Failure::new(Kind::RelayUnreachable, format!("the relay at {all} does not answer"))
            }
            _ => failure,
        })
    }

    /// Asks the workspace's relay.
    pub async fn call<V: Verb>(&self, verb: &V) -> Result<V::Answer, Failure> {
        self.relay().await?.call(verb).await
    }

    /// What the workspace's relay says of itself.
    pub async fn welcome(&self) -> Result<Welcome, Failure> {
        self.relay().await?.welcome().await
    }

    /// What the workspace's relay has in its records.
    pub async fn records(&self) -> Result<Vec<Record>, Failure> {
        let mut all = Vec::new();
        let mut page = None;
        for _ in 0..MOST_PAGES {
            let answer = self.call(&List { page }).await?;
            all.extend(answer.servers);
            all.truncate(MOST_RECORDS);
            // A relay that does not go on has said all that it says.
            let next = answer.next.filter(|next| page.is_none_or(|page| *next > page));
            let next = next.filter(|_| all.len() < MOST_RECORDS);
            let Some(next) = next else { break };
            page = Some(next);
        }
        Ok(all)
    }

    /// Why the pinned agent cannot be reached: the relay has another one by this name. Only a person
    /// can say which of them is right.
    async fn replaced(&self, server: &Server) -> Option<Failure> {
        let records = timeout(PATIENCE, self.records()).await.ok()?.ok()?;
        let record = records.iter().find(|record| record.name == server.name)?;
        let other = record.agent.filter(|agent| *agent != server.pin.bundle.id)?;
        let message = format!(
            "the relay has another agent by this name, {}; pinned is {}",
            other.fingerprint(IdKind::Agent),
            server.pin.fingerprint()
        );
        Some(Failure::new(Kind::ServerKeyChanged, message))
    }

    /// Opens a stream to a server. The first frames are for the caller to seal.
    pub async fn stream(&self, server: &Server, class: Class) -> Result<Stream, Trouble> {
        let (connection, link) = self.link(server).await?;
        let (send, recv) = open(&connection).await.map_err(Trouble::no_way)?;
        let (writer, reader) = link.stream(class, send, recv);
        Ok(Stream { writer, reader, link })
    }

    /// The agent process that answers now. A request that starts something names it, so that another
    /// process never carries it out.
    pub async fn instance(&self, server: &Server) -> Result<Nonce, Failure> {
        Ok(self.link(server).await?.1.accept().instance)
    }

    /// The version of the handshake that made the link to a server, if there is a link now.
    pub fn link_version(&self, server: &Server) -> Option<u16> {
        let link = self.links.ready(&server.pin.bundle.id.target())?.ok()?;
        (!link.is_stale()).then(|| link.version())
    }

    /// The link to a server, and a connection that leads there.
    async fn link(&self, server: &Server) -> Result<(Connection, Arc<Link>), Trouble> {
        let connection = self.connection(&server.pin.relay).await.map_err(Trouble::no_way)?;
        let target = server.pin.bundle.id.target();
        let usable = |verdict: &Verdict| verdict.as_ref().is_ok_and(|link| !link.is_stale());
        // Each step of it has a deadline of its own, and says which one it was.
        let deadline = OPEN + HANDSHAKE + PATIENCE;
        let begun = self.links.begin(&target, usable, deadline, || {
            let (client, server, connection) = (self.clone(), server.clone(), connection.clone());
            async move { client.shake(&server, &connection).await }
        });
        let verdict = begun.wait().await.map_err(Trouble::no_way)?;
        Ok((connection, verdict.map_err(Trouble::rejected)?))
    }

    /// Fails when there is no verdict.
    async fn shake(&self, server: &Server, connection: &Connection) -> Result<Verdict, Failure> {
        let (send, recv) = open(connection).await?;
        let surface = self.transport.surface.as_ref();
        let surface =
            surface.ok_or_else(|| Failure::new(Kind::Internal, "no surface was opened"))?;
        let me = Me {
            kn: Zeroizing::new(*self.transport.kn.as_bytes()),
            bundle: self.transport.bundle.clone(),
            delegation: surface.delegation.clone(),
            surface: surface.key.clone(),
            instance: self.instance,
            build: BUILD.to_owned(),
        };
        let mut error = match Link::establish(&me, &server.pin.peer(), send, recv).await {
            Ok(link) => {
                self.keep_bundle(server, &link)?;
                self.note(server, link.version());
                return Ok(Ok(Arc::new(link)));
            }
            Err(LinkError::Rejected(failure)) => return Ok(Err(named(failure, &server.name))),
            Err(error) => Failure::from(error),
        };
        // A refused HELLO explains more than the streams that went with it.
        if let Some(refusal) = connection.refusal() {
            return Err(refusal);
        }
        let replaced = match error.kind {
            Kind::UnknownServer | Kind::ServerOffline => self.replaced(server).await,
            _ => None,
        };
        if error.kind == Kind::LinkLost && error.hint.is_none() {
            // Nothing is sent before there is a link: the kind's own hint speaks of what was started.
            let hint =
                format!("try again; `farwire doctor {}` looks at the way there", server.name);
            error.hint = Some(hint);
        }
        Err(named(replaced.unwrap_or(error), &server.name))
    }

    /// Keeps a newer bundle of the pinned agent, so that an older one is refused from now on. A link with an
    /// agent that shows an older one than is kept, or another one with the same number, is not used.
    fn keep_bundle(&self, server: &Server, link: &Link) -> Result<(), Failure> {
        let shown = &link.accept().bundle;
        if **shown == server.pin.bundle.encode() {
            return Ok(());
        }
        let bundle = SignedBundle::decode_kind(shown, IdKind::Agent).map_err(|error| {
            Failure::caused(Kind::HandshakeFailed, "the agent's bundle is not in order", &error)
        })?;
        let kept = self.home.lock().map_err(PinError::File);
        match kept.and_then(|guard| self.home.pins().renew(&guard, &server.name, &bundle)) {
            Ok(_) => Ok(()),
            Err(PinError::Refused(refused)) => {
                let message =
                    format!("`{}`: its agent shows another bundle than before", server.name);
                Err(Failure::caused(Kind::HandshakeFailed, message, &refused).with_hint(
                    "its state may have been restored from a backup: enroll the agent again",
                ))
            }
            // The pin may have been renamed or removed meanwhile, or the disk be full: the next link tries again.
            Err(error) => {
                tracing::debug!(%error, "a newer bundle could not be kept");
                Ok(())
            }
        }
    }

    /// Writes down that a link was made, where that is news. Not being able to is no reason to fail.
    fn note(&self, server: &Server, version: u16) {
        let made = LinkMade { agent: server.pin.bundle.id, version, at: unix_time() };
        if server.pin.is_news(&made) {
            let noted = self
                .home
                .lock()
                .and_then(|guard| Ok(self.home.pins().note_link(&guard, &server.name, &made)?));
            if let Err(failure) = noted {
                tracing::debug!(why = failure.message, "a link could not be noted");
            }
        }
    }

    /// Forgets a link, which the agent may not know any more: the next stream makes a new one.
    ///
    /// Whoever is on the way can bring that about. All that comes of it is one handshake more: streams that are
    /// open on the old link go on, and a link that another caller has made since stays.
    pub fn forget(&self, server: &Server, link: &Arc<Link>) {
        let target = server.pin.bundle.id.target();
        self.links
            .remove(&target, |known| known.as_ref().is_ok_and(|known| Arc::ptr_eq(known, link)));
    }

    /// Ends everything: waits a moment for mail that is being looked after, then says goodbye, so that
    /// relay and agents do not wait for us.
    pub async fn close(&self) {
        if let Some(looking) = self.mail.attempt(&()) {
            // Whoever connects next goes on with it.
            let _ = timeout(MAIL_PATIENCE, looking.wait()).await;
        }
        self.leave().await;
    }

    /// Says goodbye at once.
    pub async fn leave(&self) {
        self.mail.clear();
        self.links.clear();
        for connection in self.connections.clear() {
            connection.shut(Reset::Closing).await;
        }
    }
}

/// Opens a stream on a connection, which waits while the relay allows no more of them.
async fn open(connection: &Connection) -> Result<(SendHalf, RecvHalf), Failure> {
    match timeout(OPEN, connection.open()).await {
        Ok(Ok(halves)) => Ok(halves),
        Ok(Err(closed)) => Err(Failure::caused(
            Kind::RelayUnreachable,
            "the connection to the relay broke",
            &closed,
        )),
        Err(_) => {
            let message =
                format!("the relay allowed no further stream within {} s", OPEN.as_secs());
            Err(Failure::new(Kind::Overloaded, message))
        }
    }
}

/// The failure with the server's name in front.
pub(crate) fn named(failure: Failure, server: &str) -> Failure {
    let message = format!("`{server}`: {}", failure.message);
    let hint = failure.hint.or_else(|| {
        let hint = failure.kind.hint();
        hint.contains("NAME").then(|| hint.replace("NAME", server))
    });
    Failure { kind: failure.kind, message, hint }
}

/// How long to wait before the next attempt to reach a server again: twice as long each time, with
/// some chance in it, so that many who lost the same relay do not come back at once.
pub fn backoff(attempt: u32) -> Duration {
    let most = Duration::from_millis(100) * 2_u32.saturating_pow(attempt.min(6));
    let mut byte = [0];
    // Without random numbers everybody waits equally long, and nothing else is wrong.
    let _ = getrandom::fill(&mut byte);
    most.min(Duration::from_secs(5)).mul_f64(0.5 + f64::from(byte[0]) / 512.0)
}
