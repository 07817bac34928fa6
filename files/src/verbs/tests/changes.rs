//! Undo and redo: as a whole, one at a time, and only what the rules allow.

use sha2::Digest as _;

use super::*;
use crate::tree::tests::access::one_user;

fn copy(from: &str, to: &str, moved: bool) -> Ask {
    Ask::Copy(Copy {
        from: blob(from),
        to: blob(to),
        moved: Some(moved),
        overwrite: Some(true),
        recursive: Some(true),
        undo: Some(true),
    })
}

fn remove(path: &str) -> Ask {
    let (path, recursive) = (blob(path), Some(true));
    Ask::Remove(Remove { path, recursive, revision: None, undo: Some(true) })
}

impl Place {
    fn change(&self, ask: &Ask) -> Option<u64> {
        self.ask(ask, b"").unwrap().0.change
    }

    /// Everything that is there: directories with a slash, files with their content.
    pub(super) fn all(&self) -> Vec<String> {
        let mut all = Vec::new();
        let mut waiting = vec![String::new()];
        while let Some(at) = waiting.pop() {
            for entry in fs::read_dir(self.at(&at)).unwrap().map(Result::unwrap) {
                let path = format!("{at}{}", entry.file_name().into_string().unwrap());
                if entry.file_type().unwrap().is_dir() {
                    waiting.push(format!("{path}/"));
                    all.push(format!("{path}/"));
                } else {
                    all.push(format!("{path}={}", self.has(&path).unwrap_or_default()));
                }
            }
        }
        all.sort();
        all
    }

    /// Undoes a change and redoes it: each time everything is as it was.
    fn there_and_back(&self, ask: &Ask) {
        let before = self.all();
        let change = self.change(ask);
        assert!(change.is_some(), "{ask:?}");
        let after = self.all();
        for _ in 0..2 {
            self.revert(change, false).unwrap();
            assert_eq!(self.all(), before, "{ask:?}");
            self.revert(change, true).unwrap();
            assert_eq!(self.all(), after, "{ask:?}");
        }
    }
}

/// A place where `a` and `b` are directories with entries of the same names, and `f` is a file.
fn two_directories() -> Place {
    let place = Place::new();
    for path in ["a/same", "a/turned", "b/turned/inner", "b/empty"] {
        fs::create_dir_all(place.at(path)).unwrap();
    }
    for (path, text) in [
        ("a/one", "1"),
        ("a/same/two", "2"),
        ("a/other", "3"),
        ("b/one", "old"),
        ("b/turned/inner/x", "x"),
        ("b/other-1", "y"),
        ("b/same", "a file"),
        ("f", "f"),
    ] {
        fs::write(place.at(path), text).unwrap();
    }
    place
}

#[test]
fn what_a_copy_or_a_move_replaces_comes_back() {
    for moved in [false, true] {
        for (from, to) in [("a", "b"), ("a", "new"), ("a", "f"), ("f", "b/one"), ("f", "new")] {
            two_directories().there_and_back(&copy(from, to, moved));
        }
    }
    // Only a move puts a file in the place of a directory.
    two_directories().there_and_back(&copy("f", "b", true));
    let place = two_directories();
    symlink("f", place.at("link")).unwrap();
    place.there_and_back(&copy("link", "copied", false));
    place.there_and_back(&copy("link", "a/one", true));
}

#[test]
fn a_copy_that_somebody_has_added_to_is_not_undone() {
    let place = two_directories();
    let change = place.change(&copy("a", "new", false));
    fs::write(place.at("new/theirs"), "mine").unwrap();
    let before = place.all();
    let failure = place.revert(change, false).unwrap_err();
    assert_eq!(failure.kind, Kind::DirectoryNotEmpty);
    assert_eq!(place.all(), before, "what was removed before is there again");
    fs::remove_file(place.at("new/theirs")).unwrap();
    place.revert(change, false).unwrap();
    assert!(!place.at("new").exists());
}

#[test]
fn a_removal_that_ends_halfway_can_be_undone() {
    let kept = Patterns::new(&["b/one".to_owned()]).unwrap();
    let place = Place::with(Rules { writable: true, kept, ..Rules::default() });
    fs::create_dir(place.at("b")).unwrap();
    fs::write(place.at("b/one"), "stays").unwrap();
    fs::write(place.at("b/two"), "goes").unwrap();
    place.ask(&remove("b"), b"").unwrap_err();
    assert_eq!((place.has("b/one"), place.has("b/two")), (Some("stays".into()), None));
    place.revert(None, false).unwrap();
    assert_eq!(place.all(), ["b/", "b/one=stays", "b/two=goes"]);
    let place = two_directories();
    place.change(&remove("b"));
    fs::create_dir(place.at("b")).unwrap();
    fs::write(place.at("b/one"), "old").unwrap();
    place.revert(None, false).unwrap();
    assert_eq!(place.all(), two_directories().all());
}

#[test]
fn reverts_at_once_turn_a_change_once() {
    let place = Place::new();
    place.write("file", "old").unwrap();
    let change = place.write("file", "new").unwrap().change;
    for redo in [false, true] {
        let turned = std::thread::scope(|scope| {
            let all: Vec<_> =
                (0..8).map(|_| scope.spawn(|| place.revert(change, redo).is_ok())).collect();
            all.into_iter().map(|one| one.join().unwrap()).filter(|turned| *turned).count()
        });
        assert_eq!(turned, 1);
        assert_eq!(place.has("file").as_deref(), Some(if redo { "new" } else { "old" }));
    }
}

#[test]
fn a_revert_and_changes_at_once_lose_nothing() {
    let place = Place::new();
    place.write("file", "0").unwrap();
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let place = &place;
            scope.spawn(move || {
                for number in 0..30 {
                    place.write("file", &format!("{writer} {number}")).unwrap();
                }
            });
        }
        let reverts = scope.spawn(|| (0..60).filter(|_| place.revert(None, false).is_ok()).count());
        assert!(reverts.join().unwrap() <= 60);
    });
    // Whatever was written is there, or was kept when it was replaced.
    let now = place.has("file").unwrap();
    for written in (0..3).flat_map(|writer| (0..30).map(move |n| format!("{writer} {n}"))) {
        let kept = place.undo.content(&sha2::Sha256::digest(&written)).is_ok();
        assert!(kept || now == written, "{written} is lost");
    }
}

impl Place {
    /// Applies other rules to the same place.
    fn ruled(&mut self, hidden: &[&str], kept: &[&str]) {
        let patterns = |texts: &[&str]| {
            Patterns::new(&texts.iter().copied().map(str::to_owned).collect::<Vec<_>>()).unwrap()
        };
        let (hidden, kept) = (patterns(hidden), patterns(kept));
        let rules = Rules { writable: true, hidden, kept, ..Rules::default() };
        self.tree = Tree::enter(File::open(self.at("")).unwrap().into(), rules).unwrap();
    }

    /// The paths of all changes, and the diff of one.
    fn told(&self, change: Option<u64>) -> (Vec<Vec<String>>, String) {
        let ask = Ask::Changes(Changes { change, ..Changes::default() });
        let asker = self.ask(&ask, b"").unwrap().1;
        let text = |path: &Blob| String::from_utf8_lossy(path).into_owned();
        let paths = |one: &Change| one.paths.iter().map(text).collect();
        (asker.changes.iter().map(paths).collect(), String::from_utf8(asker.data).unwrap())
    }
}

#[test]
fn what_is_hidden_by_now_is_not_told_and_its_changes_are_not_undone() {
    let mut place = two_directories();
    fs::create_dir(place.at("real")).unwrap();
    symlink("real", place.at("link")).unwrap();
    place.write("a/one", "secret\n").unwrap();
    let linked = place.write("link/x", "secret\n").unwrap().change;
    let removed = place.change(&remove("a"));
    place.ruled(&["one", "/real"], &[]);
    let (paths, diff) = place.told(removed);
    assert_eq!(paths[0], ["a", "a/other", "a/same", "a/same/two", "a/turned"]);
    assert!(diff.contains("+3") && !diff.contains("secret"), "{diff}");
    assert_eq!(place.told(None).0.len(), 1, "the others are about nothing else");
    let before = place.all();
    assert_eq!(place.revert(removed, false).unwrap_err().kind, Kind::ReadOnly);
    assert_eq!(place.revert(linked, false).unwrap_err().kind, Kind::NothingToUndo);
    assert_eq!(place.all(), before, "not in part, either");
    place.ruled(&[], &[]);
    place.revert(removed, false).unwrap();
    assert_eq!(place.has("a/one").as_deref(), Some("secret\n"));
}

#[test]
fn what_is_kept_by_now_is_not_written_to_by_an_undo() {
    let mut place = two_directories();
    let removed = place.change(&remove("a"));
    let moved = place.change(&copy("f", "b/one", true));
    for kept in ["a/same", "b/one", "f"] {
        place.ruled(&[], &[kept]);
        let before = place.all();
        let change = if kept == "a/same" { removed } else { moved };
        assert_eq!(place.revert(change, false).unwrap_err().kind, Kind::ReadOnly, "{kept}");
        assert_eq!(place.all(), before);
    }
    place.ruled(&[], &[]);
    place.revert(moved, false).unwrap();
    place.revert(removed, false).unwrap();
    assert_eq!(place.all(), two_directories().all());
}

#[test]
fn what_the_store_has_lost_a_part_of_is_not_put_back() {
    let place = Place::new();
    place.write("file", "the old text").unwrap();
    let change = place.write("file", "new").unwrap().change;
    let old = data_encoding::HEXLOWER.encode(&sha2::Sha256::digest("the old text"));
    let object = place.scratch.path().join("store").join(old);
    fs::write(object, "the old").unwrap();
    assert_eq!(place.revert(change, false).unwrap_err().kind, Kind::NothingToUndo);
    assert_eq!(place.has("file").as_deref(), Some("new"));
}

#[test]
fn what_something_large_replaced_comes_back_if_that_is_forced() {
    let place = Place::new();
    fs::write(place.at("small"), "small").unwrap();
    File::create(place.at("large")).unwrap().set_len(crate::undo::LARGEST + 1).unwrap();
    let change = place.change(&copy("large", "small", false));
    assert_eq!(place.revert(change, false).unwrap_err().kind, Kind::ChangedMeanwhile);
    let force = Revert { change, redo: None, force: Some(true) };
    place.ask(&Ask::Revert(force), b"").unwrap();
    assert_eq!(place.has("small").as_deref(), Some("small"));
    assert_eq!(place.revert(change, true).unwrap_err().kind, Kind::NothingToUndo);
}

#[test]
fn what_is_moved_again_takes_nothing_away_that_came_meanwhile() {
    let place = Place::new();
    for path in ["a", "b"] {
        fs::create_dir_all(place.at(path)).unwrap();
        fs::write(place.at(path).join("one"), path).unwrap();
    }
    let change = place.change(&copy("a", "b", true));
    place.revert(change, false).unwrap();
    fs::write(place.at("b/new"), "new").unwrap();
    let before = place.all();
    assert!(place.revert(change, true).is_err());
    assert_eq!(place.all(), before);
}

/// Runs a function in a thread in which no directory can be synced.
fn where_no_directory_is_synced(what: impl FnOnce() + Send) {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
    let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
    let fails = SeccompAction::Errno(libc::EIO.unsigned_abs());
    let calls = [(libc::SYS_fsync, Vec::new())].into();
    let filter = SeccompFilter::new(calls, SeccompAction::Allow, fails, arch).unwrap();
    let filter: BpfProgram = filter.try_into().unwrap();
    let filtered = || {
        seccompiler::apply_filter(&filter).unwrap();
        what();
    };
    std::thread::scope(|scope| scope.spawn(filtered).join().unwrap());
}

#[test]
fn what_was_replaced_is_kept_even_if_the_disk_does_not_say_that_it_was() {
    let place = Place::new();
    fs::write(place.at("f"), "old").unwrap();
    let mut failed = None;
    where_no_directory_is_synced(|| {
        failed = place.write("f", "new").err();
    });
    assert_eq!(place.has("f"), Some("new".into()));
    place.revert(None, false).unwrap();
    assert_eq!(place.has("f"), Some("old".into()));
    assert_eq!(failed.unwrap().kind, Kind::OutcomeUnknown);
}

#[test]
fn a_directory_that_comes_back_lets_nobody_in_who_was_kept_out() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    fs::create_dir_all(place.at("a/b")).unwrap();
    fs::write(place.at("a/b/f"), "secret").unwrap();
    for (path, mode) in [("a/b", 0o711), ("a", 0o700)] {
        fs::set_permissions(place.at(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    let change = place.change(&remove("a"));
    place.revert(change, false).unwrap();
    for (path, mode) in [("a/b", 0o711), ("a", 0o700)] {
        let now = fs::metadata(place.at(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(now & !mode, 0, "{path} {now:o}");
    }
}

#[test]
fn a_file_that_comes_back_without_its_list_lets_nobody_in_who_was_kept_out() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    fs::write(place.at("f"), "secret").unwrap();
    let list = one_user();
    let (name, flags) = ("system.posix_acl_access", rustix::fs::XattrFlags::empty());
    if rustix::fs::setxattr(place.at("f"), name, &list, flags).is_err() {
        return;
    }
    let change = place.change(&remove("f"));
    place.revert(change, false).unwrap();
    let mode = fs::metadata(place.at("f")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "{mode:o}");
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
    let one = Changes { change: done.change, ..Changes::default() };
    let (_, asker) = place.ask(&Ask::Changes(one), b"").unwrap();
    let diff = "--- file\n+++ file\n@@ -1 +1 @@\n-two\n+one\n";
    assert_eq!(String::from_utf8(asker.data).unwrap(), diff);
    assert_eq!(asker.changes[0].who, "laptop/ai-local");
    assert_eq!(place.has("file"), Some("two\n".into()));
}

#[test]
fn redo_does_again_what_was_undone_last_until_something_else_is_changed() {
    let place = Place::new();
    place.write("a", "1").unwrap();
    place.revert(None, false).unwrap();
    place.write("b", "2").unwrap();
    place.revert(None, false).unwrap();
    place.revert(None, true).unwrap();
    assert_eq!(place.all(), ["b=2"]);
    assert_eq!(place.revert(None, true).unwrap_err().kind, Kind::NothingToUndo);
    place.revert(Some(1), true).unwrap();
    assert_eq!(place.all(), ["a=1", "b=2"]);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Against a model of two stacks: what can be undone, and what can be redone.
    #[test]
    fn undo_and_redo_are_two_stacks(moves in proptest::collection::vec(0_u8..4, 1..40)) {
        let place = Place::new();
        let (mut done, mut undone) = (Vec::new(), Vec::new());
        for (at, what) in moves.into_iter().enumerate() {
            match what {
                0 | 1 => {
                    let name = format!("file{}", at % 3);
                    let before = place.has(&name);
                    let change = place.write(&name, &at.to_string()).unwrap().change.unwrap();
                    done.push((change, name, before, at.to_string()));
                    undone.clear();
                }
                2 => match done.pop() {
                    Some((change, name, before, after)) => {
                        let reverted = place.revert(None, false).unwrap();
                        proptest::prop_assert_eq!(reverted.change, Some(change));
                        proptest::prop_assert_eq!(place.has(&name), before.clone());
                        undone.push((change, name, before, after));
                    }
                    None => proptest::prop_assert!(place.revert(None, false).is_err()),
                },
                _ => match undone.pop() {
                    Some((change, name, before, after)) => {
                        let reverted = place.revert(None, true).unwrap();
                        proptest::prop_assert_eq!(reverted.change, Some(change));
                        proptest::prop_assert_eq!(place.has(&name), Some(after.clone()));
                        done.push((change, name, before, after));
                    }
                    None => proptest::prop_assert!(place.revert(None, true).is_err()),
                },
            }
        }
    }
}

#[test]
fn what_undoing_would_do_is_shown_without_a_number() {
    let place = Place::new();
    place.write("f", "old\n").unwrap();
    place.write("f", "new\n").unwrap();
    let next = |redo| Ask::Changes(Changes { next: Some(redo), ..Changes::default() });
    let (_, asker) = place.ask(&next(false), b"").unwrap();
    assert_eq!(asker.changes.len(), 1);
    assert!(String::from_utf8(asker.data).unwrap().contains("-new\n+old\n"));
    assert_eq!(place.ask(&next(true), b"").unwrap_err().kind, Kind::NothingToUndo);
    place.revert(None, false).unwrap();
    let (_, asker) = place.ask(&next(true), b"").unwrap();
    assert!(String::from_utf8(asker.data).unwrap().contains("-old\n+new\n"));
}

#[test]
fn edits_of_one_file_at_once_are_all_done() {
    let place = Place::new();
    let line = |at: usize| format!("line {at:02} old\n");
    fs::write(place.at("f"), (0..24).map(line).collect::<String>()).unwrap();
    let edit = |at: usize| {
        let (old, new) = (line(at), format!("line {at:02} new\n"));
        let one = Replacement { old: blob(&old), new: blob(&new), all: None };
        let edits = cbor::encode(&Edits { edits: vec![one] });
        let edit = Edit { path: blob("f"), revision: None, dry: None, undo: Some(true) };
        place.ask(&Ask::Edit(edit), &edits).map(drop)
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..24)
            .map(|at| {
                let edit = &edit;
                scope.spawn(move || edit(at))
            })
            .collect();
        all.into_iter().for_each(|one| one.join().unwrap().unwrap());
    });
    let text = place.has("f").unwrap();
    assert_eq!(text.matches(" new\n").count(), 24, "{text}");
}
