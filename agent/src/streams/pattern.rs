//! Untrusted regular expressions: bounded in size, and run where they hold up nobody.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use regex::bytes::{Regex, RegexBuilder};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::spool::{LogSearch, SearchStep, Spool};

/// A regular expression takes at most this much memory.
const SIZE: usize = 1 << 20;

/// A regular expression has at most this many bytes: it is kept with the conversation that it
/// belongs to.
const LONGEST: usize = 4_096;

/// How long after its deadline a search may still go through what had come before that.
const LATE: Duration = Duration::from_secs(2);

/// Linear in time, bounded in memory.
pub(super) fn expression(text: &str) -> Result<Regex, Failure> {
    if text.len() > LONGEST {
        let text = format!("a regular expression has at most {LONGEST} bytes");
        return Err(Failure::new(Kind::InvalidArgument, text));
    }
    RegexBuilder::new(text).size_limit(SIZE).dfa_size_limit(SIZE).build().map_err(|error| {
        let text = error.to_string();
        let first = text.lines().last().unwrap_or_default().trim().trim_end_matches('.');
        Failure::new(Kind::InvalidArgument, format!("the regular expression is not valid: {first}"))
    })
}

/// A line that is waited for.
#[derive(Debug)]
pub(super) struct Awaited {
    spool: Spool,
    search: Arc<Mutex<LogSearch>>,
    /// Everything before this offset has been searched.
    looked: u64,
}

impl Awaited {
    /// Waits for a line that matches, from an offset of the log on.
    pub(super) fn new(spool: &Spool, pattern: Regex, from: u64) -> Self {
        let search = Arc::new(Mutex::new(LogSearch::new(spool, pattern, from)));
        Self { spool: spool.clone(), search, looked: from }
    }

    /// Whether it has come. If there is much to search, this may return a while after `deadline`.
    pub(super) async fn has_come(&mut self, deadline: Instant) -> bool {
        let end = self.spool.stats().end;
        while end > self.looked {
            let search = self.search.clone();
            let looked = spawn_blocking(move || {
                search.lock().expect("nothing panics while it is held").step()
            });
            match looked.await {
                Ok(SearchStep::Matched) => return true,
                Ok(SearchStep::More) if Instant::now() < deadline + LATE => {}
                Ok(SearchStep::More) => return false,
                // The thread dies only with the agent.
                Ok(SearchStep::UpToDate) | Err(_) => self.looked = end,
            }
        }
        false
    }
}
