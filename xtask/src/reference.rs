//! `cargo xtask reference`: `docs/reference/`, written by the program that it describes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::cargo::{Build, programs, root, run, target};

/// Where it stands, from the root.
const PLACE: &str = "docs/reference";

/// Write docs/reference from the program
#[derive(Args, Debug)]
pub(crate) struct Reference {
    /// Change nothing; fail when the program would write something else
    #[arg(long)]
    check: bool,
}

impl Reference {
    pub(crate) fn carry_out(&self) -> Result<()> {
        if self.check { check() } else { write(&root().join(PLACE)) }
    }
}

/// That what stands in the repository is what the program writes.
pub(crate) fn check() -> Result<()> {
    let fresh = target()?.join("reference");
    if fresh.exists() {
        fs::remove_dir_all(&fresh).with_context(|| format!("cannot clear {}", fresh.display()))?;
    }
    write(&fresh)?;
    let wrong = differences(&files(&root().join(PLACE))?, &files(&fresh)?);
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("{}\nrenew it with `cargo xtask reference`", wrong.join("\n"));
}

fn write(directory: &Path) -> Result<()> {
    // With the tests, because in CI those are built already.
    let farwire = programs(Build::WithTests)?.join("farwire");
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    run(Command::new(farwire).arg("reference").arg(directory))
}

/// The texts in a directory, by name.
fn files(directory: &Path) -> Result<BTreeMap<String, String>> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    let mut files = BTreeMap::new();
    for entry in entries {
        let path = entry?.path();
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        files.insert(name.into_owned(), text);
    }
    Ok(files)
}

/// One sentence for each file that is not as it should be.
fn differences(kept: &BTreeMap<String, String>, fresh: &BTreeMap<String, String>) -> Vec<String> {
    let names: BTreeSet<&String> = kept.keys().chain(fresh.keys()).collect();
    let tell = |name: &&String| match (kept.get(*name), fresh.get(*name)) {
        (Some(kept), Some(fresh)) if kept == fresh => None,
        (Some(kept), Some(fresh)) => {
            let same = kept.lines().zip(fresh.lines()).take_while(|(kept, fresh)| kept == fresh);
            Some(format!("{PLACE}/{name} is out of date from line {}", same.count() + 1))
        }
        (None, _) => Some(format!("{PLACE}/{name} is missing")),
        (_, None) => Some(format!("{PLACE}/{name} is not written by the program any more")),
    };
    names.iter().filter_map(tell).collect()
}

#[cfg(test)]
mod tests {
    use super::differences;

    #[test]
    fn every_kind_of_difference_is_told() {
        let kept = [("a.md", "1\n2\n3\n"), ("gone.md", ""), ("same.md", "1\n")];
        let fresh = [("a.md", "1\n2\n4\n"), ("new.md", ""), ("same.md", "1\n")];
        let map = |of: [(&str, &str); 3]| of.map(|(name, text)| (name.into(), text.into())).into();
        assert_eq!(
            differences(&map(kept), &map(fresh)),
            [
                "docs/reference/a.md is out of date from line 3",
                "docs/reference/gone.md is not written by the program any more",
                "docs/reference/new.md is missing",
            ]
        );
        assert!(differences(&map(kept), &map(kept)).is_empty());
    }
}
