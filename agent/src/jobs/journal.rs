//! What was asked for, across restarts of the agent: one line for each request, one for each end.
//!
//! Appended and not synced: it is there to say "I do not know" instead of running something twice,
//! and after a power cut nothing that it speaks of runs. A damaged line is skipped.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::run::Exit;
use sha2::{Digest as _, Sha256};

use crate::jobs::owner::Owner;

/// Lines older than this are dropped at the start, in seconds.
const KEEP: u64 = 24 * 3600;

/// The file is begun anew when it is longer.
const LONGEST: u64 = 8 << 20;

/// No line is longer.
const LINE: usize = 256;

/// The journal of this state directory.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    length: u64,
    past: HashMap<[u8; 32], Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    time: u64,
    body: String,
    end: Option<String>,
}

/// What an earlier process did with a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Past {
    /// Nothing: it is not in the journal.
    Unknown,
    /// It was begun, and no end was written.
    Reserved,
    /// It ended like this.
    Ended(String),
    /// The id was used for another request.
    Conflict,
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// One name for a request of an owner.
fn name(owner: &Owner, request: Nonce) -> [u8; 32] {
    Sha256::new()
        .chain_update(owner.device.0)
        .chain_update(request.0)
        .chain_update(owner.surface.to_string())
        .finalize()
        .into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    Some(out)
}

impl Journal {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let failed =
            |error: std::io::Error| Failure::new(Kind::Io, format!("{}: {error}", path.display()));
        let past = match File::open(path) {
            Ok(file) => read(file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => HashMap::new(),
            Err(error) => return Err(failed(error)),
        };
        let beside = path.with_extension("new");
        let mut file = create(&beside).map_err(failed)?;
        let mut length = 0;
        for (name, entry) in &past {
            let text = entry.lines(name);
            file.write_all(text.as_bytes()).map_err(failed)?;
            length += text.len() as u64;
        }
        std::fs::rename(&beside, path).map_err(failed)?;
        Ok(Self { path: path.to_path_buf(), file, length, past })
    }

    /// A request will be carried out.
    pub(crate) fn reserved(&mut self, owner: &Owner, request: Nonce, body: &[u8; 32]) {
        let entry = Entry { time: now(), body: hex(body), end: None };
        self.append(&entry.lines(&name(owner, request)));
    }

    /// A request's program has ended.
    pub(crate) fn ended(&mut self, owner: &Owner, request: Nonce, exit: Option<Exit>) {
        let end = match exit {
            Some(Exit::Code(code)) => format!("exit code {code}"),
            Some(Exit::Signal(signal)) => format!("signal {signal}"),
            None => "an error before it started".to_owned(),
        };
        self.append(&format!("e {} {end}\n", hex(&name(owner, request))));
    }

    fn append(&mut self, text: &str) {
        if self.length > LONGEST {
            // Only what earlier processes did matters, and what this one did is in memory.
            if let Ok(file) = create(&self.path) {
                self.file = file;
                self.length = 0;
            }
        }
        self.length += text.len() as u64;
        if let Err(error) = self.file.write_all(text.as_bytes()) {
            tracing::warn!(%error, "the journal could not be written");
        }
    }

    /// What an earlier process did with a request.
    pub(crate) fn past(&self, owner: &Owner, request: Nonce, body: &[u8; 32]) -> Past {
        match self.past.get(&name(owner, request)) {
            None => Past::Unknown,
            Some(entry) if entry.body != hex(body) => Past::Conflict,
            Some(entry) => entry.end.clone().map_or(Past::Reserved, Past::Ended),
        }
    }
}

impl Entry {
    fn lines(&self, name: &[u8; 32]) -> String {
        let mut text = format!("r {} {} {}\n", hex(name), self.time, self.body);
        if let Some(end) = &self.end {
            text = format!("{text}e {} {end}\n", hex(name));
        }
        text
    }
}

fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)
}

fn read(file: File) -> HashMap<[u8; 32], Entry> {
    let mut past = HashMap::new();
    for line in BufReader::new(file).split(b'\n').map_while(Result::ok) {
        let Ok(line) = String::from_utf8(line) else { continue };
        if line.len() <= LINE {
            take(&mut past, &line);
        }
    }
    past
}

fn take(past: &mut HashMap<[u8; 32], Entry>, line: &str) -> Option<()> {
    let (kind, rest) = line.split_once(' ')?;
    let (name, rest) = rest.split_once(' ')?;
    let name = unhex(name)?;
    match kind {
        "r" => {
            let (time, body) = rest.split_once(' ')?;
            let time = time.parse().ok()?;
            if now().saturating_sub(time) <= KEEP && unhex(body).is_some() {
                past.insert(name, Entry { time, body: body.to_owned(), end: None });
            }
        }
        "e" => past.get_mut(&name)?.end = Some(rest.to_owned()),
        _ => {}
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use farwire_protocol::id::Id;
    use farwire_protocol::surface::Surface;

    use super::*;

    fn owner(surface: Surface) -> Owner {
        Owner { device: Id([1; 32]), surface, name: "laptop".to_owned() }
    }

    #[test]
    fn the_next_process_knows_what_this_one_did() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let human = owner(Surface::Human);
        let mut first = Journal::open(&path).unwrap();
        first.reserved(&human, Nonce([1; 16]), &[5; 32]);
        first.reserved(&human, Nonce([2; 16]), &[5; 32]);
        first.ended(&human, Nonce([2; 16]), Some(Exit::Code(7)));
        drop(first);
        for _ in 0..2 {
            let next = Journal::open(&path).unwrap();
            let past =
                |owner: &Owner, n: u8, body: u8| next.past(owner, Nonce([n; 16]), &[body; 32]);
            assert_eq!(past(&human, 1, 5), Past::Reserved);
            assert_eq!(past(&human, 2, 5), Past::Ended("exit code 7".to_owned()));
            assert_eq!(past(&human, 2, 6), Past::Conflict);
            assert_eq!(past(&human, 3, 5), Past::Unknown);
            assert_eq!(past(&owner(Surface::AiLocal), 1, 5), Past::Unknown, "another owner");
        }
    }

    #[test]
    fn damaged_lines_are_skipped_and_the_others_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let human = owner(Surface::Human);
        let mut first = Journal::open(&path).unwrap();
        first.reserved(&human, Nonce([1; 16]), &[5; 32]);
        drop(first);
        let mut bytes = b"\xff\xfe\nr x y\ne \n".to_vec();
        bytes.extend(std::fs::read(&path).unwrap());
        bytes.extend(b"r 00");
        std::fs::write(&path, bytes).unwrap();
        let next = Journal::open(&path).unwrap();
        assert_eq!(next.past(&human, Nonce([1; 16]), &[5; 32]), Past::Reserved);
    }

    #[test]
    fn any_line_is_read_without_a_panic() {
        bolero::check!().with_type::<String>().for_each(|line| {
            take(&mut HashMap::new(), line);
        });
    }
}
