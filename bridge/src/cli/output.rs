//! What commands print, and the exit codes that go with it: answers on standard output, everything
//! else on standard error.

use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::run::Exit;
use serde::Serialize;

use crate::text::neutral::neutral_within;

/// `--json`, for commands that can.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Json {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// The exit code of a failure, by `sysexits.h`.
pub(crate) fn code(failure: &Failure) -> u8 {
    match failure.kind {
        Kind::InvalidArgument | Kind::EmptyCommand | Kind::AmbiguousServer => 64,
        Kind::KeystoreCorrupt | Kind::StateVersion | Kind::TooLarge | Kind::TokenMalformed => 65,
        Kind::Io => 74,
        Kind::Incomplete => 2,
        Kind::KeystorePermissions | Kind::NotAuthorized | Kind::NotGranted => 77,
        Kind::Configuration | Kind::NotInitialized | Kind::AlreadyInitialized => 78,
        _ => 69,
    }
}

/// Whether an answer has been printed as JSON. Later messages go to standard error alone: a program
/// that reads one document must not find two.
static ANSWERED: AtomicBool = AtomicBool::new(false);

pub(super) fn print_failure(failure: &Failure, json: bool) {
    if json && !ANSWERED.load(Ordering::Relaxed) {
        let object = serde_json::json!({"error": error_json(failure)});
        // The message on standard error reports the failure, too.
        let _ = print(&format!("{object}\n"));
    }
    say_failure(failure);
}

/// A failure as `--json` shows it.
pub(super) fn error_json(failure: &Failure) -> serde_json::Value {
    serde_json::json!({
        "kind": failure.kind.name(), "message": failure.message, "hint": failure.hint(),
    })
}

/// Prints the failure on standard error. Returns the exit code that goes with it.
pub(crate) fn say_failure(failure: &Failure) -> u8 {
    let clean = |text: &str| neutral_within(text, 2000);
    let (message, hint) = (clean(&failure.message), clean(failure.hint()));
    // Standard error may be closed.
    let _ = writeln!(io::stderr(), "error[{}]: {message}\nhint: {hint}", failure.kind);
    code(failure)
}

/// Prints an answer, as one line of JSON.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value)
        .map_err(|error| Failure::new(Kind::Internal, format!("the answer is no JSON: {error}")))?;
    ANSWERED.store(true, Ordering::Relaxed);
    print(&format!("{text}\n"))
}

/// The exit code with which a shell reports such an end.
pub(crate) fn code_of(exit: Exit) -> Option<u8> {
    match exit {
        Exit::Code(code) => Some(match u8::try_from(code & 0xff) {
            Ok(low) if low > 0 || code == 0 => low,
            // Not a process exit code on Unix, and not success either.
            _ => u8::MAX,
        }),
        Exit::Signal(number) => number.checked_add(128).and_then(|code| u8::try_from(code).ok()),
    }
}

/// Prints an answer. A reader that has gone is not an error; a full disk is.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// Prints bytes as they are. A reader that has gone is not an error; a full disk is.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            READER_GONE.store(true, Ordering::Relaxed);
            Ok(())
        }
        Err(error) => Err(Failure::new(Kind::Io, format!("standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}

static READER_GONE: AtomicBool = AtomicBool::new(false);

/// Whether nobody reads our output any more; an endless command ends then.
pub(crate) fn reader_is_gone() -> bool {
    READER_GONE.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_end_but_that_with_code_0_looks_like_success() {
        let codes = [0, 1, 255, 256, 512, -1, i32::MIN, i32::MAX];
        let codes = codes.map(|code| code_of(Exit::Code(code)));
        assert_eq!(codes, [0, 1, 255, 255, 255, 255, 255, 255].map(Some));
        assert_eq!(code_of(Exit::Signal(9)), Some(137));
        for number in [i32::MIN, -129, 128, i32::MAX] {
            assert_eq!(code_of(Exit::Signal(number)), None);
        }
    }
}
