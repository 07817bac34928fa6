//! The result of a setup, for people and for programs.

use std::fmt;
use std::path::PathBuf;

use farwire_protocol::failure::{Failure, Kind};
use serde::Serialize;
use serde_json::Value;

use super::verify::Verified;

/// The outcome.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SetupStatus {
    /// There was no entry; there is one now.
    Installed,
    /// Our entry was there and something in it was wrong; it is right now.
    Repaired,
    /// Everything was as it should be, and nothing was written.
    AlreadyConfigured,
    /// The name is taken by an entry that is not ours, and nothing was written.
    Conflict,
    /// `--remove`: our entry is gone.
    Removed,
    /// `--remove`: there was nothing of ours.
    NotConfigured,
    /// `--print`: nothing was read or written.
    Printed,
    /// `--verify`: our entry exists, and setup would change something in it.
    Outdated,
}

/// The result for one client's configuration.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SetupReport {
    /// The client.
    pub client: &'static str,
    /// The outcome.
    pub status: SetupStatus,
    /// The file that holds the entry.
    pub file: PathBuf,
    /// The entry, without the values of its environment; the removed entry, if it was removed.
    pub entry: Option<Value>,
    /// The backup of the file's old content, if the file was changed.
    pub backup: Option<PathBuf>,
    /// Other files that were changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Changed>,
    /// What `--verify` found.
    pub verify: Option<Verified>,
    /// The text that a person adds by hand, for `--print`.
    #[serde(skip)]
    pub(crate) snippet: String,
    /// Whose entry has the name, for [`SetupStatus::Conflict`].
    #[serde(skip)]
    pub(crate) owner: String,
    /// The entry's name.
    #[serde(skip)]
    pub(crate) name: String,
    /// What the person has to do for the change to take effect.
    #[serde(skip)]
    pub(crate) next: String,
}

/// A file that was changed.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Changed {
    /// Which.
    pub file: PathBuf,
    /// What it is for, in a few words.
    pub what: String,
    /// The backup of its old content, if it existed.
    pub backup: Option<PathBuf>,
}

impl SetupReport {
    /// Why the command fails although it has an answer: a conflict, or an entry that does not work.
    pub fn failure(&self) -> Option<Failure> {
        if self.status == SetupStatus::Conflict {
            let message = format!(
                "`{}` in `{}` is not Farwire's: {}",
                self.name,
                self.file.display(),
                self.owner
            );
            let hint = "use `--name` to choose another name, or `--force` to replace the entry";
            return Some(Failure::new(Kind::Configuration, message).with_hint(hint));
        }
        let problem = self.verify.as_ref()?.problem.as_ref()?;
        let mut failure =
            Failure::new(problem.kind, format!("{}: {}", self.client, problem.message));
        if self.status == SetupStatus::Outdated {
            failure =
                failure.with_hint(format!("`farwire setup {}` repairs the entry", self.client));
        }
        Some(failure)
    }

    fn headline(&self) -> String {
        let file = self.file.display();
        match self.status {
            SetupStatus::Installed => format!("installed in {file} ({})", self.next),
            SetupStatus::Repaired => format!("repaired in {file} ({})", self.next),
            SetupStatus::AlreadyConfigured => format!("already configured in {file}"),
            SetupStatus::Conflict => format!("conflict in {file}"),
            SetupStatus::Removed => format!("removed from {file}"),
            SetupStatus::NotConfigured => format!("not configured in {file}"),
            SetupStatus::Outdated => format!("outdated in {file}"),
            SetupStatus::Printed => String::new(),
        }
    }

    /// What the client will start.
    fn command(&self) -> Option<String> {
        let entry = self.entry.as_ref()?;
        let arguments = super::entry::strings(entry.get("args")?)?;
        let words = std::iter::once(entry.get("command")?.as_str()?.to_owned()).chain(arguments);
        Some(super::entry::printable(&words.collect::<Vec<_>>().join(" ")))
    }
}

/// Lines for people; for `--print` only the snippet, so that it can be pasted.
impl fmt::Display for SetupReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.status == SetupStatus::Printed {
            return f.write_str(&self.snippet);
        }
        let client = self.client;
        writeln!(f, "{client}: {}", self.headline())?;
        let shows_command = matches!(
            self.status,
            SetupStatus::Installed | SetupStatus::Repaired | SetupStatus::Outdated
        );
        if let Some(command) = self.command().filter(|_| shows_command) {
            writeln!(f, "  runs {command}")?;
        }
        if let Some(backup) = &self.backup {
            writeln!(f, "  the old file is {}", backup.display())?;
        }
        for Changed { file, what, backup } in &self.also {
            match self.status {
                SetupStatus::Removed => writeln!(f, "{client}: removed from {}", file.display())?,
                _ => writeln!(f, "{client}: {what} in {}", file.display())?,
            }
            if let Some(backup) = backup {
                writeln!(f, "  the old file is {}", backup.display())?;
            }
        }
        match &self.verify {
            Some(verified) => writeln!(f, "{client}: {verified}"),
            None => Ok(()),
        }
    }
}
