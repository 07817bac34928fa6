//! Users of this machine, as programs are started for them.
#![expect(unsafe_code, reason = "the user database has no safe interface in std or rustix")]

use std::ffi::{CStr, CString, OsString};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use farwire_protocol::failure::{Failure, Kind};

/// A user.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) home: PathBuf,
    pub(crate) shell: PathBuf,
}

/// The kernel takes no more groups for one process.
const MOST_GROUPS: usize = 65_536;

/// No entry of the user database is longer.
const ENTRY: usize = 64 * 1024;

impl User {
    /// The user that we run as. Without an entry in the database: a number, `/` and `/bin/sh`.
    pub(crate) fn current() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let nameless = || Self {
            name: uid.to_string(),
            uid,
            gid: rustix::process::getegid().as_raw(),
            home: PathBuf::from("/"),
            shell: PathBuf::from("/bin/sh"),
        };
        by_uid(uid).unwrap_or_else(nameless)
    }

    /// The user with this name, as whom we may start programs.
    pub(crate) fn named(name: &str) -> Result<Self, Failure> {
        let unknown = || {
            let name = name.escape_default();
            Failure::new(Kind::UserNotFound, format!("this server has no user called `{name}`"))
        };
        let c_name = CString::new(name).map_err(|_| unknown())?;
        let user = by_name(&c_name).ok_or_else(unknown)?;
        let me = rustix::process::geteuid();
        if me.is_root() || me.as_raw() == user.uid {
            return Ok(user);
        }
        let message = format!(
            "the agent runs as `{}` and cannot become `{}`",
            Self::current().name,
            user.name
        );
        Err(Failure::new(Kind::UserNotAllowed, message))
    }

    /// All groups of this user. Needed only when we become somebody else.
    pub(crate) fn groups(&self) -> Vec<libc::gid_t> {
        let Ok(name) = CString::new(self.name.as_str()) else { return vec![self.gid] };
        let mut groups = vec![0; 64];
        loop {
            let mut count = libc::c_int::try_from(groups.len()).unwrap_or(0);
            // SAFETY: `name` ends with a zero, `groups` has `count` elements, and `count` is ours.
            let found = unsafe {
                libc::getgrouplist(name.as_ptr(), self.gid, groups.as_mut_ptr(), &raw mut count)
            };
            let count = usize::try_from(count).unwrap_or(0);
            if found >= 0 {
                groups.truncate(count);
                return groups;
            }
            if groups.len() >= MOST_GROUPS {
                return vec![self.gid];
            }
            groups.resize(count.clamp(groups.len() * 2, MOST_GROUPS), 0);
        }
    }
}

fn by_name(name: &CStr) -> Option<User> {
    entry(|passwd, buffer, result| {
        // SAFETY: all pointers are valid for their lengths, which `entry` guarantees.
        unsafe {
            libc::getpwnam_r(name.as_ptr(), passwd, buffer.as_mut_ptr(), buffer.len(), result)
        }
    })
}

fn by_uid(uid: u32) -> Option<User> {
    entry(|passwd, buffer, result| {
        // SAFETY: all pointers are valid for their lengths, which `entry` guarantees.
        unsafe { libc::getpwuid_r(uid, passwd, buffer.as_mut_ptr(), buffer.len(), result) }
    })
}

fn entry(
    ask: impl FnOnce(&mut libc::passwd, &mut [libc::c_char], &mut *mut libc::passwd) -> libc::c_int,
) -> Option<User> {
    // SAFETY: `passwd` is plain integers and pointers, for all of which zero is a value.
    let mut passwd: libc::passwd = unsafe { std::mem::zeroed() };
    let mut buffer = vec![0; ENTRY];
    let mut result = std::ptr::null_mut();
    if ask(&mut passwd, &mut buffer, &mut result) != 0 || result.is_null() {
        return None;
    }
    let text = |pointer: *const libc::c_char| {
        if pointer.is_null() {
            return Vec::new();
        }
        // SAFETY: the call succeeded, so that this is a string in `buffer`, which is alive.
        unsafe { CStr::from_ptr(pointer) }.to_bytes().to_vec()
    };
    let path = |pointer| PathBuf::from(OsString::from_vec(text(pointer)));
    Some(User {
        name: String::from_utf8_lossy(&text(passwd.pw_name)).into_owned(),
        uid: passwd.pw_uid,
        gid: passwd.pw_gid,
        home: path(passwd.pw_dir),
        shell: path(passwd.pw_shell),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_current_user_is_found_by_its_name() {
        let me = User::current();
        assert_eq!(User::named(&me.name).unwrap(), me);
        assert!(me.groups().contains(&me.gid));
    }

    #[test]
    fn a_user_that_does_not_exist_is_named_in_the_error() {
        for name in ["nobody-of-that-name", "", "a\0b"] {
            assert_eq!(User::named(name).unwrap_err().kind, Kind::UserNotFound);
        }
    }
}
