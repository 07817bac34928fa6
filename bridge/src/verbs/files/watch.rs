//! `watch`: waits until a file changes, or something in a directory.

use std::time::Duration;

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::Failure;
use farwire_protocol::streams::files::{Ask, Entry, Watch};

use crate::files::place::Place;
use crate::files::site::Site;

/// How it is waited.
#[derive(Debug)]
pub struct AwaitChange {
    /// At most this long.
    pub wait: Duration,
    /// Returns at once if the file is in another state than this.
    pub revision: Option<u64>,
    /// Also all directories under it.
    pub recursive: bool,
}

/// What changed.
#[derive(Debug)]
pub struct WatchAnswer {
    /// What was watched.
    pub place: Place,
    /// Anything changed before the time was up.
    pub changed: bool,
    /// What is at the path itself; one without a revision is gone.
    pub entry: Option<Entry>,
    /// What changed in a directory, by paths from there.
    pub entries: Vec<Entry>,
}

impl AwaitChange {
    /// Waits for one change. A path may be watched again and again.
    ///
    /// # Errors
    ///
    /// Those of the server. It is not asked again where the way breaks: whoever waits knows for how
    /// much longer.
    pub async fn carry_out(&self, site: &mut Site) -> Result<WatchAnswer, Failure> {
        let wait_ms = u64::try_from(self.wait.as_millis()).unwrap_or(u64::MAX);
        let watched = site.ask(|place| {
            Ask::Watch(Watch {
                path: Blob(place.path.clone()),
                wait_ms,
                revision: self.revision,
                deep: self.recursive.then_some(true),
            })
        });
        let answer = watched.await?;
        Ok(WatchAnswer {
            place: site.place.clone(),
            changed: answer.done.count != Some(0),
            entry: answer.done.entry,
            entries: answer.entries,
        })
    }
}
