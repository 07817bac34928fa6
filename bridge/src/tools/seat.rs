//! The state of one client of a process: its surface, its tools, and what was shown to it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::surface::Surface;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::offer::Offer;
use super::pty::notes::Notes;
use crate::client::Client;
use crate::process::Process;
use crate::sessions::danger::{Danger, Patterns};
use crate::sessions::leases::Leases;
use crate::sessions::pipes::Pipes;

/// How long to spend releasing leases at the end: half of the available time. A server that cannot
/// be told finds out when the leases expire.
const GOODBYE: Duration = Duration::from_millis(150);

/// The settings of a client, fixed when it connects.
#[derive(Debug)]
pub struct Settings {
    /// The longest that a call waits.
    pub max_wait: Duration,
    /// Which tools there are.
    pub offer: Offer,
    /// Whether the tools of category `pty` need an owner.
    pub owner_required: bool,
    /// Which commands are dangerous.
    pub dangerous: Patterns,
}

/// One client's place in a process.
#[derive(Debug)]
pub struct Seat {
    /// The process.
    pub process: Arc<Process>,
    surface: Surface,
    client: OnceCell<Arc<Client>>,
    /// The settings, fixed when the client connected.
    pub settings: Settings,
    /// Commands that need confirmation.
    pub danger: Danger,
    /// The leases that the client holds.
    pub leases: Leases,
    /// Programs with separate streams.
    pub pipes: Pipes,
    /// What the tools of category `pty` remember.
    pub notes: Notes,
    /// How far each run has been shown.
    cursors: Mutex<HashMap<Nonce, u64>>,
}

impl Seat {
    /// A seat for a client that acts through this surface. Nothing is opened yet.
    ///
    /// # Errors
    ///
    /// `invalid_argument` for an invalid pattern.
    pub fn new(
        process: Arc<Process>,
        surface: Surface,
        settings: Settings,
    ) -> Result<Self, Failure> {
        Ok(Self {
            process,
            surface,
            client: OnceCell::new(),
            danger: Danger::new(&settings.dangerous)?,
            settings,
            leases: Leases::default(),
            pipes: Pipes::default(),
            notes: Notes::default(),
            cursors: Mutex::default(),
        })
    }

    /// The client, opened when it is first needed.
    pub async fn client(&self) -> Result<&Client, Failure> {
        self.shared_client().await.map(AsRef::as_ref)
    }

    /// The client, for work that outlasts the call.
    pub async fn shared_client(&self) -> Result<&Arc<Client>, Failure> {
        let open = async || self.process.client(&self.surface).await.map(Arc::new);
        self.client.get_or_try_init(open).await
    }

    /// How long to wait, at most what was asked for, and whether that is less.
    pub fn wait(&self, asked: Option<f64>) -> Result<(Duration, bool), Failure> {
        let asked = asked.unwrap_or(25.0);
        let asked = Duration::try_from_secs_f64(asked).map_err(|_| {
            Failure::new(Kind::InvalidArgument, "wait is not a number of seconds that is 0 or more")
                .with_hint("use 0 not to wait, or leave wait out")
        })?;
        Ok((asked.min(self.settings.max_wait), asked > self.settings.max_wait))
    }

    fn cursors(&self) -> MutexGuard<'_, HashMap<Nonce, u64>> {
        self.cursors.lock().expect("nothing panics while it is held")
    }

    /// How far a run has been shown.
    pub fn cursor(&self, job: Nonce) -> u64 {
        self.cursors().get(&job).copied().unwrap_or(0)
    }

    /// Records how far a run has been shown.
    pub fn set_cursor(&self, job: Nonce, until: u64) {
        self.cursors().insert(job, until);
    }

    /// Releases the leases.
    pub async fn close(&self) {
        if let Some(client) = self.client.get() {
            let _ = timeout(GOODBYE, self.leases.release(client)).await;
        }
    }
}
