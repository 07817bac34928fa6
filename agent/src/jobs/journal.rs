//! The requests to this agent process and to those before it.
//!
//! ```text
//!     farwire-journal 2 INSTANCE FROM LENGTH COMPLETE BOOT CHECK     the head, rewritten in its place
//!     p SEQ INSTANCE CHECK            every request to this earlier process is in here
//!     r SEQ NAME BODY CHECK           a request is reserved
//!     e SEQ NAME END CHECK            its program has ended
//! ```
//!
//! This process remembers its requests in memory; the file is for the next one, which has to answer
//! two questions: what became of a request, and whether a request that is not in here can have been
//! carried out. For the second one the file proves that it is whole. Records are numbered and have
//! checksums, and the head says how long the file is: a record is written first, then the length,
//! and only then is the program started. A file with a damaged or a missing record, a shorter file,
//! a head that does not match, or a missing file proves nothing: a request that is not in there is
//! then unknown, and never "not started". The same holds after a restart of the machine, because
//! the file is not synced.
//!
//! It also takes a file to prove that nothing was ever requested: [`create`] writes an empty one
//! together with the agent's identity. A missing file may have been removed.
//!
//! A file that cannot be read for want of descriptors or memory is read again before anything is
//! started, and is not replaced until then. One that cannot be read for another reason is put aside
//! as `journal.unread`.
//!
//! A request for which no record can be written is refused. No clock decides anything here.
//!
//! A file that has become long is put aside as `journal.old`, and replaces the one put aside
//! before. From then on a request that is in neither file is unknown. In memory each owner has two
//! generations of its own, so that one owner's requests never push out another's.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::run::Exit;
use farwire_protocol::surface::Surface;
use sha2::{Digest as _, Sha256};

pub(crate) use self::past::Past;
use self::record::{HEAD, Hash, JournalHead, JournalRecord};
use self::replay::{NOT_STARTED, PastRequest, Replay, before};
use crate::gate::principal::Principal;
use crate::os::clock::boot_id;

mod past;
mod record;
mod replay;

/// A file longer than this is put aside, in bytes: some 160,000 requests.
const LONGEST: u64 = 16 << 20;

/// An owner's generation of requests in memory ends after this many.
const REMEMBERED: usize = 65_536;

/// When more requests of earlier processes than this are found, the older half is dropped.
const PAST: usize = 131_072;

/// The journal of this state directory.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    instance: Nonce,
    /// The id of the current boot; empty if it cannot be read.
    boot: String,
    /// `None` until it could be created.
    log: Option<OpenJournal>,
    longest: u64,
    /// The requests to this process, by owner.
    asked: HashMap<Hash, Asker>,
    past: HashMap<Hash, PastRequest>,
    /// The requests of earlier processes, the oldest first.
    order: Vec<Hash>,
    /// Earlier processes of which every request is known.
    vouched: Vec<Nonce>,
    /// Every request that ever came to this state directory is known.
    complete: bool,
    /// There are files that could not be read yet.
    unread: bool,
}

/// The file that is written.
#[derive(Debug)]
struct OpenJournal {
    file: File,
    head: JournalHead,
    /// The next record's number and offset.
    next: u64,
    end: u64,
}

/// One owner's requests to this process: hashes of their bodies by their names.
#[derive(Debug, Default)]
struct Asker {
    /// The current generation and the one before.
    generations: [HashMap<Hash, Hash>; 2],
    /// An older generation was dropped.
    forgot: bool,
}

/// Whether this process has had a request before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum PriorRequest {
    /// Never.
    No,
    /// This very request.
    Same,
    /// Another request with this id.
    Other,
}

/// How a request ended, as the journal has it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ending {
    /// The program ended like this.
    Exit(Exit),
    /// No program was started for it, and none will be.
    NotStarted,
}

/// The name of an owner.
fn name_of(owner: &Principal) -> Hash {
    let hash = Sha256::new().chain_update(owner.device.0).chain_update(owner.surface.to_string());
    half(&hash.finalize().into())
}

/// One name for a request of an owner.
fn name(owner: &Principal, request: Nonce) -> Hash {
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

impl Asker {
    fn get(&self, name: &Hash) -> Option<&Hash> {
        self.generations.iter().find_map(|generation| generation.get(name))
    }

    fn insert(&mut self, name: Hash, body: Hash) {
        let [current, before] = &mut self.generations;
        if current.len() >= REMEMBERED {
            self.forgot |= !before.is_empty();
            *before = std::mem::take(current);
        }
        current.insert(name, body);
    }
}

/// Writes the empty journal of a new identity. An existing journal stays.
///
/// # Errors
///
/// If it cannot be written. Answers about requests are then less certain later, but never wrong.
pub(crate) fn create(path: &Path) -> io::Result<()> {
    create_on(path, &boot_id())
}

/// The same, with the id of the current boot.
fn create_on(path: &Path, boot: &str) -> io::Result<()> {
    if path.exists() || before(path).exists() {
        return Ok(());
    }
    let (instance, boot) = (Nonce([0; 16]), boot.to_owned());
    let head = JournalHead { instance, from: 0, length: HEAD as u64, complete: true, boot };
    create_file(path)?.write_all_at(&head.line(), 0)
}

impl Journal {
    /// Reads the files of earlier processes, and begins the file of this one. A file that cannot be
    /// read proves nothing; one that cannot be written is begun later.
    pub(crate) fn open(path: &Path, instance: Nonce) -> Self {
        Self::open_on(path, instance, &boot_id())
    }

    /// The same, with the id of the current boot.
    fn open_on(path: &Path, instance: Nonce, boot: &str) -> Self {
        let mut journal = Self {
            path: path.to_path_buf(),
            instance,
            boot: boot.to_owned(),
            log: None,
            longest: LONGEST,
            asked: HashMap::new(),
            past: HashMap::new(),
            order: Vec::new(),
            vouched: Vec::new(),
            complete: false,
            unread: true,
        };
        if let Err(error) = journal.begin() {
            tracing::warn!(%error, "the journal cannot be written yet: no run will be started");
        }
        journal
    }

    /// Reads the files of earlier processes, unless that is done.
    fn read(&mut self) -> io::Result<()> {
        if !self.unread {
            return Ok(());
        }
        let mut found = Replay::read(&self.path, &self.boot)?;
        found.bound(PAST);
        let Replay { past, order, vouched, complete } = found;
        (self.past, self.order, self.vouched, self.complete) = (past, order, vouched, complete);
        self.unread = false;
        Ok(())
    }

    /// Writes the first file of this process, with what is known of earlier processes, in place of
    /// theirs.
    fn begin(&mut self) -> io::Result<()> {
        self.read()?;
        let beside = self.path.with_extension("new");
        let mut text = vec![b' '; HEAD];
        let mut next = 0;
        let mut put = |record: JournalRecord| {
            text.extend(record.line(next));
            next += 1;
        };
        self.vouched.iter().for_each(|instance| put(JournalRecord::Process(*instance)));
        for name in &self.order {
            let Some(entry) = self.past.get(name) else { continue };
            put(JournalRecord::Reserved { name: *name, body: entry.body });
            if let Some(end) = &entry.end {
                put(JournalRecord::Ended { name: *name, end: end.clone() });
            }
        }
        let head = JournalHead {
            instance: self.instance,
            from: 0,
            length: text.len() as u64,
            complete: self.complete,
            boot: self.boot.clone(),
        };
        text.splice(..HEAD, head.line());
        let file = create_file(&beside)?;
        file.write_all_at(&text, 0)?;
        std::fs::rename(&beside, &self.path)?;
        // The new file now has everything that was only in there.
        let _ = std::fs::remove_file(before(&self.path));
        self.log = Some(OpenJournal { file, end: head.length, head, next });
        Ok(())
    }

    /// As if its file had never been begun.
    #[cfg(test)]
    pub(crate) fn close(&mut self) {
        self.log = None;
    }

    /// Whether this process has had this request before.
    pub(crate) fn prior_request(
        &self,
        owner: &Principal,
        request: Nonce,
        body: &[u8; 32],
    ) -> PriorRequest {
        let known = self.asked.get(&name_of(owner)).and_then(|all| all.get(&name(owner, request)));
        match known {
            None => PriorRequest::No,
            Some(known) if *known == half(body) => PriorRequest::Same,
            Some(_) => PriorRequest::Other,
        }
    }

    /// Records that a request will be carried out. Nothing may be started for it before this
    /// returns.
    ///
    /// # Errors
    ///
    /// [`Kind::DiskFull`] or [`Kind::Io`] if it cannot be written: then nothing may be started at
    /// all.
    pub(crate) fn reserve(
        &mut self,
        owner: &Principal,
        request: Nonce,
        body: &[u8; 32],
    ) -> Result<(), Failure> {
        let (name, body) = (name(owner, request), half(body));
        self.commit(&JournalRecord::Reserved { name, body }).map_err(|error| refusal(&error))?;
        self.asked.entry(name_of(owner)).or_default().insert(name, body);
        Ok(())
    }

    fn commit(&mut self, record: &JournalRecord) -> io::Result<()> {
        if self.log.is_none() {
            self.begin()?;
        }
        if self.log.as_ref().is_some_and(|log| log.end > self.longest)
            && let Err(error) = self.put_aside()
        {
            // A longer file is better than none.
            tracing::warn!(%error, "the journal could not be moved aside");
        }
        let log = self.log.as_mut().ok_or(io::ErrorKind::NotFound)?;
        log.append(record)?;
        log.commit()
    }

    /// Makes the current file the previous one, and begins another.
    fn put_aside(&mut self) -> io::Result<()> {
        let Some(log) = &mut self.log else { return Ok(()) };
        log.commit()?;
        let head = JournalHead {
            from: log.head.from + log.next,
            length: HEAD as u64,
            // The next file replaces the one before this.
            complete: log.head.complete && log.head.from == 0,
            ..log.head.clone()
        };
        let beside = self.path.with_extension("new");
        let file = create_file(&beside)?;
        file.write_all_at(&head.line(), 0)?;
        std::fs::rename(&self.path, before(&self.path))?;
        // If this fails, the next process finds one file and is not sure of this one.
        std::fs::rename(&beside, &self.path)?;
        *log = OpenJournal { file, end: head.length, head, next: 0 };
        Ok(())
    }

    /// Records how a request ended. If it cannot be written, the next process knows only that it
    /// was begun.
    pub(crate) fn note_end(&mut self, owner: &Principal, request: Nonce, ending: Ending) {
        let end = match ending {
            Ending::Exit(Exit::Code(code)) => format!("exit code {code}"),
            Ending::Exit(Exit::Signal(signal)) => format!("signal {signal}"),
            Ending::NotStarted => NOT_STARTED.to_owned(),
        };
        let (name, end) = (name(owner, request), end.into_boxed_str());
        if let Some(entry) = self.past.get_mut(&name) {
            entry.end = Some(end.clone());
        }
        if let Some(log) = &mut self.log
            && let Err(error) = log.append(&JournalRecord::Ended { name, end })
        {
            tracing::warn!(%error, "the end of a run could not be written to the journal");
        }
    }

    /// What an earlier process did with a request that was first sent to `instance`.
    pub(crate) fn past(
        &self,
        owner: &Principal,
        request: Nonce,
        instance: Nonce,
        body: &[u8; 32],
    ) -> Past {
        match self.past.get(&name(owner, request)) {
            Some(entry) if entry.body != half(body) => Past::Conflict,
            Some(entry) => entry.past(),
            None if self.vouched.contains(&instance) => Past::NeverStarted,
            None => Past::Unknown,
        }
    }

    /// What became of a request whose job is no longer kept, by its id alone. `instance` is the
    /// process that it was first sent to, if the asker knows it.
    ///
    /// A device knows the ids of the requests of all its surfaces, so each surface is searched.
    pub(crate) fn trace(&self, owner: &Principal, request: Nonce, instance: Option<Nonce>) -> Past {
        let other = |surface| Principal { surface, ..owner.clone() };
        let owners = [owner.clone(), other(Surface::Human), other(Surface::AiLocal)];
        for owner in &owners {
            let name = name(owner, request);
            if self.asked.get(&name_of(owner)).is_some_and(|asker| asker.get(&name).is_some()) {
                // Only jobs that have ended are forgotten.
                return Past::Ended("an exit that is no longer known".to_owned());
            }
            if let Some(entry) = self.past.get(&name) {
                return entry.past();
            }
        }
        let forgot = |owner| self.asked.get(&name_of(owner)).is_some_and(|asker| asker.forgot);
        let remembered = !owners.iter().any(forgot);
        let known = match instance {
            Some(instance) if instance == self.instance => remembered,
            Some(instance) => self.vouched.contains(&instance),
            None => self.complete && remembered,
        };
        if known { Past::NeverStarted } else { Past::Unknown }
    }
}

impl OpenJournal {
    /// Appends a record. It counts once the length in the head includes it; until then the next
    /// record overwrites it.
    fn append(&mut self, record: &JournalRecord) -> io::Result<()> {
        let line = record.line(self.next);
        self.file.write_all_at(&line, self.end)?;
        self.end += line.len() as u64;
        self.next += 1;
        Ok(())
    }

    fn commit(&mut self) -> io::Result<()> {
        let head = JournalHead { length: self.end, ..self.head.clone() };
        self.file.write_all_at(&head.line(), 0)?;
        self.head = head;
        Ok(())
    }
}

fn create_file(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    File::options().create(true).truncate(true).write(true).mode(0o600).open(path)
}

fn refusal(error: &io::Error) -> Failure {
    let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let kind = if full { Kind::DiskFull } else { Kind::Io };
    Failure::new(
        kind,
        format!("the agent's journal cannot be written ({error}); nothing was started"),
    )
    .with_hint(
        "free some space where the agent keeps its state, or repair that disk, then try again",
    )
}

#[cfg(test)]
mod tests;
