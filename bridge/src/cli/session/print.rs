//! Output that the commands of `farwire session` share.

use std::io::IsTerminal as _;

use farwire_protocol::failure::Failure;
use farwire_protocol::streams::session::Command;

use crate::cli::output::print_bytes;
use crate::text::passage::Passage;

/// Prints the output of a remote terminal: byte for byte or, if standard output is a terminal, only
/// what is safe.
pub(super) struct TerminalPrinter {
    filter: Option<Passage>,
    passed: Vec<u8>,
}

impl Default for TerminalPrinter {
    fn default() -> Self {
        let filter = std::io::stdout().is_terminal().then(Passage::default);
        Self { filter, passed: Vec::new() }
    }
}

impl TerminalPrinter {
    /// Prints the next bytes.
    pub(super) fn print(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let Some(filter) = &mut self.filter else { return print_bytes(bytes) };
        self.passed.clear();
        filter.pass(bytes, &mut self.passed);
        print_bytes(&self.passed)
    }

    /// Prints the last bytes and, on a terminal, what resets the colours, modes and hidden cursor
    /// that they left behind.
    pub(super) fn finish(mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.print(bytes)?;
        match self.filter {
            Some(_) => print_bytes(
                b"\x1b[m\x1b[?25h\x1b[?1l\x1b>\x1b[?2004l\x1b[?1000l\x1b[?1002l\x1b[?1003l\r\n",
            ),
            None => Ok(()),
        }
    }
}

/// A command as `--json` prints it.
pub(super) fn command_json(command: &Command) -> serde_json::Value {
    serde_json::json!({
        "number": command.number, "text": command.text, "exit_code": command.exit,
        "running": command.end.is_none(), "duration_ms": command.duration_ms,
        "age_ms": command.age_ms, "start": command.start, "end": command.end,
        "cwd": command.cwd.as_ref().map(|cwd| String::from_utf8_lossy(cwd)),
    })
}
