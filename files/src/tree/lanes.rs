//! Who waits for whom, so that what was checked is still so when it is done. It holds for what is changed
//! through us: somebody else on the server may do anything in between.
//!
//! A change takes the lanes of its names first, then says whether directories may move meanwhile, and keeps that
//! for the one call that it is about. Nobody who has the second waits for the first.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use farwire_protocol::failure::Failure;
use rustix::io::Errno;

use super::{Place, Tree};
use crate::fault::fault;
use crate::path::is_ours;

/// Changes to names that fall into one of these wait for each other.
const LANES: usize = 64;

/// Shared by all trees of a root.
#[derive(Debug)]
pub(super) struct Order {
    lanes: [Mutex<()>; LANES],
    /// Written to while a directory gets another place, read while something gets a name in one.
    moving: RwLock<()>,
}

impl Order {
    pub(super) fn new() -> Self {
        Self { lanes: [const { Mutex::new(()) }; LANES], moving: RwLock::new(()) }
    }

    fn lane(&self, lane: usize) -> MutexGuard<'_, ()> {
        self.lanes[lane].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to change two names.
pub(super) type Lanes<'a> = (MutexGuard<'a, ()>, Option<MutexGuard<'a, ()>>);

impl Tree {
    /// The right to change one name.
    pub(super) fn lane(&self, place: &Place) -> MutexGuard<'_, ()> {
        self.order.lane(which(place))
    }

    /// The right to change two names. All take them in the same order.
    pub(super) fn lanes(&self, one: &Place, other: &Place) -> Lanes<'_> {
        let (one, other) = (which(one), which(other));
        let first = self.order.lane(one.min(other));
        (first, (one != other).then(|| self.order.lane(one.max(other))))
    }

    /// No directory moves while this is held. Refuses a place that has moved since it was found to where
    /// nothing may be changed.
    pub(super) fn settled(&self, places: &[&Place]) -> Result<RwLockReadGuard<'_, ()>, Failure> {
        let guard = self.nothing_moves();
        places.iter().try_for_each(|place| self.still(place))?;
        Ok(guard)
    }

    /// No directory moves while this is held.
    pub(super) fn nothing_moves(&self) -> RwLockReadGuard<'_, ()> {
        self.order.moving.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same for who moves a directory: while this is held, nobody puts anything into one.
    pub(super) fn moving(&self, places: &[&Place]) -> Result<RwLockWriteGuard<'_, ()>, Failure> {
        let guard = self.order.moving.write().unwrap_or_else(PoisonError::into_inner);
        places.iter().try_for_each(|place| self.still(place))?;
        Ok(guard)
    }

    fn still(&self, place: &Place) -> Result<(), Failure> {
        let gone = || Err(fault(&place.path, Errno::NOENT));
        // Without `/proc` nobody knows, which matters only to rules that name something.
        if let Ok(real) = self.location(&place.dir)
            && real.is_none_or(|real| real.names().any(is_ours))
        {
            return gone();
        }
        if self.rules.hidden.fit(&self.real_of(place)?) {
            return gone();
        }
        self.may_be_changed(place)
    }
}

fn which(place: &Place) -> usize {
    let mut hasher = DefaultHasher::new();
    let inode = rustix::fs::fstat(&place.dir).map(|stat| stat.st_ino).unwrap_or_default();
    (inode, &place.name).hash(&mut hasher);
    usize::try_from(hasher.finish() % LANES as u64).unwrap_or(0)
}
