//! Concurrent changes of the same names.

use super::*;

/// Repeats `this` until `other` has been done `times` times.
fn meanwhile(times: usize, other: impl Fn(usize) + Sync, mut this: impl FnMut()) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (0..times).for_each(&other);
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            this();
        }
    });
}

#[test]
fn a_directory_that_is_replaced_is_there_at_each_moment() {
    let place = Place::new();
    let tree = place.writable();
    fs::create_dir(place.at("to")).unwrap();
    let times = 300;
    for from in 0..times {
        fs::create_dir(place.at(&format!("{from}"))).unwrap();
    }
    fs::create_dir(place.at("new")).unwrap();
    let replace = |round: usize| {
        tree.rename(&rel(&round.to_string()), &rel("to"), true).unwrap();
        tree.copy(&rel("new"), &rel("to"), true, true).unwrap();
    };
    meanwhile(times, replace, || assert!(place.at("to").exists()));
    assert_eq!(leftovers(&place.at("")), [""; 0]);
    assert_eq!(fs::read_dir(place.at("")).unwrap().count(), 2);
}

#[test]
fn what_is_moved_is_what_was_looked_at() {
    let place = Place::new();
    let tree = place.writable();
    let lazy = WriteOptions { durable: false, ..WriteOptions::default() };
    let first = put(&tree, "file", b"first", lazy).unwrap();
    put(&tree, "file", b"second", lazy).unwrap();
    let (from, to) = (rel("file"), rel("moved"));
    let stale = tree.rename_if(&from, &to, true, Some(first.revision));
    assert_eq!(kind(stale), Kind::ChangedMeanwhile);
    // Both move the same revision: one of them is too late.
    for _ in 0..200 {
        let now = Some(put(&tree, "file", b"x", lazy).unwrap().revision);
        let both = std::thread::scope(|scope| {
            let both = [0, 1].map(|_| scope.spawn(|| tree.rename_if(&from, &to, true, now)));
            both.map(|one| one.join().unwrap().is_ok())
        });
        assert_eq!(both.iter().filter(|moved| **moved).count(), 1);
    }
    // In both directions, without a deadlock.
    put(&tree, "file", b"x", lazy).unwrap();
    let there = |_| drop(tree.rename(&from, &to, true));
    meanwhile(2_000, there, || drop(tree.rename(&to, &from, true)));
}

#[test]
fn who_moves_waits_for_who_is_about_to_replace() {
    let place = Place::new();
    let tree = place.writable();
    let seen = put(&tree, "file", b"old", WriteOptions::default()).unwrap().revision;
    let mut draft = tree.draft(&rel("file"), WriteOptions::default()).unwrap();
    draft.write(b"new").unwrap();
    std::thread::scope(|scope| {
        let mut late = None;
        let keep = |_: Option<&Stat>, _| {
            let tree = &tree;
            let late = late.insert(
                scope.spawn(move || tree.rename_if(&rel("file"), &rel("moved"), false, Some(seen))),
            );
            // A thread that did not block would be done by now.
            (0..10_000).take_while(|_| !late.is_finished()).for_each(|_| std::thread::yield_now());
            Ok(())
        };
        draft.commit_with(keep).unwrap();
        assert_eq!(kind(late.unwrap().join().unwrap()), Kind::ChangedMeanwhile);
    });
    assert_eq!(read(&tree, "file").unwrap(), b"new");
}

#[test]
fn what_is_written_into_what_moves_does_not_become_what_is_kept() {
    let place = Place::new();
    let kept = Patterns::new(&["/.config/systemd".to_owned()]).unwrap();
    let tree = place.tree(Rules { writable: true, kept, ..Rules::default() });
    fs::create_dir(place.at("new")).unwrap();
    let lazy = WriteOptions { durable: false, ..WriteOptions::default() };
    let mut draft = tree.draft(&rel("new/systemd"), lazy).unwrap();
    draft.write(b"bad").unwrap();
    tree.rename(&rel("new"), &rel(".config"), false).unwrap();
    assert_eq!(kind(draft.commit()), Kind::ReadOnly);
    tree.rename(&rel(".config"), &rel("new"), false).unwrap();
    // And at the same moment.
    let (new, config) = (rel("new"), rel(".config"));
    let back = |_| {
        // Either may be there.
        let _ = tree.rename(&new, &config, false);
        assert!(!place.at(".config/systemd").exists());
        drop(tree.rename(&config, &new, false));
    };
    meanwhile(1_000, back, || {
        drop(tree.make_directory(&rel("new/systemd")));
        drop(tree.remove(&rel("new/systemd"), false, None));
        drop(put(&tree, "new/systemd", b"bad", lazy));
        drop(tree.remove(&rel("new/systemd"), false, None));
    });
    assert!(!place.at(".config/systemd").exists());
}

#[test]
fn what_is_written_into_what_is_replaced_is_not_lost_in_silence() {
    let place = Place::new();
    let tree = place.writable();
    fs::create_dir(place.at("to")).unwrap();
    fs::create_dir(place.at("new")).unwrap();
    let draft = tree.draft(&rel("to/file"), WriteOptions::default()).unwrap();
    rustix::fs::renameat(CWD, place.at("to"), CWD, place.at(".farwire-tmp-1")).unwrap();
    assert_eq!(kind(draft.commit()), Kind::NoSuchFile);
}

#[test]
fn what_is_said_of_a_file_that_is_being_replaced_goes_with_its_name() {
    const NAME: &str = "user.farwire.test";
    let place = Place::new();
    let tree = place.writable();
    put(&tree, "file", b"old", WriteOptions::default()).unwrap();
    if tree.set_attribute(&rel("file"), NAME, Some(b"before")).is_err() {
        return;
    }
    let mut draft = tree.draft(&rel("file"), WriteOptions::default()).unwrap();
    draft.write(b"new").unwrap();
    std::thread::scope(|scope| {
        let mut late = None;
        let keep = |_: Option<&Stat>, _| {
            let tree = &tree;
            let say = move || tree.set_attribute(&rel("file"), NAME, Some(b"after"));
            let late = late.insert(scope.spawn(say));
            // A thread that did not block would be done by now.
            (0..10_000).take_while(|_| !late.is_finished()).for_each(|_| std::thread::yield_now());
            Ok(())
        };
        draft.commit_with(keep).unwrap();
        late.unwrap().join().unwrap().unwrap();
    });
    assert_eq!(tree.attribute(&rel("file"), NAME).unwrap().unwrap(), b"after");
}

#[test]
fn what_is_moved_out_of_a_directory_is_not_removed_with_it() {
    let place = Place::new();
    let tree = place.writable();
    fs::create_dir(place.at("keep")).unwrap();
    let mut moved = 0;
    for round in 0..200 {
        if moved >= 5 {
            break;
        }
        fs::create_dir_all(place.at("dir/sub/deep")).unwrap();
        (0..500).for_each(|n| fs::write(place.at(&format!("dir/sub/deep/{n}")), "x").unwrap());
        let (deep, kept) = (rel("dir/sub/deep"), rel(&format!("keep/{round}")));
        let precious = place.at(&format!("keep/{round}/precious"));
        std::thread::scope(|scope| {
            let removes = scope.spawn(|| tree.remove(&rel("dir"), true, None));
            // Once the removal has begun.
            while fs::read_dir(place.at("dir/sub/deep")).is_ok_and(|dir| dir.count() == 500) {}
            if tree.rename(&deep, &kept, false).is_ok() {
                fs::write(&precious, "x").unwrap();
                moved += 1;
                let _ = removes.join().unwrap();
                assert!(precious.exists());
            }
        });
        let _ = fs::remove_dir_all(place.at("dir"));
    }
    assert!(moved > 0, "it was too late each time");
}
