//! Jobs that have ended and are not recorded yet.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use crate::jobs::job::Job;
use crate::program::holding::Orders;

/// Jobs that are over and not recorded yet: at most as many as run at once, and those that ended
/// while the last ones were written.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    all: Mutex<Vec<ToWrite>>,
    more: Notify,
}

/// A job that has ended stays with its holder for this long.
const GATHERED: Duration = Duration::from_millis(50);

/// A job that is to be recorded, with the holder that keeps it until then.
pub(crate) type ToWrite = (Option<Arc<dyn Orders>>, Arc<Job>);

impl Finished {
    /// Adds a job, with the holder that keeps it until it is recorded.
    pub(crate) fn add(&self, holder: Option<Arc<dyn Orders>>, job: Arc<Job>) {
        lock(&self.all).push((holder, job));
        self.more.notify_one();
    }

    /// Waits for jobs, and takes them. It leaves time for their answers, and takes those that end
    /// soon after as well.
    pub(crate) async fn take(&self) -> Vec<ToWrite> {
        loop {
            // An earlier call that was dropped may have left some.
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
