//! What became of a request to an earlier process, and how it is reported.

use farwire_protocol::failure::{Failure, Kind};

/// What an earlier process did with a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Past {
    /// Nothing: all of its requests are known, and this is not one of them.
    NeverStarted,
    /// It is not in the journal, and may have been.
    Unknown,
    /// It was begun, and no end was recorded.
    Reserved,
    /// It was recorded, and later that nothing was started for it.
    NotStarted,
    /// It ended like this.
    Ended(String),
    /// The id was used for another request.
    Conflict,
}

impl Past {
    /// The failure that reports what became of the request.
    pub(crate) fn failure(self) -> Failure {
        let restarted = "the agent was restarted";
        match self {
            Self::Conflict => Failure::new(
                Kind::RequestIdConflict,
                "this request id was used for another request",
            ),
            Self::Ended(how) => Failure::new(
                Kind::OutcomeUnknown,
                format!("{restarted}; the command had ended with {how}, but its output is gone"),
            )
            .with_hint("run it again if you need its output"),
            Self::Reserved => Failure::new(
                Kind::OutcomeUnknown,
                format!("{restarted} while the command ran; it may have ended or still run"),
            ),
            Self::Unknown => Failure::new(
                Kind::OutcomeUnknown,
                format!(
                    "{restarted}, and its record of earlier requests is incomplete: \
                     the command may have run"
                ),
            ),
            Self::NotStarted => Failure::new(
                Kind::Cancelled,
                "it was never started: the agent ended before a slot was free, or it was stopped or could not \
                 be started",
            )
            .with_hint("run it again if you still want it"),
            // Reserved requests are in the journal before anything is started for them.
            Self::NeverStarted => Failure::new(
                Kind::StreamStale,
                format!("{restarted} before the command arrived; it was not started"),
            ),
        }
    }
}
