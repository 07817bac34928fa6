//! A surface's client: links to servers, and streams on them.
//!
//! A link that broke is made anew by whoever needs it next; several who need the same one wait for
//! one attempt, and nobody waits for another's: see `slots`. Every handshake has a deadline. The
//! connections beneath belong to the process, and other surfaces share them: see `network`.

use std::sync::Arc;
use std::time::Duration;

use farwire_keystore::{Home, Ids, LinkMade, PinError, SurfaceKey, TicketState};
use farwire_link::inner::bridge::{HANDSHAKE, Link, LinkError, Me};
use farwire_link::inner::sealed::{Reader, Writer};
use farwire_link::outer::dial::Connection;
use farwire_link::outer::{RecvHalf, SendHalf};
use farwire_protocol::bundle::SignedBundle;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::header::Class;
use farwire_protocol::id::{Kind as IdKind, Nonce, Target};
use farwire_protocol::surface::Surface;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::build::BUILD;
use crate::fault::Trouble;
use crate::known_roots::KnownRoots;
use crate::machine::unix_time;
use crate::network::{MAIL_PATIENCE, Network, OPEN, open_stream};
pub use crate::server::Server;
use crate::server::with_server_name;
use crate::slots::Slots;
use crate::unsettled::Unsettled;

/// How long the relay may take to tell more about a failure.
const PATIENCE: Duration = Duration::from_secs(5);

/// A surface's way to its servers. Clones share everything.
#[derive(Clone, Debug)]
pub struct Client {
    /// The connections, which other surfaces of this process share.
    pub network: Network,
    /// The files.
    pub home: Home,
    /// Short ids of jobs.
    pub ids: Arc<Ids>,
    surface: Arc<SurfaceKey>,
    links: Slots<Target, LinkResult>,
    /// What agent processes have told of their roots.
    pub(crate) roots: Arc<KnownRoots>,
    /// Conversations about sessions whose outcome is not known.
    pub(crate) unsettled: Arc<Unsettled>,
}

/// The agent's verdict about this device: a link, or why there is none.
type LinkResult = Result<Arc<Link>, Failure>;

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
    ///
    /// # Errors
    ///
    /// As [`Network::open`] and [`Client::on`].
    pub fn open(home: Home, surface: &Surface) -> Result<Self, Failure> {
        Self::on(Network::open(home)?, surface)
    }

    /// A client that acts through this surface over these connections.
    ///
    /// # Errors
    ///
    /// Those of the files: the surface may have no key here.
    pub fn on(network: Network, surface: &Surface) -> Result<Self, Failure> {
        let home = network.home.clone();
        let none = || Failure::new(Kind::NotInitialized, "this installation has no identity yet");
        let surface = home.identity()?.ok_or_else(none)?.open_surface(surface)?;
        Ok(Self {
            ids: Arc::new(home.ids()),
            home,
            network,
            surface: Arc::new(surface),
            links: Slots::default(),
            roots: Arc::default(),
            unsettled: Arc::default(),
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
        let _ = self.network.look_after_mail(MAIL_PATIENCE).await;
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
                pending("enrolled after its token had expired, and is waiting for a decision")
                    .with_hint(format!("`farwire server accept {name}` shows its fingerprint")),
            ),
            TicketState::Alarmed { .. } => Some(
                Failure::new(
                    Kind::EnrollmentRejected,
                    format!("several agents used the token of `{name}`, and all were refused"),
                )
                .with_hint(format!(
                    "find out who has the token; then `farwire server rm {name}`, and create the server again"
                )),
            ),
            TicketState::Answered(_) => None,
        }
    }

    /// Why the pinned agent cannot be reached: the relay has another one by this name. Only a
    /// person can say which of them is right.
    async fn key_change(&self, server: &Server) -> Option<Failure> {
        let records = timeout(PATIENCE, self.network.records()).await.ok()?.ok()?;
        let record = records.iter().find(|record| record.name == server.name)?;
        let other = record.agent.filter(|agent| *agent != server.pin.bundle.id)?;
        let (name, listed) = (&server.name, other.fingerprint(IdKind::Agent));
        let message = format!(
            "the relay now lists another agent under this name: {listed}; the pinned one is {}",
            server.pin.fingerprint()
        );
        let hint = format!(
            "run `farwire-agent fingerprint` on {name}; only if it prints {listed}, `farwire server repin {name} --bundle FILE`"
        );
        Some(Failure::new(Kind::ServerKeyChanged, message).with_hint(hint))
    }

    /// Opens a stream to a server. The first frames are for the caller to seal.
    pub async fn stream(&self, server: &Server, class: Class) -> Result<Stream, Trouble> {
        let (connection, link) = self.link(server).await?;
        let (send, recv) = open_stream(&connection).await.map_err(Trouble::no_way)?;
        let (writer, reader) = link.stream(class, send, recv);
        Ok(Stream { writer, reader, link })
    }

    /// The agent process that answers now. A request that starts something names it, so that
    /// another process never carries it out.
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
        let connection =
            self.network.connection(&server.pin.relay).await.map_err(Trouble::no_way)?;
        let target = server.pin.bundle.id.target();
        let usable = |verdict: &LinkResult| verdict.as_ref().is_ok_and(|link| !link.is_stale());
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
    async fn shake(&self, server: &Server, connection: &Connection) -> Result<LinkResult, Failure> {
        let (send, recv) = open_stream(connection).await?;
        let (transport, surface) = (&self.network.transport, &self.surface);
        let me = Me {
            kn: Zeroizing::new(*transport.kn.as_bytes()),
            bundle: transport.bundle.clone(),
            delegation: surface.delegation.clone(),
            surface: surface.key.clone(),
            instance: self.network.instance,
            build: BUILD.to_owned(),
        };
        let mut error = match Link::establish(&me, &server.pin.peer(), send, recv).await {
            Ok(link) => {
                self.keep_bundle(server, &link)?;
                self.note(server, link.version());
                return Ok(Ok(Arc::new(link)));
            }
            Err(LinkError::Rejected(failure)) => {
                return Ok(Err(with_server_name(failure, &server.name)));
            }
            Err(error) => Failure::from(error),
        };
        // A refused HELLO explains more than the streams that went with it.
        if let Some(refusal) = connection.refusal() {
            return Err(refusal);
        }
        let replaced = match error.kind {
            Kind::UnknownServer | Kind::ServerOffline => self.key_change(server).await,
            _ => None,
        };
        if error.kind == Kind::LinkLost && error.hint.is_none() {
            // Nothing is sent before there is a link: the kind's own hint speaks of what was
            // started.
            let hint =
                format!("try again; `farwire doctor {}` checks the connection to it", server.name);
            error.hint = Some(hint);
        }
        Err(with_server_name(replaced.unwrap_or(error), &server.name))
    }

    /// Keeps a newer bundle of the pinned agent, so that an older one is refused from now on. A
    /// link with an agent that shows an older one than is kept, or another one with the same
    /// number, is not used.
    fn keep_bundle(&self, server: &Server, link: &Link) -> Result<(), Failure> {
        let shown = &link.accept().bundle;
        if **shown == server.pin.bundle.encode() {
            return Ok(());
        }
        let bundle = SignedBundle::decode_kind(shown, IdKind::Agent).map_err(|error| {
            Failure::caused(Kind::HandshakeFailed, "the agent's bundle is not valid", &error)
        })?;
        let kept = self.home.lock().map_err(PinError::File);
        match kept.and_then(|guard| self.home.pins().renew(&guard, &server.name, &bundle)) {
            Ok(_) => Ok(()),
            Err(PinError::Refused(refused)) => {
                let message =
                    format!("`{}`: its agent shows a different bundle than before", server.name);
                Err(Failure::caused(Kind::HandshakeFailed, message, &refused).with_hint(
                    "its state may have been restored from a backup: enroll the agent again",
                ))
            }
            // The pin may have been renamed or removed meanwhile, or the disk be full: the next
            // link tries again.
            Err(error) => {
                tracing::debug!(%error, "a newer bundle could not be kept");
                Ok(())
            }
        }
    }

    /// Writes down that a link was made, where that is news. Not being able to is no reason to
    /// fail.
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
    /// Whoever is on the way can bring that about. All that comes of it is one handshake more:
    /// streams that are open on the old link go on, and a link that another caller has made since
    /// stays.
    pub fn forget(&self, server: &Server, link: &Arc<Link>) {
        let target = server.pin.bundle.id.target();
        self.links
            .remove(&target, |known| known.as_ref().is_ok_and(|known| Arc::ptr_eq(known, link)));
    }

    /// Ends everything: waits a moment for mail that is being looked after, then says goodbye, so
    /// that relay and agents do not wait for us.
    pub async fn close(&self) {
        self.links.clear();
        self.network.close().await;
    }

    /// Forgets all links, and says goodbye to relays at once.
    pub async fn leave(&self) {
        self.links.clear();
        self.network.leave().await;
    }
}
