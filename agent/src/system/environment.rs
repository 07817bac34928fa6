//! The environment of a run: made from nothing, so that nothing of ours leaks into it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::run::Variable;

use crate::system::user::User;

/// Where programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is taken over from our own environment: language and time zone.
const INHERITED: &[&str] = &["LANG", "LANGUAGE", "TZ"];

/// There is no terminal and nobody to ask: programs are told so in the ways they know.
const NO_TERMINAL: &[(&str, &str)] = &[
    ("TERM", "dumb"),
    ("NO_COLOR", "1"),
    ("PAGER", "cat"),
    ("GIT_PAGER", "cat"),
    ("SYSTEMD_PAGER", "cat"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("DEBIAN_FRONTEND", "noninteractive"),
];

/// The complete environment for a program of this user, with what the request sets on top.
///
/// A request may set `LD_PRELOAD` and its likes: whoever may run a command can do that anyway.
pub(crate) fn complete(
    user: &User,
    request: &[Variable],
) -> Result<Vec<(OsString, OsString)>, Failure> {
    let mut all = BTreeMap::new();
    for (name, value) in std::env::vars_os() {
        let kept = name.to_str().is_some_and(|n| INHERITED.contains(&n) || n.starts_with("LC_"));
        if kept {
            all.insert(name, value);
        }
    }
    for (name, value) in NO_TERMINAL {
        all.insert(name.into(), value.into());
    }
    for (name, value) in [
        ("PATH", OsString::from(PATH)),
        ("HOME", user.home.clone().into()),
        ("SHELL", user.shell.clone().into()),
        ("USER", user.name.clone().into()),
        ("LOGNAME", user.name.clone().into()),
    ] {
        all.insert(name.into(), value);
    }
    for Variable { name, value } in request {
        check(name, value)?;
        all.insert(OsString::from_vec(name.to_vec()), OsString::from_vec(value.to_vec()));
    }
    Ok(all.into_iter().collect())
}

fn check(name: &[u8], value: &[u8]) -> Result<(), Failure> {
    let shown = String::from_utf8_lossy(name).escape_default().to_string();
    let starts = name.first().is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_');
    if !starts || !name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
        let message = format!("`{shown}` is not a name for an environment variable");
        return Err(Failure::new(Kind::InvalidArgument, message));
    }
    if value.contains(&0) {
        let message = format!("the value of `{shown}` contains a NUL");
        return Err(Failure::new(Kind::InvalidArgument, message));
    }
    Ok(())
}

/// The value of a variable in a complete environment.
pub(crate) fn value<'a>(all: &'a [(OsString, OsString)], name: &str) -> Option<&'a [u8]> {
    all.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_bytes())
}

#[cfg(test)]
mod tests {
    use farwire_protocol::cbor::Blob;

    use super::*;

    fn variable(name: &str, value: &str) -> Variable {
        Variable { name: Blob(name.into()), value: Blob(value.into()) }
    }

    #[test]
    fn the_request_wins_and_nothing_else_is_inherited() {
        let all = complete(&User::current(), &[variable("TERM", "xterm"), variable("A_1", "x y")])
            .unwrap();
        assert_eq!(value(&all, "TERM"), Some(b"xterm".as_slice()));
        assert_eq!(value(&all, "A_1"), Some(b"x y".as_slice()));
        assert_eq!(value(&all, "CARGO_MANIFEST_DIR"), None, "cargo sets it for this very test");
    }

    #[test]
    fn names_and_values_that_the_kernel_would_misread_are_refused() {
        for bad in ["", "1A", "A=B", "A B", "É"] {
            assert!(complete(&User::current(), &[variable(bad, "x")]).is_err(), "{bad}");
        }
        assert!(complete(&User::current(), &[variable("A", "x\0y")]).is_err());
    }
}
