//! `farwire-agent service`: a systemd unit, for the system or for one user.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use farwire_protocol::failure::{Failure, Kind};

/// The unit's name.
const UNIT: &str = "farwire-agent.service";

/// Whose service it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Whose {
    /// The system's: it starts again after a reboot.
    System,
    /// One user's: it starts again when that user logs in, or lingers.
    User,
}

impl Whose {
    fn directory(self) -> Result<PathBuf, Failure> {
        match self {
            Self::System => Ok(PathBuf::from("/etc/systemd/system")),
            Self::User => {
                let base = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| {
                    std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"))
                });
                let base =
                    base.ok_or_else(|| Failure::new(Kind::Configuration, "HOME is not set"))?;
                Ok(base.join("systemd/user"))
            }
        }
    }

    fn systemctl(self, arguments: &[&str]) -> Result<String, Failure> {
        let mut command = Command::new("systemctl");
        if self == Self::User {
            command.arg("--user");
        }
        let output = command.args(arguments).output().map_err(|error| {
            Failure::new(Kind::Unsupported, format!("systemctl cannot be run: {error}")).with_hint(
                "the service needs systemd; without it start `farwire-agent run` at boot yourself",
            )
        })?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        let message = format!("systemctl {}: {}", arguments.join(" "), text(&output.stderr));
        Err(Failure::new(Kind::Io, message))
    }
}

/// The unit for this program and this state.
///
/// Runs and terminals are meant to do whatever their user may do, so the unit does not confine what
/// they inherit; it takes from the agent only what no program of a user needs. `KillMode=process`
/// leaves them alive when the agent is restarted.
pub(crate) fn unit(whose: Whose, program: &Path, state: &Path) -> String {
    let quoted = |path: &Path| {
        format!(
            "\"{}\"",
            path.display()
                .to_string()
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('%', "%%")
        )
    };
    let target = match whose {
        Whose::System => "multi-user.target",
        Whose::User => "default.target",
    };
    format!(
        "[Unit]\n\
         Description=Farwire agent\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         StartLimitIntervalSec=0\n\
         \n\
         [Service]\n\
         Type=notify\n\
         ExecStart={} run --state {}\n\
         Restart=always\n\
         RestartSec=2\n\
         KillMode=process\n\
         UMask=0022\n\
         LimitCORE=0:infinity\n\
         KeyringMode=private\n\
         ProtectClock=no\n\
         RestrictSUIDSGID=no\n\
         \n\
         [Install]\n\
         WantedBy={target}\n",
        quoted(program),
        quoted(state),
    )
}

/// Writes the unit, enables it and starts it.
pub(crate) fn install(whose: Whose, state: &Path) -> Result<PathBuf, Failure> {
    if whose == Whose::System && !rustix::process::geteuid().is_root() {
        return Err(Failure::new(Kind::UserNotAllowed, "only root can install a system service")
            .with_hint("use sudo, or `farwire-agent service install --user`"));
    }
    let program = std::env::current_exe().map_err(|error| {
        Failure::new(Kind::Io, format!("the path of this program is unknown: {error}"))
    })?;
    let directory = whose.directory()?;
    let path = directory.join(UNIT);
    let failed =
        |error: std::io::Error| Failure::new(Kind::Io, format!("{}: {error}", path.display()));
    fs::create_dir_all(&directory).map_err(failed)?;
    let beside = directory.join(format!(".{UNIT}.new"));
    fs::write(&beside, unit(whose, &program, state))
        .and_then(|()| fs::rename(&beside, &path))
        .map_err(failed)?;
    whose.systemctl(&["daemon-reload"])?;
    whose.systemctl(&["enable", UNIT])?;
    whose.systemctl(&["restart", UNIT])?;
    Ok(path)
}

/// Stops the service and removes its unit.
pub(crate) fn uninstall(whose: Whose) -> Result<PathBuf, Failure> {
    let path = whose.directory()?.join(UNIT);
    // A service that does not run, or was never enabled, counts as stopped.
    let _ = whose.systemctl(&["disable", "--now", UNIT]);
    match fs::remove_file(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Failure::new(
                Kind::Configuration,
                format!("{} does not exist", path.display()),
            ));
        }
        removed => removed
            .map_err(|error| Failure::new(Kind::Io, format!("{}: {error}", path.display())))?,
    }
    whose.systemctl(&["daemon-reload"])?;
    Ok(path)
}

/// The state of the service according to systemd, in one word.
pub(crate) fn status(whose: Whose) -> Result<String, Failure> {
    // `is-active` fails for everything but "active", and says the word all the same.
    let word = whose.systemctl(&["show", "--property=ActiveState", "--value", UNIT])?;
    Ok(if word.is_empty() { "unknown".to_owned() } else { word })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_survives_odd_paths_and_restarts_without_killing_work() {
        let unit = unit(Whose::System, Path::new("/opt/a b/farwire-agent"), Path::new("/var/100%"));
        assert!(unit.contains("ExecStart=\"/opt/a b/farwire-agent\" run --state \"/var/100%%\"\n"));
        assert!(unit.contains("KillMode=process\n") && unit.contains("Type=notify\n"));
        assert!(unit.contains("WantedBy=multi-user.target"));
    }
}
