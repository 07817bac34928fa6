//! `cargo xtask ci`: the same list of steps here and in CI.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::steps::{self, cargo, reference, root, test};
use crate::{licences, tidy};

type Step = (&'static str, fn() -> Result<()>);

/// In the order in which they fail fastest.
const STEPS: &[Step] = &[
    ("fmt", || steps::run(cargo(&["fmt", "--all", "--check"]).env("CARGO_TERM_COLOR", "never"))),
    ("tidy", tidy::check),
    ("licences", licences::check),
    ("relay", relay),
    ("clippy", || {
        steps::run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    }),
    ("test", || test(&[])),
    ("docs", || {
        steps::run(cargo(&["doc", "--no-deps", "--workspace"]).env("RUSTDOCFLAGS", "-D warnings"))
    }),
    ("reference", check_reference),
];

fn names() -> Vec<&'static str> {
    STEPS.iter().map(|step| step.0).collect()
}

/// Runs all steps, or those that are named.
pub(crate) fn run(only: &[String], skip: &[String]) -> Result<()> {
    if let Some(unknown) = only.iter().chain(skip).find(|name| !names().contains(&name.as_str())) {
        bail!("there is no step `{unknown}`; the steps are {}", names().join(", "));
    }
    for (name, step) in STEPS {
        let wanted = only.is_empty() || only.iter().any(|one| one == name);
        if !wanted || skip.iter().any(|one| one == name) {
            continue;
        }
        println!("--- {name}");
        let begun = Instant::now();
        step().with_context(|| format!("`cargo xtask ci {name}` failed"))?;
        println!("--- {name}: {:.1} s", begun.elapsed().as_secs_f64());
    }
    Ok(())
}

/// That the middle is blind shows in what it is made of: neither the handshake's crates nor its words.
fn relay() -> Result<()> {
    let tree =
        cargo(&["tree", "-p", "farwire-relay", "-e", "normal", "--prefix", "none"]).output()?;
    let tree = String::from_utf8_lossy(&tree.stdout).into_owned();
    if !tree.starts_with("farwire-relay") {
        bail!("cargo tree gave nothing");
    }
    for banned in ["snow", "ml-kem", "x25519-dalek", "chacha20poly1305"] {
        if tree.lines().any(|line| line.starts_with(&format!("{banned} "))) {
            bail!("the relay depends on {banned}");
        }
    }
    for path in tidy::rust_files(&root().join("relay/src"))? {
        let text = std::fs::read_to_string(&path)?;
        for word in ["streams::run", "streams::control", "handshake::", "conversation::", "::inner"]
        {
            if text.contains(word) {
                bail!("{} names `{word}`", path.display());
            }
        }
    }
    Ok(())
}

/// The reference in the repository is the one that the program writes.
fn check_reference() -> Result<()> {
    let fresh = root().join("target/reference");
    reference(&fresh)?;
    for entry in std::fs::read_dir(&fresh)? {
        let path = entry?.path();
        let kept = Path::new("docs/reference").join(path.file_name().context("a file has a name")?);
        let same = std::fs::read(root().join(&kept)).ok() == Some(std::fs::read(&path)?);
        if !same {
            bail!("{} is not what the program says; run `cargo xtask reference`", kept.display());
        }
    }
    Ok(())
}
