//! The links of this agent process: which ones there are, whose they are, and how many there may
//! be.
//!
//! A link that is removed from here has ended: every stream on it is cut, however long it has been
//! open.

pub(crate) mod half_open;
pub(crate) mod shares;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use farwire_link::inner::agent::Link;
use farwire_protocol::bundle::SignedBundle;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::header::Class;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::gate::Asker;
use crate::gate::principal::Principal;
use crate::gate::rights::Rights;
use crate::links::shares::{Share, Shares};
use crate::rates::{Bucket, OPENS};

/// A device has as many links as processes, and each of its concurrent runs may be one of these.
/// Beyond that one of its own links goes: one without streams if there is one, and of those the one
/// that has been silent for longest.
const PER_DEVICE: usize = 64;

/// All links.
#[derive(Debug, Default)]
pub(crate) struct Links {
    inner: Mutex<HashMap<[u8; 16], Held>>,
    came: Notify,
    shares: Shares,
}

#[derive(Debug)]
struct Held {
    link: Arc<Link>,
    who: Arc<Principal>,
    /// What they may do, as watched by the askers on its streams.
    rights: watch::Sender<Rights>,
    /// The bundle that the device presented in the handshake.
    bundle: SignedBundle,
    opens: Bucket,
    /// Each stream on it has one of these.
    streams: Arc<()>,
}

/// What a stream holds while it is open.
#[derive(Debug)]
pub(crate) struct Entered {
    _share: Share,
    _stream: Arc<()>,
}

#[cfg(test)]
impl Entered {
    /// The only stream of a device, for tests.
    pub(crate) fn of(device: farwire_protocol::id::Id) -> Self {
        let share = Shares::default().take(device, Class::Interactive).expect("it is the first");
        Self { _share: share, _stream: Arc::default() }
    }
}

/// A link, and who makes requests over it.
#[derive(Debug)]
pub(crate) struct Linked {
    pub(crate) link: Arc<Link>,
    pub(crate) asker: Asker,
}

impl Links {
    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 16], Held>> {
        self.inner.lock().expect("nothing panics while it is held")
    }

    /// Adds a new link of the device with this bundle. Returns `false` if its id is taken: then it
    /// must not be used.
    pub(crate) fn insert(
        &self,
        link: Arc<Link>,
        who: Arc<Principal>,
        bundle: SignedBundle,
    ) -> bool {
        self.end_over();
        let mut all = self.lock();
        if all.contains_key(&link.id()) {
            return false;
        }
        let own = all.iter().filter(|(_, held)| held.who.device == who.device);
        if own.clone().count() >= PER_DEVICE {
            let goes = own.max_by_key(|(_, held)| {
                (Arc::strong_count(&held.streams) == 1, held.link.silence())
            });
            let goes = goes.map(|(id, _)| *id);
            if let Some(held) = goes.and_then(|id| all.remove(&id)) {
                held.link.end();
            }
        }
        let (opens, rights) = (Bucket::new(OPENS, Instant::now()), watch::Sender::default());
        all.insert(link.id(), Held { link, who, rights, bundle, opens, streams: Arc::default() });
        drop(all);
        self.came.notify_one();
        true
    }

    /// The link with this id, and who makes requests over it.
    pub(crate) fn find(&self, id: &[u8; 16]) -> Option<Linked> {
        let all = self.lock();
        let held = all.get(id).filter(|held| !held.link.is_over())?;
        let asker = Asker::new(held.who.clone(), held.rights.subscribe());
        Some(Linked { link: held.link.clone(), asker })
    }

    /// Admits one more stream on this link, unless it or its device has too many.
    pub(crate) fn enter(&self, link: &Link, class: Class) -> Result<Entered, Failure> {
        let mut all = self.lock();
        let gone = || Failure::new(Kind::LinkLost, "the link was ended");
        let held = all.get_mut(&link.id()).ok_or_else(gone)?;
        if !held.opens.take(Instant::now()) {
            let text = "this program opens streams too fast";
            return Err(Failure::new(Kind::Overloaded, text));
        }
        let share = self.shares.take(held.who.device, class)?;
        Ok(Entered { _share: share, _stream: held.streams.clone() })
    }

    /// Ends a link that its bridge has closed. Removal from the map must end a link and all that is
    /// open on it, or nobody would look after those streams any more.
    pub(crate) fn close(&self, link: &Link) {
        if let Some(held) = self.lock().remove(&link.id()) {
            held.link.end();
        }
    }

    /// Ends the links that are over by themselves.
    pub(crate) fn end_over(&self) {
        self.lock().retain(|_, held| {
            let over = held.link.is_over();
            if over {
                held.link.end();
            }
            !over
        });
    }

    /// Takes all rights from the devices for whose bundles `of` returns true, and ends their links:
    /// requests on them fail with `why`.
    pub(crate) fn lock_out(&self, of: impl Fn(&SignedBundle) -> bool, why: &Failure) {
        self.lock().retain(|_, held| {
            let goes = of(&held.bundle);
            if goes {
                held.rights.send_replace(Rights::Nothing(why.clone()));
                held.link.end();
            }
            !goes
        });
    }

    /// The bundles of the connected devices, each once.
    pub(crate) fn bundles(&self) -> Vec<SignedBundle> {
        let mut found: Vec<SignedBundle> = Vec::new();
        for held in self.lock().values() {
            if !found.contains(&held.bundle) {
                found.push(held.bundle.clone());
            }
        }
        found
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Waits until a link has come.
    pub(crate) async fn came(&self) {
        self.came.notified().await;
    }
}
