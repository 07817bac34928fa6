//! Dependencies that no source names: they would be downloaded, built and trusted for nothing.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::cargo::{answer, cargo};
use crate::files;

/// What each package of the workspace depends on and does not name, in words.
pub(crate) fn unused() -> Result<Vec<String>> {
    let metadata = answer(&mut cargo(&["metadata", "--format-version", "1", "--locked"]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("metadata is no JSON")?;
    let all = |list: &'static str| metadata[list].as_array().into_iter().flatten();
    let mut wrong = Vec::new();
    for member in all("workspace_members") {
        let package = all("packages").find(|package| package["id"] == *member);
        let manifest = package.and_then(|package| package["manifest_path"].as_str());
        let directory = manifest.and_then(|path| Path::new(path).parent());
        let directory = directory.context("a package has a manifest")?;
        let sources = sources(directory)?;
        let nodes = metadata["resolve"]["nodes"].as_array().into_iter().flatten();
        let node = nodes.into_iter().find(|node| node["id"] == *member);
        let needs = node.and_then(|node| node["deps"].as_array()).into_iter().flatten();
        let needs = needs.filter_map(|need| need["name"].as_str());
        let unnamed = needs.filter(|name| !sources.iter().any(|source| names(source, name)));
        wrong.extend(unnamed.map(|name| {
            format!(
                "{}/Cargo.toml depends on `{name}`, which no source names",
                files::relative(directory)
            )
        }));
    }
    Ok(wrong)
}

/// The sources of a package.
fn sources(directory: &Path) -> Result<Vec<String>> {
    let read = |path| fs::read_to_string(path).context("a source cannot be read");
    files::below(directory, "rs")?.into_iter().map(read).collect()
}

/// Whether a source has a path that begins with this crate.
fn names(source: &str, of: &str) -> bool {
    let path = format!("{of}::");
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let within = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    code.flat_map(|line| line.match_indices(&path).map(move |(at, _)| (line, at)))
        .any(|(line, at)| !line.get(..at).is_some_and(|before| before.ends_with(within)))
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn a_crate_is_named_by_a_path_that_begins_with_it() {
        for source in
            ["use quinn::Endpoint;", "let x = a + quinn::y();", "#[quinn::test]", "  quinn::x!()"]
        {
            assert!(names(source, "quinn"), "{source}");
        }
        for source in ["// quinn::x", "use self::quinn::x;", "my_quinn::x", "let quinn = 1;", ""] {
            assert!(!names(source, "quinn"), "{source}");
        }
    }
}
