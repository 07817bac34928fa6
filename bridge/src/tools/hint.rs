//! What a model does about a failure: it has tools where people have commands.

use farwire_protocol::failure::{Failure, Kind};

/// What a model does about a failure: it has tools where people have commands.
pub fn next(failure: &Failure) -> &str {
    match (&failure.hint, failure.kind) {
        (None, Kind::UnknownServer | Kind::AmbiguousServer) => "servers lists the names",
        (None, Kind::ServerPending) => "a person must enroll it; servers lists the others",
        (None, Kind::EmptyCommand) => "say in command what to run",
        (None, Kind::UnknownId) => "status with all lists the ids",
        (None, Kind::AlreadyEnded) => "output with the id shows what it said",
        (None, Kind::InputLocked) => {
            "wait with output, or ask the person to let go of the keyboard; status shows who types"
        }
        (None, Kind::TerminalBusy) => {
            "output with view=screen shows what is there; answer or leave it with session_send"
        }
        (None, Kind::NoRoot) => {
            "servers with its name lists what is open; only its owner opens more"
        }
        _ => failure.hint(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_told_of_tools_and_not_of_commands() {
        for kind in [Kind::UnknownServer, Kind::ServerPending, Kind::UnknownId, Kind::AlreadyEnded]
        {
            assert!(!next(&Failure::new(kind, "no")).contains('`'), "{kind}");
        }
        // Those of files have the numbers from 100 on.
        for &kind in Kind::ALL.iter().filter(|kind| kind.number() >= 100) {
            let told = Failure::new(kind, "no");
            assert!(!next(&told).contains("--") && !next(&told).contains("`farwire"), "{kind}");
        }
        let own = Failure::new(Kind::UnknownId, "no").with_hint("look there");
        assert_eq!(next(&own), "look there");
    }
}
