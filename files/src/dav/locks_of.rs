//! The locks as dav-server sees them, for one request.

use std::future::ready;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dav_server::davpath::DavPath;
use dav_server::ls::{DavLock, DavLockSystem, LsFuture};
use xmltree::Element;

use super::fs::{dav_path, rel};
use super::locks::{Lock, LockRequest, Locks, Touch};
use crate::path::Rel;

/// The locks that a request sees.
#[derive(Clone, Debug)]
pub(super) struct LocksOf {
    /// All locks of the root.
    pub locks: Arc<Locks>,
    /// Where the root of this stream is, relative to that of the locks.
    pub base: Rel,
    /// The prefix of all paths.
    pub prefix: Arc<str>,
    /// The tokens that the request has submitted, as we parsed them.
    pub tokens: Arc<[String]>,
    /// How long a lock is to last, as we parsed it.
    pub lasts: Option<Duration>,
}

impl LocksOf {
    /// The path as the locks have it.
    fn key(&self, path: &DavPath) -> Option<Rel> {
        rel(path).ok().map(|path| self.base.join(path.as_bytes()))
    }

    fn to_dav_lock(&self, lock: Lock) -> DavLock {
        // A lock above our root covers the root.
        let path = lock.path.beneath(&self.base).unwrap_or_default();
        let left = lock.time_left(self.locks.now());
        DavLock {
            token: lock.token,
            path: Box::new(dav_path(&self.prefix, &Rel::ROOT.join(path))),
            principal: None,
            owner: lock.owner,
            timeout_at: SystemTime::now().checked_add(left),
            timeout: Some(left),
            shared: lock.shared,
            deep: lock.deep,
        }
    }

    fn nobody(&self, path: &DavPath) -> DavLock {
        DavLock {
            token: String::new(),
            path: Box::new(path.clone()),
            principal: None,
            owner: None,
            timeout_at: None,
            timeout: None,
            shared: false,
            deep: false,
        }
    }
}

impl DavLockSystem for LocksOf {
    fn lock(
        &self,
        path: &DavPath,
        _principal: Option<&str>,
        owner: Option<&Element>,
        _timeout: Option<Duration>,
        shared: bool,
        deep: bool,
    ) -> LsFuture<'_, Result<DavLock, DavLock>> {
        let Some(key) = self.key(path) else {
            return Box::pin(ready(Err(self.nobody(path))));
        };
        let owner = owner.cloned().map(Box::new);
        let wanted = LockRequest { path: key, deep, shared, owner, lasts: self.lasts };
        let made = self.locks.lock(wanted);
        Box::pin(ready(
            made.map(|lock| self.to_dav_lock(lock)).map_err(|lock| self.to_dav_lock(*lock)),
        ))
    }

    fn unlock(&self, path: &DavPath, token: &str) -> LsFuture<'_, Result<(), ()>> {
        let done = self.key(path).is_some_and(|key| self.locks.unlock(&key, token));
        Box::pin(ready(done.then_some(()).ok_or(())))
    }

    fn refresh(
        &self,
        path: &DavPath,
        token: &str,
        _timeout: Option<Duration>,
    ) -> LsFuture<'_, Result<DavLock, ()>> {
        let lock = self.key(path).and_then(|key| self.locks.refresh(&key, token, self.lasts));
        Box::pin(ready(lock.map(|lock| self.to_dav_lock(lock)).ok_or(())))
    }

    fn check(
        &self,
        path: &DavPath,
        _principal: Option<&str>,
        _ignore_principal: bool,
        deep: bool,
        _submitted_tokens: &[String],
    ) -> LsFuture<'_, Result<(), DavLock>> {
        let touch = Touch { name: false, deep };
        let allowed = self
            .key(path)
            .is_some_and(|key| self.locks.hinder(&key, touch, &self.tokens).is_none());
        Box::pin(ready(if allowed { Ok(()) } else { Err(self.nobody(path)) }))
    }

    fn discover(&self, path: &DavPath) -> LsFuture<'_, Vec<DavLock>> {
        let locks = self.key(path).map(|key| self.locks.covering(&key)).unwrap_or_default();
        Box::pin(ready(locks.into_iter().map(|lock| self.to_dav_lock(lock)).collect()))
    }

    fn delete(&self, path: &DavPath) -> LsFuture<'_, Result<(), ()>> {
        if let Some(key) = self.key(path) {
            self.locks.forget(&key);
        }
        Box::pin(ready(Ok(())))
    }
}
