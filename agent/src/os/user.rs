//! Users of this machine: whose rights a program gets.
//!
//! They are looked up with the C library, so that directories behind it (LDAP, SSSD) count too.
//! That, and the check of their shells, may wait for a network: call it where blocking is allowed.
//!
//! Changing to another user is in `spawn/child.rs`.

#![expect(unsafe_code, reason = "the C library's user database has no safe interface")]

use core::ffi::{CStr, c_char, c_int};
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use farwire_protocol::failure::{Failure, Kind};
use rustix::io::Errno;

use super::quote::quote;
use super::{errno, shell};

/// A user of this machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct User {
    /// The login name.
    pub(crate) name: OsString,
    /// The user id.
    pub(crate) uid: u32,
    /// The id of the primary group.
    pub(crate) gid: u32,
    /// The home directory, which need not exist.
    pub(crate) home: PathBuf,
    /// The login shell, or a substitute if it does not exist. It need not be a shell.
    pub(crate) shell: PathBuf,
    /// All groups, including the primary one.
    pub(crate) groups: Vec<u32>,
}

impl User {
    /// The user whom a person means by `text`: by name, or else by number.
    pub(crate) fn find(text: &str) -> Result<Self, Failure> {
        match text.parse() {
            Ok(uid) if text.bytes().all(|b| b.is_ascii_digit()) => {
                // A name may consist of digits, and takes precedence, as for `chown`.
                Self::by_name(text).or_else(|_| Self::numbered(uid))
            }
            _ => Self::by_name(text),
        }
    }

    /// The user with this name.
    pub(crate) fn by_name(name: &str) -> Result<Self, Failure> {
        let unknown = || unknown(&format!("{} is not a user of this server", quote(name)));
        if name.is_empty() || name.len() > LONGEST_NAME {
            return Err(unknown());
        }
        let c_name = CString::new(name).map_err(|_| unknown())?;
        let found = look_up(|entry, buffer, result| {
            // SAFETY: `c_name` ends with NUL, the others are valid as `look_up` promises.
            unsafe {
                libc::getpwnam_r(c_name.as_ptr(), entry, buffer.as_mut_ptr(), buffer.len(), result)
            }
        });
        found.map_err(|error| lookup_failed(&quote(name), error))?.ok_or_else(unknown)
    }

    /// The user with this id.
    pub(crate) fn numbered(uid: u32) -> Result<Self, Failure> {
        let found =
            by_number(uid).map_err(|error| lookup_failed(&format!("number {uid}"), error))?;
        found.ok_or_else(|| unknown(&format!("no user of this server has the id {uid}")))
    }

    /// The user that the agent itself runs as.
    ///
    /// In a container that can be an id without a name. Such a user is named by the id, and has the
    /// home `/` and the shell `/bin/sh`.
    pub(crate) fn current() -> Result<Self, Failure> {
        let uid = rustix::process::geteuid().as_raw();
        let found =
            by_number(uid).map_err(|error| lookup_failed(&format!("number {uid}"), error))?;
        if let Some(user) = found {
            let home = own_home(uid).unwrap_or(user.home);
            return Ok(Self { home, ..user });
        }
        let groups = rustix::process::getgroups()
            .map_err(|error| lookup_failed(&format!("number {uid}"), error))?;
        Ok(Self {
            name: uid.to_string().into(),
            uid,
            gid: rustix::process::getegid().as_raw(),
            home: PathBuf::from("/"),
            shell: PathBuf::from("/bin/sh"),
            groups: groups.into_iter().map(rustix::process::Gid::as_raw).collect(),
        })
    }
}

/// The agent's own home, from its environment. A directory of somebody else's is not accepted: its
/// start-up files would be executed as us.
fn own_home(uid: u32) -> Option<PathBuf> {
    let home = PathBuf::from(std::env::var_os("HOME")?);
    let found = std::fs::metadata(&home).ok()?;
    let owner = std::os::unix::fs::MetadataExt::uid(&found);
    (home.is_absolute() && found.is_dir() && owner == uid).then_some(home)
}

fn unknown(message: &str) -> Failure {
    Failure::new(Kind::UserNotFound, message)
}

/// The database could not be queried. That is not the same as "no such user".
fn lookup_failed(whom: &str, error: Errno) -> Failure {
    let kind = match error {
        Errno::MFILE | Errno::NFILE | Errno::NOMEM => Kind::ResourceExhausted,
        _ => Kind::Io,
    };
    Failure::new(kind, format!("cannot look up the user {whom}: {}", errno::words(error)))
}

fn by_number(uid: u32) -> Result<Option<User>, Errno> {
    look_up(|entry, buffer, result| {
        // SAFETY: all three are valid as `look_up` promises.
        unsafe { libc::getpwuid_r(uid, entry, buffer.as_mut_ptr(), buffer.len(), result) }
    })
}

/// Calls one of the `getpw*_r` functions with a buffer that is large enough.
///
/// It gets a valid entry, a buffer to which the entry's pointers will lead, and a place for the
/// pointer that says whether there was one.
fn look_up(
    call: impl Fn(&mut libc::passwd, &mut [c_char], &mut *mut libc::passwd) -> c_int,
) -> Result<Option<User>, Errno> {
    let mut size = 1024;
    loop {
        let mut buffer: Vec<c_char> = vec![0; size];
        // SAFETY: `passwd` consists of numbers and pointers, for which zero is a valid value.
        let mut entry: libc::passwd = unsafe { core::mem::zeroed() };
        let mut result = core::ptr::null_mut();
        match call(&mut entry, &mut buffer, &mut result) {
            0 if result.is_null() => return Ok(None),
            // SAFETY: the call said that it has filled `entry` with pointers to strings that lie in
            // `buffer`, which lives until the end of this arm.
            0 => return unsafe { from_entry(&entry) }.map(Some),
            libc::EINTR => {}
            libc::ERANGE if size < LARGEST => size *= 4,
            // What the manual lists for "the given name or number was not found".
            libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM => return Ok(None),
            other => return Err(Errno::from_raw_os_error(other)),
        }
    }
}

/// Copies an entry.
///
/// # Safety
///
/// The entry's name, home and shell are null or point to strings that end with NUL.
unsafe fn from_entry(entry: &libc::passwd) -> Result<User, Errno> {
    // SAFETY: the caller promises it.
    let text = |pointer: *mut c_char| match pointer.is_null() {
        true => OsString::new(),
        false => OsString::from_vec(unsafe { CStr::from_ptr(pointer) }.to_bytes().to_vec()),
    };
    let name = text(entry.pw_name);
    let groups = groups(&name, entry.pw_gid)?;
    Ok(User {
        name,
        uid: entry.pw_uid,
        gid: entry.pw_gid,
        home: text(entry.pw_dir).into(),
        shell: shell::usable(text(entry.pw_shell).into()),
        groups,
    })
}

/// The groups of a user; `gid` is the primary one.
fn groups(name: &OsStr, gid: u32) -> Result<Vec<u32>, Errno> {
    let name = CString::new(name.as_bytes()).map_err(|_| Errno::INVAL)?;
    let mut groups: Vec<u32> = vec![0; 64];
    loop {
        let room = c_int::try_from(groups.len()).map_err(|_| Errno::INVAL)?;
        let mut count = room;
        // SAFETY: the name ends with NUL, and there is room for `count` groups. Both types of group
        // numbers that systems have here are 32 bits wide.
        let result = unsafe {
            libc::getgrouplist(name.as_ptr(), gid as _, groups.as_mut_ptr().cast(), &raw mut count)
        };
        if result >= 0 {
            groups.truncate(usize::try_from(count).unwrap_or(0));
            return Ok(groups);
        }
        // Linux says how many there are; others leave the count as it was.
        let wanted = usize::try_from(count.max(room.saturating_mul(2))).unwrap_or(0);
        if wanted > MOST_GROUPS {
            return Err(Errno::NOMEM);
        }
        groups.resize(wanted, 0);
    }
}

/// The longest name that any system allows.
const LONGEST_NAME: usize = 256;

/// An entry of a user database is a line of text; one of a megabyte is an attack or a defect.
const LARGEST: usize = 1024 * 1024;

/// As many as Linux gives to one process, twice over for the last step of growth.
const MOST_GROUPS: usize = 2 * 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_by_name_and_by_number() {
        let root = User::by_name("root").unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(root.name, "root");
        assert!(root.groups.contains(&0));
        assert!(root.home.is_absolute() && root.shell.is_absolute());
        assert_eq!(User::numbered(0).unwrap(), root);
        assert_eq!(User::find("0").unwrap(), root);
        assert_eq!(User::find("root").unwrap(), root);
    }

    #[test]
    fn the_current_user_is_whom_the_kernel_says() {
        assert_eq!(User::current().unwrap().uid, rustix::process::geteuid().as_raw());
    }

    #[test]
    fn the_groups_are_those_that_id_lists() {
        let user = User::current().unwrap();
        let output = std::process::Command::new("id").arg("-G").arg(&user.name).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut expected: Vec<u32> = text.split_whitespace().map(|n| n.parse().unwrap()).collect();
        let mut groups = user.groups;
        expected.sort_unstable();
        groups.sort_unstable();
        assert_eq!(groups, expected);
    }

    #[test]
    fn whoever_does_not_exist_is_not_found() {
        let long = "x".repeat(100_000);
        for name in
            ["no-such-user", "", "a\0b", "../root", "+0", "-1", "4294967296", "4004004004", &long]
        {
            let failure = User::find(name).unwrap_err();
            assert_eq!(failure.kind, Kind::UserNotFound, "{failure}");
            assert!(failure.message.len() < 300);
        }
        let failure = User::find("no-such-user").unwrap_err();
        assert_eq!(failure.message, "`no-such-user` is not a user of this server");
    }
}
