//! What the answers of several tools share: headers of runs and sessions, parts of logs, failures
//! of some servers.
//!
//! A tool reads arguments and calls a verb of [`crate::verbs`]; its answer is put together here.
//! What the command line words in the same way is in [`crate::render`].

pub(super) mod lease;
pub(super) mod run;
pub(super) mod session;

use farwire_keystore::{Class, ShortId};
use farwire_protocol::failure::Failure;
use tokio_util::sync::CancellationToken;

pub(super) use self::run::header;
use super::caller::Caller;
use super::names;
use crate::runs::answer::News;
use crate::text::Word;
use crate::text::clean::last_line;
use crate::text::header::{Call, Header, Key};
use crate::verbs::observer::Observer;

/// The first word of a header about a run or a session.
pub(super) fn word(id: ShortId) -> Word {
    match id.class {
        Class::Session => Word::Session,
        Class::Run | Class::Forward => Word::Run,
    }
}

/// The call that continues a run or a session.
pub(super) fn output(id: ShortId) -> Call {
    Call::new(names::OUTPUT).with("id", id)
}

/// Adds the servers that did not answer, if there are any: `failed=web-1:timed_out`.
pub(super) fn with_failures(header: Header, trouble: &[(String, Failure)]) -> Header {
    if trouble.is_empty() {
        return header;
    }
    let failed = trouble.iter().map(|(name, failure)| format!("{name}:{}", failure.kind));
    header.field(Key::Failed, failed.collect::<Vec<_>>().join(","))
}

impl Observer for Caller {
    fn cancellation(&self) -> &CancellationToken {
        &self.cancelled
    }

    /// Passes progress on, one line of text at a time.
    fn hear(&self, news: &News) {
        let Some(progress) = &self.progress else { return };
        let (lines, text) = match news {
            News::Progress(lines, last) => (*lines, last_line(last, 80)),
            News::Queued => (0, "waiting for its turn".to_owned()),
            News::Sent(_) => return,
        };
        // A client that does not read its notifications misses some.
        let _ = progress.try_send((lines, text));
    }
}
