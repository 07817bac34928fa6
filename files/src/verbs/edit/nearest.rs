//! What to say of a text that does not occur: the lines that are most similar to it.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::fmt::Write as _;

use farwire_protocol::failure::{Failure, Kind};

use super::diff::NEAR;
use super::line_ends::{in_cr_lf, in_lf};

/// The most lines of a missing text that are compared.
pub(super) const WINDOW: usize = 40;

/// The most pairs of letters that are compared: about a tenth of a second.
const WORK: usize = 32 << 20;

/// The most characters of similar text that are quoted.
const QUOTED: usize = 1_200;

/// The failure of a text that does not occur, with the lines most similar to it.
pub(super) fn no_match(which: &str, text: &[u8], wanted: &[u8]) -> Failure {
    let mut message = format!("{which}: the text was not found");
    let there = |other: &[u8]| other != wanted && memchr::memmem::find(text, other).is_some();
    if there(&in_cr_lf(&in_lf(wanted))) {
        message.push_str("; only the line endings differ: those of the file are CR LF");
    } else if there(&in_lf(wanted)) {
        message.push_str("; only the line endings differ: those of the file are LF");
    } else if text.len() <= NEAR
        && let Some((first, lines)) =
            nearest(&String::from_utf8_lossy(text), &String::from_utf8_lossy(wanted))
    {
        let last = first + lines.lines().count().max(1) - 1;
        let told: String = lines.chars().take(QUOTED).collect();
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let why = match words(&lines) == words(&String::from_utf8_lossy(wanted)) {
            true => "only whitespace differs from",
            false => "the most similar are",
        };
        let _ = write!(message, "; {why} lines {first}-{last}:\n{told}");
    }
    Failure::new(Kind::NoMatch, message)
}

/// The lines most similar to a text, and the number of the first. Of a long text only as much is
/// searched as [`WORK`] allows.
fn nearest(text: &str, wanted: &str) -> Option<(usize, String)> {
    let words: Vec<ComparedLine<'_>> =
        wanted.lines().take(WINDOW).map(|word| ComparedLine::new(word.trim())).collect();
    let many = words.len().clamp(1, text.lines().count().max(1));
    // The similarity of each window. The window that began `many - 1` lines ago is complete now.
    let mut scores = VecDeque::from(vec![0_u64; many]);
    let mut best: Option<(u64, usize)> = None;
    let mut work = 0;
    for (at, line) in text.lines().enumerate() {
        let line = ComparedLine::new(line.trim());
        for (score, word) in scores.iter_mut().rev().zip(&words) {
            *score += u64::from(line.likeness(word));
            work += 1 + line.pairs.len() + word.pairs.len();
        }
        let score = scores.pop_front().unwrap_or(0);
        scores.push_back(0);
        if at + 1 >= many && best.is_none_or(|(best, _)| score > best) {
            best = Some((score, at + 1 - many));
        }
        if work > WORK {
            break;
        }
    }
    let (score, at) = best?;
    // Less than a third in common is not similar.
    if score * 3 < 1_000 * words.len().max(1) as u64 {
        return None;
    }
    let lines: Vec<&str> = text.lines().skip(at).take(many).collect();
    Some((at + 1, lines.join("\n")))
}

/// A line, and the sorted pairs of adjacent letters in its first 200.
struct ComparedLine<'a> {
    text: &'a str,
    pairs: Vec<(char, char)>,
}

impl<'a> ComparedLine<'a> {
    fn new(text: &'a str) -> Self {
        let mut pairs: Vec<_> =
            text.chars().take(200).zip(text.chars().skip(1).take(200)).collect();
        pairs.sort_unstable();
        Self { text, pairs }
    }

    /// The similarity of two lines in thousandths: the share of letter pairs that they have in
    /// common.
    fn likeness(&self, other: &Self) -> u32 {
        if self.text == other.text {
            return 1_000;
        }
        let (one, other) = (&self.pairs, &other.pairs);
        if one.is_empty() || other.is_empty() {
            return 0;
        }
        let (mut left, mut right, mut common) = (0, 0, 0_usize);
        while let (Some(a), Some(b)) = (one.get(left), other.get(right)) {
            match a.cmp(b) {
                Ordering::Less => left += 1,
                Ordering::Greater => right += 1,
                Ordering::Equal => (left, right, common) = (left + 1, right + 1, common + 1),
            }
        }
        u32::try_from(2_000 * common / (one.len() + other.len())).unwrap_or(0)
    }
}
