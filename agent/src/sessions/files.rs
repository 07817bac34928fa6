//! What is kept of a session on the disk, in a directory of its own: its description, its events,
//! and the end of its log.
//!
//! ```text
//!     STATE/sessions/ID/session.json                     what it is, and how it ended
//!                       events.jsonl, events.old         one event a line
//!                       transcript, transcript.old       the end of the log: where it begins, then its bytes
//! ```
//!
//! It is written about once a second, without delaying keys or output. A kill loses what came
//! since. A flood loses its middle; the transcript then begins anew. All of it is as private as the
//! terminal was: directories 0700, files 0600.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::spool::{Item, Mode, Spool, SpoolReader};

/// The size at which a file of events is put aside.
const EVENTS: u64 = 1 << 20;

/// The size at which a transcript is put aside: there are two, with the last 2 to 4 MiB between
/// them.
const TRANSCRIPT: u64 = 2 << 20;

/// If the transcript is further behind than this, it skips to the end of the log.
const BEHIND: u64 = 4 << 20;

/// How much of the end is written then.
const TAIL: u64 = 1 << 20;

/// How much is read at once.
const PIECE: usize = 64 << 10;

/// The longest description of a session, in bytes, both when written and when read.
const LONGEST: u64 = 64 << 10;

/// The files of one session.
#[derive(Debug)]
pub(crate) struct Files {
    directory: PathBuf,
    transcript: Option<Transcript>,
    /// Reads what is to be written of the log. What could not be written is not tried again.
    log: Option<SpoolReader>,
}

/// The newest transcript. It is open while it is written to, and not in between: there may be
/// thousands.
#[derive(Debug)]
struct Transcript {
    path: PathBuf,
    file: Option<File>,
    length: u64,
}

/// The recorded end of a log.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Said {
    /// The offset of its first byte in the log, and how many line feeds were before that.
    pub(crate) start: u64,
    pub(crate) lines: u64,
    pub(crate) bytes: Vec<u8>,
}

/// How a transcript begins: where it is in the log, and how many line feeds were before that.
#[derive(Debug, Deserialize, Serialize)]
struct TranscriptHead {
    offset: u64,
    lines: u64,
}

impl Files {
    /// The files in this directory, which is created if it is missing.
    pub(crate) fn open(directory: PathBuf) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        Ok(Self { directory, transcript: None, log: None })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Writes the description of the session.
    pub(crate) fn describe(&self, description: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec(description)?;
        text.push(b'\n');
        if text.len() as u64 > LONGEST {
            let text = format!("a description of {} bytes, over {LONGEST}", text.len());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let beside = self.path("session.new");
        let mut file = private().create(true).truncate(true).write(true).open(&beside)?;
        file.write_all(&text)?;
        std::fs::rename(beside, self.path("session.json"))
    }

    /// Adds lines of events.
    pub(crate) fn add_events(&self, lines: &[u8]) -> io::Result<()> {
        let path = self.path("events.jsonl");
        let mut file = private().create(true).append(true).open(&path)?;
        if file.metadata()?.len() > EVENTS {
            std::fs::rename(&path, self.path("events.old"))?;
            file = private().create(true).append(true).open(&path)?;
        }
        file.write_all(lines)
    }

    /// The lines of events that are there, the oldest first.
    pub(crate) fn events(&self) -> Vec<u8> {
        let mut lines = Vec::new();
        for name in ["events.old", "events.jsonl"] {
            if let Ok(file) = File::open(self.path(name)) {
                // What cannot be read is treated as if it had not been written.
                let _ = file.take(EVENTS * 2).read_to_end(&mut lines);
                if lines.last().is_some_and(|&byte| byte != b'\n') {
                    lines.push(b'\n');
                }
            }
        }
        lines
    }

    /// Writes what was added to the log since the last call, or its end if that is much.
    pub(crate) fn follow(&mut self, spool: &Spool) -> io::Result<()> {
        let end = spool.end();
        let fresh = self.log.is_none();
        let log = match &mut self.log {
            Some(log) if end.saturating_sub(log.offset()) <= BEHIND => log,
            log => {
                let from = if fresh { end.saturating_sub(TRANSCRIPT) } else { end - TAIL };
                self.transcript = None;
                // Begun at a line, so that lines stay countable.
                log.insert(spool.reader(spool.indexed_before(from), Mode::Lagging))
            }
        };
        while log.offset() < end {
            let (offset, lines) = (log.offset(), log.lines());
            match log.next(PIECE) {
                Item::Data(_, bytes) => {
                    let head = TranscriptHead { offset, lines };
                    let transcript = match &mut self.transcript {
                        Some(transcript) if transcript.length < TRANSCRIPT => transcript,
                        transcript => {
                            let whole = transcript.is_some();
                            transcript.insert(Transcript::begin(&self.directory, &head, whole)?)
                        }
                    };
                    transcript.add(&bytes)?;
                }
                Item::Gap { .. } => self.transcript = None,
                Item::UpToDate { .. } => break,
            }
        }
        if let Some(transcript) = &mut self.transcript {
            transcript.file = None;
        }
        Ok(())
    }

    /// The end of the log, as far as it was recorded without a gap.
    pub(crate) fn read_transcript(&self) -> Said {
        let read = |name: &str| -> Option<Said> {
            let file = File::open(self.path(name)).ok()?;
            let mut bytes = Vec::new();
            file.take(2 * TRANSCRIPT).read_to_end(&mut bytes).ok()?;
            let at = bytes.iter().position(|&byte| byte == b'\n')?;
            let head: TranscriptHead = serde_json::from_slice(bytes.get(..at)?).ok()?;
            bytes.drain(..=at);
            Some(Said { start: head.offset, lines: head.lines, bytes })
        };
        let newest = read("transcript").unwrap_or_default();
        match read("transcript.old") {
            Some(mut old)
                if old.start.checked_add(old.bytes.len() as u64) == Some(newest.start) =>
            {
                old.bytes.extend_from_slice(&newest.bytes);
                old
            }
            _ => newest,
        }
    }
}

impl Transcript {
    /// Begins a transcript. The previous one is kept if this one goes on where it ends.
    fn begin(directory: &Path, head: &TranscriptHead, whole: bool) -> io::Result<Self> {
        let (path, old) = (directory.join("transcript"), directory.join("transcript.old"));
        if whole {
            std::fs::rename(&path, &old)?;
        } else {
            match std::fs::remove_file(&old) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let mut file = private().create(true).truncate(true).write(true).open(&path)?;
        let mut line = serde_json::to_vec(head)?;
        line.push(b'\n');
        file.write_all(&line)?;
        Ok(Self { path, file: Some(file), length: 0 })
    }

    fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(private().append(true).open(&self.path)?),
        };
        file.write_all(bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// The description in the directory of a session. `None` if there is none, or it is invalid.
///
/// # Errors
///
/// If it cannot be read.
pub(crate) fn description<T: for<'a> Deserialize<'a>>(directory: &Path) -> io::Result<Option<T>> {
    let file = match File::open(directory.join("session.json")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::{Memory, SpoolLimits, SpoolWriter};

    #[test]
    fn the_end_of_a_log_is_found_again_with_its_place_and_its_lines() {
        let directory = tempfile::tempdir().unwrap();
        let (path, memory) = (directory.path().join("log"), Memory::new().unwrap());
        let spool = Spool::new(memory.clone(), path.clone(), || {});
        let mut writer = SpoolWriter::new(memory, SpoolLimits::default(), path);
        let mut files = Files::open(directory.path().join("session")).unwrap();
        let (mut all, mut number) = (Vec::new(), 0_u32);
        let mut say = |all: &mut Vec<u8>, bytes: usize| {
            let before = all.len();
            while all.len() < before + bytes {
                number += 1;
                all.extend(format!("line {number}\n").as_bytes());
            }
            let mut rest = &all[before..];
            while !rest.is_empty() {
                let put = |slot: &mut [u8]| {
                    let count = rest.len().min(slot.len());
                    slot[..count].copy_from_slice(&rest[..count]);
                    Ok(count)
                };
                let count = writer.append(1, rest.len(), put).unwrap();
                rest = &rest[count..];
            }
            spool.poke();
        };
        let check = |files: &Files, all: &[u8], least: usize| {
            let Said { start, lines, bytes } = files.read_transcript();
            let start = start as usize;
            assert!(bytes.len() >= least.min(all.len()), "{} of {}", bytes.len(), all.len());
            assert_eq!(start + bytes.len(), all.len());
            assert!(all[start..] == bytes, "the bytes of that place");
            let before = all[..start].iter().filter(|&&byte| byte == b'\n').count();
            assert_eq!(lines as usize, before);
        };
        for bytes in [10, 100_000, 900_000, 900_000, 900_000, 900_000, 900_000] {
            say(&mut all, bytes);
            files.follow(&spool).unwrap();
            check(&files, &all, 2_000_000);
        }
        // A flood: what is in between is skipped.
        say(&mut all, 6_000_000);
        files.follow(&spool).unwrap();
        check(&files, &all, 1_000_000);
        // Another agent goes on.
        drop(files);
        let mut files = Files::open(directory.path().join("session")).unwrap();
        say(&mut all, 5_000);
        files.follow(&spool).unwrap();
        check(&files, &all, 1_900_000);
        let none = Files::open(directory.path().join("none")).unwrap();
        assert_eq!(none.read_transcript(), Said::default());
    }

    #[test]
    fn events_are_bounded_in_two_generations() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::open(directory.path().to_path_buf()).unwrap();
        let line = format!("{}\n", "x".repeat(99_999));
        for _ in 0..50 {
            files.add_events(line.as_bytes()).unwrap();
        }
        let kept = files.events().len() as u64;
        assert!((EVENTS..=2 * EVENTS + 200_000).contains(&kept), "{kept}");
    }
}
