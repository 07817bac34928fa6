//! Hints for models about failures: models have tools where people have commands.

use farwire_protocol::failure::{Failure, Kind};

/// Hints for models about failures: models have tools where people have commands.
pub fn next(failure: &Failure) -> &str {
    match (&failure.hint, failure.kind) {
        (None, Kind::UnknownServer | Kind::AmbiguousServer) => "servers lists the names",
        (None, Kind::ServerPending) => "a person must enroll it; servers lists the others",
        (None, Kind::EmptyCommand) => "say what to run in command",
        (None, Kind::UnknownId) => "status with all lists the ids",
        (None, Kind::AlreadyEnded) => "output with the id shows its output",
        (None, Kind::InputLocked) => {
            "wait with output, or ask the person to release the keyboard; status shows who may type"
        }
        (None, Kind::TerminalBusy) => {
            "output with view=screen shows the screen; answer or leave the program with session_send"
        }
        (None, Kind::NoRoot) => {
            "servers with its name lists the open directories; only its owner can open more"
        }
        (None, Kind::ReadOnly) => {
            "only the server's owner can allow changes there; some files stay protected even then"
        }
        (None, Kind::NothingToUndo) => "file_undo with action=list shows the changes",
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
