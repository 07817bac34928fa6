//! The shell of a session, and the marks that it is taught without touching anybody's files.
//!
//! A session's shell is a login shell, as with SSH. bash and zsh get a directory of ours, open as
//! descriptor 3, with start-up files that first read the user's own as a login does, and then add
//! the marks of [`super::marks`]; they close the descriptor before they read any file of the user.
//! fish gets the same as an argument. The nonce comes in a variable that is gone before the first
//! prompt. Every other shell is started as it is, without marks.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use farwire_protocol::failure::{Failure, Kind};

use crate::os::environment::{self, Variable};
use crate::os::shell::is_program;

/// The variable with the nonce.
const NONCE: &str = "FARWIRE_MARKS";

/// Where a shell finds its start-up files.
const GIVEN: &str = "/proc/self/fd/3";

const FISH: &str = include_str!("shell/marks.fish");

const FILES: [(&str, &str); 5] = [
    ("bash", include_str!("shell/bash")),
    (".zshenv", include_str!("shell/zshenv")),
    (".zprofile", include_str!("shell/zprofile")),
    (".zshrc", include_str!("shell/zshrc")),
    (".zlogin", include_str!("shell/zlogin")),
];

/// How a login shell is started.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Login {
    pub(crate) argv: Vec<OsString>,
    pub(crate) env: Vec<Variable>,
    /// The directory that it gets as descriptor 3.
    pub(crate) directory: Option<PathBuf>,
    /// Whether it will write marks.
    pub(crate) marks: bool,
}

/// Writes the start-up files. Every user may read them; nobody else may enter the state's
/// directory.
pub(crate) fn prepare(state: &Path) -> Result<PathBuf, Failure> {
    let directory = state.join("shell");
    let write = || -> std::io::Result<()> {
        fs::create_dir_all(&directory)?;
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
        for (name, text) in FILES {
            // A shell that starts meanwhile reads the old one or the new one.
            let (new, path) = (directory.join(format!("{name}.new")), directory.join(name));
            if is_as_it_should_be(&path, text) {
                continue;
            }
            let written = fs::write(&new, text)
                .and_then(|()| fs::set_permissions(&new, fs::Permissions::from_mode(0o644)))
                .and_then(|()| fs::rename(&new, &path));
            if let Err(error) = written {
                // The part that has been written takes up space that may be needed.
                let _ = fs::remove_file(&new);
                return Err(error);
            }
        }
        Ok(())
    };
    match write() {
        Ok(()) => Ok(directory),
        // The disk is full, or cannot be written: everything else still works.
        Err(error) if directory.is_dir() => {
            let place = directory.display();
            tracing::error!(%place, %error, "the start-up files of shells cannot be written: sessions may lack shell integration");
            Ok(directory)
        }
        Err(error) => Err(Failure::new(Kind::Io, format!("{}: {error}", directory.display()))),
    }
}

fn is_as_it_should_be(path: &Path, text: &str) -> bool {
    let mode = fs::symlink_metadata(path)
        .map(|is| (is.is_file(), is.permissions().mode() & 0o777))
        .unwrap_or_default();
    mode == (true, 0o644) && fs::read(path).is_ok_and(|there| there == text.as_bytes())
}

/// Whether this is the name of a shell that can write marks, with or without a path.
pub(crate) fn is_name(word: &OsStr) -> bool {
    let name = Path::new(word).file_name().and_then(OsStr::to_str);
    name.is_some_and(|name| ["bash", "zsh", "fish"].contains(&name))
}

/// Finds the shell with this name or path, if it can write marks and exists. It may be on a file
/// system whose server is gone: call it where blocking is allowed.
pub(crate) fn find(word: &OsStr) -> Option<PathBuf> {
    let path = Path::new(word);
    let name = path.file_name().filter(|_| is_name(word))?;
    let places = match path.is_absolute() {
        true => vec![path.to_path_buf()],
        false if path == Path::new(name) => {
            environment::PATH.split(':').map(|place| Path::new(place).join(name)).collect()
        }
        false => Vec::new(),
    };
    places.into_iter().find(|path| is_program(path))
}

/// A login shell, with marks with this nonce if it can write any.
pub(crate) fn login(shell: &Path, files: &Path, nonce: &str) -> Login {
    let name = shell.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let with = |arguments: &[&str]| {
        let rest = arguments.iter().map(OsString::from);
        [shell.as_os_str().to_owned()].into_iter().chain(rest).collect()
    };
    let nonce = (NONCE.into(), nonce.into());
    let directory = cfg!(target_os = "linux").then(|| files.to_path_buf());
    match name {
        "bash" if directory.is_some() => {
            let file = format!("{GIVEN}/bash");
            let argv = with(&["--rcfile", &file, "-i"]);
            Login { argv, env: vec![nonce], directory, marks: true }
        }
        "zsh" if directory.is_some() => {
            let env = vec![nonce, ("ZDOTDIR".into(), GIVEN.into())];
            Login { argv: with(&["-l", "-i"]), env, directory, marks: true }
        }
        "fish" => {
            let argv = with(&["-l", "-i", "-C", FISH]);
            Login { argv, env: vec![nonce], directory: None, marks: true }
        }
        "sh" | "dash" | "ash" | "ksh" | "mksh" => {
            Login { argv: with(&["-l", "-i"]), env: Vec::new(), directory: None, marks: false }
        }
        _ => Login { argv: with(&[]), env: Vec::new(), directory: None, marks: false },
    }
}

#[cfg(test)]
mod tests;
