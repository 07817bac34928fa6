//! The tree on real directories, with everything that tries to lead out of it.
//!
//! A file `secret` stands outside of each root: no test may read, change or find it.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::files::{How, What};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::*;
use crate::path::Rel;
use crate::rules::Patterns;
use crate::rules::Rules;

pub(crate) mod access;
mod locks;
mod mounts;
mod owner;
mod rename;
mod space;
mod sweep;

/// A root with a secret beside it.
struct Place {
    scratch: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir(scratch.path().join("root")).unwrap();
        fs::write(scratch.path().join("secret"), "secret").unwrap();
        Self { scratch }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.scratch.path().join("root").join(path)
    }

    fn tree(&self, rules: Rules) -> Tree {
        let root = File::open(self.at("")).unwrap();
        Tree::enter(root.into(), rules).unwrap()
    }

    fn writable(&self) -> Tree {
        self.tree(Rules { writable: true, ..Rules::default() })
    }

    /// Checks that the secret is unchanged, and that nothing was created beside it.
    fn untouched(&self) {
        assert_eq!(fs::read(self.scratch.path().join("secret")).unwrap(), b"secret");
        let names = fs::read_dir(self.scratch.path()).unwrap().count();
        assert_eq!(names, 2, "something was made outside");
    }
}

fn rel(path: &str) -> Rel {
    Rel::parse(path.as_bytes()).unwrap()
}

fn put(tree: &Tree, path: &str, content: &[u8], wanted: WriteOptions) -> Result<Stat, Failure> {
    let mut draft = tree.draft(&rel(path), wanted)?;
    draft.write(content)?;
    draft.commit()
}

fn read(tree: &Tree, path: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    tree.open(&rel(path))?.0.read_to_end(&mut bytes).unwrap();
    Ok(bytes)
}

fn kind<T: std::fmt::Debug>(result: Result<T, Failure>) -> Kind {
    result.unwrap_err().kind
}

fn leftovers(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(".farwire-")).collect()
}

#[test]
fn links_that_lead_out_are_not_followed_by_anything() {
    let place = Place::new();
    fs::create_dir(place.at("d")).unwrap();
    symlink("../secret", place.at("relative")).unwrap();
    symlink(place.scratch.path().join("secret"), place.at("absolute")).unwrap();
    symlink(place.at("d"), place.at("absolute-inside")).unwrap();
    symlink("..", place.at("above")).unwrap();
    symlink("d/../../secret", place.at("winding")).unwrap();
    symlink("/proc/self/root/etc/passwd", place.at("magic")).unwrap();
    symlink("/proc/self/fd/3", place.at("descriptor")).unwrap();
    symlink("loop", place.at("loop")).unwrap();
    let tree = place.writable();
    let out = [
        "relative",
        "absolute",
        "absolute-inside",
        "above/secret",
        "winding",
        "magic",
        "descriptor",
        "loop",
    ];
    for path in out {
        let refused = |result: Kind| assert_eq!(result, Kind::OutsideRoot, "{path}");
        refused(kind(tree.stat(&rel(path))));
        refused(kind(tree.open(&rel(path))));
        refused(kind(tree.list(&rel(path))));
        refused(kind(put(&tree, path, b"x", WriteOptions::default())));
        refused(kind(tree.make_directory(&rel(&format!("{path}/new")))));
        refused(kind(tree.remove(&rel(&format!("{path}/secret")), true, None)));
        refused(kind(tree.rename(&rel("d"), &rel(&format!("{path}/new")), true)));
        refused(kind(tree.copy(&rel(path), &rel("copy"), true, true)));
        refused(kind(tree.resume(&rel(path), WriteOptions::default(), Nonce([1; 16]))));
    }
    place.untouched();
    assert_eq!(leftovers(&place.at("")), [""; 0]);
}

#[test]
fn removing_a_link_removes_the_link() {
    let place = Place::new();
    symlink("../secret", place.at("link")).unwrap();
    fs::create_dir_all(place.at("tree/deep")).unwrap();
    symlink("../../..", place.at("tree/deep/out")).unwrap();
    fs::write(place.at("tree/deep/file"), "x").unwrap();
    let tree = place.writable();
    tree.remove(&rel("link"), false, None).unwrap();
    assert_eq!(kind(tree.remove(&rel("tree"), false, None)), Kind::DirectoryNotEmpty);
    tree.remove(&rel("tree"), true, None).unwrap();
    assert_eq!(fs::read_dir(place.at("")).unwrap().count(), 0);
    place.untouched();
}

#[test]
fn a_large_directory_is_removed_but_for_what_is_hidden() {
    let place = Place::new();
    fs::create_dir(place.at("dir")).unwrap();
    for name in 0..5_000 {
        fs::write(place.at(&format!("dir/{name}")), "").unwrap();
    }
    fs::write(place.at("dir/.env"), "key").unwrap();
    let hidden = Patterns::new(&[".env".to_owned()]).unwrap();
    let tree = place.tree(Rules { writable: true, hidden, ..Rules::default() });
    let failure = tree.remove(&rel("dir"), true, None).unwrap_err();
    assert_eq!(failure.kind, Kind::DirectoryNotEmpty);
    assert!(failure.message.ends_with("the rest of its content has been removed"), "{failure}");
    assert_eq!(fs::read_dir(place.at("dir")).unwrap().count(), 1);
    let again = tree.remove(&rel("dir"), true, None).unwrap_err();
    assert_eq!(again.message, "`dir` is not empty", "nothing was removed");
}

#[test]
fn links_that_stay_inside_are_followed_and_written_through() {
    let place = Place::new();
    fs::create_dir_all(place.at("a/b")).unwrap();
    fs::write(place.at("a/file"), "old").unwrap();
    symlink("../file", place.at("a/b/link")).unwrap();
    symlink("a/b/link", place.at("chain")).unwrap();
    let tree = place.writable();
    assert_eq!(read(&tree, "chain").unwrap(), b"old");
    put(&tree, "chain", b"new", WriteOptions::default()).unwrap();
    assert_eq!(fs::read(place.at("a/file")).unwrap(), b"new");
    assert!(fs::symlink_metadata(place.at("chain")).unwrap().is_symlink());
    let strict = place.tree(Rules { writable: true, follow: false, ..Rules::default() });
    assert_eq!(kind(read(&strict, "chain")), Kind::OutsideRoot);
    assert_eq!(kind(put(&strict, "chain", b"x", WriteOptions::default())), Kind::OutsideRoot);
    // Writing through a dangling link creates its target.
    symlink("a/new", place.at("dangling")).unwrap();
    put(&tree, "dangling", b"made", WriteOptions::default()).unwrap();
    assert_eq!(fs::read(place.at("a/new")).unwrap(), b"made");
}

#[test]
fn what_is_no_file_is_never_opened() {
    let place = Place::new();
    let fifo = |name: &str| {
        rustix::fs::mknodat(CWD, place.at(name), FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .unwrap();
    };
    fifo("fifo");
    let _socket = std::os::unix::net::UnixListener::bind(place.at("socket")).unwrap();
    fs::create_dir(place.at("dir")).unwrap();
    let tree = place.writable();
    for path in ["fifo", "socket", "dir"] {
        assert_eq!(kind(tree.open(&rel(path))), Kind::NotAFile, "{path}");
        assert_eq!(kind(put(&tree, path, b"x", WriteOptions::default())), Kind::NotAFile, "{path}");
    }
    assert_eq!(tree.stat(&rel("fifo")).unwrap().what, What::Other);
    assert_eq!(kind(tree.copy(&rel("fifo"), &rel("x"), false, true)), Kind::NotAFile);
    fs::create_dir(place.at("full")).unwrap();
    fifo("full/fifo");
    symlink("../../secret", place.at("full/link")).unwrap();
    fs::write(place.at("full/file"), "x").unwrap();
    let copied = tree.copy(&rel("full"), &rel("copy"), false, true).unwrap();
    assert_eq!((copied.files, copied.links.count, copied.unread.count), (1, 2, 0));
    assert_eq!(fs::read_dir(place.at("copy")).unwrap().count(), 1, "no link and no FIFO was made");
}

#[test]
fn a_file_with_several_names_is_read_and_not_written() {
    let place = Place::new();
    fs::hard_link(place.scratch.path().join("secret"), place.at("hard")).unwrap();
    let tree = place.writable();
    assert_eq!(read(&tree, "hard").unwrap(), b"secret");
    assert_eq!(kind(put(&tree, "hard", b"x", WriteOptions::default())), Kind::OutsideRoot);
    let lenient = place.tree(Rules { writable: true, hard_links: true, ..Rules::default() });
    put(&lenient, "hard", b"x", WriteOptions::default()).unwrap();
    // Only this name of the file was replaced.
    place.untouched();
}

#[test]
fn nothing_changes_in_a_root_that_is_read_only() {
    let place = Place::new();
    fs::write(place.at("file"), "x").unwrap();
    fs::create_dir(place.at("dir")).unwrap();
    let tree = place.tree(Rules::default());
    for refused in [
        kind(put(&tree, "file", b"y", WriteOptions::default())),
        kind(tree.make_directory(&rel("new"))),
        kind(tree.make_directories(&rel("new/deep"))),
        kind(tree.remove(&rel("file"), false, None)),
        kind(tree.rename(&rel("file"), &rel("other"), false)),
        kind(tree.copy(&rel("file"), &rel("other"), false, false)),
        kind(tree.resume(&rel("file"), WriteOptions::default(), Nonce([1; 16]))),
        kind(put(&place.writable().read_only(), "file", b"y", WriteOptions::default())),
    ] {
        assert_eq!(refused, Kind::ReadOnly);
    }
    assert_eq!(read(&tree, "file").unwrap(), b"x");
}

#[test]
fn what_is_hidden_is_as_if_it_were_not_there() {
    let place = Place::new();
    fs::create_dir_all(place.at("sub/private")).unwrap();
    fs::write(place.at(".env"), "key").unwrap();
    fs::write(place.at("sub/private/file"), "key").unwrap();
    symlink(".env", place.at("alias")).unwrap();
    symlink("sub/private", place.at("detour")).unwrap();
    let hidden = Patterns::new(&[".env".to_owned(), "sub/private".to_owned()]).unwrap();
    let tree = place.tree(Rules { writable: true, hidden, ..Rules::default() });
    for path in [".env", "alias", "sub/private", "sub/private/file", "detour/file", "detour"] {
        assert_eq!(kind(tree.stat(&rel(path))), Kind::NoSuchFile, "{path}");
        assert_eq!(kind(read(&tree, path)), Kind::NoSuchFile, "{path}");
        assert_eq!(kind(tree.list(&rel(path)).map(drop)), Kind::NoSuchFile, "{path}");
        if path != "detour" {
            assert_eq!(
                kind(put(&tree, path, b"x", WriteOptions::default())),
                Kind::NoSuchFile,
                "{path}"
            );
        }
    }
    let mut names = Vec::new();
    tree.walk(&Rel::ROOT, 9, &mut |visited| {
        names.push(visited.at.to_string());
        Ok(true)
    })
    .unwrap();
    names.sort();
    assert_eq!(names, ["`alias`", "`detour`", "`sub`"]);
    // It is not moved to where it would be visible, not removed with the directory around it, and
    // not copied.
    assert_eq!(kind(tree.rename(&rel("sub"), &rel("seen"), false)), Kind::ReadOnly);
    assert_eq!(kind(tree.remove(&rel("sub"), true, None)), Kind::DirectoryNotEmpty);
    tree.copy(&rel("sub"), &rel("copy"), false, true).unwrap();
    assert_eq!(fs::read_dir(place.at("copy")).unwrap().count(), 0);
    assert_eq!(fs::read(place.at("sub/private/file")).unwrap(), b"key");
    let below = tree.below(&rel("sub")).unwrap();
    assert_eq!(kind(below.stat(&rel("private"))), Kind::NoSuchFile);
    assert_eq!(kind(below.stat(&rel("private/file"))), Kind::NoSuchFile);
    assert_eq!(below.list(&Rel::ROOT).unwrap().next().map(|one| one.unwrap().name), None);
}

#[test]
fn what_is_kept_is_read_and_not_changed() {
    let place = Place::new();
    fs::create_dir(place.at(".ssh")).unwrap();
    fs::write(place.at(".ssh/authorized_keys"), "key").unwrap();
    symlink(".ssh", place.at("other-name")).unwrap();
    let kept = Patterns::new(&["/.ssh".to_owned(), "/.bashrc".to_owned()]).unwrap();
    let tree = place.tree(Rules { writable: true, kept, ..Rules::default() });
    assert_eq!(read(&tree, ".ssh/authorized_keys").unwrap(), b"key");
    for path in [".ssh/authorized_keys", "other-name/authorized_keys", ".bashrc", ".ssh/new"] {
        assert_eq!(kind(put(&tree, path, b"x", WriteOptions::default())), Kind::ReadOnly, "{path}");
    }
    assert_eq!(kind(tree.rename(&rel(".ssh"), &rel("x"), false)), Kind::ReadOnly);
    assert_eq!(kind(tree.remove(&rel(".ssh"), true, None)), Kind::ReadOnly);
    put(&tree, "file", b"x", WriteOptions::default()).unwrap();
    assert_eq!(kind(tree.rename(&rel("file"), &rel(".bashrc"), false)), Kind::ReadOnly);
}

#[test]
fn a_draft_is_seen_once_it_is_whole() {
    let place = Place::new();
    fs::write(place.at("file"), "old").unwrap();
    fs::set_permissions(place.at("file"), fs::Permissions::from_mode(0o4750)).unwrap();
    let tree = place.writable();
    let mut draft = tree.draft(&rel("file"), WriteOptions::default()).unwrap();
    draft.write(b"new").unwrap();
    assert_eq!(fs::read(place.at("file")).unwrap(), b"old");
    assert!(tree.list(&Rel::ROOT).unwrap().next().is_some_and(|one| one.unwrap().name == b"file"));
    drop(draft);
    assert_eq!(
        (fs::read(place.at("file")).unwrap(), leftovers(&place.at(""))),
        (b"old".to_vec(), vec![])
    );
    put(&tree, "file", b"new", WriteOptions::default()).unwrap();
    let meta = fs::metadata(place.at("file")).unwrap();
    assert_eq!(
        (meta.len(), meta.mode() & 0o7777),
        (3, 0o750),
        "its rights are kept, and none over others"
    );
    let stat =
        put(&tree, "exec", b"x", WriteOptions { mode: Some(0o6755), ..WriteOptions::default() })
            .unwrap();
    assert_eq!(stat.mode, 0o755);
    let stat =
        put(&tree, "plain", b"x", WriteOptions { modified: Some(-1), ..WriteOptions::default() })
            .unwrap();
    assert_eq!((stat.mode & 0o111, stat.modified), (0, -1));
}

#[test]
fn what_must_be_there_before_is_checked_again_at_the_end() {
    let place = Place::new();
    let tree = place.writable();
    let how = |how| WriteOptions { how, ..WriteOptions::default() };
    assert_eq!(kind(put(&tree, "file", b"x", how(How::Replace))), Kind::NoSuchFile);
    let seen = put(&tree, "file", b"x", how(How::Create)).unwrap();
    assert_eq!(kind(put(&tree, "file", b"y", how(How::Create))), Kind::FileExists);
    let at = WriteOptions { revision: Some(seen.revision), ..WriteOptions::default() };
    let mut late = tree.draft(&rel("file"), at).unwrap();
    late.write(b"late").unwrap();
    put(&tree, "file", b"early", at).unwrap();
    assert_eq!(kind(late.commit()), Kind::ChangedMeanwhile);
    assert_eq!(kind(put(&tree, "file", b"z", at)), Kind::ChangedMeanwhile);
    let mut late = tree.draft(&rel("fresh"), how(How::Create)).unwrap();
    late.write(b"late").unwrap();
    fs::write(place.at("fresh"), "early").unwrap();
    assert_eq!(kind(late.commit()), Kind::FileExists);
    assert_eq!(fs::read(place.at("fresh")).unwrap(), b"early");
    assert_eq!(leftovers(&place.at("")), [""; 0]);
}

#[test]
fn a_transfer_goes_on_where_it_broke_off() {
    let place = Place::new();
    let tree = place.writable();
    let transfer = Nonce([7; 16]);
    let mut draft = tree.resume(&rel("big"), WriteOptions::default(), transfer).unwrap();
    draft.write(b"first ").unwrap();
    drop(draft);
    assert!(!place.at("big").exists());
    assert_eq!(tree.received_bytes(&rel("big"), transfer).unwrap(), 6);
    assert_eq!(tree.received_bytes(&rel("big"), Nonce([8; 16])).unwrap(), 0);
    let mut draft = tree.resume(&rel("big"), WriteOptions::default(), transfer).unwrap();
    draft.truncate(6).unwrap();
    draft.write(b"second").unwrap();
    draft.commit().unwrap();
    assert_eq!(fs::read(place.at("big")).unwrap(), b"first second");
    assert_eq!(leftovers(&place.at("")), [""; 0]);
}

#[test]
fn copying_over_something_keeps_it_until_the_copy_is_whole() {
    let place = Place::new();
    fs::create_dir_all(place.at("from/deep")).unwrap();
    fs::write(place.at("from/deep/file"), "new").unwrap();
    fs::create_dir(place.at("to")).unwrap();
    fs::write(place.at("to/old"), "old").unwrap();
    let tree = place.writable();
    assert_eq!(kind(tree.copy(&rel("from"), &rel("to"), false, true)), Kind::FileExists);
    assert_eq!(kind(tree.copy(&rel("from"), &rel("x"), false, false)), Kind::NotAFile);
    for inside in ["from", "from/deep/x"] {
        assert_eq!(kind(tree.copy(&rel("from"), &rel(inside), true, true)), Kind::InvalidArgument);
        assert_eq!(kind(tree.rename(&rel("from"), &rel(inside), true)), Kind::InvalidArgument);
    }
    assert_eq!(kind(tree.rename(&rel("from/deep"), &rel("from"), true)), Kind::InvalidArgument);
    tree.copy(&rel("from"), &rel("to"), true, true).unwrap();
    assert!(!place.at("to/old").exists());
    assert_eq!(fs::read(place.at("to/deep/file")).unwrap(), b"new");
    tree.rename(&rel("from"), &rel("to"), true).unwrap();
    assert!(!place.at("from").exists() && place.at("to/deep/file").exists());
    fs::write(place.at("single"), "x").unwrap();
    tree.rename(&rel("single"), &rel("to"), true).unwrap();
    assert_eq!(fs::read(place.at("to")).unwrap(), b"x");
    assert_eq!(leftovers(&place.at("")), [""; 0]);
}

#[test]
fn what_a_copy_leaves_out_is_not_moved_by_one() {
    let place = Place::new();
    let tree = place.writable();
    fs::create_dir_all(place.at("plain/deep")).unwrap();
    fs::write(place.at("plain/deep/file"), "x").unwrap();
    fs::create_dir_all(place.at("links/deep")).unwrap();
    symlink("file", place.at("links/deep/link")).unwrap();
    let state = std::hash::RandomState::new();
    let survives =
        |path: &str| tree.check_copyable(&rel(path), &tree.stat_link(&rel(path)).unwrap(), &state);
    assert!(survives("plain/deep/file").is_ok());
    let before = survives("plain").unwrap();
    assert_eq!(survives("plain").unwrap(), before, "nothing has changed");
    fs::write(place.at("plain/deep/file"), "y, and more").unwrap();
    let changed = survives("plain").unwrap();
    fs::write(place.at("plain/deep/new"), "").unwrap();
    assert!(changed != before && survives("plain").unwrap() != changed, "also deep in it");
    assert_eq!(kind(survives("links")), Kind::Unsupported);
    assert_eq!(kind(survives("links/deep/link")), Kind::Unsupported);
}

/// Odd names are names like all others.
#[test]
fn names_are_bytes() {
    let place = Place::new();
    let tree = place.writable();
    for name in ["a\nb", "\u{1b}[31m", "é", "e\u{301}", "A", "a", " ", "-rf", "*", "a\\b", "NUL"] {
        put(&tree, name, name.as_bytes(), WriteOptions::default()).unwrap();
    }
    for name in ["é", "e\u{301}", "A", "a"] {
        assert_eq!(read(&tree, name).unwrap(), name.as_bytes());
    }
    let bytes = Rel::parse(b"\xff\xfe").unwrap();
    tree.draft(&bytes, WriteOptions::default()).unwrap().commit().unwrap();
    assert_eq!(fs::read_dir(place.at("")).unwrap().count(), 12);
}

/// Somebody keeps swapping a directory for a link that leads out, while everything is tried.
#[test]
fn a_swap_while_it_is_looked_at_leads_nowhere() {
    let place = Place::new();
    fs::create_dir(place.scratch.path().join("outside")).unwrap();
    fs::write(place.scratch.path().join("outside/file"), "secret").unwrap();
    fs::create_dir(place.at("real")).unwrap();
    fs::write(place.at("real/file"), "inside").unwrap();
    fs::create_dir(place.at("dir")).unwrap();
    fs::write(place.at("dir/file"), "inside").unwrap();
    symlink("../outside", place.at("out")).unwrap();
    let tree = place.writable();
    let done = AtomicBool::new(false);
    let tries =
        std::env::var("FARWIRE_SWAPS").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let exchange = rustix::fs::RenameFlags::EXCHANGE;
            while !done.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(CWD, place.at("dir"), CWD, place.at("out"), exchange)
                    .unwrap();
            }
        });
        for round in 0..tries {
            if let Ok(bytes) = read(&tree, "dir/file") {
                assert_ne!(bytes, b"secret");
            }
            let name = format!("dir/new-{}", round % 7);
            // Some of these find the directory, and some the link.
            match round % 5 {
                0 => drop(put(
                    &tree,
                    &name,
                    b"x",
                    WriteOptions { durable: false, ..WriteOptions::default() },
                )),
                1 => drop(tree.make_directory(&rel(&name))),
                2 => drop(tree.remove(&rel(&name), true, None)),
                3 => drop(
                    tree.rename(&rel("real/file"), &rel("dir/moved"), true)
                        .and_then(|()| tree.rename(&rel("dir/moved"), &rel("real/file"), true)),
                ),
                _ => {
                    let mut seen = Vec::new();
                    let _ = tree.walk(&Rel::ROOT, 3, &mut |visited| {
                        seen.push(visited.at.clone());
                        Ok(true)
                    });
                    assert!(!seen.contains(&rel("out/secret")));
                }
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    let outside: Vec<_> = fs::read_dir(place.scratch.path().join("outside")).unwrap().collect();
    assert_eq!(outside.len(), 1, "something was made outside");
    assert_eq!(fs::read(place.scratch.path().join("outside/file")).unwrap(), b"secret");
}

/// A name is durable once its directory is synced, which our `O_PATH` handle of it cannot be.
#[test]
fn the_directory_of_what_is_durable_is_synced() {
    let place = Place::new();
    let tree = place.writable();
    let file = tree.place(&rel("file")).unwrap();
    assert_eq!(rustix::fs::fsync(&file.dir), Err(Errno::BADF));
    file.sync().unwrap();
    fs::create_dir(place.at("gone")).unwrap();
    let gone = tree.place(&rel("gone/file")).unwrap();
    fs::remove_dir(place.at("gone")).unwrap();
    gone.sync().unwrap();
}

#[test]
fn what_another_program_writes_before_a_replacement_is_not_lost() {
    let place = Place::new();
    let tree = place.writable();
    fs::write(place.at("file"), "old").unwrap();
    let revision = Some(tree.stat(&rel("file")).unwrap().revision);
    let wanted = WriteOptions { how: How::Replace, revision, ..WriteOptions::default() };
    let mut draft = tree.draft(&rel("file"), wanted).unwrap();
    draft.write(b"ours").unwrap();
    let done = draft.commit_with(|_, _| {
        fs::write(place.at("file"), "theirs").unwrap();
        Ok(())
    });
    assert_eq!(kind(done), Kind::ChangedMeanwhile);
    assert_eq!(fs::read(place.at("file")).unwrap(), b"theirs");
    assert_eq!(fs::read_dir(place.at("")).unwrap().count(), 1, "no draft is left");
}

#[test]
fn a_file_without_a_size_is_copied_to_its_end() {
    // The kernel gives the files of `/proc` no size.
    let content = fs::read("/proc/sys/kernel/ostype").unwrap();
    let file = File::open("/proc/sys/kernel/ostype").unwrap();
    let stat = Stat::new(&rustix::fs::fstat(&file).unwrap());
    assert_eq!((stat.size, has_no_size(&file, &stat)), (0, true));
    let place = Place::new();
    let tree = place.writable();
    fs::write(place.at("empty"), "").unwrap();
    let (empty, none) = tree.open(&rel("empty")).unwrap();
    assert!(!has_no_size(&empty, &none));
    let mut draft = tree.draft(&rel("copy"), WriteOptions::default()).unwrap();
    assert_eq!(draft.copy(&file, &stat).unwrap(), content.len() as u64);
    draft.commit().unwrap();
    assert_eq!(fs::read(place.at("copy")).unwrap(), content);
}

#[test]
fn a_root_that_was_removed_is_no_empty_directory() {
    let place = Place::new();
    let tree = place.writable();
    assert!(tree.list(&Rel::ROOT).is_ok());
    fs::remove_dir(place.at("")).unwrap();
    assert_eq!(kind(tree.list(&Rel::ROOT)), Kind::NoSuchFile);
}
