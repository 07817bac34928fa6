//! What the child needs, prepared by the parent: the child itself must not allocate.
//!
//! Whatever can be refused by looking at the command is refused here. What depends on the user's
//! rights or on the directory is left to the child, which has them.

use core::ffi::c_char;
use std::ffi::{CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use farwire_protocol::failure::{Failure, Kind};
use rustix::process::{Gid, Resource, Uid, geteuid, getrlimit};

use super::SpawnCommand;
use crate::os::environment;
use crate::os::limits::ResourceLimits;
use crate::os::quote::quote;
use crate::os::user::User;

/// The command as the kernel takes it.
pub(super) struct ExecPlan {
    pub(super) argv: Strings,
    pub(super) env: Strings,
    /// Where the program may be, in the order in which to try. Relative paths are relative to
    /// [`Self::cwd`].
    pub(super) programs: Vec<CString>,
    pub(super) cwd: Option<CString>,
    /// Whether `/` does as well.
    pub(super) or_root: bool,
    /// Whose rights to take on.
    pub(super) identity: Option<Identity>,
    pub(super) limits: &'static ResourceLimits,
    /// Whether standard input becomes its terminal.
    pub(super) terminal: bool,
    /// An extra descriptor that it gets.
    pub(super) extra: Option<Arc<OwnedFd>>,
    /// Up to which number descriptors are closed one by one where `close_range` fails.
    pub(super) descriptors: u32,
}

/// The rights of a user.
pub(super) struct Identity {
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    pub(super) groups: Vec<Gid>,
}

impl ExecPlan {
    pub(super) fn new(command: &SpawnCommand) -> Result<Self, Failure> {
        let program = command.argv.first().filter(|program| !program.is_empty());
        let Some(program) = program else {
            return Err(Failure::new(Kind::EmptyCommand, "the name of the program is empty"));
        };
        let path = match command.env.iter().find(|(name, _)| name == "PATH") {
            Some((_, value)) => value,
            None => OsStr::new(environment::PATH),
        };
        let mut argv = Vec::with_capacity(command.argv.len());
        for text in &command.argv {
            argv.push(c_string(text, "an argument")?);
        }
        let mut env = Vec::with_capacity(command.env.len());
        for (name, value) in &command.env {
            env.push(variable(name, value)?);
        }
        let home = command.user.as_ref().map(|user| &user.home);
        let cwd = command.cwd.as_ref().or(home);
        let cwd = cwd.map(|cwd| c_string(cwd.as_os_str(), "the directory"));
        Ok(Self {
            argv: Strings::new(argv),
            env: Strings::new(env),
            programs: programs(program, path)?,
            cwd: cwd.transpose()?,
            or_root: command.cwd.is_none(),
            identity: command.user.as_ref().map(identity).transpose()?.flatten(),
            limits: ResourceLimits::inherited(),
            terminal: command.terminal,
            extra: command.extra.clone(),
            descriptors: descriptors(),
        })
    }

    /// Whether the program runs as another user than the agent.
    pub(super) fn changes_user(&self) -> bool {
        self.identity.as_ref().is_some_and(|identity| identity.uid != geteuid())
    }
}

/// Returns a number above every descriptor that this process has opened: its limit of open files,
/// or more than it ever has open, since the kernel takes the lowest free number.
pub(super) fn descriptors() -> u32 {
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.and_then(|limit| u32::try_from(limit).ok());
    limit.map_or(MOST_DESCRIPTORS, |limit| limit.min(MOST_DESCRIPTORS))
}

/// The rights to take on for a user; `None` for the agent's own user, if the agent cannot change
/// rights.
fn identity(user: &User) -> Result<Option<Identity>, Failure> {
    let own = geteuid();
    if !own.is_root() {
        if own.as_raw() == user.uid {
            return Ok(None);
        }
        let text = format!(
            "the agent runs as user {own} and not as root, so it cannot start a program as {}",
            quote(&user.name)
        );
        return Err(Failure::new(Kind::UserNotAllowed, text));
    }
    Ok(Some(Identity {
        uid: Uid::from_raw(user.uid),
        gid: Gid::from_raw(user.gid),
        groups: user.groups.iter().map(|group| Gid::from_raw(*group)).collect(),
    }))
}

/// Where a program can be: at its own path if there is a slash in it, or else in every directory of
/// `path`. An empty directory means the current one, as everywhere on Unix.
fn programs(program: &OsStr, path: &OsStr) -> Result<Vec<CString>, Failure> {
    let name = program.as_bytes();
    if name.contains(&b'/') {
        return Ok(vec![c_string(program, "the name of the program")?]);
    }
    if name.len() > LONGEST_NAME {
        let text = format!("cannot start {}: file name too long (ENAMETOOLONG)", quote(program));
        return Err(Failure::new(Kind::ExecFailed, text));
    }
    let directories = path.as_bytes().split(|b| *b == b':').count();
    if directories > MOST_DIRECTORIES {
        let text = format!(
            "`PATH` has {directories} directories, at most {MOST_DIRECTORIES} are searched"
        );
        return Err(Failure::new(Kind::TooLarge, text));
    }
    let mut programs = Vec::new();
    for directory in path.as_bytes().split(|b| *b == b':') {
        // The kernel refuses longer paths.
        if directory.len() + 1 + name.len() < LONGEST_PATH {
            let directory = if directory.is_empty() { b"." } else { directory };
            let program = [directory, b"/", name].concat();
            programs.push(c_string(OsStr::from_bytes(&program), "the name of the program")?);
        }
    }
    Ok(programs)
}

fn variable(name: &OsStr, value: &OsStr) -> Result<CString, Failure> {
    if name.is_empty() || name.as_bytes().contains(&b'=') {
        let text = format!("{} is not the name of a variable", quote(name));
        return Err(Failure::new(Kind::InvalidArgument, text));
    }
    let text = [name.as_bytes(), b"=", value.as_bytes()].concat();
    c_string(OsStr::from_bytes(&text), "a variable")
}

fn c_string(text: &OsStr, what: &str) -> Result<CString, Failure> {
    CString::new(text.as_bytes()).map_err(|_| {
        let text = format!("{what} contains a NUL byte: {}", quote(text));
        Failure::new(Kind::InvalidArgument, text)
    })
}

/// Strings, and what the kernel wants of them: pointers, the last one null.
pub(super) struct Strings {
    pointers: Vec<*const c_char>,
    /// What they point to. Moving the vector leaves the strings where they are.
    _strings: Vec<CString>,
}

impl Strings {
    fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|text| text.as_ptr());
        Self { pointers: pointers.chain([core::ptr::null()]).collect(), _strings: strings }
    }

    /// Valid as long as `self` is: pointers to strings that end with NUL, and a null pointer.
    pub(super) fn as_ptr(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }
}

/// `NAME_MAX`: no file has a longer name.
const LONGEST_NAME: usize = 255;

/// `PATH_MAX`, which counts the NUL.
const LONGEST_PATH: usize = 4096;

/// Hundreds are known from systems that give each package its own. Each costs a file name of
/// memory, and an attempt while the calling thread waits.
const MOST_DIRECTORIES: usize = 1024;

/// Closing one that is not open takes a fraction of a microsecond, while the calling thread waits.
const MOST_DESCRIPTORS: u32 = 65_536;
