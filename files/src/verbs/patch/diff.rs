//! Unified diffs as diff and git write them: read, and applied to a text.

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};

use super::stripped;
use crate::path::Rel;
use crate::verbs::gathered::Share;

/// So many files in one patch.
const FILES: usize = 1_000;

/// So many lines in one patch: each is held as two places in it at most.
const LINES: usize = 200_000;

/// What a line of a patch may take: a hunk, or its place among the old and the new lines, in lists that grow
/// to twice of what is in them.
const LINE: usize = 2 * size_of::<Hunk<'_>>();

/// No file with more lines is patched.
const LONGEST: usize = 1 << 20;

/// To find the places of all hunks of a file, so many lines are compared at most.
const COMPARED: usize = 50_000_000;

/// What a diff says of one file.
#[derive(Debug, Default)]
pub(super) struct FileDiff<'a> {
    pub(super) path: Blob,
    pub(super) creates: bool,
    pub(super) deletes: bool,
    pub(super) mode: Option<u32>,
    pub(super) hunks: Vec<Hunk<'a>>,
}

/// A place in a file, with what is there and what will be.
#[derive(Debug, Default)]
pub(super) struct Hunk<'a> {
    /// The number of its first line in the old text, from 1; 0 where the text is empty.
    start: usize,
    old: Vec<&'a [u8]>,
    new: Vec<&'a [u8]>,
    /// How many lines come, and how many go.
    lines: (usize, usize),
    /// The sign of the line that was read last.
    last: u8,
}

/// Reads a patch.
///
/// # Errors
///
/// `invalid_argument` where it is none, and where it moves files or has no text; `too_large` and `busy` where it
/// has more lines than can be held.
pub(super) fn parse<'a>(
    text: &'a [u8],
    strip: Option<u32>,
    share: &mut Share,
) -> Result<Vec<FileDiff<'a>>, Failure> {
    let many = counted(text);
    if many > LINES {
        let text = format!("the patch has more than {LINES} lines");
        return Err(Failure::new(Kind::TooLarge, text).with_hint("divide it"));
    }
    share.take(many * LINE)?;
    let mut lines = text.split_inclusive(|&byte| byte == b'\n').enumerate().peekable();
    let mut files: Vec<FileDiff<'_>> = Vec::new();
    let mut mode = None;
    while let Some((at, line)) = lines.next() {
        let bad = |why: &str| {
            Failure::new(Kind::InvalidArgument, format!("line {} of the patch: {why}", at + 1))
        };
        let plain = trimmed(line);
        if let Some(text) =
            plain.strip_prefix(b"new file mode ").or_else(|| plain.strip_prefix(b"new mode "))
        {
            mode = octal(text);
        } else if plain.starts_with(b"rename ") || plain.starts_with(b"copy ") {
            return Err(bad("files are not moved by a patch; move it first"));
        } else if plain.starts_with(b"Binary files ") || plain.starts_with(b"GIT binary patch") {
            return Err(bad("it is not a text"));
        } else if let Some(old) = plain.strip_prefix(b"--- ") {
            let Some((_, next)) = lines.next_if(|(_, next)| next.starts_with(b"+++ ")) else {
                continue;
            };
            let (old, new) =
                (named(old), named(trimmed(next).strip_prefix(b"+++ ").unwrap_or_default()));
            let (creates, deletes) = (old == b"/dev/null", new == b"/dev/null");
            let path = stripped(if deletes { old } else { new }, strip);
            let path =
                path.filter(|_| !(creates && deletes)).ok_or_else(|| bad("it names no file"))?;
            files.push(FileDiff {
                path,
                creates,
                deletes,
                mode: mode.take().map(|mode| mode & 0o777),
                hunks: Vec::new(),
            });
            if files.len() > FILES {
                return Err(bad("more than 1000 files"));
            }
        } else if plain.starts_with(b"@@ ") {
            let file = files.last_mut().ok_or_else(|| bad("a hunk before a file"))?;
            let (start, counts) =
                heading(plain).ok_or_else(|| bad("a hunk without its numbers"))?;
            let mut hunk = Hunk { start, ..Hunk::default() };
            while (hunk.old.len(), hunk.new.len()) != counts {
                let (_, line) = lines.next().ok_or_else(|| bad("the hunk breaks off"))?;
                hunk.add(line).ok_or_else(|| bad("the hunk has other lines than it says"))?;
                if hunk.old.len() > counts.0 || hunk.new.len() > counts.1 {
                    return Err(bad("the hunk has other lines than it says"));
                }
            }
            if lines.next_if(|(_, next)| next.starts_with(b"\\")).is_some() {
                hunk.unended();
            }
            file.hunks.push(hunk);
        }
    }
    if files.is_empty() {
        return Err(Failure::new(Kind::InvalidArgument, "the text is not a unified diff")
            .with_hint("it has lines that begin with ---, +++ and @@"));
    }
    Ok(files)
}

/// How many lines a text has.
fn counted(text: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', text).count() + usize::from(!text.ends_with(b"\n"))
}

/// A line without its end.
fn trimmed(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// A path without the time that may stand after it.
fn named(text: &[u8]) -> &[u8] {
    text.split(|&byte| byte == b'\t').next().unwrap_or_default()
}

fn octal(text: &[u8]) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(text).ok()?, 8).ok()
}

/// The first old line, and how many old and new lines there are: `@@ -1,2 +3,4 @@`.
fn heading(line: &[u8]) -> Option<(usize, (usize, usize))> {
    let text = std::str::from_utf8(line.get(..line.len().min(80))?).ok()?;
    let mut words = text.split(' ').skip(1);
    let numbers = |word: &str, sign: char| {
        let word = word.strip_prefix(sign)?;
        let (start, count) = word.split_once(',').unwrap_or((word, "1"));
        let count: usize = count.parse().ok()?;
        Some((start.parse::<usize>().ok()?, count)).filter(|_| count <= 1 << 20)
    };
    let old = numbers(words.next()?, '-')?;
    let new = numbers(words.next()?, '+')?;
    Some((old.0, (old.1, new.1)))
}

impl<'a> Hunk<'a> {
    /// Adds a line: `None` if it is none of a hunk.
    fn add(&mut self, line: &'a [u8]) -> Option<()> {
        let (sign, rest) = match line.split_first()? {
            (b'\\', _) => {
                self.unended();
                return Some(());
            }
            // Some programs leave out the blank of an empty line.
            (b'\n', []) => (b' ', &b"\n"[..]),
            (sign, rest) => (*sign, rest),
        };
        if !matches!(sign, b' ' | b'-' | b'+') {
            return None;
        }
        if sign != b'+' {
            self.old.push(rest);
        }
        if sign != b'-' {
            self.new.push(rest);
        }
        self.lines.0 += usize::from(sign == b'+');
        self.lines.1 += usize::from(sign == b'-');
        self.last = sign;
        Some(())
    }

    /// The line before has no end.
    fn unended(&mut self) {
        let cut = |lines: &mut Vec<&[u8]>| {
            if let Some(last) = lines.last_mut() {
                *last = last.strip_suffix(b"\n").unwrap_or(last);
            }
        };
        if self.last != b'+' {
            cut(&mut self.old);
        }
        if self.last != b'-' {
            cut(&mut self.new);
        }
    }
}

impl FileDiff<'_> {
    /// How many lines come, and how many go.
    pub(super) fn lines(&self) -> (usize, usize) {
        self.hunks.iter().fold((0, 0), |(come, go), hunk| (come + hunk.lines.0, go + hunk.lines.1))
    }

    /// The text with all hunks applied.
    ///
    /// # Errors
    ///
    /// `patch_failed` where one of them does not fit; `too_large` and `busy` where it has more lines than can be
    /// held.
    pub(super) fn apply(
        &self,
        path: &Rel,
        text: &[u8],
        share: &mut Share,
    ) -> Result<Vec<u8>, Failure> {
        let many = counted(text);
        if many > LONGEST {
            let text = format!("{path} has more than {LONGEST} lines");
            return Err(Failure::new(Kind::TooLarge, text));
        }
        // They are given back when the text is made.
        let mut held = Share::default();
        held.take(many * size_of::<&[u8]>())?;
        let mut lines: Vec<&[u8]> = Vec::with_capacity(many);
        lines.extend(text.split_inclusive(|&byte| byte == b'\n'));
        let mut result = share.room(text.len() + self.added())?;
        let mut from = 0;
        let mut shift: isize = 0;
        let mut work = COMPARED;
        for (number, hunk) in self.hunks.iter().enumerate() {
            let meant = hunk
                .start
                .saturating_sub(usize::from(!hunk.old.is_empty()))
                .saturating_add_signed(shift);
            let at = place((&lines, from), meant, &hunk.old, &mut work).ok_or_else(|| {
                let (number, start) = (number + 1, hunk.start);
                if work == 0 {
                    let text = format!("{path}: hunk {number} was looked for in too many places");
                    return Failure::new(Kind::TooLarge, text).with_hint("divide the patch");
                }
                let text = format!("{path}: hunk {number} does not fit at or near line {start}");
                Failure::new(Kind::PatchFailed, text)
            })?;
            shift += at.cast_signed() - meant.cast_signed();
            for line in lines.get(from..at).unwrap_or_default() {
                result.extend_from_slice(line);
            }
            for line in &hunk.new {
                result.extend_from_slice(line);
            }
            from = at + hunk.old.len();
        }
        for line in lines.get(from..).unwrap_or_default() {
            result.extend_from_slice(line);
        }
        Ok(result)
    }

    /// How many bytes all its new lines have.
    fn added(&self) -> usize {
        self.hunks.iter().flat_map(|hunk| &hunk.new).map(|line| line.len()).sum()
    }
}

/// Where these lines are, at or after `from`, as near to `meant` as can be. What is compared is taken from
/// `work`; when that is used up, nothing is found any more.
fn place(
    (lines, from): (&[&[u8]], usize),
    meant: usize,
    old: &[&[u8]],
    work: &mut usize,
) -> Option<usize> {
    let last = lines.len().checked_sub(old.len())?;
    let mut fits = |at: usize| {
        *work = work.saturating_sub(1);
        let there = lines.get(at..at.saturating_add(old.len())).unwrap_or_default();
        let within = *work > 0 && at >= from && at <= last;
        within && there.iter().zip(old).all(|(a, b)| same(a, b, work))
    };
    (0..=lines.len()).find_map(|away| {
        let before = meant.checked_sub(away).filter(|&at| fits(at));
        before.or_else(|| Some(meant.saturating_add(away)).filter(|&at| fits(at)))
    })
}

/// Whether two lines are the same, as long as there is work left.
fn same(one: &[u8], other: &[u8], work: &mut usize) -> bool {
    // Long lines that begin alike take longer.
    let cost = if one.len() == other.len() { 1 + one.len() / 64 } else { 1 };
    *work = work.saturating_sub(cost);
    *work > 0 && one == other
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(patch: &[u8], strip: Option<u32>) -> Result<Vec<FileDiff<'_>>, Failure> {
        parse(patch, strip, &mut Share::default())
    }

    fn applied(file: &FileDiff<'_>, text: &[u8]) -> Result<Vec<u8>, Failure> {
        file.apply(&Rel::parse(b"f").unwrap(), text, &mut Share::default())
    }

    fn apply(text: &str, patch: &str) -> Result<String, String> {
        let files = read(patch.as_bytes(), None).map_err(|failure| failure.message)?;
        let applied = applied(&files[0], text.as_bytes()).map_err(|failure| failure.message)?;
        Ok(String::from_utf8(applied).unwrap())
    }

    #[test]
    fn a_patch_or_a_file_of_too_many_lines_is_refused_before_they_are_held() {
        let head = "--- a/f\n+++ b/f\n@@ -1,300000 +1,300000 @@\n";
        let long = head.to_owned() + &" \n".repeat(300_000);
        assert_eq!(read(long.as_bytes(), None).unwrap_err().kind, Kind::TooLarge);
        let files = read(b"--- a/f\n+++ b/f\n@@ -1 +1 @@\n-\n+x\n", None).unwrap();
        let many = "\n".repeat(LONGEST);
        assert_eq!(applied(&files[0], many.as_bytes()).unwrap().len(), many.len() + 1);
        let failure = applied(&files[0], format!("{many}\n").as_bytes()).unwrap_err();
        assert_eq!(failure.kind, Kind::TooLarge);
    }

    #[test]
    fn what_a_patch_takes_is_no_more_than_is_taken_for_it() {
        let mut patch = b"--- a/f\n+++ b/f\n".to_vec();
        for _ in 0..1_000 {
            patch.extend_from_slice(b"@@ -1 +1 @@\n \n@@ -0,0 +0,0 @@\n");
        }
        let lines = counted(&patch);
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
        assert!(apply("x\ny\n", &far).unwrap_err().contains("hunk 1"));
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
        for (patch, word) in [
            ("hello", "not a unified diff"),
            ("--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n x\n", "breaks off"),
            ("--- a/f\n+++ b/f\n@@ -1 +1 @@\n!x\n", "line 3"),
            ("@@ -1 +1 @@\n", "before a file"),
            ("--- a/f\n+++ b/f\n@@ -x +1 @@\n", "numbers"),
            ("rename from a\nrename to b\n", "move it first"),
            ("Binary files a/x and b/x differ\n", "not a text"),
            ("--- /dev/null\n+++ /dev/null\n", "names no file"),
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
            (files[0].path.0.as_slice(), files[0].creates, files[0].mode),
            (&b"x"[..], true, Some(0o755))
        );
        assert_eq!(applied(&files[0], b"").unwrap(), b"hi");
        assert_eq!(
            (files[1].path.0.as_slice(), files[1].deletes, files[1].mode),
            (&b"y"[..], true, None)
        );
        assert_eq!(applied(&files[1], b"old\n").unwrap(), b"");
        let files = read(b"--- one/two/f\n+++ one/two/f\n", Some(2)).unwrap();
        assert_eq!(files[0].path.0, b"f");
        assert!(read(b"--- f\n+++ f\n", Some(2)).is_err());
    }

    #[test]
    fn any_text_is_read_without_a_panic() {
        bolero::check!().for_each(|bytes: &[u8]| {
            if let Ok(files) = read(bytes, None) {
                for file in files {
                    let _ = applied(&file, bytes);
                }
            }
        });
    }
}
