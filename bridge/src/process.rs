//! What all clients of one process share: its files, its connections, and what it counts.

use std::sync::atomic::AtomicU64;
use std::time::Instant;

use farwire_keystore::Home;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::surface::Surface;
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use crate::client::Client;
use crate::network::Network;
use crate::text::mask::Masks;

/// One process that serves clients.
#[derive(Debug)]
pub struct Process {
    home: Home,
    network: OnceCell<Network>,
    /// When it began.
    pub since: Instant,
    /// How much was asked of it.
    pub counts: Counts,
    /// Secrets that were typed from here: no answer to any client shows them.
    pub masks: Masks,
}

/// How much was asked of one process.
#[derive(Debug, Default)]
pub struct Counts {
    /// Calls.
    pub calls: AtomicU64,
    /// Calls that failed.
    pub failures: AtomicU64,
}

impl Process {
    /// A process with these files. Nothing is opened yet.
    pub fn new(home: Home) -> Self {
        Self {
            home,
            network: OnceCell::new(),
            since: Instant::now(),
            counts: Counts::default(),
            masks: Masks::default(),
        }
    }

    /// A client that acts through this surface. Clients share the connections, which are opened
    /// when they are first needed.
    ///
    /// # Errors
    ///
    /// Those of the files.
    pub async fn client(&self, surface: &Surface) -> Result<Client, Failure> {
        let open = async || Network::open(self.home.clone());
        let network = self.network.get_or_try_init(open).await?;
        Client::on(network.clone(), surface)
    }

    /// A secret by its name, for one use. From now on no answer shows it.
    ///
    /// # Errors
    ///
    /// Those of the files; there may be none by this name.
    pub async fn secret(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let (phrases, name) = (self.home.phrases(), name.to_owned());
        let masks = self.masks.clone();
        let read = tokio::task::spawn_blocking(move || {
            let value = phrases.get(&name)?;
            masks.add(&name, &value);
            Ok(value)
        });
        read.await.map_err(|_| Failure::new(Kind::Internal, "the secret was not read"))?
    }

    /// Says goodbye to relays.
    pub async fn leave(&self) {
        if let Some(network) = self.network.get() {
            network.leave().await;
        }
    }
}
