//! Which paths of a change may be shown and restored under the rules of today, which may differ
//! from those under which the change was made.

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::What;

use crate::path::Rel;
use crate::tree::Tree;
use crate::undo::ChangeRecord;

/// Whether any path of a change may be shown.
pub(super) fn is_any_visible(tree: &Tree, record: &ChangeRecord) -> bool {
    let mut paths = record.steps.iter().filter_map(|step| tree.inner(&step.path));
    tree.rules().hidden.is_empty() || paths.any(|path| is_visible(tree, &path))
}

/// Whether the rules hide neither the name of a path nor the place that a link in it leads to.
pub(super) fn is_visible(tree: &Tree, path: &Rel) -> bool {
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
            // A missing path is judged by its name, unless a link comes before: then it may be
            // anywhere.
            Ok(What::File | What::Other) | Err(_) => return !linked,
        }
    }
    // A link to a hidden file resolves to nothing.
    !linked || tree.stat(path).is_ok()
}

/// Refuses to revert a change of which a path is hidden now.
pub(super) fn check_visible<'a>(
    tree: &Tree,
    change: u64,
    mut paths: impl Iterator<Item = &'a Rel>,
) -> Result<(), Failure> {
    match paths.all(|path| is_visible(tree, path)) {
        true => Ok(()),
        false => Err(not_ours(change)),
    }
}

/// Refuses to revert a change if a path that it would write to is protected now.
pub(super) fn check_writable(tree: &Tree, change: u64, path: &Rel) -> Result<(), Failure> {
    match tree.place_to_change(path) {
        Ok(_) => Ok(()),
        Err(failure) if !tree.rules().writable => Err(failure),
        Err(failure) if failure.kind == Kind::ReadOnly => Err(not_ours(change)),
        // A parent directory is missing, so that only the name can be checked.
        Err(_) if tree.rules().kept.fit(&tree.outer(path)) => Err(not_ours(change)),
        Err(_) => Ok(()),
    }
}

fn not_ours(change: u64) -> Failure {
    let text = format!("change {change} touches files that the owner hides or protects");
    Failure::new(Kind::ReadOnly, text)
        .with_hint("nothing was undone; make the allowed part by hand")
}
