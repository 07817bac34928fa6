//! Directories that are not opened without being asked twice, and what is kept even then.
//!
//! Who may write to a directory that other programs trust may do what they may: start-up files, keys, units
//! and programs. That is more than files, so that it needs a flag of its own.

use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use farwire_protocol::failure::{Failure, Kind};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Nothing in these is opened: the system lives there.
const WITHIN: &[&str] = &[
    "/etc", "/proc", "/sys", "/dev", "/boot", "/run", "/usr", "/bin", "/sbin", "/lib", "/lib32",
    "/lib64",
];

/// These are not opened themselves; what is in them may be.
const ITSELF: &[&str] = &["/", "/var", "/var/lib", "/var/spool", "/home", "/root", "/opt"];

/// What in a home directory makes its owner do things.
const TRUSTED: &[&str] = &[
    ".ssh",
    ".gnupg",
    ".bashrc",
    ".bash_profile",
    ".bash_login",
    ".bash_logout",
    ".profile",
    ".zshrc",
    ".zshenv",
    ".zprofile",
    ".zlogin",
    ".zlogout",
    ".kshrc",
    ".cshrc",
    ".tcshrc",
    ".login",
    ".logout",
    ".inputrc",
    ".pam_environment",
    ".xprofile",
    ".xsession",
    ".xinitrc",
    ".vimrc",
    ".gitconfig",
    ".config/fish",
    ".config/systemd",
    ".config/autostart",
    ".config/environment.d",
    ".config/git",
    ".config/nvim",
    ".local/bin",
    ".local/share/systemd",
    ".cargo/bin",
    ".cargo/env",
    ".cargo/config.toml",
];

/// What is kept in a root, as patterns from it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Kept {
    /// May be read, and not changed.
    pub(super) unchanged: Vec<String>,
    /// Is as if it were not there.
    pub(super) unseen: Vec<String>,
}

/// Opens a root, unless much depends on it and that is not allowed; gives what is kept in it. What is
/// decided about is the directory that was opened, wherever its path leads by then.
///
/// # Errors
///
/// `no_such_file` where it is not there, `configuration` where it is refused.
pub(super) fn open(dir: &Path, own: &[PathBuf], allowed: bool) -> Result<(OwnedFd, Kept), Failure> {
    let refused = |why: &dyn std::fmt::Display| {
        Failure::new(Kind::Configuration, format!("the root {} {why}", dir.display()))
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(dir, flags, Mode::empty()).map_err(|error| match error {
        Errno::NOENT => {
            Failure::new(Kind::NoSuchFile, format!("the root {} is not there", dir.display()))
        }
        Errno::NOTDIR => refused(&"is not a directory"),
        error => refused(&format!("cannot be opened: {}", std::io::Error::from(error))),
    })?;
    let real = fs::read_link(format!("/proc/self/fd/{}", root.as_raw_fd()));
    let real = real.map_err(|error| refused(&format!("cannot be placed: {error}")))?;
    let kept = decide(&real, (own, &homes()), allowed)?;
    Ok((root, kept))
}

fn decide(
    real: &Path,
    (own, homes): (&[PathBuf], &[PathBuf]),
    allowed: bool,
) -> Result<Kept, Failure> {
    let why = if let Some(within) = WITHIN.iter().find(|within| real.starts_with(within)) {
        Some(format!("is in {within}, which the system depends on"))
    } else if ITSELF.iter().any(|itself| real == Path::new(itself)) {
        Some("holds what the system depends on".to_owned())
    } else if homes.iter().any(|home| home == real) {
        Some("is somebody's home".to_owned())
    } else if let Some(home) =
        homes.iter().find(|home| trusted(home).any(|trusted| real.starts_with(trusted)))
    {
        Some(format!("is trusted by the programs of {}", home.display()))
    } else if own.iter().any(|own| own.starts_with(real) || real.starts_with(own)) {
        Some("holds files of this agent".to_owned())
    } else {
        None
    };
    if let Some(why) = why.filter(|_| !allowed) {
        let text = format!("the root {} {why}", real.display());
        return Err(Failure::new(Kind::Configuration, text)
            .with_hint("open a directory in it, or say --fs-allow-sensitive"));
    }
    let beneath = |path: &Path| {
        let rest = path.strip_prefix(real).ok()?.to_str()?;
        (!rest.is_empty()).then(|| format!("/{}", globset_escape(rest)))
    };
    let unchanged = homes.iter().flat_map(|home| trusted(home)).filter_map(|path| beneath(&path));
    let unseen = own.iter().filter_map(|path| beneath(path));
    Ok(Kept { unchanged: unchanged.collect(), unseen: unseen.collect() })
}

fn trusted(home: &Path) -> impl Iterator<Item = PathBuf> {
    TRUSTED.iter().map(|name| home.join(name))
}

/// A path as a pattern that fits it and nothing else.
fn globset_escape(path: &str) -> String {
    let special = |c: char| matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '!' | '\\');
    path.chars().map(|c| if special(c) { format!("[{c}]") } else { c.to_string() }).collect()
}

/// Where people are at home on this machine.
fn homes() -> Vec<PathBuf> {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut homes: Vec<PathBuf> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let uid: u32 = fields.nth(2)?.parse().ok()?;
            let home = fields.nth(2)?;
            // Accounts of the system are at home in places that are not theirs.
            (home.starts_with('/')
                && home != "/"
                && (uid == 0 || uid >= 1000)
                && home != "/nonexistent")
                .then(|| PathBuf::from(home))
        })
        .collect();
    homes.extend(std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute()));
    homes.iter_mut().for_each(|home| {
        if let Ok(real) = fs::canonicalize(&home) {
            *home = real;
        }
    });
    homes.retain(|home| home != Path::new("/"));
    homes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_much_depends_on_is_refused_unless_it_is_allowed() {
        let own = [PathBuf::from("/var/lib/farwire-agent"), PathBuf::from("/opt/fw/farwire-agent")];
        let homes = [PathBuf::from("/home/ann"), PathBuf::from("/root")];
        let judge = |dir: &str, allowed| decide(Path::new(dir), (&own, &homes), allowed);
        for dir in [
            "/",
            "/etc",
            "/etc/nginx",
            "/proc/1",
            "/usr/share",
            "/home",
            "/home/ann",
            "/root",
            "/home/ann/.ssh",
            "/home/ann/.config/systemd/user",
            "/var/lib",
            "/var/lib/farwire-agent/x",
            "/opt/fw",
            "/var",
        ] {
            assert_eq!(judge(dir, false).unwrap_err().kind, Kind::Configuration, "{dir}");
            assert!(judge(dir, true).is_ok(), "{dir}");
        }
        for dir in ["/srv", "/home/ann/work", "/var/www", "/tmp/x", "/opt/other", "/etcetera"] {
            assert_eq!(judge(dir, false), Ok(Kept::default()), "{dir}");
        }
    }

    #[test]
    fn a_home_keeps_what_its_owner_trusts_and_hides_what_is_ours() {
        let own = [PathBuf::from("/home/ann/.local/state/farwire-agent")];
        let homes = [PathBuf::from("/home/ann")];
        let kept = decide(Path::new("/home/ann"), (&own, &homes), true).unwrap();
        assert!(kept.unchanged.contains(&"/.ssh".to_owned()));
        assert!(kept.unchanged.contains(&"/.config/systemd".to_owned()));
        assert_eq!(kept.unseen, ["/.local/state/farwire-agent"]);
        let kept = decide(Path::new("/home"), (&own, &homes), true).unwrap();
        assert!(kept.unchanged.contains(&"/ann/.bashrc".to_owned()));
        assert_eq!(globset_escape("a*[b]"), "a[*][[]b[]]");
    }
}
