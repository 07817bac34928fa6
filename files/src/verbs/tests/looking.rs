//! Listing, reading, searching and watching.

use super::*;
use farwire_protocol::id::Id;

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
        // It is searched up to the NUL.
        line("d/binary", 0, "", false),
    ];
    assert_eq!(lines, expected);
    assert_eq!((done.count, done.files, done.more), (Some(3), Some(3), Some(false)));
    assert_eq!(done.binary, Some(1));
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
    assert_eq!(search(names).unwrap().0.len(), 3);
    let bad = Search { pattern: "(".to_owned(), ..Search::default() };
    assert_eq!(search(bad).unwrap_err().kind, Kind::InvalidArgument);
    let nowhere = Search { path: blob("nowhere"), pattern: "x".to_owned(), ..Search::default() };
    assert_eq!(search(nowhere).unwrap_err().kind, Kind::NoSuchFile);
}

#[test]
fn what_stands_before_a_nul_is_found_and_what_is_behind_it_where_all_is_searched() {
    let place = Place::new();
    fs::create_dir(place.at("d")).unwrap();
    fs::write(place.at("d/t.mjs"), "hello TOKEN\nx\0y\nBEHIND\n").unwrap();
    let search = |path: &str, pattern: &str, all| {
        let (pattern, all) = (pattern.to_owned(), Some(all));
        let search = Search { path: blob(path), pattern, all, ..Search::default() };
        let (done, asker) = place.ask(&Ask::Search(search), b"").unwrap();
        let lines: Vec<_> = asker.matches.iter().map(|found| (found.line, found.binary)).collect();
        (done.count.unwrap(), lines)
    };
    for path in ["d/t.mjs", "d"] {
        assert_eq!(search(path, "TOKEN", false), (1, vec![(1, None), (0, Some(true))]), "{path}");
        assert_eq!(search(path, "BEHIND", true), (1, vec![(0, Some(true))]), "{path}");
    }
    assert_eq!(search("d/t.mjs", "BEHIND", false), (1, vec![(0, Some(true))]));
    assert_eq!(search("d", "BEHIND", false), (0, Vec::new()));
}

#[test]
fn matches_come_in_the_same_order_each_time_and_the_first_are_told() {
    let place = Place::new();
    for at in 0..400 {
        fs::create_dir_all(place.at(&format!("{}/d", at % 7))).unwrap();
        fs::write(place.at(&format!("{}/d/{at:03}", at % 7)), "x\n".repeat(1 + at % 5)).unwrap();
    }
    let search = |limit| {
        let pattern = "x".to_owned();
        let search = Search { pattern, limit: Some(limit), ..Search::default() };
        let (done, asker) = place.ask(&Ask::Search(search), b"").unwrap();
        let line = |found: &Match| (found.path.0.clone(), found.line);
        (done, asker.matches.iter().map(line).collect::<Vec<_>>())
    };
    let (done, all) = search(100_000);
    assert_eq!((done.count, done.more), (Some(1_200), Some(false)));
    assert!(all.is_sorted());
    for limit in [1, 5, 99, 600, 1_199, 1_200] {
        let (done, some) = search(limit);
        assert_eq!(some, all[..limit as usize], "{limit}");
        assert_eq!((done.count, done.more), (Some(limit.into()), Some(limit < 1_200)));
    }
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_is_done() {
    let place = Place::new();
    fs::create_dir(place.at("d")).unwrap();
    fs::write(place.at("d/long"), "x".repeat(5 << 20)).unwrap();
    fs::write(place.at("d/short"), "x\n").unwrap();
    let search = Search { path: blob("d"), pattern: "x$".to_owned(), ..Search::default() };
    let (done, asker) = place.ask(&Ask::Search(search), b"").unwrap();
    assert_eq!((asker.matches.len(), done.count), (1, Some(1)));
    assert_eq!((done.unread, done.names), (Some(1), Some(vec![blob("d/long")])));
}

#[test]
fn a_tree_is_walked_to_its_end_however_deep_it_is() {
    let place = Place::new();
    let deep = "d/".repeat(150);
    fs::create_dir_all(place.at(&deep)).unwrap();
    fs::write(place.at(&format!("{deep}file")), "x\n").unwrap();
    let search = Search { pattern: "x".to_owned(), ..Search::default() };
    assert_eq!(place.ask(&Ask::Search(search), b"").unwrap().0.count, Some(1));
    let list = List { depth: Some(u32::MAX), ..List::default() };
    assert_eq!(place.ask(&Ask::List(list), b"").unwrap().0.count, Some(151));
    let archive = Ask::Archive(Archive { path: blob(""), tidy: None });
    let (done, _) = place.ask(&archive, b"").unwrap();
    assert_eq!((done.files, done.skipped, done.unread), (Some(1), None, None));
    // The file at its end can be named, copied and removed.
    let file = format!("{deep}file");
    assert!(place.ask(&Ask::Stat(blob(&file)), b"").is_ok());
    let copy = Copy {
        from: blob("d"),
        to: blob("e"),
        moved: None,
        overwrite: None,
        recursive: Some(true),
        undo: None,
    };
    assert_eq!(place.ask(&Ask::Copy(copy), b"").unwrap().0.count, Some(1));
    let remove = |path: &str| {
        let (path, recursive) = (blob(path), Some(true));
        Ask::Remove(Remove { path, recursive, revision: None, undo: Some(true) })
    };
    place.ask(&remove("d"), b"").unwrap();
    assert!(!place.at("d").exists());
}

#[test]
fn a_tree_of_any_depth_is_removed_but_not_past_what_the_owner_keeps() {
    let place = Place::new();
    nest(&place, "d", 1_500);
    fs::write(place.at("d/file"), "x").unwrap();
    let remove = || Remove { path: blob("d"), recursive: Some(true), revision: None, undo: None };
    place.ask(&Ask::Remove(remove()), b"").unwrap();
    assert_eq!(fs::read_dir(place.at("")).unwrap().count(), 0);

    let hidden = Patterns::new(&["*.key".to_owned()]).unwrap();
    let kept = Place::with(Rules { writable: true, hidden, ..Rules::default() });
    nest(&kept, "d", 500);
    let failure = kept.ask(&Ask::Remove(remove()), b"").unwrap_err();
    assert_eq!(failure.kind, Kind::TooLarge);
    assert!(failure.message.contains("more than 400 levels"), "{failure:?}");
    fs::remove_dir_all(kept.at("d")).unwrap();
}

/// Creates nested directories of this name.
fn nest(place: &Place, name: &str, levels: usize) {
    use std::os::fd::AsFd as _;
    let mut at: std::os::fd::OwnedFd = File::open(place.at("")).unwrap().into();
    for _ in 0..levels {
        let mode = rustix::fs::Mode::from_raw_mode(0o755);
        rustix::fs::mkdirat(at.as_fd(), name, mode).unwrap();
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
        at = rustix::fs::openat(&at, name, flags, rustix::fs::Mode::empty()).unwrap();
    }
}

#[test]
fn a_tree_with_paths_that_are_longer_than_the_kernel_takes_is_listed_and_removed() {
    let hidden = Patterns::new(&["*.key".to_owned()]).unwrap();
    let place = Place::with(Rules { writable: true, hidden, ..Rules::default() });
    let name = "n".repeat(200);
    nest(&place, &name, 30);
    let list = List { depth: Some(u32::MAX), ..List::default() };
    assert_eq!(place.ask(&Ask::List(list), b"").unwrap().0.count, Some(30));
    let (path, recursive) = (blob(&name), Some(true));
    let remove = Remove { path, recursive, revision: None, undo: None };
    place.ask(&Ask::Remove(remove), b"").unwrap();
    assert_eq!(fs::read_dir(place.at("")).unwrap().count(), 0);
}

#[test]
fn the_match_in_a_long_line_is_in_what_is_told_of_it() {
    let place = Place::new();
    for before in [0, 320, 999, 1_000, 5_000] {
        let line = format!("{}TOKEN{}\n", "é".repeat(before), "x".repeat(2_000));
        fs::write(place.at("f"), line).unwrap();
        let search = Search { pattern: "TOKEN".to_owned(), ..Search::default() };
        let (_, asker) = place.ask(&Ask::Search(search), b"").unwrap();
        let found = &asker.matches[0];
        let at = found.at.unwrap_or(0) as usize;
        assert!(found.text[at..].starts_with(b"TOKEN"), "{before}");
        assert_eq!(found.cut_before, (2 * before > 250).then_some(true));
        assert_eq!(found.cut_after, Some(true));
        assert!(std::str::from_utf8(&found.text[..at]).is_ok(), "no character is divided");
    }
}

/// The other end closes when the first matches come. Counts what is sent after that.
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
    let (tree, transfers) = (&place.tree, &place.transfers);
    let desk = Desk { tree, undo: None, transfers, who: "me", device: Id([1; 32]) };
    let mut leaver = Leaver::default();
    let ended = answer(&desk, &Ask::Search(search.clone()), &mut leaver);
    assert!(matches!(ended, Err(VerbError::Broken)));
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
    let read = Read { path: blob("d/.env"), part, revision: None, hash: None, before: None };
    assert_eq!(place.ask(&Ask::Read(read), b"").unwrap_err().kind, Kind::NoSuchFile);
}

#[test]
fn a_part_of_a_file_is_read_in_the_state_that_was_seen() {
    let place = Place::new();
    place.write("file", "0123456789").unwrap();
    let read = |offset, length, revision| {
        let part = Part::Bytes { offset, length };
        Ask::Read(Read { path: blob("file"), part, revision, hash: Some(true), before: None })
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
    let watch = |path: &str, wait_ms, revision| {
        Ask::Watch(Watch { path: blob(path), wait_ms, revision, deep: None })
    };
    assert_eq!(place.ask(&watch("", 30, None), b"").unwrap().0.count, Some(0));
    let seen = place.tree.stat(&Rel::parse(b"file").unwrap()).unwrap().revision;
    let told = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| place.ask(&watch("", 60_000, None), b"").unwrap());
        // The first changes may come before the watch is set up.
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
    // A missing path is waited for.
    assert_eq!(place.ask(&watch("nothing", 1, None), b"").unwrap().0.count, Some(0));
    let gone = place.ask(&watch("nothing", 60_000, Some(7)), b"").unwrap().0;
    assert_eq!(gone.entry.unwrap().revision, 0);
}

#[test]
fn what_is_not_there_yet_is_told_when_it_comes() {
    let place = Place::new();
    let watch = Ask::Watch(Watch { path: blob("a/b/f"), wait_ms: 60_000, ..Watch::default() });
    let told = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| place.ask(&watch, b"").unwrap());
        fs::write(place.at("other"), "x").unwrap();
        fs::create_dir_all(place.at("a/b")).unwrap();
        fs::write(place.at("a/b/other"), "x").unwrap();
        assert!(!waiting.is_finished());
        // A late watch waits for the next change.
        while !waiting.is_finished() {
            fs::write(place.at("a/b/f"), "new").unwrap();
            std::thread::yield_now();
        }
        waiting.join().unwrap()
    });
    assert_eq!(told.0.entry.unwrap().what, What::File);
}

#[test]
fn all_directories_of_a_tree_are_watched_where_that_is_asked_for() {
    let place = Place::new();
    fs::create_dir_all(place.at("a/b/c")).unwrap();
    let deep = Some(true);
    let watch = Watch { path: blob("a"), wait_ms: 60_000, deep, ..Watch::default() };
    let told = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| place.ask(&Ask::Watch(watch), b"").unwrap());
        while !waiting.is_finished() {
            fs::write(place.at("a/b/c/f"), "y").unwrap();
            std::thread::yield_now();
        }
        waiting.join().unwrap()
    });
    assert_eq!(names(&told.1.entries), ["b/c/f"]);
}

#[test]
fn nobody_wakes_because_of_what_is_hidden() {
    let hidden = Patterns::new(&["*.key".to_owned(), "/docs/private".to_owned()]).unwrap();
    let place = Place::with(Rules { writable: true, hidden, ..Rules::default() });
    fs::create_dir_all(place.at("docs")).unwrap();
    symlink("docs", place.at("link")).unwrap();
    // Behind a link, patterns match the real path.
    let watch = Ask::Watch(Watch { path: blob("link"), wait_ms: 60_000, ..Watch::default() });
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
    let watch = Ask::Watch(Watch { path: blob("docs"), wait_ms: 300, ..Watch::default() });
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

#[test]
fn what_a_tree_holds_is_summed_up() {
    let place = Place::new();
    fs::create_dir_all(place.at("d/e")).unwrap();
    fs::write(place.at("d/one"), "123").unwrap();
    fs::write(place.at("d/e/two"), "45").unwrap();
    symlink("one", place.at("d/link")).unwrap();
    let usage = |path: &str| place.ask(&Ask::Usage(blob(path)), b"").unwrap().0;
    let done = usage("d");
    assert_eq!((done.bytes, done.files, done.count), (Some(5), Some(2), Some(1)));
    let done = usage("d/one");
    assert_eq!((done.bytes, done.files, done.count), (Some(3), Some(1), Some(0)));
}

#[test]
fn a_file_without_a_size_is_read_to_its_end() {
    // The kernel gives the files of `/proc` no size.
    let root = File::open("/proc/sys/kernel").unwrap();
    let tree = &Tree::enter(root.into(), Rules::default()).unwrap();
    let transfers = &Transfers::default();
    let desk = Desk { tree, undo: None, transfers, who: "me", device: Id([1; 32]) };
    for (part, expected) in [
        (Part::Bytes { offset: 0, length: None }, ("Linux\n", Some(false))),
        (Part::Bytes { offset: 2, length: Some(2) }, ("nu", Some(true))),
        (Part::Lines { first: 1, count: 9, budget: 100 }, ("Linux\n", Some(false))),
        (Part::Tail { count: 1, budget: 100 }, ("Linux\n", Some(false))),
    ] {
        let path = blob("ostype");
        let read = Read { path, part, revision: None, hash: None, before: None };
        let mut asker = Asker::default();
        let Ok(done) = answer(&desk, &Ask::Read(read), &mut asker) else { panic!("{part:?}") };
        let (text, more) = expected;
        assert_eq!((&asker.data[..], done.more), (text.as_bytes(), more), "{part:?}");
        assert_eq!(done.bytes, Some(text.len() as u64), "{part:?}");
    }
}
