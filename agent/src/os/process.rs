//! One process as `/proc` shows it.
//!
//! Everything in there may be gone at any moment, and its name was chosen by the process itself.
//! Which processes belong to a run is decided in `group.rs`.

use core::time::Duration;
use std::fs::File;
use std::io::Read as _;

/// The kernel's facts about a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Process {
    /// Its number.
    pub(crate) pid: u32,
    /// The number of its parent; 0 for the first process, and if the parent is out of sight.
    pub(crate) parent: u32,
    /// Its process group.
    pub(crate) group: u32,
    /// Its session.
    pub(crate) session: u32,
    /// When it started, since boot, rounded down to 10 ms.
    pub(crate) started: Duration,
    /// It has ended, and only its status is left.
    pub(crate) ended: bool,
}

impl Process {
    /// The process of this number, if there is one.
    pub(crate) fn read(pid: u32) -> Option<Self> {
        // Larger than any line: 50 numbers of at most 20 digits, and a name of at most 64 bytes.
        let mut line = [0; 2048];
        let mut file = File::open(format!("/proc/{pid}/stat")).ok()?;
        let length = file.read(&mut line).ok()?;
        parse(line.get(..length)?)
    }

    /// All of them, in no order. `None` where `/proc` cannot be read.
    pub(crate) fn all() -> Option<impl Iterator<Item = Self>> {
        let entries = std::fs::read_dir("/proc").ok()?;
        let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        Some(numbers.filter_map(Self::read))
    }

    /// Whether the environment that it was executed with has this variable with this value.
    ///
    /// Also `false` if that may not be read.
    pub(crate) fn has_variable(&self, name: &str, value: &str) -> bool {
        let mut bytes = Vec::new();
        let path = format!("/proc/{}/environ", self.pid);
        let Ok(file) = File::open(path) else { return false };
        // What was read before an error counts.
        let _ = file.take(ENVIRONMENT).read_to_end(&mut bytes);
        let wanted = format!("{name}={value}");
        bytes.split(|b| *b == 0).any(|variable| variable == wanted.as_bytes())
    }
}

/// Reads `PID (NAME) STATE PARENT GROUP SESSION …`. The name may contain anything, so the last
/// parenthesis ends it.
fn parse(line: &[u8]) -> Option<Process> {
    let open = line.iter().position(|b| *b == b'(')?;
    let close = line.iter().rposition(|b| *b == b')')?;
    let pid = core::str::from_utf8(line.get(..open)?).ok()?.trim().parse().ok()?;
    let mut fields = core::str::from_utf8(line.get(close + 1..)?).ok()?.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let session = fields.next()?.parse().ok()?;
    let ticks: u64 = fields.nth(STARTED_AFTER_SESSION)?.parse().ok()?;
    Some(Process {
        pid,
        parent,
        group,
        session,
        started: Duration::from_millis(ticks.checked_mul(1000 / TICKS)?),
        ended: matches!(state, "Z" | "X" | "x"),
    })
}

/// The kernel counts in hundredths of a second here, whatever its own tick rate.
const TICKS: u64 = 100;

/// The session is field 6 of the line, the start is field 22.
const STARTED_AFTER_SESSION: usize = 22 - 6 - 1;

/// A run's own environment has at most 64 KiB; a program may have added as much.
const ENVIRONMENT: u64 = 128 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::os::clock::boottime;

    #[test]
    fn this_process_is_read_right() {
        let own = Process::read(std::process::id()).unwrap();
        assert_eq!(own.pid, std::process::id());
        assert_eq!(own.parent, std::os::unix::process::parent_id());
        let group = rustix::process::getpgrp().as_raw_nonzero().get();
        assert_eq!(own.group, u32::try_from(group).unwrap());
        assert!(own.started <= boottime() && !own.ended);
        assert!(Process::all().unwrap().any(|process| process == own));
    }

    #[test]
    fn a_hostile_name_changes_nothing() {
        let rest = "S 2 3 4 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 1234 9 9";
        let expected = Process {
            pid: 7,
            parent: 2,
            group: 3,
            session: 4,
            started: Duration::from_millis(12_340),
            ended: false,
        };
        for name in ["sh", "a) R 1 1 1 (", "", "))", "\n(", "x y"] {
            assert_eq!(parse(format!("7 ({name}) {rest}").as_bytes()), Some(expected), "{name}");
        }
        assert!(parse(format!("7 (sh) Z{}", &rest[1..]).as_bytes()).unwrap().ended);
    }

    #[test]
    fn a_line_that_is_cut_is_no_process() {
        for line in ["", "7", "7 (sh", "7 (sh)", "7 (sh) S 2 3 4 0", "x (sh) S 2 3 4", ")7("] {
            assert_eq!(parse(line.as_bytes()), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn every_name_is_skipped(name in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut line = b"7 (".to_vec();
            line.extend(name);
            line.extend(b") S 2 3 4 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 1234 9 9");
            prop_assert_eq!(parse(&line).map(|p| (p.pid, p.parent, p.session)), Some((7, 2, 4)));
        }
    }

    #[test]
    fn no_bytes_are_too_odd() {
        bolero::check!().for_each(|bytes: &[u8]| {
            let _ = parse(bytes);
        });
    }
}
