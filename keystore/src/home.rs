//! The directories of a bridge (`Home`) and of an agent (`StateDir`), and the files in them.
//!
//! ```text
//! bridge                                        agent
//!   keys/ID…  bundle  surface-….delegation        keys/ID…  bundle
//!   genesis  relay                                enrollment  enrollment.pending
//!   servers/NAME.pin  retired                     devices/FINGERPRINT.device  retired
//!   tickets/ID.ticket
//!   secrets/NAME.secret
//!   ids  ids.log
//!   lock  mail.lock  ids.lock                     lock  run.lock
//! ```
//!
//! [`Home::place`] and [`StateDir::place`] locate a directory before it is opened; they get the
//! environment as an argument. Every change needs a [`Guard`], so that no other process can
//! overwrite a read-modify-write under one guard.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use farwire_protocol::address::Relay;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::TrustDomain;

use crate::devices::Devices;
use crate::dir::Dir;
use crate::enrollment::Enrollments;
use crate::fault::FileError;
use crate::identity::{self, Identity};
use crate::ids::Ids;
use crate::lock::{self, Guard, STATE};
use crate::phrases::Phrases;
use crate::pins::Pins;
use crate::tickets::Tickets;
use crate::workspace::{self, Workspace};

/// The lock of the process that fetches mail.
const MAIL: &str = "mail.lock";

/// The lock of the process that serves.
const RUN: &str = "run.lock";

/// Looks up an environment variable.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The files of a bridge.
#[derive(Clone, Debug)]
pub struct Home {
    dir: Dir,
}

/// The exclusive right to fetch mail. Several processes would duplicate each other's work.
#[derive(Debug)]
pub struct MailLock(#[expect(dead_code, reason = "held, not looked at")] Guard);

impl Home {
    /// Locates a bridge's directory: `--home`, else `FARWIRE_HOME`, else
    /// `$XDG_CONFIG_HOME/farwire`, else `~/.config/farwire`.
    pub fn place(flag: Option<&Path>, env: Env<'_>) -> Result<PathBuf, Failure> {
        let set = env("FARWIRE_HOME").filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(chosen) = flag.map(Path::to_owned).or(set) {
            return absolute(&chosen, "--home");
        }
        below(env, "XDG_CONFIG_HOME", ".config", "--home").map(|base| base.join("farwire"))
    }

    /// Opens the directory of a bridge, which must exist.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let dir = Dir::open(path)?
            .ok_or_else(|| missing(path, "`farwire init --relay -` creates an identity there"))?;
        Ok(Self { dir })
    }

    /// Opens the directory, creating it if it is missing.
    pub fn create(path: &Path) -> Result<Self, Failure> {
        Ok(Self { dir: Dir::create(path)? })
    }

    /// The path of the directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Takes the lock of everything but the ids, waiting for up to 5 s. The lock is held for a few
    /// writes and never while waiting for the network or a person. It is not reentrant: a thread
    /// that takes it twice waits for itself.
    pub fn lock(&self) -> Result<Guard, Failure> {
        Ok(lock::acquire(&self.dir, STATE)?)
    }

    /// Takes the lock for fetching mail, unless another process holds it.
    pub fn mail_lock(&self) -> Result<Option<MailLock>, Failure> {
        match lock::try_acquire(&self.dir, MAIL) {
            Ok(guard) => Ok(Some(MailLock(guard))),
            Err(FileError::Locked { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the device's identity, if it has one.
    pub fn identity(&self) -> Result<Option<Identity>, Failure> {
        Ok(Identity::open(&self.dir)?)
    }

    /// Creates the device's identity and the first event of its workspace. See [`Identity`].
    pub fn create_identity(
        &self,
        guard: &Guard,
        workspace: &str,
        now: u64,
    ) -> Result<Identity, Failure> {
        identity::create_device(&self.dir, guard, workspace, now)
    }

    /// Returns the signed first event of the workspace, if there is an identity.
    pub fn genesis(&self) -> Result<Option<Vec<u8>>, Failure> {
        Ok(workspace::genesis(&self.dir)?)
    }

    /// Returns the workspace, once its relay is known.
    pub fn workspace(&self) -> Result<Option<Workspace>, Failure> {
        workspace::load(&self.dir)
    }

    /// Stores the addresses and the key of the relay. This completes `init`.
    pub fn set_relay(&self, guard: &Guard, relay: &Relay) -> Result<(), Failure> {
        workspace::set_relay(&self.dir, guard, relay)
    }

    /// The servers that this bridge trusts.
    pub fn pins(&self) -> Pins {
        Pins::new(self.dir.clone())
    }

    /// The enrollments that this bridge has started.
    pub fn tickets(&self) -> Tickets {
        Tickets::new(self.dir.clone())
    }

    /// The secrets for password prompts, by name.
    pub fn phrases(&self) -> Phrases {
        Phrases::new(self.dir.clone())
    }

    /// The short ids of runs, sessions and forwards.
    pub fn ids(&self) -> Ids {
        Ids::new(self.dir.clone())
    }
}

/// The files of an agent about keys and trust.
#[derive(Clone, Debug)]
pub struct StateDir {
    dir: Dir,
}

/// The exclusive right to serve from a state directory, held until it is dropped or the process
/// ends.
#[derive(Debug)]
pub struct RunLock(#[expect(dead_code, reason = "held, not looked at")] Guard);

impl StateDir {
    /// Locates an agent's directory: `--state`, else `/var/lib/farwire-agent` for root, else
    /// `$XDG_STATE_HOME/farwire-agent`, else `~/.local/state/farwire-agent`.
    pub fn place(flag: Option<&Path>, root: bool, env: Env<'_>) -> Result<PathBuf, Failure> {
        if let Some(chosen) = flag {
            return absolute(chosen, "--state");
        }
        if root {
            return Ok("/var/lib/farwire-agent".into());
        }
        below(env, "XDG_STATE_HOME", ".local/state", "--state")
            .map(|base| base.join("farwire-agent"))
    }

    /// Opens the directory of an agent, which must exist.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let dir = Dir::open(path)?.ok_or_else(|| {
            missing(path, "`farwire-agent enroll --token -` creates an identity there")
        })?;
        Ok(Self { dir })
    }

    /// Opens the directory, creating it if it is missing.
    pub fn create(path: &Path) -> Result<Self, Failure> {
        Ok(Self { dir: Dir::create(path)? })
    }

    /// The path of the directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Takes the lock of everything in the directory, waiting for up to 5 s. The lock is held for a
    /// few writes and never while waiting for the network or a person.
    pub fn lock(&self) -> Result<Guard, Failure> {
        Ok(lock::acquire(&self.dir, STATE)?)
    }

    /// Takes the lock for serving, or fails immediately if another process serves from this
    /// directory.
    pub fn run_lock(&self) -> Result<RunLock, Failure> {
        match lock::try_acquire(&self.dir, RUN) {
            Ok(guard) => Ok(RunLock(guard)),
            Err(error @ FileError::Locked { .. }) => {
                Err(Failure::new(Kind::AlreadyRunning, error.to_string()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the agent's identity, if it has one.
    pub fn identity(&self) -> Result<Option<Identity>, Failure> {
        Ok(Identity::open(&self.dir)?)
    }

    /// Creates the agent's identity. See [`Identity`].
    pub fn create_identity(
        &self,
        guard: &Guard,
        trust_domain: TrustDomain,
        now: u64,
    ) -> Result<Identity, Failure> {
        identity::create_agent(&self.dir, guard, trust_domain, now)
    }

    /// The authorised devices.
    pub fn devices(&self) -> Devices {
        Devices::new(self.dir.clone())
    }

    /// The agent's enrollment.
    pub fn enrollments(&self) -> Enrollments {
        Enrollments::new(self.dir.clone())
    }
}

fn missing(path: &Path, hint: &str) -> Failure {
    let message = format!("there is no directory `{}`", crate::fault::escape_path(path));
    Failure::new(Kind::NotInitialized, message).with_hint(hint)
}

fn absolute(path: &Path, flag: &str) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| {
        Failure::caused(Kind::InvalidArgument, format_args!("{flag} is not a directory"), &error)
    })
}

/// Returns `$variable`, else `default` in the home directory. By the XDG rules a path that is not
/// absolute is ignored.
fn below(env: Env<'_>, variable: &str, default: &str, flag: &str) -> Result<PathBuf, Failure> {
    let set = |name: &str| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = set(variable).or_else(|| set("HOME").map(|home| home.join(default)));
    base.ok_or_else(|| {
        let message = format!("neither HOME nor {variable} names a directory");
        Failure::new(Kind::Configuration, message).with_hint(format!("name one with `{flag} DIR`"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env<'a>(vars: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
        |name| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
    }

    #[test]
    fn a_bridges_home_is_the_flag_then_the_variable_then_below_the_configuration() {
        let all = [("FARWIRE_HOME", "/f"), ("XDG_CONFIG_HOME", "/x"), ("HOME", "/h")];
        for (flag, vars, place) in [
            (Some("/flag"), &all[..], "/flag"),
            (None, &all, "/f"),
            (None, &[("FARWIRE_HOME", ""), all[1]], "/x/farwire"),
            (None, &[("XDG_CONFIG_HOME", "relative"), all[2]], "/h/.config/farwire"),
            (None, &[("XDG_CONFIG_HOME", ""), all[2]], "/h/.config/farwire"),
        ] {
            let path = Home::place(flag.map(Path::new), &env(vars)).unwrap();
            assert_eq!(path, Path::new(place));
        }
        assert!(Home::place(Some(Path::new("here")), &env(&[])).unwrap().is_absolute());
    }

    #[test]
    fn an_agents_state_depends_on_who_runs_it() {
        let all = [("XDG_STATE_HOME", "/x"), ("HOME", "/h")];
        for (flag, root, vars, place) in [
            (Some("/flag"), true, &all[..], "/flag"),
            (None, true, &all, "/var/lib/farwire-agent"),
            (None, false, &all, "/x/farwire-agent"),
            (None, false, &all[1..], "/h/.local/state/farwire-agent"),
        ] {
            let path = StateDir::place(flag.map(Path::new), root, &env(vars)).unwrap();
            assert_eq!(path, Path::new(place));
        }
    }

    #[test]
    fn without_a_home_the_flag_is_named() {
        for vars in [&[][..], &[("HOME", "")], &[("HOME", "relative")]] {
            let failure = Home::place(None, &env(vars)).unwrap_err();
            assert_eq!(failure.kind, Kind::Configuration);
            assert!(failure.hint().contains("--home"), "{}", failure.hint());
            assert!(
                StateDir::place(None, false, &env(vars)).unwrap_err().hint().contains("--state")
            );
        }
        assert!(Home::place(Some(Path::new("")), &env(&[])).is_err());
    }

    #[test]
    fn what_was_never_made_is_not_initialized() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("none");
        assert_eq!(Home::open(&path).unwrap_err().kind, Kind::NotInitialized);
        assert_eq!(StateDir::open(&path).unwrap_err().kind, Kind::NotInitialized);
        assert!(Home::create(&path).unwrap().identity().unwrap().is_none());
        Home::open(&path).unwrap();
    }

    #[test]
    fn one_process_serves_and_one_fetches_mail() {
        let temp = tempfile::tempdir().unwrap();
        let state = StateDir::create(&temp.path().join("state")).unwrap();
        let running = state.run_lock().unwrap();
        let failure = state.run_lock().unwrap_err();
        assert_eq!(failure.kind, Kind::AlreadyRunning);
        assert!(failure.message.contains(&std::process::id().to_string()), "{failure}");
        drop(running);
        state.run_lock().unwrap();
        let home = Home::create(&temp.path().join("home")).unwrap();
        let mail = home.mail_lock().unwrap();
        assert!(mail.is_some() && home.mail_lock().unwrap().is_none());
        home.lock().unwrap();
    }
}
