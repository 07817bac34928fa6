//! Explains why a hunk does not fit: which line differs, and whether only its ending or its
//! whitespace does.

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::quote::quote;

use super::hunk::Hunk;
use crate::path::Rel;

/// The most lines that are compared to find where a hunk nearly fits.
const COMPARED: usize = 2_000_000;

/// How much of a line is quoted.
const TOLD: usize = 160;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// A hunk that fits nowhere in a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Misfit<'a> {
    pub(super) hunk: &'a Hunk<'a>,
    /// The lines of the text.
    pub(super) lines: &'a [&'a [u8]],
    /// The first line where the hunk may be: earlier hunks have taken the lines above.
    pub(super) from: usize,
    /// The place of the hunk by its line numbers.
    pub(super) meant: usize,
}

impl Misfit<'_> {
    /// The failure of this hunk, the `number`th of its file.
    pub(super) fn failure(self, path: &Rel, number: usize) -> Failure {
        let line = self.hunk.line;
        let why = self.why();
        let text =
            format!("{path}: hunk {number} (line {line} of the patch) does not apply: {why}");
        Failure::new(Kind::PatchFailed, text)
    }

    fn why(self) -> String {
        let Self { hunk, lines, .. } = self;
        if hunk.old.is_empty() {
            return match hunk.start.old {
                0 => "it expects an empty file, but the file is not empty".to_owned(),
                line if line > lines.len() => {
                    let count = lines.len();
                    format!("it adds lines after line {line}, but the file has {count} lines")
                }
                line => format!(
                    "it adds lines after line {line}, but an earlier hunk is already past it"
                ),
            };
        }
        if lines.is_empty() {
            return "the file is empty".to_owned();
        }
        let at = self.nearest().unwrap_or(self.meant);
        let place = || lines.get(at..).unwrap_or_default().iter().zip(&hunk.old).enumerate();
        match place().find(|(_, (is, says))| is != says) {
            Some((offset, (is, says))) => describe_difference(at + offset + 1, is, says),
            None if at.saturating_add(hunk.old.len()) > lines.len() => {
                let missing = lines.len().saturating_sub(at);
                let missing = quote_line(hunk.old.get(missing).copied().unwrap_or_default());
                let last = lines.len();
                format!("the file ends after line {last}, but the patch has {missing} there")
            }
            None => "its lines occur more than once, but not where the patch has them; \
                give it more lines around the change"
                .to_owned(),
        }
    }

    /// The place with the most lines like those of the hunk. Of equal ones, the nearest to `meant`.
    fn nearest(self) -> Option<usize> {
        let Self { hunk, lines, meant, .. } = self;
        let mut work = COMPARED;
        let mut best: Option<(usize, usize)> = None;
        let from = self.from.min(lines.len());
        for away in 0..=lines.len() {
            let places = [meant.checked_sub(away), meant.checked_add(away).filter(|_| away > 0)];
            for at in places.into_iter().flatten().filter(|at| (from..lines.len()).contains(at)) {
                let there = lines.get(at..).unwrap_or_default().iter().zip(&hunk.old);
                let score = there.filter(|(is, says)| plain(is) == plain(says)).count();
                work = work.saturating_sub(hunk.old.len());
                if score > 0 && best.is_none_or(|(most, _)| score > most) {
                    best = Some((score, at));
                }
            }
            if work == 0 {
                break;
            }
        }
        best.map(|(_, at)| at)
    }
}

/// A line without its invisible parts.
fn plain(line: &[u8]) -> &[u8] {
    line.strip_prefix(BOM).unwrap_or(line).trim_ascii()
}

/// Describes how a line of a file differs from that of a patch.
fn describe_difference(number: usize, is: &[u8], says: &[u8]) -> String {
    let ended = |line: &[u8]| (line.ends_with(b"\n"), line.ends_with(b"\r\n"));
    let text = |line: &[u8]| {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        line.strip_suffix(b"\r").unwrap_or(line).to_vec()
    };
    if text(is) == text(says) {
        return match (ended(is), ended(says)) {
            ((false, _), (true, _)) => format!(
                "line {number}, the last one, has no newline at its end; in the patch it has one \
                 (`\\ No newline at end of file` must follow it there)"
            ),
            ((true, _), (false, _)) => {
                format!("line {number} has a newline at its end; in the patch it has none")
            }
            ((_, true), _) => format!("line {number} ends in CR LF; in the patch it ends in LF"),
            _ => format!("line {number} ends in LF; in the patch it ends in CR LF"),
        };
    }
    if is.strip_prefix(BOM) == Some(says) {
        return format!(
            "line {number} begins with a byte order mark (EF BB BF), which the patch does not have"
        );
    }
    let (one, other) = (quote_line(is), quote_line(says));
    let what = format!("line {number} is {one}; in the patch it is {other}");
    match plain(is) == plain(says) {
        true => format!("{what}: only whitespace differs"),
        false => what,
    }
}

/// The beginning of a line, with escapes for invisible characters.
fn quote_line(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let cut = line.get(..TOLD).unwrap_or(line);
    let more = if cut.len() < line.len() { "…" } else { "" };
    format!("`{}{more}`", quote(cut))
}
