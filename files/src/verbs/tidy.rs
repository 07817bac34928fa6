//! Leaves out what people do not mean by "all": `.gitignore`, `.ignore`, names that begin with a
//! dot; and the globs of a question.
//!
//! As in ripgrep, `.gitignore` counts inside a git repository and `.ignore` everywhere, both for
//! everything beneath them.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use farwire_protocol::failure::{Failure, Kind};
use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use ignore::overrides::{Override, OverrideBuilder};

use super::memory::MemoryShare;
use crate::path::Rel;
use crate::tree::{Listing, Tree, Visited};

/// How much of a file with patterns is read.
const PATTERNS: u64 = 256 << 10;

/// The memory that patterns take for each byte of them.
const GROWN: usize = 16;

/// The memory that a directory with patterns takes besides.
const LEVEL: usize = 1 << 10;

/// The globs of a question.
#[derive(Debug)]
pub(super) struct Globs(Override);

impl Globs {
    pub(super) fn new(globs: &[String]) -> Result<Self, Failure> {
        let bad = |error: ignore::Error| {
            Failure::new(Kind::InvalidArgument, format!("the pattern cannot be used: {error}"))
        };
        let mut builder = OverrideBuilder::new("/");
        for glob in globs {
            builder.add(glob).map_err(bad)?;
        }
        builder.build().map(Self).map_err(bad)
    }

    /// Whether the globs include a path.
    pub(super) fn take(&self, path: &Rel, directory: bool) -> bool {
        match self.0.matched(native(path.as_bytes()), directory) {
            Match::None => self.0.num_whitelists() == 0,
            Match::Whitelist(_) => true,
            Match::Ignore(_) => false,
        }
    }

    /// Whether the globs exclude a directory with everything in it.
    pub(super) fn refuse(&self, path: &Rel) -> bool {
        // A directory that merely matches no glob may have entries that do.
        self.0.num_ignores() > 0 && self.0.matched(native(path.as_bytes()), true).is_ignore() && {
            let Some(name) = path.names().next_back() else { return false };
            self.0.num_whitelists() == 0 || self.0.matched(native(name), true).is_ignore()
        }
    }
}

fn native(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

/// The patterns of a directory, on top of those above it.
#[derive(Debug)]
struct Level {
    git: Option<Gitignore>,
    own: Option<Gitignore>,
    /// Whether it is in a git repository.
    repository: bool,
    /// Whether there are no patterns here or above.
    empty: bool,
    above: Option<Arc<Self>>,
}

/// Decides what a walk leaves out.
#[derive(Debug)]
pub(super) struct Tidy {
    start: Rel,
    /// The levels of directories that add something to those above them.
    levels: HashMap<Rel, Arc<Level>>,
    /// The directory that was looked at last, relative to the start, and its level.
    latest: Option<(Vec<u8>, Arc<Level>)>,
    share: MemoryShare,
}

impl Tidy {
    /// For a walk that begins at this directory.
    ///
    /// # Errors
    ///
    /// `busy` if the patterns take too much memory.
    pub(super) fn new(tree: &Tree, start: &Rel) -> Result<Self, Failure> {
        // The patterns of parent directories count as well.
        let mut above = None;
        let mut path = Rel::ROOT;
        let mut share = MemoryShare::default();
        for name in start.names() {
            if let Ok(listing) = tree.list(&path) {
                above = Some(Level::read(&listing, &path, above, &mut share)?);
            }
            path = path.join(name);
        }
        let levels = above.map(|level| (path_above(start), level));
        let levels = levels.into_iter().collect();
        Ok(Self { start: start.clone(), levels, latest: None, share })
    }

    /// Whether the walk skips this entry.
    ///
    /// # Errors
    ///
    /// Those of [`Self::new`].
    pub(super) fn leaves_out(&mut self, visited: &Visited<'_>) -> Result<bool, Failure> {
        if visited.listed.name.starts_with(b".") {
            return Ok(true);
        }
        let at = visited.at.as_bytes();
        let beside = at.strip_suffix(visited.listed.name.as_slice()).unwrap_or(at);
        let path = self.start.join(at);
        let level = match &self.latest {
            // Most entries are in the same directory as the one before.
            Some((latest, level)) if latest == beside => level.clone(),
            _ => {
                let level = self.level(visited, path_above(&path))?;
                self.latest = Some((beside.to_vec(), level.clone()));
                level
            }
        };
        if level.empty {
            return Ok(false);
        }
        let directory =
            visited.listed.what == Some(farwire_protocol::streams::files::What::Directory);
        Ok(level.ignores(&path, directory))
    }
}

impl Tidy {
    /// The level of a directory that the walk is in.
    fn level(&mut self, visited: &Visited<'_>, above: Rel) -> Result<Arc<Level>, Failure> {
        if let Some(level) = self.levels.get(&above) {
            return Ok(level.clone());
        }
        let mut outer = None;
        let mut path = above.clone();
        while outer.is_none() && !path.is_root() {
            path = path_above(&path);
            outer = self.levels.get(&path).cloned();
        }
        let level = Level::read(visited.listing, &above, outer.clone(), &mut self.share)?;
        // Most directories add nothing, and there may be millions of them.
        if outer.is_none_or(|outer| !Arc::ptr_eq(&outer, &level)) {
            self.levels.insert(above, level.clone());
        }
        Ok(level)
    }
}

fn path_above(path: &Rel) -> Rel {
    path.split().map(|(above, _)| above).unwrap_or_default()
}

impl Level {
    /// Reads the patterns of a directory. Without any, its level is that of its parent.
    fn read(
        listing: &Listing<'_>,
        path: &Rel,
        above: Option<Arc<Self>>,
        share: &mut MemoryShare,
    ) -> Result<Arc<Self>, Failure> {
        let within = above.as_ref().is_some_and(|level| level.repository);
        // A `.git` that cannot be looked at does exist.
        let repository = within || !matches!(listing.stat(b".git"), Ok(None));
        let git = if repository { patterns(listing, path, b".gitignore", share)? } else { None };
        let own = patterns(listing, path, b".ignore", share)?;
        let says = git.is_some() || own.is_some();
        match above {
            Some(above) if !says && repository == within => Ok(above),
            above => {
                share.take(LEVEL)?;
                let empty = !says && above.as_ref().is_none_or(|level| level.empty);
                Ok(Arc::new(Self { git, own, repository, empty, above }))
            }
        }
    }

    fn ignores(&self, path: &Rel, directory: bool) -> bool {
        let path = native(path.as_bytes());
        let mut level = Some(self);
        while let Some(here) = level {
            for set in [&here.own, &here.git].into_iter().flatten() {
                match set.matched(path, directory) {
                    Match::None => {}
                    Match::Ignore(_) => return true,
                    Match::Whitelist(_) => return false,
                }
            }
            level = here.above.as_deref();
        }
        false
    }
}

/// The patterns in a file of a directory, if it exists.
fn patterns(
    listing: &Listing<'_>,
    path: &Rel,
    name: &[u8],
    share: &mut MemoryShare,
) -> Result<Option<Gitignore>, Failure> {
    let Ok(file) = listing.open(name) else { return Ok(None) };
    let mut text = Vec::new();
    let Ok(bytes) = file.take(PATTERNS).read_to_end(&mut text) else { return Ok(None) };
    share.take(bytes * GROWN)?;
    let mut builder = GitignoreBuilder::new(native(path.as_bytes()));
    for line in String::from_utf8_lossy(&text).lines() {
        // An invalid line is skipped, as git does.
        let _ = builder.add_line(None, line);
    }
    Ok(builder.build().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Rules;
    use crate::verbs::memory;

    fn left_out(place: &Path) -> Result<(Vec<String>, usize), Failure> {
        let tree = Tree::enter(std::fs::File::open(place).unwrap().into(), Rules::default())?;
        let mut tidy = Tidy::new(&tree, &Rel::ROOT)?;
        let mut out = Vec::new();
        tree.walk(&Rel::ROOT, 64, &mut |visited| {
            let left = tidy.leaves_out(visited)?;
            if left {
                out.push(String::from_utf8_lossy(visited.at.as_bytes()).into_owned());
            }
            Ok(!left)
        })?;
        out.sort();
        Ok((out, tidy.levels.len()))
    }

    #[test]
    fn directories_that_say_nothing_take_no_memory_and_those_that_do_are_counted() {
        let place = tempfile::tempdir().unwrap();
        let at = |path: &str| place.path().join(path);
        for path in ["a/b/c", "a/d/e", "x/.git", "x/y/z", "x/w"] {
            std::fs::create_dir_all(at(path)).unwrap();
            std::fs::write(at(path).join("some.log"), "").unwrap();
        }
        std::fs::write(at("a/b/.ignore"), "*.log\n").unwrap();
        std::fs::write(at("x/.gitignore"), "*.log\n").unwrap();
        std::fs::write(at("x/y/.gitignore"), "!some.log\n").unwrap();
        let (out, levels) = left_out(place.path()).unwrap();
        let expected = ["a/b/.ignore", "a/b/c/some.log", "x/.git", "x/.gitignore", "x/w/some.log"];
        assert_eq!(out, [&expected[..], &["x/y/.gitignore"]].concat());
        // The root, the repository, and the two directories with patterns of their own.
        assert_eq!(levels, 4);
        let _others = memory::all_but(2 << 10);
        assert_eq!(left_out(place.path()).unwrap_err().kind, Kind::Busy);
    }
}
