//! Locks that keep a condition true between its check and the change that depends on it. They cover
//! changes through us: another program on the server may change anything in between.
//!
//! A change locks its names first. Then it either forbids moves of directories or begins one, for
//! the duration of a single system call. Lock order: a thread that holds the second lock never
//! waits for the first.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use farwire_protocol::failure::Failure;
use rustix::io::Errno;

use super::place::Place;
use super::root::Tree;
use crate::fault::fault;
use crate::path::is_ours;

/// Names are hashed onto this many locks.
const LOCKS: usize = 64;

/// The locks of a root, shared by all its trees.
#[derive(Debug)]
pub(super) struct NameLocks {
    names: [Mutex<()>; LOCKS],
    /// Locked for writing while a directory moves, for reading while a name in a directory changes.
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

/// The locks of two names, which may be one lock.
pub(super) type NameGuards<'a> = (MutexGuard<'a, ()>, Option<MutexGuard<'a, ()>>);

impl Tree {
    /// Locks a name.
    pub(super) fn lock_name(&self, place: &Place) -> MutexGuard<'_, ()> {
        self.locks.lock(lock_number(place))
    }

    /// Locks two names. All threads lock in the same order.
    pub(super) fn lock_names(&self, one: &Place, other: &Place) -> NameGuards<'_> {
        let (one, other) = (lock_number(one), lock_number(other));
        let first = self.locks.lock(one.min(other));
        (first, (one != other).then(|| self.locks.lock(one.max(other))))
    }

    /// Keeps all directories from moving while the guard is held. Refuses a place that has moved to
    /// where nothing may be changed, and a change that nobody waits for any more.
    pub(super) fn hold_in_place(
        &self,
        places: &[&Place],
    ) -> Result<RwLockReadGuard<'_, ()>, Failure> {
        let guard = self.forbid_moves();
        self.listener.check()?;
        places.iter().try_for_each(|place| self.check_place(place))?;
        Ok(guard)
    }

    /// Keeps all directories from moving while the guard is held.
    pub(super) fn forbid_moves(&self) -> RwLockReadGuard<'_, ()> {
        self.locks.moving.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks out all other changes in directories, for moving a directory. Refuses what
    /// [`Self::hold_in_place`] refuses.
    pub(super) fn begin_move(
        &self,
        places: &[&Place],
    ) -> Result<RwLockWriteGuard<'_, ()>, Failure> {
        let guard = self.locks.moving.write().unwrap_or_else(PoisonError::into_inner);
        self.listener.check()?;
        places.iter().try_for_each(|place| self.check_place(place))?;
        Ok(guard)
    }

    fn check_place(&self, place: &Place) -> Result<(), Failure> {
        let gone = || Err(fault(&place.path, Errno::NOENT));
        // Without `/proc` the location is unknown. That matters only to rules that name paths.
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
