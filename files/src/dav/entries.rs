//! What dav-server is told of files: what each is, and what is in a directory.

use std::future::ready;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dav_server::fs::{DavDirEntry, DavMetaData, FsError, FsFuture, FsResult};
use farwire_protocol::failure::Failure;
use farwire_protocol::streams::files::What;

use super::target::speakable;
use crate::path::Rel;
use crate::rules::LISTED;
use crate::tree::{OwnListing, Stat, Tree};

/// What something is.
#[derive(Clone, Debug)]
pub(super) struct Meta {
    stat: Stat,
    quoted: bool,
}

impl Meta {
    /// What dav-server is told of it. It puts quotes around a state in a header, and none in a listing.
    pub(super) fn boxed(stat: Stat, quoted: bool) -> Box<dyn DavMetaData> {
        Box::new(Self { stat, quoted })
    }
}

impl DavMetaData for Meta {
    fn len(&self) -> u64 {
        self.stat.size
    }

    fn modified(&self) -> FsResult<SystemTime> {
        // It cannot write times before 1970.
        let nanos = u64::try_from(self.stat.modified).unwrap_or(0);
        UNIX_EPOCH.checked_add(Duration::from_nanos(nanos)).ok_or(FsError::GeneralFailure)
    }

    fn is_dir(&self) -> bool {
        self.stat.what == What::Directory
    }

    fn etag(&self) -> Option<String> {
        let quote = if self.quoted { "\"" } else { "" };
        Some(format!("{quote}{:012x}{quote}", self.stat.revision))
    }

    fn status_changed(&self) -> FsResult<SystemTime> {
        self.modified()
    }

    fn executable(&self) -> FsResult<bool> {
        match self.stat.what {
            What::File => Ok(self.stat.mode & 0o111 != 0),
            _ => Err(FsError::NotImplemented),
        }
    }
}

/// What is in a directory, one after another.
#[derive(Debug)]
pub(super) struct Entries {
    tree: Arc<Tree>,
    path: Rel,
    listing: OwnListing,
    left: usize,
    quoted: bool,
}

impl Entries {
    /// Begins to read a directory.
    pub(super) fn begin(tree: &Arc<Tree>, path: &Rel, quoted: bool) -> Result<Self, Failure> {
        let listing = tree.list_owned(path)?;
        Ok(Self { tree: tree.clone(), path: path.clone(), listing, left: LISTED, quoted })
    }

    /// What is under a name: behind it, if it is a link. What leads out, or cannot be asked for, is not
    /// there.
    fn look(&self, name: &[u8], stat: Option<Stat>) -> Option<Stat> {
        let path = Rel::parse(self.path.join(name).as_bytes()).ok().filter(|_| speakable(name))?;
        match stat?.what {
            What::Link => self.tree.stat(&path).ok(),
            _ => stat,
        }
    }
}

impl Iterator for Entries {
    type Item = FsResult<Box<dyn DavDirEntry>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.left = self.left.checked_sub(1)?;
            // What cannot be read any further ends here, as it does where there is too much.
            let (listed, stat) = self.listing.next()?.ok()?;
            if let Some(stat) = self.look(&listed.name, stat) {
                let entry = Entry { name: listed.name, meta: Meta { stat, quoted: self.quoted } };
                return Some(Ok(Box::new(entry)));
            }
        }
    }
}

/// One of them.
#[derive(Debug)]
struct Entry {
    name: Vec<u8>,
    meta: Meta,
}

impl DavDirEntry for Entry {
    fn name(&self) -> Vec<u8> {
        self.name.clone()
    }

    fn metadata(&self) -> FsFuture<'_, Box<dyn DavMetaData>> {
        let meta: Box<dyn DavMetaData> = Box::new(self.meta.clone());
        Box::pin(ready(Ok(meta)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_ends_where_there_is_too_much() {
        let root = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            std::fs::write(root.path().join(name), "").unwrap();
        }
        let handle = std::fs::File::open(root.path()).unwrap();
        let tree = Arc::new(Tree::enter(handle.into(), crate::rules::Rules::default()).unwrap());
        let entries = Entries::begin(&tree, &Rel::ROOT, false).unwrap();
        assert_eq!(entries.left, LISTED);
        assert_eq!(Entries { left: 2, ..entries }.count(), 2);
    }
}
