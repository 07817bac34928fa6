//! Lists, reads, searches and watches.

use super::*;

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
