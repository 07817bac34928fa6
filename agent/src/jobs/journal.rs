//! What was asked for, by this process and by those before: one line for each request, one for each
//! end.
//!
//! This process remembers requests in memory; the file is for the next one. It is appended and not
//! synced: it is there to say "I do not know" instead of running something twice, and after a power cut
//! nothing that it speaks of runs. A damaged line is skipped.
//!
//! Both are kept in two generations, the current one and the one before, so that nothing is forgotten
//! before so many others came that no bridge asks for it any more.

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

/// A generation is over when its file is longer: some 130,000 requests.
const LONGEST: u64 = 16 << 20;

/// No line is longer.
const LINE: usize = 128;

/// One half of a SHA-256: against accidents, and against an owner who would only harm itself.
type Hash = [u8; 16];

/// The journal of this state directory.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    length: u64,
    longest: u64,
    /// What this process was asked, and how: the current generation and the one before.
    asked: [HashMap<Hash, Hash>; 2],
    past: HashMap<Hash, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    time: u64,
    body: Hash,
    end: Option<Box<str>>,
}

/// Whether this process was asked before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Asked {
    /// Never.
    No,
    /// This very request.
    Same,
    /// Another request with this id.
    Other,
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
fn name(owner: &Owner, request: Nonce) -> Hash {
    let hash = Sha256::new()
        .chain_update(owner.device.0)
        .chain_update(request.0)
        .chain_update(owner.surface.to_string())
        .finalize();
    half(&hash.into())
}

fn half(hash: &[u8; 32]) -> Hash {
    let mut out = [0; 16];
    out.copy_from_slice(&hash[..16]);
    out
}

fn unhex(text: &str) -> Option<Hash> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}

fn hex(hash: &Hash) -> String {
    data_encoding::HEXLOWER.encode(hash)
}

impl Journal {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let failed =
            |error: std::io::Error| Failure::new(Kind::Io, format!("{}: {error}", path.display()));
        let mut past = HashMap::new();
        for path in [&before(path), path] {
            match File::open(path) {
                Ok(file) => read(file, &mut past),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
        let beside = path.with_extension("new");
        let mut file = create(&beside).map_err(failed)?;
        let mut length = 0;
        for (name, entry) in &past {
            let text = entry.lines(name);
            file.write_all(text.as_bytes()).map_err(failed)?;
            length += text.len() as u64;
        }
        std::fs::rename(&beside, path).map_err(failed)?;
        // What is only in there is in the new file now.
        let _ = std::fs::remove_file(before(path));
        let (path, asked) = (path.to_path_buf(), Default::default());
        Ok(Self { path, file, length, longest: LONGEST, asked, past })
    }

    /// Whether this process was asked this before.
    pub(crate) fn asked(&self, owner: &Owner, request: Nonce, body: &[u8; 32]) -> Asked {
        let name = name(owner, request);
        match self.asked.iter().find_map(|generation| generation.get(&name)) {
            None => Asked::No,
            Some(known) if *known == half(body) => Asked::Same,
            Some(_) => Asked::Other,
        }
    }

    /// Whether this process was asked anything by this id.
    pub(crate) fn knows(&self, owner: &Owner, request: Nonce) -> bool {
        let name = name(owner, request);
        self.asked.iter().any(|generation| generation.contains_key(&name))
    }

    /// A request will be carried out.
    pub(crate) fn reserved(&mut self, owner: &Owner, request: Nonce, body: &[u8; 32]) {
        if self.length > self.longest {
            self.turn();
        }
        let (name, body) = (name(owner, request), half(body));
        self.asked[0].insert(name, body);
        self.append(&Entry { time: now(), body, end: None }.lines(&name));
    }

    /// A request of an earlier process goes on in this one.
    pub(crate) fn recall(&mut self, owner: &Owner, request: Nonce) {
        let name = name(owner, request);
        if let Some(entry) = self.past.get(&name) {
            self.asked[0].insert(name, entry.body);
        }
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
        self.length += text.len() as u64;
        if let Err(error) = self.file.write_all(text.as_bytes()) {
            tracing::warn!(%error, "the journal could not be written");
        }
    }

    /// Begins a generation: the current one becomes the one before, and that one is forgotten.
    fn turn(&mut self) {
        let begun =
            std::fs::rename(&self.path, before(&self.path)).and_then(|()| create(&self.path));
        match begun {
            Ok(file) => self.file = file,
            // A longer file is better than none.
            Err(error) => return tracing::warn!(%error, "the journal could not be begun anew"),
        }
        self.length = 0;
        self.asked.swap(0, 1);
        self.asked[0].clear();
    }

    /// What an earlier process did with a request.
    pub(crate) fn past(&self, owner: &Owner, request: Nonce, body: &[u8; 32]) -> Past {
        match self.past.get(&name(owner, request)) {
            None => Past::Unknown,
            Some(entry) if entry.body != half(body) => Past::Conflict,
            Some(Entry { end: Some(end), .. }) => Past::Ended(end.to_string()),
            Some(_) => Past::Reserved,
        }
    }
}

impl Entry {
    fn lines(&self, name: &Hash) -> String {
        let name = hex(name);
        let mut text = format!("r {name} {} {}\n", self.time, hex(&self.body));
        if let Some(end) = &self.end {
            text = format!("{text}e {name} {end}\n");
        }
        text
    }
}

/// Where the generation before is.
fn before(path: &Path) -> PathBuf {
    path.with_extension("old")
}

fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)
}

fn read(file: File, past: &mut HashMap<Hash, Entry>) {
    for line in BufReader::new(file).split(b'\n').map_while(Result::ok) {
        let Ok(line) = String::from_utf8(line) else { continue };
        if line.len() <= LINE {
            take(past, &line);
        }
    }
}

fn take(past: &mut HashMap<Hash, Entry>, line: &str) -> Option<()> {
    let (kind, rest) = line.split_once(' ')?;
    let (name, rest) = rest.split_once(' ')?;
    let name = unhex(name)?;
    match kind {
        "r" => {
            let (time, body) = rest.split_once(' ')?;
            let (time, body) = (time.parse().ok()?, unhex(body)?);
            if now().saturating_sub(time) <= KEEP {
                past.insert(name, Entry { time, body, end: None });
            }
        }
        "e" => past.get_mut(&name)?.end = Some(rest.into()),
        _ => {}
    }
    Some(())
}

impl Past {
    /// What is said of a request that an earlier process was sent.
    pub(crate) fn failure(self) -> Failure {
        let restarted = "the agent was restarted";
        match self {
            Self::Conflict => Failure::new(
                Kind::RequestIdConflict,
                "this request id was used for another request",
            ),
            Self::Ended(how) => Failure::new(
                Kind::OutcomeUnknown,
                format!("{restarted}; the command had ended with {how}, and its output is gone"),
            )
            .with_hint("run it again if you need its output"),
            Self::Reserved => Failure::new(
                Kind::OutcomeUnknown,
                format!("{restarted} while the command ran; it may go on or have ended"),
            ),
            // Reserved requests are in the journal before anything is started for them.
            Self::Unknown => Failure::new(
                Kind::StreamStale,
                format!("{restarted} before the command arrived; it was not started"),
            ),
        }
    }
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
    fn two_generations_are_remembered_by_this_process_and_by_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let human = owner(Surface::Human);
        let mut first = Journal::open(&path).unwrap();
        first.longest = 10 * 79;
        for number in 0..100 {
            first.reserved(&human, Nonce([number; 16]), &[5; 32]);
        }
        let known = |n: u8| first.asked(&human, Nonce([n; 16]), &[5; 32]);
        assert_eq!(known(99), Asked::Same);
        assert_eq!(first.asked(&human, Nonce([99; 16]), &[6; 32]), Asked::Other);
        let kept = (0..100).filter(|&n| known(n) == Asked::Same).count();
        assert!((11..=22).contains(&kept), "{kept}");
        let next = Journal::open(&path).unwrap();
        let past = (0..100_u8)
            .filter(|&n| next.past(&human, Nonce([n; 16]), &[5; 32]) == Past::Reserved)
            .count();
        assert_eq!(past, kept, "the next process knows as much");
        assert_eq!(next.asked(&human, Nonce([99; 16]), &[5; 32]), Asked::No, "it was another");
    }

    #[test]
    fn any_line_is_read_without_a_panic() {
        bolero::check!().with_type::<String>().for_each(|line| {
            take(&mut HashMap::new(), line);
        });
    }
}
