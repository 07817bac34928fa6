//! What of a change may be told, and turned, by the rules of today: they may have been others when it was made.

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::What;

use crate::path::Rel;
use crate::tree::Tree;
use crate::undo::Record;

/// Whether anything of a change may be told.
pub(super) fn is_told(tree: &Tree, record: &Record) -> bool {
    let mut paths = record.steps.iter().filter_map(|step| tree.inner(&step.path));
    tree.rules().hidden.is_empty() || paths.any(|path| is_shown(tree, &path))
}

/// Whether a path is not hidden, be it by its name or by where a link in it leads.
pub(super) fn is_shown(tree: &Tree, path: &Rel) -> bool {
    let hidden = &tree.rules().hidden;
    if hidden.is_empty() {
        return true;
    }
    if hidden.fit(&tree.outer(path)) {
        return false;
    }
    let (mut at, mut linked) = (Rel::ROOT, false);
    for name in path.names() {
        at = at.join(name);
        match tree.stat_link(&at).map(|stat| stat.what) {
            Ok(What::Directory) => {}
            Ok(What::Link) => linked = true,
            // What is not there has the name that it would have, or is behind a link, and may be anywhere.
            Ok(What::File | What::Other) | Err(_) => return !linked,
        }
    }
    // A link that leads to what is hidden leads nowhere.
    !linked || tree.stat(path).is_ok()
}

/// Refuses to turn a change of which a part is hidden now.
pub(super) fn all_shown<'a>(
    tree: &Tree,
    change: u64,
    mut paths: impl Iterator<Item = &'a Rel>,
) -> Result<(), Failure> {
    match paths.all(|path| is_shown(tree, path)) {
        true => Ok(()),
        false => Err(refused(change)),
    }
}

/// Refuses to turn a change if something is kept from changes now that would be written to.
pub(super) fn may_be_written(tree: &Tree, change: u64, path: &Rel) -> Result<(), Failure> {
    match tree.place_to_change(path) {
        Ok(_) => Ok(()),
        Err(failure) if !tree.rules().writable => Err(failure),
        Err(failure) if failure.kind == Kind::ReadOnly => Err(refused(change)),
        // A directory above it is missing: its name is all there is of it.
        Err(_) if tree.rules().kept.fit(&tree.outer(path)) => Err(refused(change)),
        Err(_) => Ok(()),
    }
}

fn refused(change: u64) -> Failure {
    let text = format!("the owner keeps a part of what change {change} was about");
    Failure::new(Kind::ReadOnly, text)
        .with_hint("nothing of it was undone; do by hand what may be done")
}
