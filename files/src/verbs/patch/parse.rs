//! Parses unified diffs as git, `diff -u` and `diff -urN` write them.
//!
//! ```text
//!     garbage                        commit messages, mail headers: skipped, as git does
//!     diff --git a/old b/new         a file of git: lines about it follow
//!     rename from, new file mode …   as many as there are
//!     --- a/old                      names, of git or without git
//!     +++ b/new
//!     @@ -1,2 +1,3 @@ …              hunks
//! ```
//!
//! Each file is parsed completely before the next one begins, so that nothing leaks from one to the
//! next. A line that asks for something unsupported (binary files, links, submodules) is refused,
//! and no line with a meaning is skipped.

use std::borrow::Cow;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::quote::quote;

use super::head::DiffHead;
use super::hunk::{Heading, Hunk, count_lines, heading};
use super::name::{self, GitLine, Name};
use crate::verbs::memory::MemoryShare;

/// The most files in one patch.
const FILES: usize = 1_000;

/// The most lines in one patch: each is held as at most two slices of it.
const LINES: usize = 200_000;

/// The memory for a line of a patch: a slice, and a hunk or its slices among the old and new lines,
/// in lists that double when they grow.
pub(super) const LINE: usize = size_of::<&[u8]>() + 2 * size_of::<Hunk<'_>>();

/// The diff of one file.
#[derive(Debug)]
pub(super) struct FileDiff<'a> {
    /// The line of the patch that it begins in, from 1.
    pub(super) line: usize,
    pub(super) act: FileAction,
    /// The old name; for a new file, its name.
    pub(super) from: Vec<u8>,
    /// The new name; for a removed file, its name.
    pub(super) to: Vec<u8>,
    /// Whether the file becomes executable, if the diff says so.
    pub(super) executable: Option<bool>,
    pub(super) hunks: Vec<Hunk<'a>>,
}

/// What is done to a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FileAction {
    Create,
    /// Creates the file if it does not exist: `diff` does not say whether it did.
    CreateOrModify,
    Modify,
    Remove,
    Rename,
    Copy,
}

impl FileDiff<'_> {
    /// How many lines are added, and how many are removed.
    pub(super) fn lines(&self) -> (usize, usize) {
        self.hunks.iter().fold((0, 0), |(come, go), hunk| (come + hunk.lines.0, go + hunk.lines.1))
    }
}

/// Parses a patch. `strip` is the number of leading components to remove from names. Without it,
/// the prefixes of both names of a file, such as `a/` and `b/`, are removed.
///
/// # Errors
///
/// `invalid_argument` if this is no patch; `unsupported` for what cannot be patched; `too_large`
/// and `busy` if it has too many lines to be held.
pub(super) fn parse<'a>(
    text: &'a [u8],
    strip: Option<u32>,
    share: &mut MemoryShare,
) -> Result<Vec<FileDiff<'a>>, Failure> {
    let many = count_lines(text);
    if many > LINES {
        let text = format!("the patch has more than {LINES} lines");
        return Err(Failure::new(Kind::TooLarge, text).with_hint("divide it"));
    }
    share.take(many * LINE)?;
    let mut lines: Vec<&[u8]> = Vec::with_capacity(many);
    lines.extend(text.split_inclusive(|&byte| byte == b'\n'));
    let strip = strip.map(|strip| usize::try_from(strip).unwrap_or(usize::MAX));
    let mut reader = PatchReader { lines, at: 0, strip };
    let mut files = Vec::new();
    while let Some(line) = reader.line() {
        let begins = reader.at + 1;
        let file = if let Some(names) = line.strip_prefix(b"diff --git ") {
            reader.of_git(names)?
        } else if line.starts_with(b"--- ") && reader.after(1).starts_with(b"+++ ") {
            reader.without_git()?
        } else if is_binary(line) {
            return Err(binary(begins, ""));
        } else if heading(line).is_some() {
            return Err(reader.bad("a hunk before the names of its file"));
        } else {
            reader.at += 1;
            continue;
        };
        files.push(FileDiff { line: begins, ..file });
        if files.len() > FILES {
            return Err(reader.bad("more than 1,000 files"));
        }
    }
    if files.is_empty() {
        return Err(Failure::new(Kind::InvalidArgument, "the text is not a unified diff")
            .with_hint("it has lines that begin with ---, +++ and @@"));
    }
    Ok(files)
}

/// A position in a patch.
struct PatchReader<'a> {
    lines: Vec<&'a [u8]>,
    at: usize,
    strip: Option<usize>,
}

impl<'a> PatchReader<'a> {
    /// The current line, without its newline.
    fn line(&self) -> Option<&'a [u8]> {
        self.lines.get(self.at).map(|line| trim_line(line))
    }

    /// The line `lines` further down.
    fn after(&self, lines: usize) -> &'a [u8] {
        self.lines.get(self.at + lines).map(|line| trim_line(line)).unwrap_or_default()
    }

    fn bad(&self, why: &str) -> Failure {
        bad(self.at + 1, why)
    }

    /// Parses the names in two lines.
    fn names(&mut self) -> Result<[(Name, &'a [u8]); 2], Failure> {
        let unclosed = "the closing quote of the name is missing";
        let mut one = |sign: &[u8]| {
            let text = self.line().and_then(|line| line.strip_prefix(sign)).unwrap_or_default();
            let name = name::parse_name(text).ok_or_else(|| self.bad(unclosed))?;
            self.at += 1;
            Ok::<_, Failure>(name)
        };
        Ok([one(b"--- ")?, one(b"+++ ")?])
    }

    /// Parses the diff of a file by git.
    fn of_git(&mut self, names: &[u8]) -> Result<FileDiff<'a>, Failure> {
        let begins = self.at + 1;
        let header = name::header(names, self.strip);
        self.at += 1;
        let head = self.head(header.as_ref())?;
        let hunks = self.hunks()?;
        if head.lines == 0 && hunks.is_empty() {
            return Err(bad(begins, "no line says what becomes of the file"));
        }
        let (from, to) =
            head.resolve(header.as_ref(), self.strip).map_err(|why| bad(begins, why))?;
        for mode in [head.old_mode, head.new_mode].into_iter().flatten() {
            regular(begins, mode, to.as_deref().or(from.as_deref()).unwrap_or_default())?;
        }
        let act = match (head.act, &from, &to) {
            (Some(act), ..) => act,
            (None, None, Some(_)) => FileAction::Create,
            (None, Some(_), None) => FileAction::Remove,
            (None, Some(from), Some(to)) if from != to => {
                return Err(bad(begins, "the names differ, but it is neither a rename nor a copy"));
            }
            _ => FileAction::Modify,
        };
        let (from, to) = both(from, to).ok_or_else(|| bad(begins, "it names no file"))?;
        // The mode in an `index` line is the same before and after.
        let changed = head.new_mode.filter(|_| act != FileAction::Remove);
        let executable = changed.map(|mode| mode & 0o100 != 0);
        let file = FileDiff { line: begins, act, from, to, executable, hunks };
        file.check_lines()?;
        Ok(file)
    }

    /// Parses the lines between `diff --git` and the first hunk.
    fn head(&mut self, header: Option<&GitLine>) -> Result<DiffHead, Failure> {
        let mut head = DiffHead::default();
        while let Some(line) = self.line() {
            let begins = |prefix: &str| line.strip_prefix(prefix.as_bytes());
            if line.starts_with(b"--- ") && self.after(1).starts_with(b"+++ ") {
                let at = self.at;
                let [(old, _), (new, _)] = self.names()?;
                if !head.is_about(&old, &new, header) {
                    // The next file begins here, without a line of git.
                    self.at = at;
                    break;
                }
                head.names = Some((old, new));
                head.lines += 1;
                break;
            }
            if is_binary(line) {
                let in_header =
                    header.and_then(|header| name::strip_components(&header.new, header.strip));
                let name = head.to.as_deref().or(in_header);
                return Err(binary(self.at + 1, &quote(name.unwrap_or_default())));
            }
            if let Some(text) = begins("old mode ") {
                head.old_mode = Some(self.mode(text)?);
            } else if let Some(text) = begins("new mode ") {
                head.new_mode = Some(self.mode(text)?);
            } else if let Some(text) = begins("new file mode ") {
                head.new_mode = Some(self.mode(text)?);
                head.set_action(FileAction::Create).map_err(|why| self.bad(why))?;
            } else if let Some(text) = begins("deleted file mode ") {
                head.old_mode = Some(self.mode(text)?);
                head.set_action(FileAction::Remove).map_err(|why| self.bad(why))?;
            } else if let Some(text) = begins("rename from ").or_else(|| begins("rename old ")) {
                head.from = Some(self.whole(text)?);
                head.set_action(FileAction::Rename).map_err(|why| self.bad(why))?;
            } else if let Some(text) = begins("rename to ").or_else(|| begins("rename new ")) {
                head.to = Some(self.whole(text)?);
                head.set_action(FileAction::Rename).map_err(|why| self.bad(why))?;
            } else if let Some(text) = begins("copy from ") {
                head.from = Some(self.whole(text)?);
                head.set_action(FileAction::Copy).map_err(|why| self.bad(why))?;
            } else if let Some(text) = begins("copy to ") {
                head.to = Some(self.whole(text)?);
                head.set_action(FileAction::Copy).map_err(|why| self.bad(why))?;
            } else if let Some(text) = begins("index ") {
                let mode = text.split(|&byte| byte == b' ').nth(1);
                let mode = mode.map(|mode| self.mode(mode)).transpose()?;
                head.old_mode = head.old_mode.or(mode);
            } else if begins("similarity index ")
                .or_else(|| begins("dissimilarity index "))
                .is_none()
            {
                break;
            }
            head.lines += 1;
            self.at += 1;
        }
        Ok(head)
    }

    fn mode(&self, text: &[u8]) -> Result<u32, Failure> {
        let octal = |text: &str| u32::from_str_radix(text, 8).ok();
        let mode = std::str::from_utf8(text).ok().filter(|text| text.len() <= 7).and_then(octal);
        mode.ok_or_else(|| self.bad("a mode that is not an octal number"))
    }

    fn whole(&self, text: &[u8]) -> Result<Vec<u8>, Failure> {
        name::whole(text)
            .ok_or_else(|| self.bad("a name that is empty, or whose closing quote is missing"))
    }

    /// Parses the diff of a file by `diff`.
    fn without_git(&mut self) -> Result<FileDiff<'a>, Failure> {
        let line = self.at + 1;
        let [(old, old_stamp), (new, new_stamp)] = self.names()?;
        let hunks = self.hunks()?;
        let Some(first) = hunks.first() else {
            return Err(self.bad("a file is named, but no hunk with line numbers follows"));
        };
        let strip = match (self.strip, &old, &new) {
            (Some(strip), ..) => strip,
            (None, Name::File(old), Name::File(new)) => name::before_both(old, new),
            (None, Name::File(name), _) | (None, _, Name::File(name)) => name::before_one(name),
            (None, Name::Nothing, Name::Nothing) => 0,
        };
        let act = match (&old, &new) {
            (Name::Nothing, _) => FileAction::Create,
            (_, Name::Nothing) => FileAction::Remove,
            _ if name::is_epoch(old_stamp) => FileAction::Create,
            _ if name::is_epoch(new_stamp) => FileAction::Remove,
            _ if hunks.len() == 1 && first.old.is_empty() && first.start.old == 0 => {
                FileAction::CreateOrModify
            }
            _ => FileAction::Modify,
        };
        let of = |name: &Name| Some(name::strip_components(name.file()?, strip)?.to_vec());
        let (old, new) = (of(&old), of(&new));
        // Of `f` and `f.orig`, or `f~`, the shorter name is meant.
        let name = match (old, new) {
            (Some(old), Some(new)) if new.starts_with(&old) => Some(old),
            (old, new) => new.or(old),
        };
        let name = name.ok_or_else(|| bad(line, "it names no file"))?;
        let (from, to) = (name.clone(), name);
        let file = FileDiff { line, act, from, to, executable: None, hunks };
        file.check_lines()?;
        Ok(file)
    }

    /// Parses the hunks that follow.
    fn hunks(&mut self) -> Result<Vec<Hunk<'a>>, Failure> {
        let mut hunks = Vec::new();
        while let Some(line) = self.line().filter(|line| line.starts_with(b"@@")) {
            let Heading { start, counts } = heading(line).ok_or_else(|| {
                self.bad("a hunk without line numbers: it must begin like @@ -1,2 +1,3 @@")
            })?;
            let mut hunk = Hunk::new(self.at + 1, start);
            self.at += 1;
            while hunk.old.len() != counts.old || hunk.new.len() != counts.new {
                let other = "the hunk has other lines than its first line announces";
                let line =
                    self.lines.get(self.at).ok_or_else(|| self.bad("the hunk is cut off"))?;
                hunk.add(line).ok_or_else(|| self.bad(other))?;
                if hunk.old.len() > counts.old || hunk.new.len() > counts.new {
                    return Err(self.bad(other));
                }
                self.at += 1;
            }
            if self.after(0).starts_with(b"\\ ") {
                hunk.drop_last_newline();
                self.at += 1;
            }
            // The signature of a mail begins with `-- `.
            let more = matches!(self.after(0).first(), Some(b' ' | b'+' | b'-'));
            let next = self.after(0).starts_with(b"--- ") && self.after(1).starts_with(b"+++ ");
            if more && !next && !matches!(self.after(0), b"-- " | b"--") {
                return Err(self.bad("the hunk has more lines than its first line announces"));
            }
            hunks.push(hunk);
        }
        Ok(hunks)
    }
}

impl FileDiff<'_> {
    /// Refuses a new file with old lines, and a removed file with new lines.
    fn check_lines(&self) -> Result<(), Failure> {
        let old = self.hunks.iter().any(|hunk| !hunk.old.is_empty());
        let new = self.hunks.iter().any(|hunk| !hunk.new.is_empty());
        match self.act {
            FileAction::Create if old => Err(bad(self.line, "a new file cannot have old lines")),
            FileAction::Remove if new => {
                Err(bad(self.line, "a removed file cannot have new lines"))
            }
            _ => Ok(()),
        }
    }
}

/// Both names, one of which may stand for the other.
fn both(from: Option<Vec<u8>>, to: Option<Vec<u8>>) -> Option<(Vec<u8>, Vec<u8>)> {
    match (from, to) {
        (Some(from), Some(to)) => Some((from, to)),
        (Some(name), None) | (None, Some(name)) => Some((name.clone(), name)),
        (None, None) => None,
    }
}

fn is_binary(line: &[u8]) -> bool {
    line.starts_with(b"GIT binary patch")
        || line.starts_with(b"Binary files ") && line.ends_with(b" differ")
}

fn binary(line: usize, name: &str) -> Failure {
    let name = if name.is_empty() { String::new() } else { format!("`{name}`: ") };
    let text = format!("line {line} of the patch: {name}binary patches are not supported");
    Failure::new(Kind::Unsupported, text).with_hint("transfer the file itself")
}

/// Refuses a mode that is not that of a regular file.
fn regular(line: usize, mode: u32, name: &[u8]) -> Result<(), Failure> {
    let what: Cow<'_, str> = match mode & 0o170_000 {
        0 | 0o100_000 => return Ok(()),
        0o120_000 => "a symbolic link".into(),
        0o160_000 => "a submodule".into(),
        _ => format!("of the unknown kind {mode:o}").into(),
    };
    let name = quote(name);
    let text = format!("line {line} of the patch: `{name}` is {what}; only files are patched");
    Err(Failure::new(Kind::Unsupported, text))
}

fn bad(line: usize, why: &str) -> Failure {
    Failure::new(Kind::InvalidArgument, format!("line {line} of the patch: {why}"))
}

/// A line without its newline.
fn trim_line(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}
