//! Looks up users of this machine, for starting programs.
//!
//! A lookup may wait for a network, so it runs on its own thread. A result is believed for a
//! second: programs that are started one after the other need no other thread.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use farwire_protocol::failure::{Failure, Kind};
use tokio::time::timeout;

use crate::files::waits::Waits;
use crate::os::user::User;

/// How long a result is believed.
const FRESH: Duration = Duration::from_secs(1);

/// At most this many users are remembered, including that of the agent.
const REMEMBERED: usize = 64;

/// The longest wait for a lookup: the next request may have more luck.
const PATIENCE: Duration = Duration::from_secs(10);

type UserCache = Mutex<HashMap<Option<String>, (Instant, User)>>;

/// Looks users up, and remembers them for a moment.
#[derive(Debug)]
pub(crate) struct Users {
    /// The threads that look up the agent's own user, other users, and programs: a lookup that
    /// never ends delays no other kind.
    own: Waits,
    named: Waits,
    programs: Waits,
    /// By the requested name; the agent's own user has none.
    found: Arc<UserCache>,
    /// Which of them is being looked up: one thread is enough.
    sought: Mutex<HashMap<Option<String>, Arc<tokio::sync::Mutex<()>>>>,
}

impl Users {
    pub(crate) fn new() -> Self {
        Self {
            own: Waits::new(),
            named: Waits::new(),
            programs: Waits::new(),
            found: Arc::default(),
            sought: Mutex::default(),
        }
    }

    /// The user of this name, or the agent's own.
    ///
    /// # Errors
    ///
    /// `busy` if that takes longer than ten seconds.
    pub(crate) async fn find(&self, name: Option<&str>) -> Result<User, Failure> {
        if let Some(user) = self.fresh(name) {
            return Ok(user);
        }
        let waits = if name.is_some() { &self.named } else { &self.own };
        let (asked, found) = (name.map(str::to_owned), self.found.clone());
        patiently(async {
            let seeking = self.seeking(name).lock_owned().await;
            if let Some(user) = self.fresh(name) {
                return Ok(user);
            }
            // The next request finds the result even if nobody waits for it any more.
            let find = move || {
                let user = asked.as_deref().map_or_else(User::current, User::find)?;
                keep(&found, asked, user.clone());
                drop(seeking);
                Ok(user)
            };
            waits.run(find).await?
        })
        .await
    }

    /// Looks for a program.
    ///
    /// # Errors
    ///
    /// As [`Self::find`].
    pub(crate) async fn program(
        &self,
        look: impl FnOnce() -> Option<PathBuf> + Send + 'static,
    ) -> Result<Option<PathBuf>, Failure> {
        patiently(self.programs.run(look)).await
    }

    /// Looks up something about the machine and the agent's own user, which may have to wait like
    /// other lookups.
    pub(crate) async fn own<T: Send + 'static>(
        &self,
        learn: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        patiently(self.own.run(learn)).await
    }

    fn seeking(&self, name: Option<&str>) -> Arc<tokio::sync::Mutex<()>> {
        let mut sought = self.sought.lock().unwrap_or_else(PoisonError::into_inner);
        sought.retain(|_, seeking| Arc::strong_count(seeking) > 1);
        sought.entry(name.map(str::to_owned)).or_default().clone()
    }

    fn fresh(&self, name: Option<&str>) -> Option<User> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, user) = found.get(&name.map(str::to_owned))?;
        (at.elapsed() < FRESH).then(|| user.clone())
    }
}

fn keep(found: &UserCache, name: Option<String>, user: User) {
    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
    found.retain(|_, (at, _)| at.elapsed() < FRESH);
    if found.len() < REMEMBERED {
        found.insert(name, (Instant::now(), user));
    }
}

async fn patiently<T>(found: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    timeout(PATIENCE, found).await.unwrap_or_else(|_| {
        let text = "the server's user database or a file system does not answer";
        Err(Failure::new(Kind::Busy, text).with_hint("nothing was started; try again later"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_never_found_is_given_up_and_keeps_nobody_else() {
        let users = Users::new();
        let held = users.seeking(Some("slow")).lock_owned().await;
        let slow = users.find(Some("slow")).await.unwrap_err();
        assert_eq!(slow.kind, Kind::Busy);
        assert!(users.find(None).await.is_ok());
        drop(held);
        assert_eq!(users.find(Some("slow")).await.unwrap_err().kind, Kind::UserNotFound);
    }

    #[tokio::test]
    async fn a_user_is_known_for_a_moment() {
        let users = Users::new();
        let found = |at: Instant| {
            users.found.lock().unwrap().values_mut().for_each(|found| found.0 = at);
        };
        let user = users.find(None).await.unwrap();
        assert_eq!(user, User::current().unwrap());
        found(Instant::now());
        assert_eq!(users.fresh(None), Some(user));
        assert!(users.find(Some("no-such-user")).await.is_err());
        assert_eq!(users.fresh(Some("no-such-user")), None);
        found(Instant::now().checked_sub(FRESH).unwrap());
        assert_eq!(users.fresh(None), None, "and no longer");
    }
}
