//! Jobs that have ended and are not written down yet.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use crate::jobs::job::Job;
use crate::program::holding::Orders;

/// Jobs of which all is known, and that are not written down yet. As many as run can be among them,
/// and those that ended while the last ones were written.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    all: Mutex<Vec<ToWrite>>,
    more: Notify,
}

/// A job that has ended is left with its holder for this long.
const GATHERED: Duration = Duration::from_millis(50);

/// A job that is to be written down, with the holder that keeps it until then.
pub(crate) type ToWrite = (Option<Arc<dyn Orders>>, Arc<Job>);

impl Finished {
    /// Adds a job, with the holder that keeps it until it is written down.
    pub(crate) fn add(&self, holder: Option<Arc<dyn Orders>>, job: Arc<Job>) {
        lock(&self.all).push((holder, job));
        self.more.notify_one();
    }

    /// Waits for some, and takes them. They are answered first, and what ends soon after is taken
    /// with them.
    pub(crate) async fn take(&self) -> Vec<ToWrite> {
        loop {
            // Whoever has dropped this before has left some.
            if lock(&self.all).is_empty() {
                self.more.notified().await;
            }
            sleep(GATHERED).await;
            let all = std::mem::take(&mut *lock(&self.all));
            if !all.is_empty() {
                return all;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it is held")
}
