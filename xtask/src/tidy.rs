//! House rules that no compiler knows.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::steps::root;

/// A file that is longer is asked about.
const LONG: usize = 600;

/// Every file of Rust below a directory.
pub(crate) fn rust_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}

pub(crate) fn check() -> Result<()> {
    let mut wrong = Vec::new();
    for path in rust_files(&root())? {
        let text = fs::read_to_string(&path)?;
        let shown = path.strip_prefix(root()).unwrap_or(&path).display();
        if !text.starts_with("//!") {
            wrong.push(format!("{shown} does not begin with what it is"));
        }
        if path.ends_with("mod.rs") {
            wrong.push(format!("{shown}: modules are `foo.rs` beside `foo/`"));
        }
        // Written apart, so that this file does not find itself.
        for word in [concat!("to", "do!("), concat!("unimpl", "emented!("), concat!("#[ig", "nore")]
        {
            if text.contains(word) {
                wrong.push(format!("{shown} contains `{word}`"));
            }
        }
        let lines = text.lines().count();
        if lines > LONG {
            println!("{shown} has {lines} lines: is it still one idea?");
        }
    }
    for document in documents(&root())? {
        wrong.extend(dead_links(&document)?);
    }
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("{}", wrong.join("\n"));
}

fn documents(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(documents(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    Ok(found)
}

/// Links to files that do not exist.
fn dead_links(document: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(document)?;
    let base = document.parent().unwrap_or_else(|| Path::new("."));
    let links =
        text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
    let dead =
        links.filter(|link| !link.contains("://") && !link.starts_with('#')).filter(|link| {
            let file = link.split('#').next().unwrap_or_default();
            !base.join(file).exists()
        });
    Ok(dead.map(|link| format!("{}: nothing at `{link}`", document.display())).collect())
}
