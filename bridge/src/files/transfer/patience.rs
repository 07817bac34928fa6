//! How long a transfer goes on over one stream after another, and what of it is done by then.

use std::sync::Arc;

use farwire_protocol::failure::Failure;
use tokio::time::sleep;

use super::meter::Meter;
use crate::conversation::Persistence;
use crate::files::FilesConversation;

/// How far many files are.
#[derive(Debug, Default)]
pub(in crate::files) struct SoFar {
    /// So many were answered: they are not sent again.
    pub(in crate::files) done: usize,
    /// So many may have been sent, over all streams.
    pub(in crate::files) sent: usize,
    /// Those that were there when they were sent again: we may have put them there.
    pub(in crate::files) doubtful: Vec<usize>,
}

/// A transfer over several streams, which goes on as long as it makes progress.
#[derive(Debug)]
pub(in crate::files) struct Patience<'a> {
    meter: &'a Meter,
    persistence: Persistence,
    /// The streams over which something is asked for that acts.
    pub(in crate::files) line: Arc<FilesConversation>,
}

impl<'a> Patience<'a> {
    pub(in crate::files) fn new(meter: &'a Meter) -> Self {
        Self { meter, persistence: Persistence::new(meter.read().0), line: Arc::default() }
    }

    /// A stream was there.
    pub(in crate::files) fn entered(&mut self) {
        self.persistence.mark_begun();
    }

    /// Waits until it may be tried again.
    ///
    /// # Errors
    ///
    /// The failure, if trying again would not help.
    pub(in crate::files) async fn wait(&mut self, failure: Failure) -> Result<(), Failure> {
        let Some(wait) = self.persistence.after(failure.kind, self.meter.read().0) else {
            return Err(failure);
        };
        tracing::info!(why = failure.message, "the transfer broke off and is taken up again");
        sleep(wait).await;
        Ok(())
    }
}
