//! The caller that waits for a verb: it may stop waiting, and may want to hear how it goes.

use farwire_protocol::failure::{Failure, Kind};
use tokio_util::sync::CancellationToken;

use crate::runs::answer::News;

/// A caller that waits for a verb.
pub trait Observer: Sync {
    /// Cancelled when the caller no longer wants the answer.
    fn cancellation(&self) -> &CancellationToken;

    /// Takes what is heard while the answer is waited for.
    fn hear(&self, news: &News);
}

impl dyn Observer + '_ {
    /// Does something unless the caller cancels it, at whatever point: then it fails with these
    /// words.
    pub async fn unless_cancelled<T>(
        &self,
        words: &str,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            // Work that has noticed by itself says more.
            biased;
            done = work => done,
            () = self.cancellation().cancelled() => Err(Failure::new(Kind::Cancelled, words)),
        }
    }
}

/// A caller that waits for every answer and wants no news.
#[derive(Debug, Default)]
pub struct Patient(CancellationToken);

impl Observer for Patient {
    fn cancellation(&self) -> &CancellationToken {
        &self.0
    }

    fn hear(&self, _: &News) {}
}
