//! Diffs that are parsed and applied in memory. Their effect on files is tested in `verbs/tests`.

use proptest::prelude::*;

use super::hunk::{Hunk, LONGEST, count_lines};
use super::parse::{FileAction, FileDiff, LINE, parse};
use super::*;

fn read(patch: &[u8], strip: Option<u32>) -> Result<Vec<FileDiff<'_>>, Failure> {
    parse(patch, strip, &mut MemoryShare::default())
}

fn apply_to(file: &FileDiff<'_>, text: &[u8]) -> Result<Vec<u8>, Failure> {
    hunk::apply(&file.hunks, &Rel::parse(b"f").unwrap(), text, &mut MemoryShare::default())
}

fn apply(text: &str, patch: &str) -> Result<String, String> {
    let files = read(patch.as_bytes(), None).map_err(|failure| failure.message)?;
    let applied = apply_to(&files[0], text.as_bytes()).map_err(|failure| failure.message)?;
    Ok(String::from_utf8(applied).unwrap())
}

#[test]
fn a_patch_or_a_file_of_too_many_lines_is_refused_before_they_are_held() {
    let head = "--- a/f\n+++ b/f\n@@ -1,300000 +1,300000 @@\n";
    let long = head.to_owned() + &" \n".repeat(300_000);
    assert_eq!(read(long.as_bytes(), None).unwrap_err().kind, Kind::TooLarge);
    let files = read(b"--- a/f\n+++ b/f\n@@ -1 +1 @@\n-\n+x\n", None).unwrap();
    let many = "\n".repeat(LONGEST);
    assert_eq!(apply_to(&files[0], many.as_bytes()).unwrap().len(), many.len() + 1);
    let failure = apply_to(&files[0], format!("{many}\n").as_bytes()).unwrap_err();
    assert_eq!(failure.kind, Kind::TooLarge);
}

#[test]
fn what_a_patch_takes_is_no_more_than_is_taken_for_it() {
    let mut patch = b"--- a/f\n+++ b/f\n".to_vec();
    for _ in 0..1_000 {
        patch.extend_from_slice(b"@@ -1 +1 @@\n \n@@ -0,0 +0,0 @@\n");
    }
    let lines = count_lines(&patch);
    let hunks = &read(&patch, None).unwrap()[0].hunks;
    let places = hunks.iter().map(|hunk| hunk.old.capacity() + hunk.new.capacity());
    let held =
        hunks.capacity() * size_of::<Hunk<'_>>() + places.sum::<usize>() * size_of::<&[u8]>();
    assert!(held <= lines * LINE, "{held} of {}", lines * LINE);
}

proptest! {
    #[test]
    fn what_diff_writes_is_applied(old in "([ab]?\n){0,8}[ab]?", new in "([abc]?\n){0,8}[c]?") {
        prop_assume!(old != new);
        let hunks = crate::verbs::edit::diff(old.as_bytes(), new.as_bytes());
        let patch = format!("--- a/f\n+++ b/f\n{hunks}");
        prop_assert_eq!(apply(&old, &patch).unwrap(), new);
    }

    #[test]
    fn what_one_file_says_never_reaches_the_next(
        heads in proptest::collection::vec(0..HEADS.len(), 1..6),
    ) {
        let alone: Vec<_> = heads.iter().map(|&head| parsed(HEADS[head])).collect();
        let together: String = heads.iter().map(|&head| HEADS[head]).collect();
        let files = read(together.as_bytes(), None).unwrap();
        let together: Vec<_> = files.iter().map(tell).collect();
        prop_assert_eq!(together, alone);
    }
}

/// Each says one thing about one file.
const HEADS: &[&str] = &[
    "diff --git a/f b/f\nold mode 100644\nnew mode 100755\n",
    "diff --git a/e b/e\nnew file mode 100755\nindex 0000000..e69de29\n",
    "diff --git a/d b/d\ndeleted file mode 100644\nindex e69de29..0000000\n",
    "diff --git a/o b/n\nsimilarity index 100%\nrename from o\nrename to n\n",
    "diff --git a/o b/c\nsimilarity index 90%\ncopy from o\ncopy to c\n--- a/o\n+++ b/c\n@@ -1 +1 @@\n-a\n+b\n",
    "diff --git a/g b/g\nindex 1..2 100644\n--- a/g\n+++ b/g\n@@ -1 +1 @@\n-b\n+B\n",
    "--- a/p\n+++ b/p\n@@ -1 +1 @@\n-b\n+B\n\\ No newline at end of file\n",
    "--- old/x\t1970-01-01 00:00:00.000000000 +0000\n+++ new/x\t2026-01-01 00:00:00 +0000\n@@ -0,0 +1 @@\n+x\n",
];

fn tell(file: &FileDiff<'_>) -> (FileAction, String, String, Option<bool>, usize) {
    let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    (file.act, text(&file.from), text(&file.to), file.executable, file.hunks.len())
}

fn parsed(patch: &str) -> (FileAction, String, String, Option<bool>, usize) {
    let files = read(patch.as_bytes(), None).unwrap();
    assert_eq!(files.len(), 1, "{patch}");
    tell(&files[0])
}

#[test]
fn each_header_says_what_becomes_of_its_file() {
    let is = |act, from: &str, to: &str, executable, hunks| {
        (act, from.to_owned(), to.to_owned(), executable, hunks)
    };
    let all: Vec<_> = HEADS.iter().map(|head| parsed(head)).collect();
    assert_eq!(
        all,
        [
            is(FileAction::Modify, "f", "f", Some(true), 0),
            is(FileAction::Create, "e", "e", Some(true), 0),
            is(FileAction::Remove, "d", "d", None, 0),
            is(FileAction::Rename, "o", "n", None, 0),
            is(FileAction::Copy, "o", "c", None, 1),
            is(FileAction::Modify, "g", "g", None, 1),
            is(FileAction::Modify, "p", "p", None, 1),
            is(FileAction::Create, "x", "x", None, 1),
        ]
    );
}

#[test]
fn names_are_found_whatever_stands_before_them() {
    for (patch, strip, name) in [
        (
            "diff --git \"a/\\303\\266\" \"b/\\303\\266\"\n--- \"a/\\303\\266\"\n+++ \"b/\\303\\266\"\n",
            None,
            "ö",
        ),
        ("--- \"a/t\\tb\"\n+++ \"b/t\\tb\"\n", None, "t\tb"),
        ("diff --git i/x w/x\n--- i/x\n+++ w/x\n", None, "x"),
        ("diff --git c/x i/x\n--- c/x\n+++ i/x\n", None, "x"),
        ("diff --git a/b c b/b c\n--- a/b c\t\n+++ b/b c\t\n", None, "b c"),
        ("diff --git src/x src/x\n--- src/x\n+++ src/x\n", None, "src/x"),
        ("diff --git a/x a/x\n--- a/x\n+++ a/x\n", None, "a/x"),
        ("--- src/x\n+++ src/x\n", None, "src/x"),
        ("--- one/src/x\n+++ two/src/x\n", None, "src/x"),
        ("--- x.orig\n+++ x\n", None, "x"),
        ("--- x\n+++ x~\n", None, "x"),
        ("--- one/two/x\n+++ one/two/x\n", Some(2), "x"),
        ("diff --git p/q/x r/s/x\n--- p/q/x\n+++ r/s/x\n", Some(2), "x"),
        ("diff --git x x\n--- x\n+++ x\n", Some(0), "x"),
        ("--- a/x\r\n+++ b/x\r\n", None, "x"),
    ] {
        let patch = format!("{patch}@@ -1 +1 @@\n-a\n+b\n");
        let files = read(patch.as_bytes(), strip).unwrap();
        assert_eq!(files[0].to, name.as_bytes(), "{patch}");
        assert_eq!(files.len(), 1, "{patch}");
    }
}

#[test]
fn messages_around_a_patch_are_passed_over() {
    let mail = "From 1234 Mon Sep 17 00:00:00 2001\nFrom: A <a@b>\nSubject: [PATCH] x\n\nText\n- a list\n---\n f | 2 +-\n\n\
        diff --git a/f b/f\nindex 1..2 100644\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n-- \n2.39.2\n\n";
    let files = read(mail.as_bytes(), None).unwrap();
    assert_eq!((files.len(), files[0].line), (1, 10));
    let two = mail.repeat(2);
    assert_eq!(read(two.as_bytes(), None).unwrap().len(), 2);
}

#[test]
fn what_the_system_s_diff_writes_is_applied() {
    let place = tempfile::tempdir().unwrap();
    let texts = ["", "a\n", "a", "a\nb\nc\n", "x\na\nc", "a\n\n", "\n\n", "b\nb\nb\na\n"];
    for (old, new) in texts.iter().flat_map(|old| texts.iter().map(move |new| (old, new))) {
        std::fs::write(place.path().join("a"), old).unwrap();
        std::fs::write(place.path().join("b"), new).unwrap();
        let mut diff = std::process::Command::new("diff");
        let diff = diff.args(["-u", "a", "b"]).current_dir(place.path()).output().unwrap();
        let patch = String::from_utf8(diff.stdout).unwrap();
        if old != new {
            assert_eq!(apply(old, &patch).as_deref(), Ok(*new), "{patch}");
        }
    }
}

#[test]
fn a_hunk_is_found_where_lines_were_added_before_it() {
    let patch = "--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n x\n-y\n+z\n";
    assert_eq!(apply("0\n0\nx\ny\n", patch).unwrap(), "0\n0\nx\nz\n");
    assert!(apply("x\nq\n", patch).unwrap_err().contains("hunk 1"));
    let far = patch.replace("-1,2", "-18446744073709551615,2");
    assert!(apply("x\ny\nq\nx\ny\nq\n", &far).unwrap_err().contains("hunk 1"));
}

#[test]
fn a_hunk_goes_where_git_puts_it() {
    let hunk = |text: &str| format!("--- a/f\n+++ b/f\n{text}");
    for (text, patch, result) in [
        // Without lines after the change it belongs at the end.
        ("a\nx\na\nx\n", "@@ -1,2 +1,3 @@\n a\n x\n+y\n", None),
        ("q\na\nx\nb\na\nx\n", "@@ -2,2 +2,3 @@\n a\n x\n+y\n", Some("q\na\nx\nb\na\nx\ny\n")),
        // In the middle it is the nearest place; of two at the same distance, the later one.
        (
            "a\nb\nc\n0\na\nb\nc\n",
            "@@ -3,3 +3,3 @@\n a\n-b\n+B\n c\n",
            Some("a\nb\nc\n0\na\nB\nc\n"),
        ),
        // Without context, its line number counts.
        ("a\nb\na\nb\n", "@@ -2,0 +3 @@\n+x\n", Some("a\nb\nx\na\nb\n")),
        ("a\nb\na\nb\n", "@@ -3 +3 @@\n-a\n+A\n", Some("a\nb\nA\nb\n")),
        // An empty file must still be empty.
        ("a\n", "@@ -0,0 +1 @@\n+x\n", None),
        ("", "@@ -0,0 +1 @@\n+x\n", Some("x\n")),
        ("a\n", "@@ -9,0 +10 @@\n+x\n", None),
    ] {
        assert_eq!(apply(text, &hunk(patch)).ok().as_deref(), result, "{text:?} {patch:?}");
    }
}

#[test]
fn a_hunk_that_does_not_fit_says_why() {
    for (text, hunk, word) in [
        (
            "x\nother\nz\n",
            "@@ -1,3 +1,3 @@\n x\n-y\n+Y\n z\n",
            "line 2 is `other`; in the patch it is `y`",
        ),
        (
            "x\r\ny\r\n",
            "@@ -1,2 +1,2 @@\n x\n-y\n+Y\n",
            "line 1 ends in CR LF; in the patch it ends in LF",
        ),
        (
            "x\ny\n",
            "@@ -1,2 +1,2 @@\n x\r\n-y\r\n+Y\r\n",
            "line 1 ends in LF; in the patch it ends in CR LF",
        ),
        ("x\ny", "@@ -1,2 +1,2 @@\n x\n-y\n+Y\n", "line 2, the last one, has no newline"),
        (
            "x\ny\n",
            "@@ -1,2 +1,2 @@\n x\n-y\n\\ No newline at end of file\n+Y\n",
            "has a newline at its end",
        ),
        ("\u{feff}x\ny\n", "@@ -1,2 +1,2 @@\n-x\n+X\n y\n", "begins with a byte order mark"),
        ("  x\ny\n", "@@ -1,2 +1,2 @@\n-\tx\n+X\n y\n", "only whitespace differs"),
        ("x\n", "@@ -1,2 +1,2 @@\n x\n-y\n+Y\n", "the file ends after line 1"),
        ("", "@@ -1 +1 @@\n-y\n+Y\n", "the file is empty"),
        ("a\nx\na\nx\nb\n", "@@ -9 +9 @@\n-x\n+y\n", "more than once"),
    ] {
        let patch = format!("--- a/f\n+++ b/f\n{hunk}");
        let failure = apply(text, &patch).unwrap_err();
        assert!(failure.contains(word), "{text:?}: {failure}");
    }
}

#[test]
fn a_hunk_that_nearly_fits_everywhere_is_not_looked_for_for_ever() {
    let same = " x\n".repeat(30_000);
    let patch = format!("--- a/f\n+++ b/f\n@@ -1,30001 +1,30000 @@\n{same}-y\n");
    let failure = apply(&"x\n".repeat(300_000), &patch).unwrap_err();
    assert!(failure.contains("too many places"), "{failure}");
}

#[test]
fn lines_that_come_and_go_are_counted_by_their_signs() {
    let patch = "--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n-x\n y\n-z\n+z\n+x\n";
    assert_eq!(read(patch.as_bytes(), None).unwrap()[0].lines(), (2, 2));
}

#[test]
fn what_is_no_diff_is_refused_with_its_line() {
    let git = |lines: &str| format!("diff --git a/x b/x\n{lines}");
    for (patch, word) in [
        ("hello".to_owned(), "not a unified diff"),
        ("--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n x\n".into(), "is cut off"),
        ("--- a/f\n+++ b/f\n@@ -1 +1 @@\n!x\n".into(), "line 4"),
        ("--- a/f\n+++ b/f\n@@ -1 +1 @@\n-x\n+y\n+z\n".into(), "more lines"),
        ("@@ -1 +1 @@\n".into(), "before the names"),
        ("--- a/f\n+++ b/f\n@@ -x +1 @@\n".into(), "numbers"),
        ("--- a/f\n+++ b/f\n@@\n-a\n+b\n".into(), "line numbers"),
        ("--- a/f\n+++ b/f\n@@ ... @@\n-a\n+b\n".into(), "line numbers"),
        ("--- a/f\n+++ b/f\n".into(), "no hunk"),
        ("--- \"a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n".into(), "closing quote"),
        ("--- /dev/null\n+++ /dev/null\n@@ -0,0 +0,0 @@\n".into(), "names no file"),
        ("--- /dev/null\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n".into(), "cannot have old lines"),
        ("--- a/f\n+++ /dev/null\n@@ -1 +1 @@\n-a\n+b\n".into(), "cannot have new lines"),
        ("Binary files a/x and b/x differ\n".into(), "binary patches are not supported"),
        (git("index 1..2\nBinary files a/x and b/x differ\n"), "`x`: binary patches"),
        (git("index 1..2\nGIT binary patch\nliteral 0\n"), "`x`: binary patches"),
        (git("new file mode 120000\n--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+y\n"), "symbolic link"),
        (git("index 1..2 120000\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n"), "symbolic link"),
        (git("index 1..2 160000\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n"), "submodule"),
        (git("old mode 100644\nnew mode 10x\n"), "octal"),
        (git(""), "no line says"),
        (git("new file mode 100644\ndeleted file mode 100644\n"), "contradict"),
        (git("rename from x\n"), "lacks one"),
        (git("rename from x\nrename to x\n"), "to itself"),
        (git("rename from y\nrename to z\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n"), "other names"),
        (git("new file mode 100644\n--- a/x\n+++ b/x\n@@ -0,0 +1 @@\n+b\n"), "/dev/null"),
        ("diff --git a/x b/y\nold mode 100644\nnew mode 100755\n".into(), "names no file"),
        ("diff --git a/x b/y\n--- a/x\n+++ b/y\n@@ -1 +1 @@\n-a\n+b\n".into(), "names differ"),
    ] {
        let failure = read(patch.as_bytes(), None).unwrap_err();
        assert!(failure.message.contains(word), "{patch}: {failure}");
    }
}

#[test]
fn paths_and_modes_are_those_that_git_writes() {
    let patch = "diff --git a/x b/x\nnew file mode 100755\n--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+hi\n\
        \\ No newline at end of file\ndiff --git a/y b/y\ndeleted file mode 100644\n--- a/y\t2026\n+++ /dev/null\n@@ -1 +0,0 @@\n-old\n";
    let files = read(patch.as_bytes(), None).unwrap();
    assert_eq!(
        (files[0].to.as_slice(), files[0].act, files[0].executable),
        (&b"x"[..], FileAction::Create, Some(true))
    );
    assert_eq!(apply_to(&files[0], b"").unwrap(), b"hi");
    assert_eq!(
        (files[1].to.as_slice(), files[1].act, files[1].executable),
        (&b"y"[..], FileAction::Remove, None)
    );
    assert_eq!(apply_to(&files[1], b"old\n").unwrap(), b"");
    assert!(read(b"--- f\n+++ f\n@@ -1 +1 @@\n-a\n+b\n", Some(2)).is_err());
}

#[test]
fn any_text_is_read_without_a_panic() {
    bolero::check!().for_each(|bytes: &[u8]| {
        for strip in [None, Some(0), Some(1), Some(u32::MAX)] {
            let Ok(files) = read(bytes, strip) else { continue };
            for file in files {
                let _ = apply_to(&file, bytes);
            }
        }
    });
}
