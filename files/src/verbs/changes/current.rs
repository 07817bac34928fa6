//! What stands at a path now, compared with a snapshot of it.

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::What;

use crate::path::Rel;
use crate::undo::Snapshot;
use crate::verbs::desk::Desk;
use crate::verbs::list;

/// What stands at a path now.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Current {
    pub(super) what: Option<What>,
    /// The revision that a write expects.
    pub(super) revision: Option<u64>,
    /// The revision that a removal of the name expects. A directory has none: its revision changes
    /// with its entries.
    pub(super) removable: Option<u64>,
    /// A file stands there, with the content of the snapshot that it was compared with.
    pub(super) has_content: bool,
    /// The permission bits of a file.
    pub(super) mode: u32,
}

impl Current {
    /// Looks at a path, and compares the content of a file with that of `snapshot`.
    pub(super) fn look(desk: &Desk<'_>, path: &Rel, snapshot: &Snapshot) -> Result<Self, Failure> {
        let stat = match desk.tree.stat_link(path) {
            Ok(stat) => stat,
            Err(failure) if matches!(failure.kind, Kind::NoSuchFile | Kind::NotADirectory) => {
                return Ok(Self::default());
            }
            Err(failure) => return Err(failure),
        };
        let own = Some(stat.revision);
        let current = Self {
            what: Some(stat.what),
            removable: own.filter(|_| stat.what != What::Directory),
            ..Self::default()
        };
        if !matches!(stat.what, What::File | What::Link) {
            return Ok(current);
        }
        let (file, opened) = match desk.tree.open(path) {
            Ok(opened) => opened,
            Err(_) if stat.what == What::Link => return Ok(current),
            Err(failure) => return Err(failure),
        };
        let has_content = match snapshot {
            Snapshot::File { hash, size, .. } if *size == opened.size => {
                let digest = list::digest(file, desk.tree.listener());
                digest.map_err(|error| Failure::new(Kind::Io, error.to_string()))? == hash.0
            }
            _ => false,
        };
        let revision = Some(opened.revision);
        let removable = if stat.what == What::Link { own } else { revision };
        let mode = opened.mode & 0o777;
        Ok(Self { what: Some(What::File), revision, removable, has_content, mode })
    }

    /// Whether the path is as in the snapshot that it was compared with.
    pub(super) fn fits(self, snapshot: &Snapshot) -> bool {
        match snapshot {
            Snapshot::File { .. } => self.has_content,
            Snapshot::Absent | Snapshot::Directory { .. } => self.what == kind_of(snapshot),
            Snapshot::Unknown => false,
        }
    }
}

/// The kind of thing that a snapshot is of. `None` where nothing was, or nobody looked.
pub(super) fn kind_of(snapshot: &Snapshot) -> Option<What> {
    match snapshot {
        Snapshot::File { .. } => Some(What::File),
        Snapshot::Directory { .. } => Some(What::Directory),
        Snapshot::Absent | Snapshot::Unknown => None,
    }
}
