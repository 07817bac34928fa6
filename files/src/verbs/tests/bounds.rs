//! The limits of a question, by device and in total.

use super::*;
use crate::listener::Listener;
use farwire_protocol::id::Id;

#[test]
fn what_holds_memory_is_refused_while_others_hold_it() {
    let place = Place::new();
    place.write("file", "one\ntwo\n").unwrap();
    let search = Ask::Search(Search { pattern: "two".to_owned(), ..Search::default() });
    let list = Ask::List(List { sort: Some(Sort::Name), ..List::default() });
    let read = |part| {
        Ask::Read(Read { path: blob("file"), part, revision: None, hash: None, before: None })
    };
    let lines = read(Part::Lines { first: 1, count: 9, budget: 100 });
    let tail = read(Part::Tail { count: 1, budget: 100 });
    let append = Ask::Write(Write { how: How::Append, ..write("file") });
    for ask in [search, list, lines, tail, append] {
        let full = memory::all_but(10);
        let refused = place.ask(&ask, b"a longer text").unwrap_err();
        assert_eq!(refused.kind, Kind::Busy, "{ask:?}");
        drop(full);
        place.ask(&ask, b"a longer text").unwrap();
    }
    let _others = memory::all_but(16 << 20);
    let search = Search { pattern: "two".to_owned(), ..Search::default() };
    let (done, _) = place.ask(&Ask::Search(search), b"").unwrap();
    assert_eq!(done.count, Some(1), "with fewer threads");
}

#[test]
fn a_pattern_that_takes_too_much_memory_is_refused() {
    let place = Place::new();
    let search = Search { pattern: r"\w{300}".to_owned(), ..Search::default() };
    let failure = place.ask(&Ask::Search(search), b"").unwrap_err();
    assert_eq!(failure.kind, Kind::InvalidArgument);
}

#[test]
fn work_for_nobody_is_not_done() {
    let place = Place::new();
    place.write("file", "some text\n").unwrap();
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let part = |hash| Part::Lines { first: 1, count: 1, budget: if hash { 0 } else { 99 } };
    let read = |hash| Read {
        path: blob("file"),
        part: part(hash),
        revision: None,
        hash: Some(hash),
        before: None,
    };
    let search = Search { pattern: "text".to_owned(), ..Search::default() };
    let asks = [
        Ask::List(List { sort: Some(Sort::Name), ..List::default() }),
        Ask::Read(read(true)),
        Ask::Read(read(false)),
        Ask::Search(search.clone()),
        Ask::Search(Search { path: blob("file"), ..search }),
    ];
    let ask = |ask: &Ask| {
        let listener = Listener::new(std::sync::Arc::new(ours.try_clone().unwrap().into()));
        let (tree, transfers) = (&place.tree.share().for_listener(listener), &place.transfers);
        answer(
            &Desk { tree, undo: None, transfers, who: "me", device: Id([1; 32]) },
            ask,
            &mut Asker::default(),
        )
    };
    for one in &asks {
        ask(one).unwrap();
    }
    drop(theirs);
    for one in &asks {
        let Err(VerbError::Failed(_)) = ask(one) else { panic!("{one:?}") };
    }
}

#[test]
fn nothing_is_changed_for_somebody_who_has_gone() {
    let place = Place::new();
    fs::create_dir_all(place.at("dir/inner")).unwrap();
    for name in ["dir/inner/one", "dir/two", "file"] {
        fs::write(place.at(name), "text").unwrap();
    }
    let copy = |from: &str, moved: bool| {
        Ask::Copy(Copy {
            from: blob(from),
            to: blob("new"),
            moved: Some(moved),
            overwrite: None,
            recursive: Some(true),
            undo: None,
        })
    };
    let remove = |path: &str| {
        let (path, recursive) = (blob(path), Some(true));
        Ask::Remove(Remove { path, recursive, revision: None, undo: None })
    };
    let asks = [
        copy("dir", false),
        copy("dir", true),
        copy("file", false),
        copy("file", true),
        remove("dir"),
        remove("file"),
        Ask::Write(write("file")),
        Ask::Write(write("new")),
        Ask::Write(Write { how: How::Append, ..write("file") }),
        Ask::MakeDirectory(MakeDirectory { path: blob("new"), parents: None }),
    ];
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    drop(theirs);
    for ask in &asks {
        let listener = Listener::new(std::sync::Arc::new(ours.try_clone().unwrap().into()));
        let (tree, transfers) = (&place.tree.share().for_listener(listener), &place.transfers);
        let desk = Desk { tree, undo: None, transfers, who: "me", device: Id([1; 32]) };
        let answered = answer(&desk, ask, &mut Asker::default());
        let Err(VerbError::Failed(failure)) = answered else { panic!("{ask:?}") };
        assert_eq!(failure.kind, Kind::Cancelled, "{ask:?}");
        let names = |path: &str| fs::read_dir(place.at(path)).unwrap().count();
        assert_eq!((names(""), names("dir"), names("dir/inner")), (2, 2, 1), "{ask:?}");
        assert_eq!(place.has("file"), Some("text".into()), "{ask:?}");
    }
}
