//! One process on the network: its connections to relays, and the mail that waits there.
//!
//! Nothing is dialled before it is needed. A connection that broke is made anew by whoever needs it
//! next; several who need the same one wait for one attempt, and nobody waits for another's: see
//! `slots`. Every dial and every question has a deadline.
//!
//! Mail that waits for us (agents that want to enroll) is looked after whenever a relay is reached,
//! on a task of its own: see `mail`. Links to servers belong to a surface: see `client`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use farwire_keystore::{Home, Transport, Workspace};
use farwire_link::outer::congestion::Attended;
use farwire_link::outer::dial::{self, Connection, Identity};
use farwire_link::outer::{RecvHalf, SendHalf};
use farwire_protocol::address::Relay;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::header::Reset;
use farwire_protocol::id::{Kt, Nonce};
use farwire_protocol::outer::{List, Record, Role, Verb, Welcome};
use tokio::time::timeout;

use crate::build::BUILD;
use crate::machine::random_nonce;
use crate::mail::{self, Inviter};
use crate::slots::{Begun, Slots};

/// The longest that reaching a relay takes, by all of its addresses.
const DIAL: Duration = Duration::from_secs(15);

/// How long the relay may take to let us open a stream.
pub(crate) const OPEN: Duration = Duration::from_secs(10);

/// The longest that mail is looked after at once.
const MAIL: Duration = Duration::from_secs(60);

/// Mail is not looked after again within this time.
const MAIL_EVERY: Duration = Duration::from_secs(10);

/// How long the end of a command waits for mail that is being looked after.
pub(crate) const MAIL_PATIENCE: Duration = Duration::from_secs(5);

/// Records come in pages, of a dozen where each is as large as it may be; no workspace has more of
/// them.
const MOST_PAGES: usize = 1_000;

/// So many servers a workspace may have, and so many are read.
const MOST_RECORDS: usize = 10_000;

/// The connections of one process, which all of its surfaces share. Clones share everything.
#[derive(Clone, Debug)]
pub struct Network {
    /// The files of this installation.
    pub home: Home,
    /// The workspace.
    pub workspace: Arc<Workspace>,
    pub(crate) transport: Arc<Transport>,
    /// Names this process to relays and agents.
    pub(crate) instance: Nonce,
    connections: Slots<Kt, Connection>,
    /// When mail was looked after.
    mail: Slots<(), Instant>,
}

impl Network {
    /// Opens the files. No network, and no key but those of connections.
    ///
    /// # Errors
    ///
    /// `not_initialized` without an identity or a workspace; those of the files.
    pub fn open(home: Home) -> Result<Self, Failure> {
        let none = || Failure::new(Kind::NotInitialized, "this installation has no identity yet");
        let transport = home.identity()?.ok_or_else(none)?.open_transport()?;
        let workspace = home.workspace()?.ok_or_else(none)?;
        Ok(Self {
            home,
            workspace: Arc::new(workspace),
            transport: Arc::new(transport),
            instance: random_nonce()?,
            connections: Slots::default(),
            mail: Slots::default(),
        })
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

    /// Looks after mail, waiting for it at most `patience`. Fails only if the relay cannot be
    /// reached.
    pub async fn look_after_mail(&self, patience: Duration) -> Result<(), Failure> {
        let looked = timeout(patience, async {
            let connection = self.connection(&self.workspace.relay).await?;
            self.begin_mail(&connection).wait().await
        });
        // What takes longer goes on.
        looked.await.map_or(Ok(()), |looked| looked.map(drop))
    }

    /// Who makes the tokens of this installation.
    pub fn inviter(&self) -> Inviter<'_> {
        Inviter { home: &self.home, workspace: &self.workspace }
    }

    fn begin_mail(&self, connection: &Connection) -> Begun<Instant> {
        let fresh = |looked: &Instant| looked.elapsed() < MAIL_EVERY;
        self.mail.begin(&(), fresh, MAIL, || {
            let (network, connection) = (self.clone(), connection.clone());
            async move {
                if let Err(failure) = mail::collect(network.inviter(), &connection).await {
                    tracing::warn!(kind = %failure.kind, why = failure.message, "mail could not be looked after");
                }
                Ok(Instant::now())
            }
        })
    }

    pub(crate) async fn connection(&self, relay: &Relay) -> Result<Connection, Failure> {
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

    /// Ends everything: waits a moment for mail that is being looked after, then says goodbye, so
    /// that relays do not wait for us.
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
        for connection in self.connections.clear() {
            connection.shut(Reset::Closing).await;
        }
    }
}

/// Opens a stream on a connection, which waits while the relay allows no more of them.
pub(crate) async fn open_stream(connection: &Connection) -> Result<(SendHalf, RecvHalf), Failure> {
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
