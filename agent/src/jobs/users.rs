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

    /// Does something with the user of this name, or the agent's own; at once if it was found a moment ago, and
    /// otherwise on a thread that may wait. Whoever drops this does not stop it.
    pub(crate) async fn with<T: Send + 'static>(
        &self,
        name: Option<&str>,
        act: impl FnOnce(User) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        if let Some(user) = self.fresh(name) {
            return act(user);
        }
        let asked = name.map(str::to_owned);
        let (user, done) = self
            .run(move || {
                let user = asked.as_deref().map_or_else(User::current, User::find)?;
                Ok::<_, Failure>((user.clone(), act(user)?))
            })
            .await??;
        self.keep(name, user);
        Ok(done)
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
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn a_user_is_looked_up_elsewhere_and_known_for_a_moment() {
        let users = Users::new();
        let here = thread::current().id();
        let elsewhere = || users.with(None, move |_| Ok(thread::current().id() != here));
        let found = |at: Instant| {
            users.found.lock().unwrap().values_mut().for_each(|found| found.0 = at);
        };
        assert!(elsewhere().await.unwrap());
        found(Instant::now());
        assert!(!elsewhere().await.unwrap());
        let nobody = users.with(Some("no-such-user"), |_| Ok(())).await;
        assert!(nobody.is_err() && users.fresh(Some("no-such-user")).is_none());
        found(Instant::now().checked_sub(FRESH).unwrap());
        assert!(elsewhere().await.unwrap(), "and no longer");
    }
}
