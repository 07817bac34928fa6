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

use farwire_protocol::failure::{Failure, Kind};

/// A login shell, or a substitute if it does not exist. It may be on a file system whose server is
/// gone: call it where blocking is allowed.
pub(crate) fn usable(shell: PathBuf) -> PathBuf {
    if shell.is_absolute() && is_program(&shell) { shell } else { FALLBACK.into() }
}

/// Whether a program exists. It may block, like [`usable`].
pub(crate) fn is_program(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

/// The program and the arguments that carry out `line` for a user with this login shell, which is
/// [`usable`].
pub(crate) fn command_line(
    line: &OsStr,
    shell: &Path,
    login: bool,
) -> Result<Vec<OsString>, Failure> {
    if line.as_bytes().iter().all(u8::is_ascii_whitespace) {
        return Err(Failure::new(Kind::EmptyCommand, "the command line is empty"));
    }
    let known = SHELLS.iter().find(|known| shell.file_name() == Some(OsStr::new(known.name)));
    let (program, options) = match known {
        Some(known) if login => (shell.as_os_str(), known.login),
        Some(known) if !known.plain.is_empty() => (shell.as_os_str(), known.plain),
        _ if login => (OsStr::new(FALLBACK), "-l"),
        _ => (OsStr::new(FALLBACK), ""),
    };
    let mut argv = vec![program.to_owned()];
    argv.extend(options.split_whitespace().map(OsString::from));
    argv.push("-c".into());
    argv.push(operand(line));
    Ok(argv)
}

/// The line as an operand: shells take a leading `-` or `+` for another option, even after `-c`,
/// and not all of them know `--` there. A blank before it changes nothing else.
fn operand(line: &OsStr) -> OsString {
    if !matches!(line.as_bytes().first(), Some(b'-' | b'+')) {
        return line.to_owned();
    }
    let mut text = OsString::from(" ");
    text.push(line);
    text
}

/// A known shell.
struct Shell {
    /// The name of its file.
    name: &'static str,
    /// The options that skip its start-up files; empty where `/bin/sh` is used instead.
    plain: &'static str,
    /// The option that makes it a login shell.
    login: &'static str,
}

/// The shell for users without a known one.
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
            assert_eq!(usable(shell.clone()), Path::new("/bin/sh"), "{}", shell.display());
        }
        assert_eq!(usable("/bin/sh".into()), Path::new("/bin/sh"));
        let there = directory.path().join("ksh");
        std::fs::write(&there, "").unwrap();
        std::fs::set_permissions(&there, PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(usable(there.clone()), there);
    }

    #[test]
    fn nothing_but_blanks_is_no_command() {
        for line in ["", " ", "\n\t "] {
            let failure = command_line(OsStr::new(line), Path::new("/bin/sh"), false);
            assert_eq!(failure.unwrap_err().kind, Kind::EmptyCommand);
        }
    }

    #[test]
    fn a_line_that_looks_like_an_option_is_still_a_line() {
        for shell in ["/bin/bash", "/bin/sh"] {
            for line in ["-x", "+x", "--version", "-c"] {
                let argv = command_line(OsStr::new(line), Path::new(shell), false).unwrap();
                let output = Command::new(&argv[0]).args(&argv[1..]).output().unwrap();
                let said = String::from_utf8_lossy(&output.stderr);
                assert_eq!(output.status.code(), Some(127), "{shell} {line}: {said}");
                assert!(said.contains(line), "{shell} {line}: {said}");
            }
        }
    }

    fn check(name: &str, login: bool, expected: &[&str]) {
        let shell = Path::new("DIR").join(name);
        let argv = command_line(OsStr::new("echo hi"), &shell, login).unwrap();
        assert_eq!(argv, expected);
    }
}
