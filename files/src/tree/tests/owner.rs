//! What the owner of a root hides or protects, against changes of the directories around it.

use super::*;

fn patterns(text: &str) -> Patterns {
    Patterns::new(&[text.to_owned()]).unwrap()
}

#[test]
fn a_directory_does_not_take_away_or_become_what_the_owner_keeps() {
    let place = Place::new();
    fs::create_dir_all(place.at("docs/private")).unwrap();
    fs::write(place.at("docs/private/x"), "hidden").unwrap();
    fs::create_dir_all(place.at(".config/git")).unwrap();
    fs::create_dir_all(place.at("new/systemd")).unwrap();
    fs::write(place.at("new/systemd/unit"), "bad").unwrap();
    fs::write(place.at("file"), "file").unwrap();
    let (hidden, kept) = (patterns("docs/private"), patterns("/.config/systemd"));
    let tree = place.tree(Rules { writable: true, hidden, kept, ..Rules::default() });
    let (new, docs, file) = (rel("new"), rel("docs"), rel("file"));
    // The destination contains something hidden.
    for from in [&new, &file] {
        assert_eq!(kind(tree.rename(from, &docs, true)), Kind::ReadOnly);
        assert_eq!(kind(tree.copy_over(from, &docs, true)), Kind::ReadOnly);
    }
    assert_eq!(kind(tree.copy_shallow(&new, &docs, true)), Kind::ReadOnly);
    assert_eq!(fs::read(place.at("docs/private/x")).unwrap(), b"hidden");
    // What arrives there would be trusted.
    let config = rel(".config");
    assert_eq!(kind(tree.rename(&new, &config, true)), Kind::ReadOnly);
    assert_eq!(kind(tree.copy(&new, &config, true, true)), Kind::ReadOnly);
    fs::remove_dir_all(place.at(".config")).unwrap();
    assert_eq!(kind(tree.rename(&new, &config, false)), Kind::ReadOnly);
    assert_eq!(kind(tree.copy(&new, &config, false, true)), Kind::ReadOnly);
    assert!(!place.at(".config").exists() && place.at("new/systemd/unit").exists());
    tree.rename(&new, &rel("elsewhere"), false).unwrap();
    assert_eq!(leftovers(&place.at("")), Vec::<String>::new());
    place.untouched();
}

#[test]
fn what_has_lost_its_name_is_not_there() {
    let place = Place::new();
    fs::write(place.at("x.key"), "key").unwrap();
    fs::create_dir(place.at("private")).unwrap();
    let hidden = Patterns::new(&["*.key".to_owned(), "/private".to_owned()]).unwrap();
    let tree = place.tree(Rules { writable: true, hidden, ..Rules::default() });
    let found = |path: &str| tree.open_at(&rel(path), OFlags::PATH).unwrap();
    let (file, dir) = (found("x.key"), found("private"));
    fs::remove_file(place.at("x.key")).unwrap();
    fs::remove_dir(place.at("private")).unwrap();
    assert_eq!(kind(tree.real(&file, &rel("alias"))), Kind::NoSuchFile);
    assert_eq!(kind(tree.real(&dir, &rel("alias"))), Kind::NoSuchFile);
    // The name of a file may look like this.
    put(&tree, "y (deleted)", b"y", WriteOptions::default()).unwrap();
    assert_eq!(read(&tree, "y (deleted)").unwrap(), b"y");
    assert_eq!(tree.real(&found("y (deleted)"), &Rel::ROOT).unwrap(), rel("y (deleted)"));
    fs::write(place.at("x.key (deleted)"), "another").unwrap();
    assert_eq!(kind(tree.real(&file, &rel("alias"))), Kind::NoSuchFile);
}

#[test]
fn what_is_replaced_all_the_time_is_always_there() {
    let place = Place::new();
    let tree = place.tree(Rules { writable: true, hidden: patterns(".env"), ..Rules::default() });
    put(&tree, "file", b"content", WriteOptions::default()).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let lazy = WriteOptions { durable: false, ..WriteOptions::default() };
                put(&tree, "file", b"content", lazy).unwrap();
            }
        });
        let read: Vec<_> = (0..2_000).map(|_| read(&tree, "file")).collect();
        done.store(true, Ordering::Relaxed);
        assert!(read.iter().all(|read| read.as_deref() == Ok(b"content")));
    });
}

#[test]
fn a_directory_that_cannot_be_looked_through_stays_where_it_is() {
    let place = Place::new();
    let deep = "d/".repeat(100);
    fs::create_dir_all(place.at(&format!("a/{deep}"))).unwrap();
    fs::write(place.at(&format!("a/{deep}.env")), "key").unwrap();
    let tree = place.tree(Rules { writable: true, hidden: patterns(".env"), ..Rules::default() });
    let below = "a".to_owned() + &"/d".repeat(9);
    assert_eq!(kind(tree.rename(&rel("a"), &rel("b"), false)), Kind::ReadOnly);
    assert_eq!(kind(tree.rename(&rel(&below), &rel("b"), false)), Kind::ReadOnly);
}

#[test]
fn what_is_around_something_hidden_stays_where_it_is() {
    let place = Place::new();
    fs::create_dir_all(place.at("a/b/secret")).unwrap();
    fs::write(place.at("a/b/secret/key"), "key").unwrap();
    fs::create_dir(place.at("empty")).unwrap();
    symlink("a", place.at("alias")).unwrap();
    let hidden = patterns("a/b/secret");
    let tree = place.tree(Rules { writable: true, hidden, ..Rules::default() });
    for from in ["a", "a/b", "alias/b"] {
        assert_eq!(kind(tree.rename(&rel(from), &rel("seen"), false)), Kind::ReadOnly, "{from}");
        assert_eq!(kind(tree.rename(&rel("empty"), &rel(from), true)), Kind::ReadOnly, "{from}");
        assert_eq!(kind(tree.remove(&rel(from), true, None)), Kind::DirectoryNotEmpty, "{from}");
    }
    tree.copy(&rel("alias/b"), &rel("seen"), false, true).unwrap();
    assert_eq!(fs::read_dir(place.at("seen")).unwrap().count(), 0);
    assert_eq!(fs::read(place.at("a/b/secret/key")).unwrap(), b"key");
}

#[test]
fn a_directory_does_not_replace_what_it_is_in_by_way_of_a_link() {
    let place = Place::new();
    fs::create_dir_all(place.at("a/b/c")).unwrap();
    fs::write(place.at("a/file"), "x").unwrap();
    symlink("a/b", place.at("link")).unwrap();
    let tree = place.writable();
    for (from, to) in [("link/c", "a"), ("a", "link/c")] {
        let (from, to) = (rel(from), rel(to));
        assert_eq!(kind(tree.rename(&from, &to, true)), Kind::InvalidArgument);
        assert_eq!(kind(tree.copy(&from, &to, true, true)), Kind::InvalidArgument);
    }
    fs::write(place.at("a/b/c/file"), "x").unwrap();
    let inside = tree.copy_over(&rel("link/c/file"), &rel("a"), true);
    assert_eq!(kind(inside), Kind::InvalidArgument);
    assert!(place.at("a/b/c/file").exists() && place.at("a/file").exists());
}
