//! Users of this machine, as those who start programs need them.
//!
//! To look one up may wait for a network, so that it is done beside what else goes on. What was found is believed for a
//! second: programs that are started one after the other need no other thread.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use farwire_protocol::failure::Failure;

use crate::files::waits::Waits;
use crate::os::user::User;

/// So long what was found is believed.
const FRESH: Duration = Duration::from_secs(1);

/// So many users are remembered, that of the agent among them.
const REMEMBERED: usize = 64;

/// Looks users up, and remembers them for a moment.
#[derive(Debug)]
pub(crate) struct Users {
    waits: Waits,
    /// By the name that was asked for; the agent's own has none.
    found: Mutex<HashMap<Option<String>, (Instant, User)>>,
}

impl Users {
    pub(crate) fn new() -> Self {
        Self { waits: Waits::new(), found: Mutex::default() }
    }

    /// The user of this name, or the agent's own.
    pub(crate) async fn find(&self, name: Option<&str>) -> Result<User, Failure> {
        if let Some(user) = self.fresh(name) {
            return Ok(user);
        }
        let asked = name.map(str::to_owned);
        let user = self.run(move || asked.as_deref().map_or_else(User::current, User::find));
        let user = user.await??;
        self.keep(name, user.clone());
        Ok(user)
    }

    /// Does something that may have to wait as lookups do.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        self.waits.run(work).await
    }

    fn fresh(&self, name: Option<&str>) -> Option<User> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, user) = found.get(&name.map(str::to_owned))?;
        (at.elapsed() < FRESH).then(|| user.clone())
    }

    fn keep(&self, name: Option<&str>, user: User) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.retain(|_, (at, _)| at.elapsed() < FRESH);
        if found.len() < REMEMBERED {
            found.insert(name.map(str::to_owned), (Instant::now(), user));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
