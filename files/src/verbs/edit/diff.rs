//! A short unified diff of two texts.

use std::fmt::Write as _;

use similar::{Change, TextDiff};

/// The largest text that is compared with another, for a diff or to find similar lines.
pub(in crate::verbs) const NEAR: usize = 2 << 20;

/// The longest diff in an answer.
const DIFF: usize = 12 << 10;

/// A short unified diff, without file names.
pub(in crate::verbs) fn diff(before: &[u8], after: &[u8]) -> String {
    if before.len() > NEAR || after.len() > NEAR {
        return String::new();
    }
    let (before, after) = (String::from_utf8_lossy(before), String::from_utf8_lossy(after));
    let diff = TextDiff::configure()
        .deadline(std::time::Instant::now() + std::time::Duration::from_millis(500))
        .diff_lines(&*before, &*after);
    let mut text = String::new();
    for hunk in diff.unified_diff().context_radius(2).iter_hunks() {
        let hunk = format_hunk(hunk.iter_changes());
        if text.len() + hunk.len() > DIFF {
            let left: String = hunk.chars().take(DIFF.saturating_sub(text.len())).collect();
            text.push_str(&left);
            text.push_str("\n(the diff goes on)\n");
            break;
        }
        text.push_str(&hunk);
    }
    text
}

/// A hunk with its heading. The heading of the library has wrong counts where similar lines were
/// moved together.
fn format_hunk<'a>(changes: impl Iterator<Item = Change<&'a str>>) -> String {
    let (mut old, mut new) = (Span::default(), Span::default());
    let mut lines = String::new();
    for change in changes {
        old.add(change.old_index());
        new.add(change.new_index());
        // Writing to a string does not fail.
        let _ = write!(lines, "{}{}", change.tag(), change.value());
        if change.missing_newline() {
            lines.push_str("\n\\ No newline at end of file\n");
        }
    }
    format!("@@ -{old} +{new} @@\n{lines}")
}

/// The lines of a text that a hunk covers.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    first: Option<usize>,
    count: usize,
}

impl Span {
    fn add(&mut self, index: Option<usize>) {
        if let Some(index) = index {
            self.first.get_or_insert(index);
            self.count += 1;
        }
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.first, self.count) {
            (Some(first), 1) => write!(f, "{}", first + 1),
            (first, count) => write!(f, "{},{count}", first.map_or(0, |first| first + 1)),
        }
    }
}
