//! How the child reports that it cannot become the program, and the failure for people.
//!
//! A report is four numbers, which fit into shared memory and through a pipe alike.

use core::ffi::CStr;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use farwire_protocol::failure::{Failure, Kind};
use rustix::io::Errno;

use super::plan::ExecPlan;
use super::{SpawnCommand, exhausted};
use crate::os::errno;
use crate::os::quote::quote;

/// Where and why it failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct SpawnFailure {
    stage: Stage,
    error: Errno,
    /// Which of [`ExecPlan::programs`].
    program: u32,
    found: PathKind,
}

/// What the child was about to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stage {
    /// To found a session, and to put descriptors and limits in order.
    Prepare = 1,
    /// To take on the rights of the user.
    Identity = 2,
    /// To enter the directory.
    Directory = 3,
    /// To execute the program.
    Execute = 4,
}

/// What is at the program's path, as the user sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PathKind {
    /// Nothing, or nothing that may be seen.
    Nothing = 1,
    /// A directory.
    Directory = 2,
    /// A file.
    File = 3,
}

impl SpawnFailure {
    /// A failure before the program was tried.
    pub(super) const fn before(stage: Stage, error: Errno) -> Self {
        Self { stage, error, program: 0, found: PathKind::Nothing }
    }

    /// What is at the program's path.
    pub(super) const fn path_kind(self) -> PathKind {
        self.found
    }

    /// A failure to execute one of the programs.
    pub(super) const fn execute(error: Errno, program: u32, found: PathKind) -> Self {
        Self { stage: Stage::Execute, error, program, found }
    }

    /// As numbers, the first of which is not 0.
    pub(super) fn numbers(self) -> [u32; 4] {
        let error = self.error.raw_os_error().unsigned_abs();
        [self.stage as u32, error, self.program, self.found as u32]
    }

    /// From numbers. Returns `None` if they are not a report: nothing was reported.
    pub(super) fn from_numbers([stage, error, program, found]: [u32; 4]) -> Option<Self> {
        let stages = [Stage::Prepare, Stage::Identity, Stage::Directory, Stage::Execute];
        let finds = [PathKind::Nothing, PathKind::Directory, PathKind::File];
        Some(Self {
            stage: stages.into_iter().find(|known| *known as u32 == stage)?,
            error: Errno::from_raw_os_error(i32::try_from(error).ok()?),
            program,
            found: finds.into_iter().find(|known| *known as u32 == found)?,
        })
    }

    /// The failure for people.
    pub(super) fn failure(self, command: &SpawnCommand, plan: &ExecPlan) -> Failure {
        if matches!(self.error, Errno::AGAIN | Errno::NOMEM | Errno::MFILE | Errno::NFILE) {
            return exhausted("cannot start the program", self.error);
        }
        let words = errno::words(self.error);
        match self.stage {
            Stage::Prepare => {
                Failure::new(Kind::Internal, format!("cannot prepare a process: {words}"))
            }
            Stage::Identity => {
                let name = command.user.as_ref().map(|user| quote(&user.name)).unwrap_or_default();
                let text = format!("cannot switch to the user {name}: {words}");
                Failure::new(Kind::UserNotAllowed, text)
            }
            Stage::Directory => {
                let cwd = plan.cwd.as_deref().map(path).unwrap_or_default();
                Failure::new(
                    Kind::CwdNotFound,
                    format!("cannot enter the directory {cwd}: {words}"),
                )
            }
            Stage::Execute => self.not_executed(command, plan),
        }
    }

    fn not_executed(self, command: &SpawnCommand, plan: &ExecPlan) -> Failure {
        let name = command.argv.first().map(quote).unwrap_or_default();
        let index = usize::try_from(self.program).unwrap_or(usize::MAX);
        let program =
            plan.programs.get(index).map_or_else(|| name.clone(), |program| path(program));
        let searched = !command.argv.first().is_some_and(|name| name.as_bytes().contains(&b'/'));
        let code = errno::name(self.error);
        let (what, why) = match (self.error, self.found) {
            (Errno::TOOBIG, _) => {
                let text = format!("arguments and environment of {name} are too large ({code})");
                return Failure::new(Kind::TooLarge, text);
            }
            (Errno::NOENT, PathKind::File) => {
                (program, "the interpreter or loader that it names does not exist".to_owned())
            }
            (Errno::NOENT | Errno::NOTDIR, _) if searched => {
                (name, "no directory of `PATH` has such a program".to_owned())
            }
            (Errno::ACCESS, PathKind::Directory) => (program, "is a directory".to_owned()),
            (Errno::ACCESS, PathKind::File) => (program, "may not be executed".to_owned()),
            (error, _) => {
                let text = format!("cannot start {program}: {}", errno::words(error));
                return Failure::new(Kind::ExecFailed, text);
            }
        };
        Failure::new(Kind::ExecFailed, format!("cannot start {what}: {why} ({code})"))
    }
}

fn path(path: &CStr) -> String {
    quote(OsStr::from_bytes(path.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_survives_being_numbers() {
        let reports = [
            SpawnFailure::before(Stage::Prepare, Errno::BUSY),
            SpawnFailure::before(Stage::Identity, Errno::PERM),
            SpawnFailure::before(Stage::Directory, Errno::NOTDIR),
            SpawnFailure::execute(Errno::NOENT, 0, PathKind::Nothing),
            SpawnFailure::execute(Errno::ACCESS, 7, PathKind::Directory),
            SpawnFailure::execute(Errno::TXTBSY, u32::MAX, PathKind::File),
        ];
        for report in reports {
            assert_ne!(report.numbers()[0], 0);
            assert_eq!(SpawnFailure::from_numbers(report.numbers()), Some(report));
        }
    }

    #[test]
    fn nothing_reported_is_no_report() {
        assert_eq!(SpawnFailure::from_numbers([0; 4]), None);
        assert_eq!(SpawnFailure::from_numbers([5, 1, 0, 1]), None);
        assert_eq!(SpawnFailure::from_numbers([1, u32::MAX, 0, 1]), None);
    }
}
