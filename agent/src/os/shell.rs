//! A command line becomes a program and its arguments: the user's shell reads it.
//!
//! A run reads no start-up files, so that it is fast and means the same for everybody:
//!
//! ```text
//!     bash       bash --noprofile --norc -c LINE
//!     zsh        zsh -f -c LINE
//!     fish       fish --no-config -c LINE
//!     any other  /bin/sh -c LINE     also one that is no shell (nologin), or is not there
//! ```
//!
//! A login wants the start-up files, and takes the shell itself with `-l -c LINE` where it is known
//! to understand that.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use farwire_protocol::failure::{Failure, Kind};

use super::user::User;

/// The program and the arguments that carry out `line` as `user`.
pub(crate) fn command_line(
    line: &OsStr,
    user: &User,
    login: bool,
) -> Result<Vec<OsString>, Failure> {
    if line.as_bytes().iter().all(u8::is_ascii_whitespace) {
        return Err(Failure::new(Kind::EmptyCommand, "the command line is empty"));
    }
    let known = SHELLS.iter().find(|known| known.is(&user.shell));
    let (program, options) = match known {
        Some(known) if login => (user.shell.as_os_str(), known.login),
        Some(known) if !known.plain.is_empty() => (user.shell.as_os_str(), known.plain),
        _ if login => (OsStr::new(FALLBACK), "-l"),
        _ => (OsStr::new(FALLBACK), ""),
    };
    let mut argv = vec![program.to_owned()];
    argv.extend(options.split_whitespace().map(OsString::from));
    argv.push("-c".into());
    argv.push(operand(line));
    Ok(argv)
}

/// The line as an operand: shells take a leading `-` or `+` for another option, even after `-c`, and
/// not all of them know `--` there. A blank before it changes nothing else.
fn operand(line: &OsStr) -> OsString {
    if !matches!(line.as_bytes().first(), Some(b'-' | b'+')) {
        return line.to_owned();
    }
    let mut text = OsString::from(" ");
    text.push(line);
    text
}

/// A shell that we know how to talk to.
struct Shell {
    /// The name of its file.
    name: &'static str,
    /// What keeps it from its start-up files; empty where `/bin/sh` does instead of it.
    plain: &'static str,
    /// What makes it a login shell.
    login: &'static str,
}

impl Shell {
    /// Whether `path` is this shell, and there.
    fn is(&self, path: &Path) -> bool {
        // Should it vanish before it is started, that is told as it happens.
        path.is_absolute() && path.file_name() == Some(OsStr::new(self.name)) && is_there(path)
    }
}

/// So long a shell that was there is taken to be there: who has just looked need not look again, and wait.
const FRESH: Duration = Duration::from_secs(2);

/// So many are remembered.
const REMEMBERED: usize = 16;

/// Those that were there a moment ago.
static SEEN: Mutex<Vec<(PathBuf, Instant)>> = Mutex::new(Vec::new());

fn seen() -> MutexGuard<'static, Vec<(PathBuf, Instant)>> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has shells looked for again, whenever that was done last.
pub(crate) fn look_again() {
    seen().clear();
}

/// Whether a program is there. It may lie on a file system whose server is gone: call it where waiting is allowed, or
/// right after that.
fn is_there(path: &Path) -> bool {
    if seen().iter().any(|(other, at)| other == path && at.elapsed() < FRESH) {
        return true;
    }
    let there = path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok();
    let mut seen = seen();
    seen.retain(|(other, at)| other != path && at.elapsed() < FRESH);
    if there && seen.len() < REMEMBERED {
        seen.push((path.to_owned(), Instant::now()));
    }
    there
}

/// Understands every line that a user without a shell of the list may send.
const FALLBACK: &str = "/bin/sh";

const SHELLS: [Shell; 8] = [
    Shell { name: "bash", plain: "--noprofile --norc", login: "-l" },
    Shell { name: "zsh", plain: "-f", login: "-l" },
    Shell { name: "fish", plain: "--no-config", login: "-l" },
    Shell { name: "sh", plain: "", login: "-l" },
    Shell { name: "dash", plain: "", login: "-l" },
    Shell { name: "ash", plain: "", login: "-l" },
    Shell { name: "ksh", plain: "", login: "-l" },
    Shell { name: "mksh", plain: "", login: "-l" },
];

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn each_shell_gets_its_own_options() {
        check("bash", false, &["DIR/bash", "--noprofile", "--norc", "-c", "echo hi"]);
        check("zsh", false, &["DIR/zsh", "-f", "-c", "echo hi"]);
        check("fish", false, &["DIR/fish", "--no-config", "-c", "echo hi"]);
        for other in ["dash", "ksh", "tcsh", "nologin", "rbash", "bash-5.2"] {
            check(other, false, &["/bin/sh", "-c", "echo hi"]);
        }
    }

    #[test]
    fn a_login_reads_the_start_up_files() {
        for shell in ["bash", "zsh", "fish", "dash", "ksh"] {
            check(shell, true, &[&format!("DIR/{shell}"), "-l", "-c", "echo hi"]);
        }
        for other in ["tcsh", "nologin", "false"] {
            check(other, true, &["/bin/sh", "-l", "-c", "echo hi"]);
        }
    }

    #[test]
    fn a_shell_that_is_not_there_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("bash")).unwrap();
        std::fs::write(directory.path().join("zsh"), "not executable").unwrap();
        let missing = directory.path().join("fish");
        let unusable = [directory.path().join("bash"), directory.path().join("zsh"), missing];
        for shell in unusable.into_iter().chain(["bash".into(), "".into()]) {
            let argv = command_line(OsStr::new("x"), &user(&shell), false).unwrap();
            assert_eq!(argv, ["/bin/sh", "-c", "x"], "{}", shell.display());
        }
    }

    #[test]
    fn nothing_but_blanks_is_no_command() {
        for line in ["", " ", "\n\t "] {
            let failure = command_line(OsStr::new(line), &user("/bin/sh".as_ref()), false);
            assert_eq!(failure.unwrap_err().kind, Kind::EmptyCommand);
        }
    }

    #[test]
    fn a_line_that_looks_like_an_option_is_still_a_line() {
        for shell in ["/bin/bash", "/bin/sh"] {
            for line in ["-x", "+x", "--version", "-c"] {
                let argv = command_line(OsStr::new(line), &user(shell.as_ref()), false).unwrap();
                let output = Command::new(&argv[0]).args(&argv[1..]).output().unwrap();
                let said = String::from_utf8_lossy(&output.stderr);
                assert_eq!(output.status.code(), Some(127), "{shell} {line}: {said}");
                assert!(said.contains(line), "{shell} {line}: {said}");
            }
        }
    }

    fn check(name: &str, login: bool, expected: &[&str]) {
        let directory = tempfile::tempdir().unwrap();
        let shell = directory.path().join(name);
        std::fs::write(&shell, "").unwrap();
        std::fs::set_permissions(&shell, PermissionsExt::from_mode(0o755)).unwrap();
        let argv = command_line(OsStr::new("echo hi"), &user(&shell), login).unwrap();
        let at = directory.path().to_str().unwrap();
        let argv: Vec<_> = argv.iter().map(|a| a.to_str().unwrap().replace(at, "DIR")).collect();
        assert_eq!(argv, expected);
    }

    fn user(shell: &Path) -> User {
        User {
            name: "ann".into(),
            uid: 1000,
            gid: 1000,
            home: "/home/ann".into(),
            shell: shell.into(),
            groups: vec![1000],
        }
    }
}
