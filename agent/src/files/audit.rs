//! What was done to files: a line for each request, in a file that only the agent writes.
//!
//! A worker reports what it did over a pipe of its own. The agent adds the time and the root, and
//! earlier lines are out of the worker's reach: an attacker who takes over a worker can lie from
//! then on, but not about the past. The format of a line is in `files/src/worker/audit.rs`. While
//! lines wait for the disk the pipe fills up, and the requests that would add to it wait.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use farwire_files::worker::audit::{AuditLine, LONGEST};
use farwire_protocol::failure::Failure;
use farwire_protocol::streams::files::{Enter, is_root_name};
use rustix::fs::OFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use serde::Deserialize;
use tokio::task::spawn_blocking;

/// Lines of all roots, in the agent's directory.
const FILE: &str = "files.audit";

/// The lines before them.
const OLD: &str = "files.audit.old";

/// A file of this many bytes is put aside, in place of the previous one: 64 MiB.
const FULL: u64 = 64 << 20;

/// How much is read from a pipe at once: what fits into one.
const PIECE: usize = 64 << 10;

/// Lines that arrive within this time are written in one call.
const MOMENT: Duration = Duration::from_millis(20);

/// The file. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Audit(Arc<Mutex<AuditLog>>);

#[derive(Debug)]
struct AuditLog {
    home: PathBuf,
    /// The file and its length, while it can be written.
    file: Option<(File, u64)>,
    /// The end of the file may be a part of a line.
    torn: bool,
}

impl Audit {
    /// In the agent's own directory.
    pub(super) fn new(home: &Path) -> Self {
        let log = AuditLog { home: home.to_path_buf(), file: None, torn: false };
        Self(Arc::new(Mutex::new(log)))
    }

    /// A pipe for the lines of a root. They are written until all writers are gone.
    ///
    /// A thread of its own writes them: the runtime would be woken for every line, in the middle of
    /// its work for the same request.
    pub(super) fn pipe(&self, root: &str) -> io::Result<OwnedFd> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        let (audit, mut lines) = (self.clone(), Lines::of(root));
        #[expect(clippy::disallowed_methods, reason = "more lines are no state to wait for")]
        let copy = move || {
            let mut piece = vec![0; PIECE];
            while let Ok(length @ 1..) =
                rustix::io::retry_on_intr(|| rustix::io::read(&read, &mut piece[..]))
            {
                audit.write(&lines.take(piece.get(..length).unwrap_or_default()));
                thread::sleep(MOMENT);
            }
        };
        thread::Builder::new().name("audit".to_owned()).spawn(copy)?;
        Ok(write)
    }

    /// Records that somebody was not let in, which no worker knows of.
    pub(super) async fn record_refusal(&self, enter: &Enter, who: &str, failure: &Failure) {
        let line = AuditLine {
            who,
            verb: "enter".to_owned(),
            below: enter.below.as_ref().map_or(&[][..], |below| below),
            failure: Some(failure.kind),
            ..AuditLine::default()
        };
        let root = enter.root.as_deref().filter(|root| is_root_name(root)).unwrap_or_default();
        let (audit, lines) = (self.clone(), Lines::of(root).take(line.text().as_bytes()));
        // A full disk has been reported.
        let _ = spawn_blocking(move || audit.write(&lines)).await;
    }

    fn write(&self, lines: &[u8]) {
        if !lines.is_empty() {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(lines);
        }
    }
}

impl AuditLog {
    /// A full disk loses lines, and all else goes on.
    fn write(&mut self, lines: &[u8]) {
        let was_well = !self.torn;
        if let Err(error) = self.try_write(lines, FULL) {
            (self.file, self.torn) = (None, true);
            if was_well {
                tracing::warn!(%error, "file requests are not audited");
            }
        }
    }

    fn try_write(&mut self, lines: &[u8], full: u64) -> io::Result<()> {
        let path = self.home.join(FILE);
        let mut open = self.file.take();
        if open.as_ref().is_some_and(|(_, length)| *length >= full) {
            fs::rename(&path, self.home.join(OLD))?;
            open = None;
        }
        let (mut file, mut length) = match open {
            Some(open) => open,
            None => {
                let mut options = OpenOptions::new();
                options.append(true).create(true).mode(0o600);
                let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
                let file = options.custom_flags(flags.bits().cast_signed()).open(&path)?;
                let length = file.metadata()?.len();
                (file, length)
            }
        };
        if self.torn && length > 0 {
            file.write_all(b"\n")?;
        }
        file.write_all(lines)?;
        self.torn = false;
        length += lines.len() as u64;
        self.file = Some((file, length));
        Ok(())
    }
}

/// Turns whatever one worker sends into lines of the file.
#[derive(Debug)]
struct Lines {
    root: String,
    /// The beginning of a line.
    part: Vec<u8>,
}

impl Lines {
    fn of(root: &str) -> Self {
        Self { root: root.to_owned(), part: Vec::new() }
    }

    /// Returns the lines that these bytes complete.
    fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut whole = Vec::new();
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            // One byte more shows that it is too long.
            let room = (LONGEST + 1).saturating_sub(self.part.len());
            let line = piece.strip_suffix(b"\n");
            let piece = line.unwrap_or(piece);
            self.part.extend_from_slice(piece.get(..room).unwrap_or(piece));
            if line.is_some() {
                self.add(&mut whole);
            }
        }
        whole
    }

    /// Adds the line that is complete.
    fn add(&mut self, whole: &mut Vec<u8>) {
        const NONE: &[u8] =
            br#"{"who":"","verb":"unreadable","paths":[],"result":"protocol_violation"}"#;
        let part = std::mem::take(&mut self.part);
        let said = if is_line(&part) { &part } else { NONE };
        let now = crate::os::clock::unix_millis();
        // Writing to memory does not fail; a root's name needs no quoting.
        let _ = write!(whole, "{{\"time_ms\":{now},\"root\":\"{}\",", self.root);
        whole.extend_from_slice(said.get(1..).unwrap_or_default());
        whole.push(b'\n');
    }
}

/// Whether a line has only the fields that a worker may set, and none twice.
fn is_line(bytes: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "it is only asked whether they are there")]
    struct Said {
        who: String,
        verb: String,
        below: Option<String>,
        paths: Vec<String>,
        more: Option<u64>,
        status: Option<u16>,
        result: String,
    }
    bytes.len() <= LONGEST
        && bytes.starts_with(b"{\"who\":")
        && bytes.iter().all(|byte| (b' '..=b'~').contains(byte))
        && serde_json::from_slice::<Said>(bytes).is_ok()
}

#[cfg(test)]
mod tests {
    use farwire_protocol::failure::Kind;

    use super::*;

    fn line(who: &str) -> String {
        AuditLine { who, verb: "read".to_owned(), paths: vec![b"a"], ..AuditLine::default() }.text()
    }

    /// Without the time.
    fn said(lines: &[u8]) -> String {
        let text = String::from_utf8(lines.to_vec()).unwrap();
        let rest = |line: &str| line.split_once("\"root\"").map(|(_, rest)| format!("{rest}\n"));
        text.lines().map(|line| rest(line).unwrap()).collect()
    }

    #[test]
    fn a_worker_says_what_it_did_and_not_when_or_where() {
        let mut lines = Lines::of("work");
        let text = line("ann/human");
        let (first, rest) = text.split_at(20);
        assert!(lines.take(first.as_bytes()).is_empty());
        let whole = lines.take(rest.as_bytes());
        assert!(whole.starts_with(b"{\"time_ms\":"));
        let done = "\"verb\":\"read\",\"paths\":[\"a\"],\"result\":\"ok\"}\n";
        assert_eq!(said(&whole), format!(":\"work\",\"who\":\"ann/human\",{done}"));
        for bad in [
            "",
            "x",
            "{\"who\":\"a\"}",
            "{\"who\":\"a\",\"verb\":\"b\",\"paths\":[],\"result\":\"ok\",\"root\":\"other\"}",
            "{\"who\":\"a\",\"who\":\"c\",\"verb\":\"b\",\"paths\":[],\"result\":\"ok\"}",
            "{\"who\":\"\u{e9}\",\"verb\":\"b\",\"paths\":[],\"result\":\"ok\"}",
            "{\"who\":\"a\",\"verb\":\"b\",\"paths\":[],\"result\":\"ok\"}\u{1b}[2J",
            &"x".repeat(2 * LONGEST),
        ] {
            let whole = said(&lines.take(format!("{bad}\n").as_bytes()));
            assert!(
                whole.contains("\"verb\":\"unreadable\"") && whole.lines().count() == 1,
                "{bad}"
            );
            assert!(lines.part.is_empty());
        }
        assert_eq!(
            said(&lines.take(line("b").as_bytes())),
            format!(":\"work\",\"who\":\"b\",{done}")
        );
    }

    #[tokio::test]
    async fn what_came_over_a_pipe_is_in_the_file_and_who_was_not_let_in_too() {
        let place = tempfile::tempdir().unwrap();
        let audit = Audit::new(place.path());
        let mut pipe = File::from(audit.pipe("work").unwrap());
        pipe.write_all(line("ann").as_bytes()).unwrap();
        let enter = Enter { root: Some("../x".to_owned()), ..Enter::default() };
        audit.record_refusal(&enter, "bob", &Failure::new(Kind::NoRoot, "none")).await;
        let path = place.path().join(FILE);
        let mut text = String::new();
        while text.lines().count() < 2 {
            text = fs::read_to_string(&path).unwrap_or_default();
            tokio::task::yield_now().await;
        }
        assert!(text.contains("\"root\":\"work\",\"who\":\"ann\""), "{text}");
        assert!(text.contains("\"root\":\"\",\"who\":\"bob\",\"verb\":\"enter\""), "{text}");
        assert!(text.contains("\"result\":\"no_root\""), "{text}");
    }

    #[test]
    fn a_full_file_is_put_aside_and_a_torn_line_stays_one() {
        let place = tempfile::tempdir().unwrap();
        let read = |name: &str| fs::read_to_string(place.path().join(name)).unwrap();
        let mut log = AuditLog { home: place.path().to_path_buf(), file: None, torn: false };
        log.try_write(b"one\n", 5).unwrap();
        log.try_write(b"two\n", 5).unwrap();
        log.try_write(b"three\n", 5).unwrap();
        assert_eq!((read(OLD).as_str(), read(FILE).as_str()), ("one\ntwo\n", "three\n"));
        (log.file, log.torn) = (None, true);
        log.try_write(b"four\n", 100).unwrap();
        assert_eq!(read(FILE), "three\n\nfour\n");
    }
}
