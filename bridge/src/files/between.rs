//! From one server to another, or from one root to another: through the memory of this machine,
//! piece by piece, and never onto its disk.
//!
//! Each server seals for this machine and no other, so neither has to know or trust the other. What
//! is sent to the second is whole only when the first has said that it was.

mod moved;
mod one;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::header::Class;
use farwire_protocol::streams::files::{Ask, Attributes, Entry, How, MakeDirectory, What, Write};

pub use self::moved::move_between;
use super::everything::everything;
use super::place::Place;
use super::transfer::{
    LARGE, Meter, Patience, Rights, Transfer, WITH_ALL, beneath, is_of_one, set_there,
};
use super::{Files, FilesConversation};
use crate::client::{Client, Server};
use crate::conversation::Remote;

/// One end of a copy.
#[derive(Clone, Debug)]
pub struct CopyEnd {
    /// The server.
    pub server: Server,
    /// What is there, or shall be.
    pub place: Place,
}

impl CopyEnd {
    /// Whether both are in the same root of the same server, which moves and copies by itself.
    pub fn is_beside(&self, other: &Self) -> bool {
        self.server.pin.bundle.id == other.server.pin.bundle.id
            && self.place.is_beside(&other.place)
    }

    /// A stream there.
    async fn enter(&self, client: &Client) -> Result<Files, Failure> {
        self.enter_on(client, Arc::default()).await
    }

    /// A stream there for single questions of a person or a model. `face` is how servers' histories
    /// call them.
    pub(crate) async fn enter_as(&self, client: &Client, face: &str) -> Result<Files, Failure> {
        let request = self.place.request(face);
        Files::enter(client, &self.server, &request, Class::Interactive).await
    }

    /// The next stream there of a conversation.
    async fn enter_on(
        &self,
        client: &Client,
        line: Arc<FilesConversation>,
    ) -> Result<Files, Failure> {
        let request = self.place.request("transfer");
        Files::enter_on(Remote::new(client, &self.server), &request, Class::Bulk, line).await
    }

    /// What is there.
    pub(super) async fn stat(&self, client: &Client) -> Result<Entry, Failure> {
        let ask = Ask::Stat(Blob(self.place.path.clone()));
        let answer = self.enter(client).await?.answer(client, ask, None).await?;
        let nothing = || Failure::new(Kind::ProtocolViolation, "the answer has no entry");
        answer.done.entry.ok_or_else(nothing)
    }

    /// The same, or nothing.
    pub(super) async fn look(&self, client: &Client) -> Result<Option<Entry>, Failure> {
        match self.stat(client).await {
            Ok(entry) => Ok(Some(entry)),
            Err(failure) if failure.kind == Kind::NoSuchFile => Ok(None),
            Err(failure) => Err(failure),
        }
    }
}

/// What is copied, and how.
#[derive(Debug)]
pub struct Between<'a> {
    /// The way to both servers.
    pub client: &'a Client,
    /// From where.
    pub from: CopyEnd,
    /// Where to.
    pub to: CopyEnd,
    /// What is there before is replaced.
    pub overwrite: bool,
    /// Directories, with all that is in them.
    pub recursive: bool,
    /// The source is removed afterwards: each file is on the target's disk before it counts.
    pub moved: bool,
    /// How far it is.
    pub meter: &'a Meter,
}

/// Where one file is, and where it goes: in the roots of both ends.
#[derive(Debug)]
struct Pair {
    from: Vec<u8>,
    to: Vec<u8>,
}

/// Copies a file, or a directory with all that is in it.
///
/// # Errors
///
/// Those of both servers. What was copied before stays.
pub async fn copy_between(copy: &Between<'_>) -> Result<(), Failure> {
    let entry = copy.from.stat(copy.client).await?;
    match entry.target.unwrap_or(entry.what) {
        What::Directory if copy.recursive => directory(copy, &entry).await,
        What::Directory => {
            let text = format!("{} is a directory", copy.from.place.to_text());
            Err(Failure::new(Kind::NotAFile, text).with_hint(WITH_ALL))
        }
        _ => {
            copy.meter.expect(entry.size);
            let place = |end: &CopyEnd| end.place.path.clone();
            let pair = Pair { from: place(&copy.from), to: place(&copy.to) };
            one::one(copy, &pair).await
        }
    }
}

impl Between<'_> {
    async fn enter(&self, end: &CopyEnd) -> Result<Files, Failure> {
        end.enter(self.client).await
    }

    /// The next stream of something that is done at this end over several.
    async fn enter_on(&self, end: &CopyEnd, patience: &mut Patience<'_>) -> Result<Files, Failure> {
        let files = end.enter_on(self.client, patience.line.clone()).await?;
        patience.entered();
        Ok(files)
    }

    fn pair(&self, entry: &Entry) -> Pair {
        let join = |end: &CopyEnd| end.place.join(&entry.path);
        Pair { from: join(&self.from), to: join(&self.to) }
    }

    /// How a file is written.
    fn write(&self, path: &[u8], entry: &Entry) -> Write {
        let how = if self.overwrite { How::Put } else { How::Create };
        Write {
            mode: Some(entry.mode & 0o777),
            parents: Some(true),
            modified: Some(entry.modified),
            // Of one file: many would push out what is kept of all others.
            undo: (self.overwrite && !self.recursive).then_some(true),
            ..Write::new(Blob(path.to_vec()), how)
        }
    }
}

/// Copies a directory: first what is there, then the directories, then the files, then the rights
/// and times of the directories. What cannot be copied is noted as missed.
async fn directory(copy: &Between<'_>, top: &Entry) -> Result<(), Failure> {
    let mut source = copy.enter(&copy.from).await?;
    let listed = everything(copy.client, &mut source, &copy.from.place, false).await?;
    source.leave().await?;
    inside_itself(&copy.from, &copy.to)?;
    for (path, failure) in listed.unread {
        copy.meter.miss(&path, failure);
    }
    let (directories, files) = sorted(listed.entries, copy.meter)?;
    let made = !copy.to.place.path.is_empty() && copy.to.look(copy.client).await?.is_none();
    let directories = make_directories(copy, directories).await?;
    files.iter().for_each(|entry| copy.meter.expect(entry.size));
    let files = if copy.overwrite { files } else { missing(copy, files).await? };
    let (big, small): (Vec<_>, Vec<_>) = files.into_iter().partition(|one| one.size > LARGE);
    let mut so_far = one::Copied::default();
    let mut patience = Patience::new(copy.meter);
    while let Err(failure) = one::many(copy, &small, &mut so_far, &mut patience).await {
        patience.wait(failure).await?;
    }
    for entry in so_far.doubtful().iter().filter_map(|&at| small.get(at)) {
        let same = one::same(copy, &copy.pair(entry)).await;
        copy.meter.or_miss(&entry.path, same)?;
    }
    // What changed while it was read is read alone, until it stands still.
    for entry in so_far.again().iter().filter_map(|&at| small.get(at)).chain(&big) {
        let copied = Box::pin(one::one(copy, &copy.pair(entry))).await;
        copy.meter.or_miss(&entry.path, copied)?;
    }
    let top = made.then(|| Entry { path: Blob(Vec::new()), ..top.clone() });
    set_rights(copy, directories.iter().chain(&top)).await
}

/// Makes directories, each before what is in it; returns those that are there now.
async fn make_directories(
    copy: &Between<'_>,
    directories: BTreeMap<Vec<u8>, Entry>,
) -> Result<Vec<Entry>, Failure> {
    let mut there = Vec::new();
    let mut target = copy.enter(&copy.to).await?;
    let make = |path| Ask::MakeDirectory(MakeDirectory { path, parents: Some(true) });
    if !copy.to.place.path.is_empty() {
        target.answer(copy.client, make(Blob(copy.to.place.path.clone())), None).await?;
    }
    for (below, entry) in directories {
        let path = Blob(copy.to.place.join(&below));
        let made = target.answer(copy.client, make(path.clone()), None).await.map(drop);
        let is_made = made.is_ok();
        copy.meter.or_miss(&below, made)?;
        if !is_made {
            continue;
        }
        if entry.mode & 0o777 != 0o755 && target.root.sets_attributes() {
            // Nobody sees more of it than will be seen at the end, and we may write to it.
            let mode = Some((entry.mode & 0o777) | 0o700);
            let prepare = Attributes { path, mode, modified: None };
            let prepared = target.answer(copy.client, Ask::Attributes(prepare), None).await;
            // It is tried again at the end, and said then.
            if let Err(failure) = prepared
                && !is_of_one(failure.kind)
            {
                return Err(failure);
            }
        }
        there.push(entry);
    }
    target.leave().await?;
    Ok(there)
}

/// Gives directories their rights and times, the innermost first.
async fn set_rights(
    copy: &Between<'_>,
    directories: impl Iterator<Item = &Entry>,
) -> Result<(), Failure> {
    let all: Vec<_> = directories
        .map(|entry| Rights {
            path: entry.path.0.clone(),
            mode: entry.mode & 0o777,
            modified: entry.modified,
        })
        .collect();
    let CopyEnd { server, place } = &copy.to;
    let transfer = Transfer {
        client: copy.client,
        server,
        remote: place.clone(),
        local: PathBuf::new(),
        overwrite: copy.overwrite,
        recursive: true,
        upward: true,
        meter: copy.meter,
    };
    Box::pin(set_there(&transfer, all)).await
}

/// What is not there yet: what an earlier call has copied of a directory is not copied again.
async fn missing(copy: &Between<'_>, files: Vec<Entry>) -> Result<Vec<Entry>, Failure> {
    let mut target = copy.enter(&copy.to).await?;
    let there = everything(copy.client, &mut target, &copy.to.place, false).await?.by_path();
    let like = |entry: &Entry| {
        there.get(&entry.path.0).is_some_and(|there| {
            there.what == What::File && (there.size, there.modified) == (entry.size, entry.modified)
        })
    };
    let (here, missing): (Vec<_>, Vec<_>) = files.into_iter().partition(like);
    for entry in here {
        copy.meter.came_before(entry.size);
        copy.meter.whole();
    }
    Ok(missing)
}

/// Directories by their paths, each before what is in it; and the files.
type Sorted = (BTreeMap<Vec<u8>, Entry>, Vec<Entry>);

/// Sorts what was listed. Links, and what is neither file nor directory, are left out and counted.
///
/// # Errors
///
/// `outside_root` for a name that leads elsewhere: one server must not choose where things go on
/// another.
fn sorted(entries: Vec<Entry>, meter: &Meter) -> Result<Sorted, Failure> {
    let (mut directories, mut files) = (BTreeMap::new(), Vec::new());
    for entry in entries {
        beneath(Path::new("/"), &entry.path)?;
        match entry.what {
            What::Directory => drop(directories.insert(entry.path.0.clone(), entry)),
            What::File => files.push(entry),
            What::Link | What::Other => meter.leave_out(&entry.path),
        }
    }
    Ok((directories, files))
}

/// That a directory is not copied into itself, which would have no end.
fn inside_itself(from: &CopyEnd, to: &CopyEnd) -> Result<(), Failure> {
    if from.server.pin.bundle.id != to.server.pin.bundle.id {
        return Ok(());
    }
    // Roots may lie in one another.
    let full = |end: &CopyEnd| end.place.full(&end.place.path);
    let (above, below) = (full(from), full(to));
    let rest = below.strip_prefix(above.strip_suffix(b"/").unwrap_or(&above));
    match rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/")) {
        true => {
            let text = format!("{} is in {} itself", to.place.to_text(), from.place.to_text());
            Err(Failure::new(Kind::InvalidArgument, text))
        }
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_come_before_what_is_in_them_and_links_are_left_out() {
        let entry = |path: &str, what| Entry {
            path: Blob(path.as_bytes().to_vec()),
            what,
            size: 1,
            modified: 0,
            revision: 1,
            mode: 0o644,
            hash: None,
            target: None,
        };
        let meter = Meter::default();
        let all = vec![
            entry("a/b", What::Directory),
            entry("a/b/f", What::File),
            entry("a", What::Directory),
            entry("l", What::Link),
        ];
        let (directories, files) = sorted(all, &meter).unwrap();
        assert_eq!(directories.into_keys().collect::<Vec<_>>(), [&b"a"[..], b"a/b"]);
        assert_eq!((files.len(), meter.skipped()), (1, 1));
        for bad in ["../x", "/etc/x", "a//b", ""] {
            let refused = sorted(vec![entry(bad, What::File)], &meter).unwrap_err();
            assert_eq!(refused.kind, Kind::OutsideRoot, "{bad}");
        }
    }
}
