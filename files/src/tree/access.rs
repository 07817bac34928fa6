//! Access to a file that replaces another: nobody may read it who could not read the old one.
//!
//! A file can have a POSIX ACL. Its group bits are then the ACL mask, which limits everybody on the
//! list, and are not the permissions of its group. They must not be copied to a file without the
//! ACL.

use std::fs::File;
use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use super::draft::copy_attributes;
use super::place::Place;
use super::stat::Stat;

/// The attribute of the ACL. It begins with a version; each entry has a tag, permissions and an id.
const ACL: &str = "system.posix_acl_access";
const VERSION: [u8; 4] = [2, 0, 0, 0];
const ENTRY: usize = 8;

/// Tags of ACL entries, as far as they matter here.
const NAMED_USER: u16 = 0x02;
const GROUP: u16 = 0x04;
const NAMED_GROUP: u16 = 0x08;
const MASK: u16 = 0x10;

/// No file system stores more in one attribute.
const LENGTH: usize = 64 << 10;

/// The permissions that a file gets when it replaces another.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rights {
    /// Those of the old file.
    Kept,
    /// Those that a user asked for.
    Asked(u32),
    /// Those of the source of a copy. Nobody on an ACL gains access by it.
    Copied(u32),
}

/// Gives a file the owner, the attributes and the ACL of the file that it replaces. Returns the
/// mode that it may have.
pub(super) fn inherit_access(
    file: &File,
    place: &Place,
    before: &Stat,
    rights: Rights,
) -> Result<u32, Errno> {
    let same_group = copy_owner(file, before)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let old = rustix::fs::openat(&place.dir, &place.name[..], flags, Mode::empty());
    // A copy has the attributes of its source.
    if let (Ok(old), Rights::Kept | Rights::Asked(_)) = (&old, rights) {
        // A file system without attributes has none to keep.
        let _ = copy_attributes(old, file);
    }
    let mut mode = match rights {
        Rights::Kept => before.mode & 0o777,
        Rights::Asked(mode) | Rights::Copied(mode) => mode & 0o777,
    };
    match old.and_then(read_acl) {
        Ok(Some(list)) => {
            let set = || rustix::fs::fsetxattr(file, ACL, &list, XattrFlags::empty());
            if same_group && set().is_ok() {
                let copied = matches!(rights, Rights::Copied(_));
                return Ok(if copied { mode & (before.mode | 0o707) } else { mode });
            }
            mode = mask_by_acl(mode, &list);
        }
        Ok(None) => {}
        // Without reading the ACL we cannot know what the group was allowed.
        Err(_) => mode = limit_group_to_others(mode),
    }
    if !same_group && matches!(rights, Rights::Kept) {
        mode = limit_group_to_others(mode);
    }
    // An ACL inherited from the directory is not the one of the old file.
    match rustix::fs::fremovexattr(file, ACL) {
        Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(mode),
        Err(_) => Ok(mode & 0o707),
    }
}

/// Copies owner and group from the old file as far as we may. Returns whether the group is the
/// same.
fn copy_owner(file: &File, before: &Stat) -> Result<bool, Errno> {
    let now = rustix::fs::fstat(file)?;
    if (now.st_uid, now.st_gid) == (before.uid, before.gid) {
        return Ok(true);
    }
    let uid = rustix::fs::Uid::from_raw(before.uid);
    let gid = rustix::fs::Gid::from_raw(before.gid);
    let given = rustix::fs::fchown(file, Some(uid), Some(gid));
    // Without the right to give files away we own the new file, but may be able to set the group.
    let given = given.or_else(|_| rustix::fs::fchown(file, None, Some(gid)));
    Ok(given.is_ok() || now.st_gid == before.gid)
}

/// The mode of a copy that does not get the ACL of its source.
pub(crate) fn mode_without_acl(file: impl AsFd, mode: u32) -> u32 {
    match read_acl(file) {
        Ok(None) => mode & 0o777,
        Ok(Some(list)) => mask_by_acl(mode & 0o777, &list),
        Err(_) => limit_group_to_others(mode & 0o777),
    }
}

/// The ACL of a file. `None` if it has none, or can have none.
fn read_acl(file: impl AsFd) -> Result<Option<Vec<u8>>, Errno> {
    let mut list = vec![0; LENGTH];
    match rustix::fs::fgetxattr(file, ACL, &mut list[..]) {
        Ok(length) => {
            list.truncate(length);
            Ok(Some(list))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A mode that gives nobody more than the ACL did. The group gets the permissions of its own entry.
/// Group and others get at most those of every named entry, since an entry may be there to deny.
fn mask_by_acl(mode: u32, list: &[u8]) -> u32 {
    let entries = list.strip_prefix(&VERSION).filter(|entries| entries.len() % ENTRY == 0);
    let Some(entries) = entries else { return mode & 0o700 };
    let (mut group, mut named, mut mask) = (0, None, 7);
    for entry in entries.chunks_exact(ENTRY) {
        let [who, who_too, may, may_too, ..] = *entry else { return mode & 0o700 };
        let may = u32::from(u16::from_le_bytes([may, may_too])) & 7;
        match u16::from_le_bytes([who, who_too]) {
            GROUP => group = may,
            MASK => mask = may,
            NAMED_USER | NAMED_GROUP => named = Some(named.unwrap_or(7) & may),
            _ => {}
        }
    }
    let named = named.map_or(7, |named| named & mask);
    mode & (0o700 | (group & mask & named) << 3 | named)
}

/// Limits the group to the permissions of all others.
fn limit_group_to_others(mode: u32) -> u32 {
    mode & (0o707 | (mode & 7) << 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u16)]) -> Vec<u8> {
        let entries = entries
            .iter()
            .flat_map(|(who, may)| [&who.to_le_bytes()[..], &may.to_le_bytes(), &[0; 4]].concat());
        VERSION.into_iter().chain(entries).collect()
    }

    #[test]
    fn without_a_list_nobody_gets_more_than_with_it() {
        let (owner, other) = ((0x01, 6), (0x20, 4));
        for (entries, mode, expected) in [
            // One user was let in, and the group was not.
            (&[owner, (NAMED_USER, 6), (GROUP, 0), (MASK, 6), (0x20, 0)][..], 0o660, 0o600),
            // One user was denied what all others may do.
            (&[owner, (NAMED_USER, 0), (GROUP, 4), (MASK, 4), other], 0o644, 0o600),
            (&[owner, (NAMED_GROUP, 6), (GROUP, 6), (MASK, 4), other], 0o644, 0o644),
            (&[owner, (GROUP, 4), other], 0o644, 0o644),
            (&[owner, (GROUP, 7), (MASK, 7), other], 0o640, 0o640),
        ] {
            assert_eq!(mask_by_acl(mode, &list(entries)), expected, "{mode:o}");
        }
        assert_eq!(mask_by_acl(0o777, b"what is this"), 0o700);
        assert_eq!(mask_by_acl(0o777, &[2, 0, 0, 0, 1]), 0o700);
    }
}
