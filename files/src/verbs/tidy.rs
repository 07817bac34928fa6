//! What people do not mean when they say "all": `.gitignore`, `.ignore`, names with a dot; and the patterns
//! that a question names itself.
//!
//! As ripgrep has it: `.gitignore` counts inside a git repository, `.ignore` everywhere, both for all that
//! is beneath them.

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

use crate::path::Rel;
use crate::tree::{Listing, Tree, Visited};

/// No file with patterns is read further than this.
const PATTERNS: u64 = 1 << 20;

/// Patterns that a question names.
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

    /// Whether a path is among what is asked for.
    pub(super) fn take(&self, path: &Rel, directory: bool) -> bool {
        match self.0.matched(native(path.as_bytes()), directory) {
            Match::None => self.0.num_whitelists() == 0,
            Match::Whitelist(_) => true,
            Match::Ignore(_) => false,
        }
    }

    /// Whether a directory is left out with all that is in it.
    pub(super) fn refuse(&self, path: &Rel) -> bool {
        // What only fits no pattern may have something in it that does.
        self.0.num_ignores() > 0 && self.0.matched(native(path.as_bytes()), true).is_ignore() && {
            let Some(name) = path.names().next_back() else { return false };
            self.0.num_whitelists() == 0 || self.0.matched(native(name), true).is_ignore()
        }
    }
}

fn native(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

/// The patterns of one directory, on top of those above it.
#[derive(Debug)]
struct Level {
    git: Option<Gitignore>,
    own: Option<Gitignore>,
    /// It is in a git repository.
    repository: bool,
    /// Neither it nor those above it have patterns.
    empty: bool,
    above: Option<Arc<Self>>,
}

/// Leaves out what is not meant.
#[derive(Debug)]
pub(super) struct Tidy {
    start: Rel,
    levels: HashMap<Rel, Arc<Level>>,
    /// The directory that was looked at last, from the start, and its level.
    latest: Option<(Vec<u8>, Arc<Level>)>,
}

impl Tidy {
    /// For a walk that begins at this directory of a tree.
    pub(super) fn new(tree: &Tree, start: &Rel) -> Self {
        // What stands above counts as well.
        let mut above = None;
        let mut path = Rel::ROOT;
        for name in start.names() {
            if let Ok(listing) = tree.list(&path) {
                above = Some(Level::read(&listing, &path, above));
            }
            path = path.join(name);
        }
        let levels = above.map(|level| (path_above(start), level));
        Self { start: start.clone(), levels: levels.into_iter().collect(), latest: None }
    }

    /// Whether a walk goes past this.
    pub(super) fn leaves_out(&mut self, visited: &Visited<'_>) -> bool {
        if visited.listed.name.starts_with(b".") {
            return true;
        }
        let at = visited.at.as_bytes();
        let beside = at.strip_suffix(visited.listed.name.as_slice()).unwrap_or(at);
        let path = self.start.join(at);
        let level = match &self.latest {
            // Most of what a walk comes to is beside what it came to before.
            Some((latest, level)) if latest == beside => level.clone(),
            _ => {
                let level = self.level(visited, path_above(&path));
                self.latest = Some((beside.to_vec(), level.clone()));
                level
            }
        };
        if level.empty {
            return false;
        }
        let directory =
            visited.listed.what == Some(farwire_protocol::streams::files::What::Directory);
        level.ignores(&path, directory)
    }
}

impl Tidy {
    /// The patterns of a directory that a walk is in.
    fn level(&mut self, visited: &Visited<'_>, above: Rel) -> Arc<Level> {
        if let Some(level) = self.levels.get(&above) {
            return level.clone();
        }
        let outer = self.levels.get(&path_above(&above)).filter(|_| !above.is_root()).cloned();
        let level = Level::read(visited.listing, &above, outer);
        self.levels.insert(above, level.clone());
        level
    }
}

fn path_above(path: &Rel) -> Rel {
    path.split().map(|(above, _)| above).unwrap_or_default()
}

impl Level {
    fn read(listing: &Listing<'_>, path: &Rel, above: Option<Arc<Self>>) -> Arc<Self> {
        let repository =
            above.as_ref().is_some_and(|level| level.repository) || listing.stat(b".git").is_some();
        let git = repository.then(|| patterns(listing, path, b".gitignore")).flatten();
        let own = patterns(listing, path, b".ignore");
        let empty =
            git.is_none() && own.is_none() && above.as_ref().is_none_or(|level| level.empty);
        Arc::new(Self { git, own, repository, empty, above })
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

/// The patterns in a file of a directory, if it has one.
fn patterns(listing: &Listing<'_>, path: &Rel, name: &[u8]) -> Option<Gitignore> {
    let file = listing.open(name).ok()?;
    let mut text = Vec::new();
    file.take(PATTERNS).read_to_end(&mut text).ok()?;
    let mut builder = GitignoreBuilder::new(native(path.as_bytes()));
    for line in String::from_utf8_lossy(&text).lines() {
        // A line that is no pattern is passed over, as git does.
        let _ = builder.add_line(None, line);
    }
    builder.build().ok()
}
