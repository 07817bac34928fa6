//! `usage`: how much space is used beneath a path.

use std::cell::RefCell;

use farwire_protocol::cbor::Blob;
use farwire_protocol::streams::files::{Done, What};

use super::desk::{Desk, VerbError};
use super::unread::Unread;
use crate::path::Rel;
use crate::tree::{EVERYTHING, Visited};

pub(super) fn usage(desk: &Desk<'_>, path: &Blob) -> Result<Done, VerbError> {
    let path = Rel::parse(path)?;
    let stat = desk.tree.stat(&path)?;
    let (mut bytes, mut files, mut directories) = (0_u64, 0, 0);
    if stat.what != What::Directory {
        let bytes = Some(stat.size);
        return Ok(Done { bytes, files: Some(1), count: Some(0), ..Done::default() });
    }
    let unread = RefCell::new(Unread::new(path.clone()));
    let mut visit = |visited: &Visited<'_>| {
        desk.tree.listener().check_after_name()?;
        let looked = unread.borrow_mut().found_or_unread(visited.at, visited.stat());
        let Some(stat) = looked else { return Ok(false) };
        match stat.what {
            What::Directory => directories += 1,
            What::File => {
                files += 1;
                bytes = bytes.saturating_add(stat.size);
            }
            What::Link | What::Other => {}
        }
        Ok(stat.what == What::Directory)
    };
    let mut add = |at: &Rel| unread.borrow_mut().add(at);
    desk.tree.walk_reporting(&path, EVERYTHING, &mut visit, &mut add)?;
    let mut done = Done {
        bytes: Some(bytes),
        files: Some(files),
        count: Some(directories),
        ..Done::default()
    };
    unread.into_inner().report(&mut done);
    Ok(done)
}
