//! Hunks, which are read here and applied to a text at the place where git applies them.
//!
//! A hunk fits where all its old lines are. As in git, a hunk whose old text begins in line 1
//! belongs at the beginning of the file, and one without context after its change at the end. If it
//! does not fit there, it may be applied at the only other place in the file that has its old
//! lines.

use farwire_protocol::failure::{Failure, Kind};

use super::misfit::Misfit;
use crate::path::Rel;
use crate::verbs::memory::MemoryShare;

/// The most lines of a file that is patched.
pub(super) const LONGEST: usize = 1 << 20;

/// The most lines that are compared to place all hunks of a file.
const COMPARED: usize = 50_000_000;

/// A number for the old text, and one for the new text.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct OldNew {
    pub(super) old: usize,
    pub(super) new: usize,
}

/// The first line of a hunk: `@@ -1,2 +3,4 @@`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heading {
    /// The numbers of the first lines, from 1; 0 for an empty text.
    pub(super) start: OldNew,
    /// How many lines the hunk has in each text.
    pub(super) counts: OldNew,
}

/// A place in a file, with its old and its new lines.
#[derive(Debug, Default)]
pub(super) struct Hunk<'a> {
    /// The line of the patch that the hunk begins in, from 1.
    pub(super) line: usize,
    /// The numbers of its first lines, from 1; 0 for an empty text.
    pub(super) start: OldNew,
    pub(super) old: Vec<&'a [u8]>,
    pub(super) new: Vec<&'a [u8]>,
    /// How many lines the hunk adds, and how many it removes.
    pub(super) lines: (usize, usize),
    /// How many lines of context it has: before its first change and after its last one.
    around: (usize, usize),
    /// The sign of the last line.
    last: u8,
}

/// Parses a heading.
pub(super) fn heading(line: &[u8]) -> Option<Heading> {
    let text = String::from_utf8_lossy(line.get(..line.len().min(80))?);
    let mut words = text.split(' ');
    let numbers = |word: &str, sign: char| {
        let word = word.strip_prefix(sign)?;
        let (start, count) = word.split_once(',').unwrap_or((word, "1"));
        let count: usize = count.parse().ok()?;
        Some((start.parse::<usize>().ok()?, count)).filter(|_| count <= LONGEST)
    };
    if words.next()? != "@@" {
        return None;
    }
    let old = numbers(words.next()?, '-')?;
    let new = numbers(words.next()?, '+')?;
    // Only an empty text may begin in line 0.
    let has_number = |(start, count): (usize, usize)| start > 0 || count == 0;
    (words.next()?.starts_with("@@") && has_number(old) && has_number(new)).then_some(Heading {
        start: OldNew { old: old.0, new: new.0 },
        counts: OldNew { old: old.1, new: new.1 },
    })
}

impl<'a> Hunk<'a> {
    pub(super) fn new(line: usize, start: OldNew) -> Self {
        Self { line, start, ..Self::default() }
    }

    /// Adds a line of the patch. `None` if it does not belong to a hunk.
    pub(super) fn add(&mut self, line: &'a [u8]) -> Option<()> {
        let (sign, rest) = match line.split_first()? {
            (b'\\', _) => {
                self.drop_last_newline();
                return Some(());
            }
            // Some programs drop the blank of an empty context line.
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
        match sign {
            b' ' if self.lines == (0, 0) => self.around.0 += 1,
            b' ' => self.around.1 += 1,
            _ => self.around.1 = 0,
        }
        self.lines.0 += usize::from(sign == b'+');
        self.lines.1 += usize::from(sign == b'-');
        self.last = sign;
        Some(())
    }

    /// Removes the newline of the last line, after `\ No newline at end of file`.
    pub(super) fn drop_last_newline(&mut self) {
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

/// The number of lines in a text.
pub(super) fn count_lines(text: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', text).count() + usize::from(!text.ends_with(b"\n"))
}

/// Applies all hunks to a text.
///
/// # Errors
///
/// `patch_failed` if a hunk does not fit; `too_large` and `busy` if the text has too many lines to
/// be held.
pub(super) fn apply(
    hunks: &[Hunk<'_>],
    path: &Rel,
    text: &[u8],
    share: &mut MemoryShare,
) -> Result<Vec<u8>, Failure> {
    let many = count_lines(text);
    if many > LONGEST {
        let text = format!("{path} has more than {LONGEST} lines");
        return Err(Failure::new(Kind::TooLarge, text));
    }
    // For the list of lines, which is dropped with the function.
    let mut held = MemoryShare::default();
    held.take(many * size_of::<&[u8]>())?;
    let mut lines: Vec<&[u8]> = Vec::with_capacity(many);
    lines.extend(text.split_inclusive(|&byte| byte == b'\n'));
    let added: usize = hunks.iter().flat_map(|hunk| &hunk.new).map(|line| line.len()).sum();
    let mut result = share.buffer(text.len() + added)?;
    let mut search = HunkSearch { lines: &lines, from: 0, grown: 0, work: COMPARED };
    for (number, hunk) in hunks.iter().enumerate() {
        let from = search.from;
        let at = match search.place(hunk) {
            Some(at) => at,
            None if search.work == 0 => {
                let number = number + 1;
                let text = format!("{path}: too many places were searched for hunk {number}");
                return Err(Failure::new(Kind::TooLarge, text).with_hint("divide the patch"));
            }
            None => {
                let meant = search.expected_line(hunk);
                return Err((Misfit { hunk, lines: &lines, from, meant }).failure(path, number + 1));
            }
        };
        for line in lines.get(from..at).unwrap_or_default().iter().chain(&hunk.new) {
            result.extend_from_slice(line);
        }
        search.from = at + hunk.old.len();
        search.grown += hunk.new.len().cast_signed() - hunk.old.len().cast_signed();
    }
    for line in lines.get(search.from..).unwrap_or_default() {
        result.extend_from_slice(line);
    }
    Ok(result)
}

/// Finds the places of hunks, one after the other.
struct HunkSearch<'a> {
    lines: &'a [&'a [u8]],
    /// Earlier hunks have taken the lines above this one.
    from: usize,
    /// How many lines earlier hunks have added.
    grown: isize,
    /// How many more lines may be compared.
    work: usize,
}

impl HunkSearch<'_> {
    /// The place of a hunk by its line numbers.
    fn expected_line(&self, hunk: &Hunk<'_>) -> usize {
        let OldNew { old, new } = hunk.start;
        match hunk.old.is_empty() && !hunk.new.is_empty() {
            // The lines are added after this one.
            true => old,
            false => new.saturating_sub(1).saturating_add_signed(self.grown.saturating_neg()),
        }
    }

    fn place(&mut self, hunk: &Hunk<'_>) -> Option<usize> {
        let last = self.lines.len().checked_sub(hunk.old.len())?;
        let meant = self.expected_line(hunk);
        if hunk.old.is_empty() {
            // Nothing but its number says where an addition belongs. Line 0 requires an empty file.
            let empty = hunk.start.old > 0 || self.lines.is_empty();
            return Some(meant).filter(|at| empty && (self.from..=last).contains(at));
        }
        let (first, end) = (hunk.start.old <= 1, hunk.around.1 == 0);
        let bare = hunk.around == (0, 0);
        if bare && self.fits(hunk, meant) {
            return Some(meant);
        }
        let anchored = match (first, end) {
            (true, true) => Some(0).filter(|_| last == 0),
            (true, false) => Some(0),
            (false, true) => Some(last),
            (false, false) => return self.nearest(hunk, meant),
        };
        anchored.filter(|&at| self.fits(hunk, at)).or_else(|| self.only(hunk))
    }

    /// The nearest place where a hunk fits. Of two at the same distance, the later one.
    fn nearest(&mut self, hunk: &Hunk<'_>, meant: usize) -> Option<usize> {
        let meant = meant.min(self.lines.len());
        (0..=self.lines.len()).find_map(|away| {
            let after = Some(meant + away).filter(|&at| self.fits(hunk, at));
            after.or_else(|| meant.checked_sub(away).filter(|&at| self.fits(hunk, at)))
        })
    }

    /// The place where a hunk fits, if it is the only one.
    fn only(&mut self, hunk: &Hunk<'_>) -> Option<usize> {
        let mut found = None;
        for at in self.from..=self.lines.len() {
            if self.fits(hunk, at) && found.replace(at).is_some() {
                return None;
            }
        }
        found.filter(|_| self.work > 0)
    }

    fn fits(&mut self, hunk: &Hunk<'_>, at: usize) -> bool {
        self.work = self.work.saturating_sub(1);
        if self.work == 0 || at < self.from {
            return false;
        }
        let there = at.checked_add(hunk.old.len()).and_then(|end| self.lines.get(at..end));
        there.is_some_and(|there| {
            there.iter().zip(&hunk.old).all(|(a, b)| same(a, b, &mut self.work))
        })
    }
}

/// Whether two lines are equal. False once the budget is used up.
fn same(one: &[u8], other: &[u8], work: &mut usize) -> bool {
    // Comparing long lines with a common prefix takes longer.
    let cost = if one.len() == other.len() { 1 + one.len() / 64 } else { 1 };
    *work = work.saturating_sub(cost);
    *work > 0 && one == other
}
