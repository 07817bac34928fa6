//! What the checks find, and the ratchet over it.
//!
//! `known.txt` says what is still wrong: `CHECK KEY COUNT`, a line each. More than that is refused;
//! less is refused too, until the line says so (`cargo xtask tidy --shrink` rewrites it). So the
//! list can only become shorter.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail};

/// Where the list is, from the root of the repository.
pub(crate) const KNOWN: &str = "xtask/src/ci/tidy/known.txt";

/// Something that a check refuses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Finding {
    /// Which check it was: the first word of a line in the list.
    pub(crate) check: &'static str,
    /// What the list counts together: a crate, a name, or the two files of an import.
    pub(crate) key: String,
    /// How much it counts.
    pub(crate) count: usize,
    /// What is wrong where, and what to do.
    pub(crate) text: String,
}

/// What is known to be wrong.
#[derive(Debug)]
pub(crate) struct Known<'a> {
    text: &'a str,
    counts: BTreeMap<(&'a str, &'a str), usize>,
}

/// Checks whose lines need a reason behind `#`: each stands for one exception, not for a number.
const WITH_REASON: &[&str] = &["upward"];

impl<'a> Known<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self> {
        let mut counts = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            let here = || format!("{KNOWN}:{}", number + 1);
            let Some((check, key, count)) = entry(line).with_context(here)? else { continue };
            if WITH_REASON.contains(&check) && !line.contains('#') {
                bail!("{}: an exception needs its reason behind `#`", here());
            }
            if count == 0 || counts.insert((check, key), count).is_some() {
                bail!("{}: an entry stands once and counts at least 1", here());
            }
        }
        Ok(Self { text, counts })
    }

    /// What is wrong beyond the list, and which entries of the list say too much.
    pub(crate) fn complaints(&self, findings: &[Finding]) -> Vec<String> {
        // How many findings of one key are shown; `--list` shows all.
        const SHOWN: usize = 12;
        let mut wrong = Vec::new();
        for ((check, key), of_key) in grouped(findings) {
            let found: usize = of_key.iter().map(|finding| finding.count).sum();
            let known = self.counts.get(&(check, key)).copied().unwrap_or(0);
            if found <= known {
                continue;
            }
            if known > 0 {
                wrong.push(format!("{check}: {key} has {found}, and {KNOWN} allows {known}:"));
            }
            wrong.extend(of_key.iter().take(SHOWN).map(|finding| finding.text.clone()));
            if let more @ 1.. = of_key.len().saturating_sub(SHOWN) {
                wrong.push(format!("and {more} more: `cargo xtask tidy --list {check}`"));
            }
        }
        let counted = counts(findings);
        let stale = self.counts.iter().filter_map(|(entry, known)| {
            let left = counted.get(entry).copied().unwrap_or(0);
            let (check, key) = entry;
            (left < *known).then(|| format!("`{check} {key}` {known}, of which {left} are left"))
        });
        let stale: Vec<String> = stale.collect();
        if !stale.is_empty() {
            let stale = stale.join("; ");
            wrong
                .push(format!("{KNOWN} allows too much, run `cargo xtask tidy --shrink`: {stale}"));
        }
        wrong
    }

    /// The list without what is no longer wrong. Nothing is added to it.
    pub(crate) fn shrunk(&self, findings: &[Finding]) -> String {
        let counted = counts(findings);
        let mut text = String::new();
        for line in self.text.lines() {
            let Ok(Some((check, key, known))) = entry(line) else {
                text.extend([line, "\n"]);
                continue;
            };
            let found = counted.get(&(check, key)).copied().unwrap_or(0);
            if found >= known {
                text.extend([line, "\n"]);
            } else if found > 0 {
                let reason =
                    line.split_once('#').map_or(String::new(), |(_, why)| format!(" #{why}"));
                let _ = writeln!(text, "{check} {key} {found}{reason}"); // a string takes everything
            }
        }
        text
    }
}

/// `CHECK KEY COUNT # reason`; nothing in an empty line or a comment.
fn entry(line: &str) -> Result<Option<(&str, &str, usize)>> {
    let line = line.split('#').next().unwrap_or_default().trim();
    if line.is_empty() {
        return Ok(None);
    }
    let (check, rest) = line.split_once(' ').context("is not `CHECK KEY COUNT`")?;
    let (key, count) = rest.rsplit_once(' ').context("is not `CHECK KEY COUNT`")?;
    Ok(Some((check, key.trim(), count.parse().context("does not end with a number")?)))
}

/// Findings by check and key, in the order of both.
pub(crate) fn grouped(findings: &[Finding]) -> BTreeMap<(&str, &str), Vec<&Finding>> {
    let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for finding in findings {
        groups.entry((finding.check, finding.key.as_str())).or_default().push(finding);
    }
    groups
}

fn counts(findings: &[Finding]) -> BTreeMap<(&str, &str), usize> {
    let mut counts = BTreeMap::new();
    for finding in findings {
        *counts.entry((finding.check, finding.key.as_str())).or_default() += finding.count;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::{Finding, Known};

    fn found(check: &'static str, key: &str, count: usize) -> Finding {
        Finding { check, key: key.into(), count, text: format!("{check} {key}: mend it") }
    }

    const LIST: &str = "# What is left.\nhomonym State 5\nupward a.rs -> b.rs 1 # until b moves\n";

    #[track_caller]
    fn check(findings: &[Finding], expected: &[&str]) {
        let known = Known::parse(LIST).expect("a list");
        assert_eq!(known.complaints(findings), expected);
    }

    #[test]
    fn known_findings_pass_and_nothing_else_does() {
        let known = [found("homonym", "State", 5), found("upward", "a.rs -> b.rs", 1)];
        check(&known, &[]);
        let [state, upward] = known;
        check(&[state, upward.clone(), found("homonym", "Found", 4)], &["homonym Found: mend it"]);
        check(
            &[found("homonym", "State", 4), found("homonym", "State", 2), upward],
            &[
                "homonym: State has 6, and xtask/src/ci/tidy/known.txt allows 5:",
                "homonym State: mend it",
                "homonym State: mend it",
            ],
        );
    }

    #[test]
    fn an_entry_that_allows_too_much_is_refused() {
        check(
            &[found("homonym", "State", 4)],
            &["xtask/src/ci/tidy/known.txt allows too much, run `cargo xtask tidy --shrink`: \
                 `homonym State` 5, of which 4 are left; \
                 `upward a.rs -> b.rs` 1, of which 0 are left"],
        );
    }

    #[test]
    fn shrinking_lowers_and_removes_and_never_adds() {
        let known = Known::parse(LIST).expect("a list");
        let shrunk = known.shrunk(&[found("homonym", "State", 4), found("homonym", "New", 9)]);
        assert_eq!(shrunk, "# What is left.\nhomonym State 4\n");
        let more = [found("homonym", "State", 9), found("upward", "a.rs -> b.rs", 1)];
        assert_eq!(known.shrunk(&more), LIST);
    }

    #[test]
    fn a_list_that_is_not_clear_is_refused() {
        for text in
            ["homonym", "homonym State", "homonym State x", "x y 0", "x y 1\nx y 2", "upward a 1"]
        {
            assert!(Known::parse(text).is_err(), "{text}");
        }
    }
}
