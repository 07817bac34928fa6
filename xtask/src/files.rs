//! The files of this repository, and how they are named to a person.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::cargo::{answer, git, root};

/// The files below a directory whose names end so, in order.
///
/// Git knows which files belong to the repository. Where it cannot say, as in an archive of the
/// sources, all do that are not hidden and not built.
pub(crate) fn below(directory: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut files = match root().join(".git").exists().then(|| tracked(directory)) {
        Some(Ok(files)) => files,
        // Git has said on stderr why it does not answer, and those files are at most more.
        Some(Err(_)) | None => all(directory)?,
    };
    files.retain(|file| file.extension().is_some_and(|found| found == extension));
    files.sort();
    Ok(files)
}

/// A path as one would type it in the root of the repository.
pub(crate) fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// What git has or would add.
fn tracked(directory: &Path) -> Result<Vec<PathBuf>> {
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--"];
    let names = answer(git(&list).arg(directory))?;
    let names = names.split_terminator('\0');
    // What was removed and is not committed yet is listed too.
    Ok(names.map(|name| root().join(name)).filter(|file| file.is_file()).collect())
}

fn all(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        // A link to a directory is not followed: it could lead back here.
        if !entry.file_type()?.is_dir() {
            found.push(entry.path());
        } else if name != "target" && !name.to_string_lossy().starts_with('.') {
            found.extend(all(&entry.path())?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{all, below, relative};
    use crate::cargo::root;

    #[test]
    fn the_sources_of_this_crate_are_found_either_way() {
        let source = root().join("xtask/src");
        for files in [below(&source, "rs").expect("a list"), all(&source).expect("a list")] {
            let shown: Vec<String> = files.iter().map(|file| relative(file)).collect();
            for file in ["xtask/src/main.rs", "xtask/src/ci/tidy/links.rs"] {
                assert!(shown.contains(&file.to_owned()), "{file} is not in {shown:?}");
            }
        }
        assert_eq!(below(&source, "md").expect("a list"), Vec::<std::path::PathBuf>::new());
    }
}
