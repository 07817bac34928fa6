//! Questions and their answers, over real directories.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, symlink};

use bytes::Bytes;
use farwire_protocol::cbor;
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::files::{
    Arrived, Change, Changes, Edit, Edits, Entry, How, List, Match, Part, Patch, Read, Replacement,
    Revert, Search, Sort, ToBridge, Watch, What, Write,
};

use super::*;
use crate::rules::{Patterns, Rules};

/// Somebody who asks, and remembers what was said.
#[derive(Debug, Default)]
struct Asker {
    content: VecDeque<Bytes>,
    /// The content breaks off instead of becoming whole.
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
        let listens = &Listens::default();
        let desk = Desk { tree, undo, transfers, who: "laptop/ai-local", listens };
        match answer(&desk, ask, asker) {
            Ok(done) => Ok(done),
            Err(Stop::Failed(failure)) => Err(failure),
            Err(Stop::Broken) => Err(Failure::new(Kind::LinkLost, "broken")),
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
fn five_writes_and_a_removal_are_undone_and_done_again() {
    let place = Place::new();
    let states: Vec<Option<String>> = (0..5).map(|n| Some(format!("state {n}\n"))).collect();
    let mut changes = Vec::new();
    for state in states.iter().flatten() {
        changes.push(place.write("file", state).unwrap().change.unwrap());
    }
    let remove = Remove { path: blob("file"), recursive: None, revision: None, undo: Some(true) };
    changes.push(place.ask(&Ask::Remove(remove), b"").unwrap().0.change.unwrap());
    let history: Vec<_> = [None].into_iter().chain(states).chain([None]).collect();
    for (step, change) in changes.iter().enumerate().rev() {
        assert_eq!(place.has("file"), history[step + 1]);
        assert_eq!(place.revert(None, false).unwrap().change, Some(*change));
        assert_eq!(place.has("file"), history[step]);
    }
    assert_eq!(place.revert(None, false).unwrap_err().kind, Kind::NothingToUndo);
    for (step, change) in changes.iter().enumerate() {
        assert_eq!(place.revert(None, true).unwrap().change, Some(*change));
        assert_eq!(place.has("file"), history[step + 1]);
    }
    assert_eq!(place.revert(None, true).unwrap_err().kind, Kind::NothingToUndo);
    assert_eq!(place.revert(Some(99), false).unwrap_err().kind, Kind::NothingToUndo);
}

#[test]
fn a_directory_comes_back_with_all_that_was_in_it() {
    let place = Place::new();
    fs::create_dir_all(place.at("d/e/empty")).unwrap();
    fs::write(place.at("d/one"), "1").unwrap();
    fs::write(place.at("d/e/two"), "2").unwrap();
    let remove =
        Remove { path: blob("d"), recursive: Some(true), revision: None, undo: Some(true) };
    let change = place.ask(&Ask::Remove(remove), b"").unwrap().0.change;
    assert!(!place.at("d").exists());
    place.revert(change, false).unwrap();
    assert_eq!((place.has("d/one"), place.has("d/e/two")), (Some("1".into()), Some("2".into())));
    assert!(place.at("d/e/empty").is_dir());
    place.revert(change, true).unwrap();
    assert!(!place.at("d").exists());
}

#[test]
fn a_move_is_undone_with_what_it_replaced() {
    let place = Place::new();
    fs::write(place.at("a"), "a").unwrap();
    fs::write(place.at("b"), "b").unwrap();
    let copy = Copy {
        from: blob("a"),
        to: blob("b"),
        moved: Some(true),
        overwrite: Some(true),
        recursive: None,
        undo: Some(true),
    };
    let change = place.ask(&Ask::Copy(copy), b"").unwrap().0.change;
    assert_eq!((place.has("a"), place.has("b")), (None, Some("a".into())));
    place.revert(change, false).unwrap();
    assert_eq!((place.has("a"), place.has("b")), (Some("a".into()), Some("b".into())));
    place.revert(change, true).unwrap();
    assert_eq!((place.has("a"), place.has("b")), (None, Some("a".into())));
}

#[test]
fn what_was_changed_since_is_not_undone_unless_it_is_forced() {
    let place = Place::new();
    let change = place.write("file", "mine").unwrap().change;
    fs::write(place.at("file"), "theirs").unwrap();
    let failure = place.revert(change, false).unwrap_err();
    assert_eq!(failure.kind, Kind::ChangedMeanwhile);
    assert_eq!(place.has("file"), Some("theirs".into()));
    let force = Revert { change, redo: None, force: Some(true) };
    place.ask(&Ask::Revert(force), b"").unwrap();
    assert_eq!(place.has("file"), None);
    place.revert(change, true).unwrap();
    assert_eq!(place.has("file"), Some("theirs".into()), "what was forced away was kept, too");
}

#[test]
fn changes_are_listed_and_shown_before_they_are_undone() {
    let place = Place::new();
    place.write("file", "one\n").unwrap();
    let (done, diff) = place.edit("file", "one", "two").unwrap();
    assert_eq!(diff, "@@ -1 +1 @@\n-one\n+two\n");
    let (told, asker) = place.ask(&Ask::Changes(Changes::default()), b"").unwrap();
    let listed: Vec<_> = asker.changes.iter().map(|one| (one.change, one.verb.as_str())).collect();
    assert_eq!((listed, told.count), (vec![(2, "edit"), (1, "write")], Some(2)));
    let one = Changes { change: done.change, limit: None };
    let (_, asker) = place.ask(&Ask::Changes(one), b"").unwrap();
    let diff = "--- file\n+++ file\n@@ -1 +1 @@\n-two\n+one\n";
    assert_eq!(String::from_utf8(asker.data).unwrap(), diff);
    assert_eq!(asker.changes[0].who, "laptop/ai-local");
    assert_eq!(place.has("file"), Some("two\n".into()));
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
    assert_eq!(ask(&format!("{good}{good}"), false).unwrap_err().kind, Kind::InvalidArgument);
    assert_eq!(ask("--- a/../../x\n+++ b/../../x\n", false).unwrap_err().kind, Kind::OutsideRoot);
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

#[test]
fn lists_are_ordered_limited_and_tidy() {
    let place = Place::new();
    fs::create_dir_all(place.at("src/deep")).unwrap();
    fs::create_dir(place.at(".git")).unwrap();
    let files = [("b.rs", 1), ("a.txt", 3), ("src/c.rs", 2), ("src/deep/d.rs", 8), ("out.log", 9)];
    for (name, size) in files {
        fs::write(place.at(name), "x".repeat(size)).unwrap();
    }
    fs::write(place.at(".gitignore"), "*.log\n").unwrap();
    let list = |list: List| {
        let (done, asker) = place.ask(&Ask::List(list), b"").unwrap();
        (names(&asker.entries), done.more.unwrap())
    };
    let all = List { sort: Some(Sort::Name), ..List::default() };
    assert_eq!(list(all.clone()).0, [".git", "src", ".gitignore", "a.txt", "b.rs", "out.log"]);
    let tidy = List { tidy: Some(true), depth: Some(9), ..all };
    let expected = ["src", "src/deep", "a.txt", "b.rs", "src/c.rs", "src/deep/d.rs"];
    assert_eq!(list(tidy.clone()).0, expected);
    let globs = List { globs: Some(vec!["*.rs".to_owned()]), ..tidy.clone() };
    assert_eq!(list(globs).0, ["b.rs", "src/c.rs", "src/deep/d.rs"]);
    let without = List { globs: Some(vec!["!deep".to_owned()]), ..tidy };
    assert_eq!(list(without).0, ["src", "a.txt", "b.rs", "src/c.rs"]);
    let largest =
        List { sort: Some(Sort::Size), limit: Some(2), depth: Some(9), ..List::default() };
    assert_eq!(list(largest), (vec!["out.log".to_owned(), "src/deep/d.rs".to_owned()], true));
    assert!(list(List { limit: Some(2), ..List::default() }).1);
    let hashes = List { hashes: Some(true), ..List::default() };
    let (_, asker) = place.ask(&Ask::List(hashes), b"").unwrap();
    let right = |entry: &Entry| entry.hash.is_some() == (entry.what == What::File);
    assert!(asker.entries.iter().all(right));
}

#[test]
fn matches_are_lines_with_numbers_and_what_is_beside_them() {
    let place = Place::new();
    fs::create_dir(place.at("d")).unwrap();
    fs::write(place.at("d/a.txt"), "one\ntwo\nthree\nfour\n").unwrap();
    fs::write(place.at("d/b.txt"), "two\r\n").unwrap();
    fs::write(place.at("d/binary"), b"two\0two").unwrap();
    symlink("/etc/passwd", place.at("d/link")).unwrap();
    let search = |search: Search| {
        let (done, asker) = place.ask(&Ask::Search(search), b"")?;
        let line = |one: &Match| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            (text(&one.path), one.line, text(&one.text), one.beside.unwrap_or(false))
        };
        let mut lines: Vec<_> = asker.matches.iter().map(line).collect();
        lines.sort();
        Ok::<_, Failure>((lines, done))
    };
    let two = Search {
        pattern: "^TWO".to_owned(),
        ignore_case: Some(true),
        context: Some(1),
        ..Search::default()
    };
    let line =
        |path: &str, line, text: &str, beside| (path.to_owned(), line, text.to_owned(), beside);
    let (lines, done) = search(two).unwrap();
    let expected = [
        line("d/a.txt", 1, "one", true),
        line("d/a.txt", 2, "two", false),
        line("d/a.txt", 3, "three", true),
        line("d/b.txt", 1, "two\r", false),
    ];
    assert_eq!(lines, expected);
    assert_eq!((done.count, done.files, done.more), (Some(2), Some(3), Some(false)));
    let single = Search {
        path: blob("d/a.txt"),
        pattern: "o".to_owned(),
        limit: Some(2),
        ..Search::default()
    };
    let (lines, done) = search(single).unwrap();
    assert_eq!((lines.len(), done.more), (2, Some(true)));
    let fixed = Search { pattern: "t.o".to_owned(), fixed: Some(true), ..Search::default() };
    assert_eq!(search(fixed).unwrap().0, []);
    let names = Search { pattern: "two".to_owned(), names: Some(true), ..Search::default() };
    assert_eq!(search(names).unwrap().0.len(), 2);
    let bad = Search { pattern: "(".to_owned(), ..Search::default() };
    assert_eq!(search(bad).unwrap_err().kind, Kind::InvalidArgument);
    let nowhere = Search { path: blob("nowhere"), pattern: "x".to_owned(), ..Search::default() };
    assert_eq!(search(nowhere).unwrap_err().kind, Kind::NoSuchFile);
}

/// Somebody who is gone when the first matches are told, and counts what is told to nobody.
#[derive(Debug, Default)]
struct Leaver(usize);

impl Peer for Leaver {
    fn content(&mut self) -> Result<Option<Bytes>, Broken> {
        Err(Broken)
    }

    fn say(&mut self, _: &ToBridge) -> Result<(), Broken> {
        self.0 += 1;
        Err(Broken)
    }

    fn data(&mut self, _: &[u8]) -> Result<(), Broken> {
        Err(Broken)
    }

    fn file(&mut self, _: &File, _: u64, _: u64) -> Result<(), Broken> {
        Err(Broken)
    }
}

#[test]
fn matches_of_one_file_are_told_as_they_are_found_and_not_when_nobody_listens() {
    let place = Place::new();
    fs::write(place.at("file"), "line\n".repeat(50_000)).unwrap();
    let search = Search { path: blob("file"), pattern: "line".to_owned(), ..Search::default() };
    let (tree, transfers, listens) = (&place.tree, &place.transfers, &Listens::default());
    let desk = Desk { tree, undo: None, transfers, who: "me", listens };
    let mut leaver = Leaver::default();
    let ended = answer(&desk, &Ask::Search(search.clone()), &mut leaver);
    assert!(matches!(ended, Err(Stop::Broken)));
    assert_eq!(leaver.0, 1, "nothing is found and told after that");
    let (done, asker) = place.ask(&Ask::Search(search), b"").unwrap();
    assert_eq!((done.count, asker.matches.len()), (Some(50_000), 50_000));
}

#[test]
fn what_is_hidden_is_neither_listed_nor_searched() {
    let hidden = Patterns::new(&[".env".to_owned()]).unwrap();
    let place = Place::with(Rules { writable: true, hidden, ..Rules::default() });
    fs::create_dir(place.at("d")).unwrap();
    fs::write(place.at("d/.env"), "key").unwrap();
    let deep = List { depth: Some(9), ..List::default() };
    assert_eq!(place.ask(&Ask::List(deep), b"").unwrap().0.count, Some(1));
    let all = Search { pattern: "key".to_owned(), all: Some(true), ..Search::default() };
    let (done, asker) = place.ask(&Ask::Search(all), b"").unwrap();
    assert_eq!((done.count, done.files, asker.matches.len()), (Some(0), Some(0), 0));
    let part = Part::Bytes { offset: 0, length: None };
    let read = Read { path: blob("d/.env"), part, revision: None, hash: None };
    assert_eq!(place.ask(&Ask::Read(read), b"").unwrap_err().kind, Kind::NoSuchFile);
}

#[test]
fn a_part_of_a_file_is_read_in_the_state_that_was_seen() {
    let place = Place::new();
    place.write("file", "0123456789").unwrap();
    let read = |offset, length, revision| {
        let part = Part::Bytes { offset, length };
        Ask::Read(Read { path: blob("file"), part, revision, hash: Some(true) })
    };
    let (done, asker) = place.ask(&read(2, Some(3), None), b"").unwrap();
    assert_eq!((asker.data, done.more, done.bytes), (b"234".to_vec(), Some(true), Some(3)));
    assert_eq!(done.hash.unwrap().len(), 32);
    let (done, asker) = place.ask(&read(99, None, None), b"").unwrap();
    assert_eq!((asker.data.len(), done.more), (0, Some(false)));
    let seen = Some(asker.entries[0].revision);
    fs::write(place.at("file"), "changed").unwrap();
    let late = place.ask(&read(0, None, seen), b"");
    assert_eq!(late.unwrap_err().kind, Kind::ChangedMeanwhile);
}

#[test]
fn a_change_is_told_when_it_happens_and_nothing_is_told_before() {
    let place = Place::new();
    fs::write(place.at("file"), "x").unwrap();
    let watch =
        |path: &str, wait_ms, revision| Ask::Watch(Watch { path: blob(path), wait_ms, revision });
    assert_eq!(place.ask(&watch("", 30, None), b"").unwrap().0.count, Some(0));
    let seen = place.tree.stat(&Rel::parse(b"file").unwrap()).unwrap().revision;
    let told = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| place.ask(&watch("", 60_000, None), b"").unwrap());
        // It may not be watched yet at the first of them.
        while !waiting.is_finished() {
            fs::write(place.at("new"), "y").unwrap();
            fs::write(place.at(".farwire-tmp-1"), "z").unwrap();
            std::thread::yield_now();
        }
        waiting.join().unwrap()
    });
    assert_eq!(names(&told.1.entries), ["new"]);
    fs::write(place.at("file"), "changed").unwrap();
    let (done, _) = place.ask(&watch("file", 60_000, Some(seen)), b"").unwrap();
    assert_eq!(done.entry.unwrap().size, 7);
    let gone = place.ask(&watch("nothing", 1, None), b"").unwrap_err();
    assert_eq!(gone.kind, Kind::NoSuchFile);
}

#[test]
fn nobody_wakes_because_of_what_is_hidden() {
    let hidden = Patterns::new(&["*.key".to_owned(), "/docs/private".to_owned()]).unwrap();
    let place = Place::with(Rules { writable: true, hidden, ..Rules::default() });
    fs::create_dir_all(place.at("docs")).unwrap();
    symlink("docs", place.at("link")).unwrap();
    // Through a link the patterns fit where it really is.
    let watch = Ask::Watch(Watch { path: blob("link"), wait_ms: 60_000, revision: None });
    let told = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| place.ask(&watch, b"").unwrap());
        while !waiting.is_finished() {
            fs::write(place.at("docs/a.key"), "y").unwrap();
            fs::write(place.at("docs/private"), "z").unwrap();
            fs::write(place.at("docs/shown"), "z").unwrap();
            std::thread::yield_now();
        }
        waiting.join().unwrap()
    });
    assert_eq!(names(&told.1.entries), ["shown"]);
    let watch = Ask::Watch(Watch { path: blob("docs"), wait_ms: 300, revision: None });
    let told = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| place.ask(&watch, b"").unwrap());
        while !waiting.is_finished() {
            fs::write(place.at("docs/private"), "z").unwrap();
            std::thread::yield_now();
        }
        waiting.join().unwrap()
    });
    assert_eq!(told.0.count, Some(0), "it was not woken");
}

mod archive;
mod bounds;
mod changes;
