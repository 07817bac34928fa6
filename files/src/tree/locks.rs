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
const LOCKS: usize = 64;

/// Shared by all trees of a root.
#[derive(Debug)]
pub(super) struct NameLocks {
    names: [Mutex<()>; LOCKS],
    /// Written to while a directory gets another place, read while something gets a name in one.
    moving: RwLock<()>,
}

impl NameLocks {
    pub(super) fn new() -> Self {
        Self { names: [const { Mutex::new(()) }; LOCKS], moving: RwLock::new(()) }
    }

    fn lock(&self, number: usize) -> MutexGuard<'_, ()> {
        self.names[number].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to change two names.
pub(super) type NameGuards<'a> = (MutexGuard<'a, ()>, Option<MutexGuard<'a, ()>>);

impl Tree {
    /// The right to change one name.
    pub(super) fn lock_name(&self, place: &Place) -> MutexGuard<'_, ()> {
        self.locks.lock(lock_number(place))
    }

    /// The right to change two names. All take them in the same order.
    pub(super) fn lock_names(&self, one: &Place, other: &Place) -> NameGuards<'_> {
        let (one, other) = (lock_number(one), lock_number(other));
        let first = self.locks.lock(one.min(other));
        (first, (one != other).then(|| self.locks.lock(one.max(other))))
    }

    /// No directory moves while this is held. Refuses a place that has moved since it was found to where
    /// nothing may be changed.
    pub(super) fn hold_in_place(
        &self,
        places: &[&Place],
    ) -> Result<RwLockReadGuard<'_, ()>, Failure> {
        let guard = self.forbid_moves();
        places.iter().try_for_each(|place| self.check_place(place))?;
        Ok(guard)
    }

    /// No directory moves while this is held.
    pub(super) fn forbid_moves(&self) -> RwLockReadGuard<'_, ()> {
        self.locks.moving.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same for who moves a directory: while this is held, nobody puts anything into one.
    pub(super) fn begin_move(
        &self,
        places: &[&Place],
    ) -> Result<RwLockWriteGuard<'_, ()>, Failure> {
        let guard = self.locks.moving.write().unwrap_or_else(PoisonError::into_inner);
        places.iter().try_for_each(|place| self.check_place(place))?;
        Ok(guard)
    }

    fn check_place(&self, place: &Place) -> Result<(), Failure> {
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
        self.check_unprotected(place)
    }
}

fn lock_number(place: &Place) -> usize {
    let mut hasher = DefaultHasher::new();
    let inode = rustix::fs::fstat(&place.dir).map(|stat| stat.st_ino).unwrap_or_default();
    (inode, &place.name).hash(&mut hasher);
    usize::try_from(hasher.finish() % LOCKS as u64).unwrap_or(0)
}
