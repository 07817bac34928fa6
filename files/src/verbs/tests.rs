//! Questions and answers, on real directories.

use farwire_protocol::id::Id;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, symlink};

use bytes::Bytes;
use farwire_protocol::cbor;
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::files::{
    Archive, Arrived, Change, Changes, Edit, Edits, Entry, How, List, Match, Part, Patch, Read,
    Replacement, Revert, Search, Sort, ToBridge, Watch, What, Write,
};

use super::*;
use crate::peer::Broken;
use crate::rules::{Patterns, Rules};
use crate::transfers::Transfers;
use crate::undo::Undo;

/// The other end of a question, which records what is sent.
#[derive(Debug, Default)]
struct Asker {
    content: VecDeque<Bytes>,
    /// Whether the content breaks off.
    cut: bool,
    data: Vec<u8>,
    entries: Vec<Entry>,
    matches: Vec<Match>,
    changes: Vec<Change>,
}

impl Peer for Asker {
    fn content(&mut self) -> Result<Option<Bytes>, Broken> {
        match self.content.pop_front() {
            None if self.cut => Err(Broken),
            piece => Ok(piece),
        }
    }

    fn say(&mut self, message: &ToBridge) -> Result<(), Broken> {
        match message.clone() {
            ToBridge::Entries(entries) => self.entries.extend(entries),
            ToBridge::Matches(matches) => self.matches.extend(matches),
            ToBridge::Changed(changes) => self.changes.extend(changes),
            other => panic!("{other:?}"),
        }
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.data.extend_from_slice(bytes);
        Ok(())
    }

    fn file(&mut self, file: &File, offset: u64, length: u64) -> Result<(), Broken> {
        let mut bytes = vec![0; usize::try_from(length).unwrap()];
        file.read_exact_at(&mut bytes, offset).unwrap();
        self.data(&bytes)
    }
}

struct Place {
    scratch: tempfile::TempDir,
    tree: Tree,
    undo: Undo,
    transfers: Transfers,
}

impl Place {
    fn new() -> Self {
        Self::with(Rules { writable: true, ..Rules::default() })
    }

    fn with(rules: Rules) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        for name in ["root", "store"] {
            fs::create_dir(scratch.path().join(name)).unwrap();
        }
        let open = |name: &str| File::open(scratch.path().join(name)).unwrap().into();
        let tree = Tree::enter(open("root"), rules).unwrap();
        let undo = Undo::open(open("store"), crate::undo::QUOTA).unwrap();
        Self { scratch, tree, undo, transfers: Transfers::default() }
    }

    fn at(&self, path: &str) -> std::path::PathBuf {
        self.scratch.path().join("root").join(path)
    }

    fn has(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.at(path)).ok()
    }

    fn ask_as(&self, asker: &mut Asker, ask: &Ask) -> Result<Done, Failure> {
        let (tree, undo, transfers) = (&self.tree, Some(&self.undo), &self.transfers);
        let desk = Desk { tree, undo, transfers, who: "laptop/ai-local", device: Id([1; 32]) };
        match answer(&desk, ask, asker) {
            Ok(done) => Ok(done),
            Err(VerbError::Failed(failure)) => Err(failure),
            Err(VerbError::Broken) => Err(Failure::new(Kind::LinkLost, "broken")),
        }
    }

    fn ask(&self, ask: &Ask, content: &[u8]) -> Result<(Done, Asker), Failure> {
        let mut asker = Asker::default();
        asker.content.extend(content.chunks(3).map(Bytes::copy_from_slice));
        self.ask_as(&mut asker, ask).map(|done| (done, asker))
    }

    fn write(&self, path: &str, content: &str) -> Result<Done, Failure> {
        self.ask(&Ask::Write(write(path)), content.as_bytes()).map(|(done, _)| done)
    }

    fn edit(&self, path: &str, old: &str, new: &str) -> Result<(Done, String), Failure> {
        let edit = Edit { path: blob(path), revision: None, dry: None, undo: Some(true) };
        let one = Replacement { old: blob(old), new: blob(new), all: None };
        let edits = cbor::encode(&Edits { edits: vec![one] });
        let (done, asker) = self.ask(&Ask::Edit(edit), &edits)?;
        Ok((done, String::from_utf8(asker.data).unwrap()))
    }

    fn revert(&self, change: Option<u64>, redo: bool) -> Result<Done, Failure> {
        let revert = Revert { change, redo: Some(redo), force: None };
        self.ask(&Ask::Revert(revert), b"").map(|(done, _)| done)
    }
}

fn blob(text: &str) -> Blob {
    Blob(text.as_bytes().to_vec())
}

fn write(path: &str) -> Write {
    Write { undo: Some(true), ..Write::new(blob(path), How::Put) }
}

fn names(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| String::from_utf8_lossy(&entry.path).into_owned()).collect()
}

#[test]
fn too_many_edits_are_refused() {
    let place = Place::new();
    place.write("file", "x").unwrap();
    let one = Replacement { old: blob("x"), new: blob("xx"), all: None };
    let ask = |many| {
        let edits = cbor::encode(&Edits { edits: vec![one.clone(); many] });
        let edit = Edit { path: blob("file"), revision: None, dry: None, undo: None };
        place.ask(&Ask::Edit(edit), &edits).map(drop)
    };
    assert_eq!(ask(1_001).unwrap_err().kind, Kind::InvalidArgument);
    assert_eq!(ask(0).unwrap_err().kind, Kind::InvalidArgument);
    ask(1).unwrap();
    assert_eq!(place.has("file").as_deref(), Some("xx"));
}

#[test]
fn a_patch_is_applied_as_a_whole_or_not_at_all() {
    let place = Place::new();
    fs::create_dir(place.at("d")).unwrap();
    fs::write(place.at("d/one"), "1\n2\n3\n").unwrap();
    fs::write(place.at("d/two"), "x\n").unwrap();
    let good = "--- a/one\n+++ b/one\n@@ -1,3 +1,3 @@\n 1\n-2\n+zwei\n 3\n\
        --- a/two\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n\
        --- /dev/null\n+++ b/new/three\n@@ -0,0 +1 @@\n+drei\n";
    let bad = format!("{good}--- a/two\n+++ b/two\n@@ -1 +1 @@\n-y\n+z\n");
    let late = format!("{good}--- a/none\n+++ b/none\n@@ -1 +1 @@\n-y\n+z\n");
    let ask = |text: &str, dry: bool| {
        let patch = Patch { path: blob("d"), dry: Some(dry), undo: Some(true), ..Patch::default() };
        place.ask(&Ask::Patch(patch), text.as_bytes())
    };
    let state = || (place.has("d/one"), place.has("d/two"), place.has("d/new/three"));
    let before = (Some("1\n2\n3\n".into()), Some("x\n".into()), None);
    assert_eq!(ask(&bad, false).unwrap_err().kind, Kind::PatchFailed);
    assert_eq!(ask(&late, false).unwrap_err().kind, Kind::NoSuchFile);
    assert_eq!(ask(&format!("{good}{good}"), false).unwrap_err().kind, Kind::PatchFailed);
    for name in ["../../x", "../x", "x/../../../y"] {
        let out = format!("--- a/{name}\n+++ b/{name}\n@@ -0,0 +1 @@\n+x\n");
        assert_eq!(ask(&out, false).unwrap_err().kind, Kind::OutsideRoot);
        let out = format!("diff --git a/d b/d\nrename from d\nrename to {name}\n");
        assert_eq!(ask(&out, false).unwrap_err().kind, Kind::OutsideRoot);
    }
    ask(good, true).unwrap();
    assert_eq!(state(), before);
    let (done, asker) = ask(good, false).unwrap();
    let after = (Some("1\nzwei\n3\n".into()), None, Some("drei\n".into()));
    assert_eq!(state(), after);
    let told = "M d/one +1 -1\nD d/two +0 -1\nA d/new/three +1 -0\n";
    assert_eq!((String::from_utf8(asker.data).unwrap().as_str(), done.files), (told, Some(3)));
    place.revert(done.change, false).unwrap();
    assert_eq!(state(), before);
    place.revert(done.change, true).unwrap();
    assert_eq!(state(), after);
    // One of them cannot be put in its place: those before it are put back.
    place.revert(done.change, false).unwrap();
    fs::create_dir(place.at("d/new/three")).unwrap();
    assert!(ask(good, false).is_err());
    assert_eq!(place.has("d/one"), before.0);
}

#[test]
fn content_that_breaks_off_changes_nothing() {
    let place = Place::new();
    fs::write(place.at("file"), "old").unwrap();
    for ask in [
        Ask::Write(write("file")),
        Ask::Write(Write { how: How::Append, ..write("file") }),
        Ask::Edit(Edit { path: blob("file"), revision: None, dry: None, undo: None }),
    ] {
        let content = VecDeque::from([Bytes::from_static(b"new")]);
        let mut asker = Asker { content, cut: true, ..Asker::default() };
        assert_eq!(place.ask_as(&mut asker, &ask).unwrap_err().kind, Kind::LinkLost);
        assert_eq!(place.has("file"), Some("old".into()));
    }
    let content = VecDeque::from([Bytes::from_static(b"half ")]);
    let mut asker = Asker { content, cut: true, ..Asker::default() };
    let part = Write { transfer: Some(Nonce([1; 16])), ..write("file") };
    place.ask_as(&mut asker, &Ask::Write(part.clone())).unwrap_err();
    let arrived = Arrived { path: blob("file"), transfer: Nonce([1; 16]) };
    let (done, _) = place.ask(&Ask::Arrived(arrived), b"").unwrap();
    assert_eq!((done.bytes, place.has("file")), (Some(5), Some("old".into())));
    place.ask(&Ask::Write(Write { offset: Some(5), ..part }), b"and all").unwrap();
    assert_eq!(place.has("file"), Some("half and all".into()));
    assert_eq!(fs::read_dir(place.at("")).unwrap().count(), 1);
}

#[test]
fn content_is_compared_before_it_replaces_anything() {
    use sha2::Digest as _;
    let place = Place::new();
    place.write("file", "old").unwrap();
    let hash = |text: &[u8]| Some(Blob(sha2::Sha256::digest(text).to_vec()));
    let wrong = Write { hash: hash(b"other"), ..write("file") };
    assert_eq!(place.ask(&Ask::Write(wrong), b"new").unwrap_err().kind, Kind::IntegrityFailure);
    assert_eq!(place.has("file"), Some("old".into()));
    place.ask(&Ask::Write(Write { hash: hash(b"new"), ..write("file") }), b"new").unwrap();
    assert_eq!(place.has("file"), Some("new".into()));
    let append = Write { how: How::Append, ..write("file") };
    place.ask(&Ask::Write(append.clone()), b" more").unwrap();
    assert_eq!(place.has("file"), Some("new more".into()));
    let parents = Write { path: blob("a/b/c"), parents: Some(true), ..append };
    place.ask(&Ask::Write(parents), b"made").unwrap();
    assert_eq!(place.has("a/b/c"), Some("made".into()));
}

#[test]
fn those_who_add_to_a_file_at_once_all_find_what_they_added() {
    let place = Place::new();
    for round in 0..20 {
        let path = format!("log-{round}");
        let append = Write { how: How::Append, lazy: Some(true), ..write(&path) };
        let all = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    all.wait();
                    place.ask(&Ask::Write(append.clone()), b"a line\n").unwrap()
                });
            }
        });
        assert_eq!(place.has(&path), Some("a line\n".repeat(8)));
    }
}

mod archive;
mod bounds;
mod changes;
mod looking;
mod patching;
