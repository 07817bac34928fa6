//! Directories that are not opened without confirmation, and what is protected even then.
//!
//! Whoever may write to a directory that other programs trust may do what they may: start-up files,
//! keys, units and programs. That is more than access to files, so it needs a flag of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use farwire_protocol::failure::{Failure, Kind};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Nothing in these is opened: they hold the system, or what it starts and trusts.
const WITHIN: &[&str] = &[
    "/bin",
    "/boot",
    "/dev",
    "/efi",
    "/etc",
    "/gnu",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix",
    "/proc",
    "/run",
    "/sbin",
    "/snap",
    "/sys",
    "/usr",
    // What is started, and when, and copies of what is in /etc.
    "/var/backups",
    "/var/lock",
    "/var/run",
    "/var/spool/anacron",
    "/var/spool/at",
    "/var/spool/cron",
    // What is installed, and how: packages, services, users, rules.
    "/var/cache/apt",
    "/var/cache/dnf",
    "/var/cache/pacman",
    "/var/lib/AccountsService",
    "/var/lib/apt",
    "/var/lib/cloud",
    "/var/lib/dpkg",
    "/var/lib/pacman",
    "/var/lib/polkit-1",
    "/var/lib/rpm",
    "/var/lib/snapd",
    "/var/lib/sudo",
    "/var/lib/systemd",
    // What runs in containers and machines.
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/docker",
    "/var/lib/etcd",
    "/var/lib/kubelet",
    "/var/lib/libvirt",
    "/var/lib/lxc",
    "/var/lib/lxd",
    "/var/lib/machines",
    "/var/lib/rancher",
];

/// These are not opened themselves; directories in them may be.
const ITSELF: &[&str] =
    &["/", "/home", "/opt", "/root", "/var", "/var/cache", "/var/lib", "/var/spool"];

/// Every directory in here is a home, even of users that are in no list that we can read.
const HOMES: &str = "/home";

/// Up to this many homes in one directory are protected one by one. If there are more, everything
/// in it counts as a home: the patterns of them all would not fit a worker's first message.
const ONE_BY_ONE: usize = 4;

/// The files in a home directory that make programs of its owner do things.
const TRUSTED: &[&str] = &[
    ".ssh",
    ".gnupg",
    ".bashrc",
    ".bashrc.d",
    ".bash_aliases",
    ".bash_completion",
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
    ".mkshrc",
    ".cshrc",
    ".tcshrc",
    ".login",
    ".logout",
    ".inputrc",
    ".pam_environment",
    ".xprofile",
    ".xsession",
    ".xsessionrc",
    ".xinitrc",
    ".xserverrc",
    ".vimrc",
    ".vim",
    ".exrc",
    ".emacs",
    ".emacs.d",
    ".gdbinit",
    ".lldbinit",
    ".tmux.conf",
    ".screenrc",
    ".git/config",
    ".git/hooks",
    ".gitconfig",
    ".git-credentials",
    ".netrc",
    ".forward",
    ".procmailrc",
    ".mailcap",
    ".rhosts",
    ".shosts",
    ".k5login",
    ".aws",
    ".azure",
    ".docker",
    ".kube",
    ".npmrc",
    ".pypirc",
    ".pythonrc",
    ".pydistutils.cfg",
    ".gem",
    ".gemrc",
    ".irbrc",
    ".Rprofile",
    ".condarc",
    ".nvm",
    ".pyenv",
    ".rbenv",
    ".asdf",
    ".rustup",
    ".vscode-server",
    ".config/autostart",
    ".config/bash",
    ".config/containers",
    ".config/direnv",
    ".config/emacs",
    ".config/environment.d",
    ".config/fish",
    ".config/gcloud",
    ".config/gh",
    ".config/git",
    ".config/mise",
    ".config/nushell",
    ".config/nvim",
    ".config/pip",
    ".config/powershell",
    ".config/systemd",
    ".config/tmux",
    ".config/zsh",
    ".local/bin",
    ".local/lib",
    ".local/share/applications",
    ".local/share/containers",
    ".local/share/dbus-1",
    ".local/share/docker",
    ".local/share/fish",
    ".local/share/systemd",
    ".cargo/bin",
    ".cargo/env",
    ".cargo/config",
    ".cargo/config.toml",
];

/// What is protected in a root, as patterns relative to it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Kept {
    /// May be read, but not changed.
    pub(super) unchanged: Vec<String>,
    /// Is treated as if it did not exist.
    pub(super) unseen: Vec<String>,
}

/// Opens a root, unless it is sensitive and that is not allowed. Returns it with what is protected
/// in it. The decision is about the directory that was opened, wherever its path leads by then.
///
/// # Errors
///
/// `no_such_file` if it does not exist, `configuration` if it is refused.
pub(super) fn open(dir: &Path, own: &[PathBuf], allowed: bool) -> Result<(OwnedFd, Kept), Failure> {
    let refused = |why: &dyn std::fmt::Display| {
        Failure::new(Kind::Configuration, format!("the root {} {why}", dir.display()))
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(dir, flags, Mode::empty()).map_err(|error| match error {
        Errno::NOENT => {
            Failure::new(Kind::NoSuchFile, format!("the root {} does not exist", dir.display()))
        }
        Errno::NOTDIR => refused(&"is not a directory"),
        error => refused(&format!("cannot be opened: {}", std::io::Error::from(error))),
    })?;
    let real = fs::read_link(format!("/proc/self/fd/{}", root.as_raw_fd()));
    let real = real.map_err(|error| refused(&format!("cannot be located: {error}")))?;
    let own: Vec<_> = own.iter().cloned().map(placed).collect();
    let kept = decide(&real, &own, &homes(), allowed)?;
    Ok((root, kept))
}

fn decide(real: &Path, own: &[PathBuf], homes: &[PathBuf], allowed: bool) -> Result<Kept, Failure> {
    // The owners of homes there may be known only to a directory service.
    let at_home = real.ancestors().find(|above| above.parent() == Some(Path::new(HOMES)));
    let all = || homes.iter().map(PathBuf::as_path).chain(at_home);
    let why = if let Some(within) = WITHIN.iter().find(|within| real.starts_with(within)) {
        Some(format!("is in {within}, which the system depends on"))
    } else if ITSELF.iter().any(|itself| real == Path::new(itself)) {
        Some("contains what the system depends on".to_owned())
    } else if all().any(|home| home == real) {
        Some("is a home directory".to_owned())
    } else if let Some(home) =
        all().find(|home| trusted(home).any(|trusted| real.starts_with(trusted)))
    {
        Some(format!("is trusted by the programs of {}", home.display()))
    } else if own.iter().any(|own| own.starts_with(real) || real.starts_with(own)) {
        Some("contains files of this agent".to_owned())
    } else {
        None
    };
    if let Some(why) = why.filter(|_| !allowed) {
        let text = format!("the root {} {why}", real.display());
        return Err(Failure::new(Kind::Configuration, text)
            .with_hint("open a directory in it, or add --fs-allow-sensitive"));
    }
    let mut unchanged = Vec::new();
    let mut by_parent: BTreeMap<&Path, BTreeSet<&Path>> = BTreeMap::new();
    for home in all() {
        if let Some(place) = home.parent().filter(|_| home != real) {
            by_parent.entry(place).or_default().insert(home);
        } else {
            unchanged.extend(trusted(home).filter_map(|path| pattern(real, &path)));
        }
    }
    by_parent.entry(Path::new(HOMES)).or_default();
    for (place, homes) in by_parent {
        match inside(real, place).filter(|_| place == Path::new(HOMES) || homes.len() > ONE_BY_ONE)
        {
            Some(place) => unchanged.extend(TRUSTED.iter().map(|name| format!("{place}/*/{name}"))),
            None => {
                let each = homes.into_iter().flat_map(trusted);
                unchanged.extend(each.filter_map(|path| pattern(real, &path)));
            }
        }
    }
    let unseen = own.iter().filter_map(|path| pattern(real, path));
    Ok(Kept { unchanged, unseen: unseen.collect() })
}

/// The pattern of a path in a root.
fn pattern(real: &Path, path: &Path) -> Option<String> {
    inside(real, path).filter(|pattern| !pattern.is_empty())
}

/// The same, which is empty for the root itself.
fn inside(real: &Path, path: &Path) -> Option<String> {
    let rest = path.strip_prefix(real).ok()?.to_str()?;
    Some(if rest.is_empty() { String::new() } else { format!("/{}", globset_escape(rest)) })
}

fn trusted(home: &Path) -> impl Iterator<Item = PathBuf> {
    TRUSTED.iter().map(|name| home.join(name))
}

/// A path as a pattern that matches it and nothing else.
fn globset_escape(path: &str) -> String {
    let special = |c: char| matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '!' | '\\');
    path.chars().map(|c| if special(c) { format!("[{c}]") } else { c.to_string() }).collect()
}

/// The home directories of people on this machine.
fn homes() -> Vec<PathBuf> {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut homes: Vec<PathBuf> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let uid: u32 = fields.nth(2)?.parse().ok()?;
            let home = fields.nth(2)?;
            // System accounts have homes that do not belong to them.
            (home.starts_with('/')
                && home != "/"
                && (uid == 0 || uid >= 1000)
                && home != "/nonexistent")
                .then(|| PathBuf::from(home))
        })
        .collect();
    homes.extend(std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute()));
    let mut homes: Vec<_> = homes.into_iter().map(placed).collect();
    homes.retain(|home| home != Path::new("/"));
    homes
}

/// The path of something without links, to compare roots with. If it does not exist yet, the
/// directories above it are resolved.
fn placed(path: PathBuf) -> PathBuf {
    let found = path.ancestors().find_map(|above| Some((above, fs::canonicalize(above).ok()?)));
    let Some((above, real)) = found else { return path };
    path.strip_prefix(above).map(|rest| real.join(rest)).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_much_depends_on_is_refused_unless_it_is_allowed() {
        let own = [PathBuf::from("/var/lib/farwire-agent"), PathBuf::from("/opt/fw/farwire-agent")];
        let homes = [PathBuf::from("/home/ann"), PathBuf::from("/root")];
        let judge = |dir: &str, allowed| decide(Path::new(dir), &own, &homes, allowed);
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
            "/home/ann/.docker/cli-plugins",
            "/home/ldap-user",
            "/home/ldap-user/.ssh",
            "/boot/grub",
            "/lib/systemd",
            "/run/docker.sock.d",
            "/var/run/user/1000",
            "/var/lib/docker/volumes",
            "/var/lib/dpkg/info",
            "/var/spool/cron/crontabs",
            "/var/backups",
            "/nix/store",
            "/var/lib",
            "/var/lib/farwire-agent/x",
            "/opt/fw",
            "/var",
        ] {
            assert_eq!(judge(dir, false).unwrap_err().kind, Kind::Configuration, "{dir}");
            assert!(judge(dir, true).is_ok(), "{dir}");
        }
        for dir in [
            "/srv",
            "/home/ann/work",
            "/home/ldap-user/work",
            "/var/www",
            "/var/log",
            "/var/lib/app",
            "/tmp/x",
            "/opt/other",
            "/etcetera",
            "/root/work",
        ] {
            assert_eq!(judge(dir, false), Ok(Kept::default()), "{dir}");
        }
    }

    #[test]
    fn a_home_keeps_what_its_owner_trusts_and_hides_what_is_ours() {
        let own = [PathBuf::from("/home/ann/.local/state/farwire-agent")];
        let homes = [PathBuf::from("/home/ann")];
        let kept = decide(Path::new("/home/ann"), &own, &homes, true).unwrap();
        assert!(kept.unchanged.contains(&"/.ssh".to_owned()));
        assert!(kept.unchanged.contains(&"/.config/systemd".to_owned()));
        assert_eq!(kept.unseen, ["/.local/state/farwire-agent"]);
        let kept = decide(Path::new("/home"), &own, &homes, true).unwrap();
        assert!(kept.unchanged.contains(&"/*/.bashrc".to_owned()));
        assert!(!kept.unchanged.contains(&"/ann/.bashrc".to_owned()));
        assert_eq!(globset_escape("a*[b]"), "a[*][[]b[]]");
    }

    #[test]
    fn what_is_kept_in_many_homes_fits_what_a_worker_is_told() {
        let homes: Vec<_> = (0..500).map(|n| PathBuf::from(format!("/data/people/{n}"))).collect();
        let kept = decide(Path::new("/data"), &[], &homes, false).unwrap();
        assert!(kept.unchanged.contains(&"/people/*/.ssh".to_owned()));
        assert!(kept.unchanged.len() <= TRUSTED.len());
        let kept = decide(Path::new("/data"), &[], &homes[..3], false).unwrap();
        assert!(kept.unchanged.contains(&"/people/2/.ssh".to_owned()));
        let kept = decide(Path::new("/"), &[], &[PathBuf::from("/root")], true).unwrap();
        assert!(kept.unchanged.contains(&"/root/.ssh".to_owned()));
        assert!(kept.unchanged.contains(&"/home/*/.ssh".to_owned()));
    }

    #[test]
    fn what_is_ours_is_known_by_any_of_its_paths() {
        let place = tempfile::tempdir().unwrap();
        let place = place.path().canonicalize().unwrap();
        let (real, link) = (place.join("real"), place.join("link"));
        fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        // It has not been created yet.
        let own = [link.join("state/farwire")];
        let failure = open(&real, &own, false).unwrap_err();
        assert!(failure.message.ends_with("contains files of this agent"), "{failure}");
        let (_, kept) = open(&real, &own, true).unwrap();
        assert_eq!(kept.unseen, ["/state/farwire"]);
    }
}
