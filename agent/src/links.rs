//! The links of this agent process: which there are, whose they are, and how many may be.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use farwire_link::inner::agent::Link;
use tokio::time::Instant;

use crate::jobs::owner::Owner;
use crate::rates::{Bucket, OPENS};

/// A device has as many links as processes. Beyond this its own longest silent one goes.
const PER_DEVICE: usize = 16;

/// All links.
#[derive(Debug, Default)]
pub(crate) struct Links {
    inner: Mutex<HashMap<[u8; 16], Held>>,
}

#[derive(Debug)]
struct Held {
    link: Arc<Link>,
    owner: Arc<Owner>,
    opens: Bucket,
}

impl Links {
    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 16], Held>> {
        self.inner.lock().expect("nothing panics while it is held")
    }

    /// Keeps a new link. `false` when its id is taken: then it must not be used.
    pub(crate) fn insert(&self, link: Arc<Link>, owner: Arc<Owner>) -> bool {
        let mut all = self.lock();
        all.retain(|_, held| !held.link.is_over());
        if all.contains_key(&link.id()) {
            return false;
        }
        let own = all.iter().filter(|(_, held)| held.owner.device == owner.device);
        if own.clone().count() >= PER_DEVICE {
            let silent = own.max_by_key(|(_, held)| held.link.silence()).map(|(id, _)| *id);
            silent.and_then(|id| all.remove(&id));
        }
        all.insert(link.id(), Held { link, owner, opens: Bucket::new(OPENS, Instant::now()) });
        true
    }

    /// The link with this id.
    pub(crate) fn find(&self, id: &[u8; 16]) -> Option<(Arc<Link>, Arc<Owner>)> {
        let all = self.lock();
        let held = all.get(id).filter(|held| !held.link.is_over())?;
        Some((held.link.clone(), held.owner.clone()))
    }

    /// Whether one more stream may be served on this link now.
    pub(crate) fn may_open(&self, link: &Link) -> bool {
        let mut all = self.lock();
        all.get_mut(&link.id()).is_some_and(|held| held.opens.take(Instant::now()))
    }

    /// Forgets a link that its bridge has closed.
    pub(crate) fn close(&self, link: &Link) {
        self.lock().remove(&link.id());
    }

    /// Forgets the links of devices that are no longer let in.
    pub(crate) fn keep(&self, allowed: impl Fn(&Owner) -> bool) {
        self.lock().retain(|_, held| allowed(&held.owner));
    }
}
