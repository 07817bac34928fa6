//! Patches that do what git says: as one change, in order, and through no link.

use super::*;

/// Applies a diff to a place with files. Returns the answer of `patch`.
fn patched(place: &Place, diff: &str) -> Result<String, Failure> {
    let patch = Patch { undo: Some(true), ..Patch::default() };
    match place.ask(&Ask::Patch(patch), diff.as_bytes()) {
        Ok((_, asker)) => Ok(String::from_utf8(asker.data).unwrap()),
        Err(failure) => Err(failure),
    }
}

fn mode(place: &Place, path: &str) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(place.at(path)).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_patch_does_all_that_git_says_and_names_it_and_it_is_one_change() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    for (path, text) in
        [("f", "a\n"), ("g", "b\n"), ("gone", ""), ("old", "one\ntwo\n"), ("ö.txt", "ä\n")]
    {
        fs::write(place.at(path), text).unwrap();
        fs::set_permissions(place.at(path), fs::Permissions::from_mode(0o644)).unwrap();
    }
    let before = place.all();
    let diff = "diff --git a/f b/f\nold mode 100644\nnew mode 100755\n\
        diff --git a/g b/g\n--- a/g\n+++ b/g\n@@ -1 +1 @@\n-b\n+B\n\
        diff --git a/empty b/empty\nnew file mode 100755\nindex 0000000..e69de29\n\
        diff --git a/gone b/gone\ndeleted file mode 100644\nindex e69de29..0000000\n\
        diff --git a/old b/new/name\nsimilarity index 50%\nrename from old\nrename to new/name\n\
        --- a/old\n+++ b/new/name\n@@ -1,2 +1,2 @@\n one\n-two\n+three\n\
        diff --git a/old b/copy\nsimilarity index 100%\ncopy from old\ncopy to copy\n\
        diff --git \"a/\\303\\266.txt\" \"b/\\303\\266.txt\"\nold mode 100644\nnew mode 100755\n\
        --- \"a/\\303\\266.txt\"\n+++ \"b/\\303\\266.txt\"\n@@ -1 +1 @@\n-ä\n+ü\n";
    let told = patched(&place, diff).unwrap();
    assert_eq!(
        told,
        "mode f 100644 -> 100755\nM g +1 -1\nA empty\nD gone\nR old -> new/name +1 -1\n\
         C old -> copy\nM ö.txt +1 -1\nmode ö.txt 100644 -> 100755\n"
    );
    assert_eq!(
        place.all(),
        [
            "copy=one\ntwo\n",
            "empty=",
            "f=a\n",
            "g=B\n",
            "new/",
            "new/name=one\nthree\n",
            "ö.txt=ü\n"
        ]
    );
    let executable = |path| mode(&place, path) & 0o100 != 0;
    assert!(executable("f") && executable("empty") && executable("ö.txt"));
    assert!(!executable("g") && !executable("copy") && !executable("new/name"));
    place.revert(None, false).unwrap();
    fs::remove_dir(place.at("new")).unwrap();
    assert_eq!(place.all(), before);
    assert!(!executable("f"), "a mode comes back, too");
    place.revert(None, true).unwrap();
    assert!(executable("f"));
}

#[test]
fn a_patch_sees_what_its_own_parts_before_have_left_as_git_does() {
    let text = |name: &str, old: &str, new: &str| {
        format!("--- a/{name}\n+++ b/{name}\n@@ -1 +1 @@\n-{old}\n+{new}\n")
    };
    let place = Place::new();
    fs::write(place.at("a"), "1\n").unwrap();
    fs::write(place.at("b"), "2\n").unwrap();
    // The same file twice in one patch.
    patched(&place, &(text("a", "1", "x") + &text("a", "x", "3"))).unwrap();
    assert_eq!(place.has("a").as_deref(), Some("3\n"));
    // Two files that swap their names.
    let moved = |from: &str, to: &str| {
        format!(
            "diff --git a/{from} b/{to}\nsimilarity index 100%\nrename from {from}\nrename to {to}\n"
        )
    };
    patched(&place, &(moved("a", "b") + &moved("b", "a"))).unwrap();
    assert_eq!(place.all(), ["a=2\n", "b=3\n"]);
    // A file that is changed under its new name, and another that takes its old one.
    let create =
        "diff --git a/a b/a\nnew file mode 100644\n--- /dev/null\n+++ b/a\n@@ -0,0 +1 @@\n+new\n";
    patched(&place, &(moved("a", "c") + &text("c", "2", "4") + create)).unwrap();
    assert_eq!(place.all(), ["a=new\n", "b=3\n", "c=4\n"]);
    for (diff, kind) in [
        (create.to_owned(), Kind::FileExists),
        (moved("a", "b"), Kind::FileExists),
        (moved("none", "d"), Kind::NoSuchFile),
        (moved("a", "d") + &text("a", "new", "x"), Kind::PatchFailed),
        (
            "diff --git a/a b/a\ndeleted file mode 100644\nindex 1..0\n".to_owned(),
            Kind::PatchFailed,
        ),
    ] {
        assert_eq!(patched(&place, &diff).unwrap_err().kind, kind, "{diff}");
        assert_eq!(place.all(), ["a=new\n", "b=3\n", "c=4\n"], "{diff}");
    }
}

#[test]
fn what_diff_writes_of_directories_makes_and_removes_files() {
    let place = Place::new();
    fs::create_dir(place.at("d")).unwrap();
    fs::write(place.at("d/gone"), "x\n").unwrap();
    let diff = "diff -urN old/d/gone new/d/gone\n\
        --- old/d/gone\t2026-01-01 00:00:00.000000000 +0000\n\
        +++ new/d/gone\t1970-01-01 01:00:00.000000000 +0100\n@@ -1 +0,0 @@\n-x\n\
        diff -urN old/d/made new/d/made\n\
        --- old/d/made\t1970-01-01 00:00:00.000000000 +0000\n\
        +++ new/d/made\t2026-01-01 00:00:00.000000000 +0000\n@@ -0,0 +1 @@\n+y\n";
    assert_eq!(patched(&place, diff).unwrap(), "D d/gone +0 -1\nA d/made +1 -0\n");
    assert_eq!(place.all(), ["d/", "d/made=y\n"]);
}

#[test]
fn a_patch_goes_through_no_link() {
    let place = Place::new();
    fs::create_dir(place.at("d")).unwrap();
    fs::write(place.at("d/f"), "a\n").unwrap();
    symlink("d", place.at("link")).unwrap();
    symlink("d/f", place.at("file")).unwrap();
    for name in ["link/f", "file", "link/new"] {
        let diff = format!("--- a/{name}\n+++ b/{name}\n@@ -1 +1 @@\n-a\n+b\n");
        let failure = patched(&place, &diff).unwrap_err();
        assert!(failure.message.contains("symbolic link"), "{failure}");
    }
    assert_eq!(place.has("d/f").as_deref(), Some("a\n"));
}
