//! The environment of a run: complete, and with nothing of the agent's own but what is listed.
//!
//! From below upwards, a later one replacing an earlier one:
//!
//! 1. of the agent's own: `LANG`, `LC_*`, `TZ`;
//! 2. the user: `HOME`, `USER`, `LOGNAME`, `SHELL`, and a `PATH` of the system's directories,
//!    before them `~/.local/bin` for a login;
//! 3. without a terminal nobody is there to look or to answer: `TERM=dumb`, `NO_COLOR`, no pagers,
//!    no questions;
//! 4. the variables of the request;
//! 5. [`MARK`], by which a process is known as part of this run even after it has left the group.
//!
//! The request may set everything but the mark, `LD_PRELOAD`, `LD_LIBRARY_PATH` and `LD_AUDIT`
//! included: whoever may run a command line could set them there, so refusing them protects nobody.
//! They take effect in the program only, never in the agent, which starts it with `execve`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::run::COMMAND_LIMIT;

use super::quote::quote;
use super::user::User;

/// A name and a value.
pub(crate) type Variable = (OsString, OsString);

/// The variable that every process of a run inherits, with the run's mark as its value.
pub(crate) const MARK: &str = "FARWIRE_RUN";

/// Where programs are searched by default.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Whose environment it is, and how it was requested.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunContext<'a> {
    /// Who runs.
    pub(crate) user: &'a User,
    /// Whether through a login shell.
    pub(crate) login: bool,
    /// Whether on a terminal, with somebody who looks and answers.
    pub(crate) terminal: bool,
    /// The value of [`MARK`]: letters and digits that no other run has.
    pub(crate) mark: &'a str,
}

/// The environment of a run. `own` is the agent's, as `std::env::vars_os` gives it.
pub(crate) fn environment(
    run: RunContext<'_>,
    own: impl IntoIterator<Item = Variable>,
    requested: &[Variable],
) -> Result<Vec<Variable>, Failure> {
    for (name, value) in requested {
        check(name, value)?;
    }
    let user = run.user;
    let mut all: BTreeMap<OsString, OsString> =
        own.into_iter().filter(|(name, _)| passes(name)).collect();
    let given: &[(&str, &str)] = if run.terminal { &TERMINAL } else { &QUIET };
    for (name, value) in given {
        all.insert(name.into(), value.into());
    }
    if run.terminal && !all.keys().any(|name| name == "LANG" || name == "LC_ALL") {
        // What the screen is drawn with is UTF-8.
        all.insert("LANG".into(), "C.UTF-8".into());
    }
    all.insert("HOME".into(), user.home.clone().into());
    all.insert("USER".into(), user.name.clone());
    all.insert("LOGNAME".into(), user.name.clone());
    all.insert("SHELL".into(), user.shell.clone().into());
    all.insert("PATH".into(), search_path(user, run.login));
    all.extend(requested.iter().cloned());
    all.insert(MARK.into(), run.mark.into());
    Ok(all.into_iter().collect())
}

/// Refuses a command that is too large, counted as the kernel stores it: each text with a NUL.
///
/// What was requested is counted, not what [`environment`] adds, so that both ends of the wire come
/// to the same result.
pub(crate) fn check_size(argv: &[OsString], requested: &[Variable]) -> Result<(), Failure> {
    let arguments: usize = argv.iter().map(|text| text.len() + 1).sum();
    let variables: usize =
        requested.iter().map(|(name, value)| name.len() + 1 + value.len() + 1).sum();
    if arguments.saturating_add(variables) <= COMMAND_LIMIT {
        return Ok(());
    }
    Err(Failure::new(
        Kind::TooLarge,
        format!(
            "the arguments have {arguments} bytes and the variables {variables}, \
             together at most {COMMAND_LIMIT} are allowed"
        ),
    ))
}

/// Whether a variable of the agent's own is passed on to programs: language and time zone are.
fn passes(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name == b"LANG" || name == b"TZ" || (name.starts_with(b"LC_") && is_name(name))
}

fn check(name: &OsStr, value: &OsStr) -> Result<(), Failure> {
    let wrong = |what: String| Err(Failure::new(Kind::InvalidArgument, what));
    if !is_name(name.as_bytes()) {
        let shown = quote(name);
        return wrong(format!(
            "{shown} is not the name of a variable: use only letters, digits and `_`"
        ));
    }
    if value.as_bytes().contains(&0) {
        return wrong(format!("the value of the variable {} contains a NUL byte", quote(name)));
    }
    Ok(())
}

/// A name that every shell accepts: `[A-Za-z_][A-Za-z0-9_]*`.
fn is_name(name: &[u8]) -> bool {
    name.first().is_some_and(|first| !first.is_ascii_digit())
        && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

/// Where programs of this user are searched.
fn search_path(user: &User, login: bool) -> OsString {
    let home = user.home.as_os_str();
    // A colon in it would split it into two directories.
    if !login || !user.home.is_absolute() || home.as_bytes().contains(&b':') {
        return PATH.into();
    }
    let mut path = user.home.join(".local/bin").into_os_string();
    path.push(":");
    path.push(PATH);
    path
}

/// What a terminal of ours can do.
const TERMINAL: [(&str, &str); 2] = [("TERM", "xterm-256color"), ("COLORTERM", "truecolor")];

/// What keeps programs from drawing, paging and asking.
const QUIET: [(&str, &str); 6] = [
    ("TERM", "dumb"),
    ("NO_COLOR", "1"),
    ("PAGER", "cat"),
    ("GIT_PAGER", "cat"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("DEBIAN_FRONTEND", "noninteractive"),
];

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_plain_run_sees_exactly_this() {
        check_built(
            false,
            &[],
            "DEBIAN_FRONTEND=noninteractive GIT_PAGER=cat GIT_TERMINAL_PROMPT=0 FARWIRE_RUN=r1 \
             HOME=/home/ann LANG=C.UTF-8 LC_TIME=de_DE LOGNAME=ann NO_COLOR=1 PAGER=cat \
             PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin SHELL=/bin/zsh \
             TERM=dumb TZ=Europe/Vienna USER=ann",
        );
    }

    #[test]
    fn what_the_request_sets_replaces_ours_but_never_the_mark() {
        check_built(
            true,
            &[("TERM", "xterm"), ("A", "1"), ("A", "2"), ("LD_PRELOAD", "/x.so"), (MARK, "fake")],
            "A=2 DEBIAN_FRONTEND=noninteractive GIT_PAGER=cat GIT_TERMINAL_PROMPT=0 FARWIRE_RUN=r1 \
             HOME=/home/ann LANG=C.UTF-8 LC_TIME=de_DE LD_PRELOAD=/x.so LOGNAME=ann NO_COLOR=1 \
             PAGER=cat PATH=/home/ann/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin\
             :/sbin:/bin SHELL=/bin/zsh TERM=xterm TZ=Europe/Vienna USER=ann",
        );
    }

    #[test]
    fn a_home_with_a_colon_adds_no_directories() {
        let mut user = ann();
        for home in ["/home/a:/tmp", "", "relative"] {
            user.home = home.into();
            assert_eq!(search_path(&user, true), PATH);
        }
    }

    #[test]
    fn names_and_values_that_no_shell_can_take_are_refused() {
        for name in ["", "1A", "A=B", "A B", "A\0", "A-B", "Ä", "BASH_FUNC_x%%", "a\n"] {
            refused(name, "", "is not the name of a variable");
        }
        refused("A", "x\0y", "the value of the variable `A` contains a NUL byte");
        for name in ["_", "a1", "LD_AUDIT", "_9"] {
            build(false, &[(name, "any \n bytes = \u{fc}")]).unwrap();
        }
    }

    #[test]
    fn arguments_and_variables_together_have_64_kib() {
        let argv = |size: usize| vec![OsString::from("x".repeat(size))];
        let variables = [variable("AB", "cd")];
        check_size(&argv(COMMAND_LIMIT - 1 - 6), &variables).unwrap();
        let failure = check_size(&argv(COMMAND_LIMIT - 6), &variables).unwrap_err();
        assert_eq!(failure.kind, Kind::TooLarge);
        assert_eq!(
            failure.message,
            "the arguments have 65531 bytes and the variables 6, together at most 65536 are allowed"
        );
        // Empty ones are not free.
        assert!(check_size(&vec![OsString::new(); COMMAND_LIMIT + 1], &[]).is_err());
    }

    proptest! {
        #[test]
        fn nothing_of_the_agent_passes_that_is_not_listed(names in prop::collection::vec("[A-Z_]{1,12}", 0..20)) {
            let own = names.iter().map(|name| variable(name, "secret"));
            for (name, value) in environment(run(&ann(), false), own, &[]).unwrap() {
                let name = name.to_str().unwrap();
                let listed = name == "LANG" || name == "TZ" || name.starts_with("LC_");
                prop_assert!(listed || value != "secret", "{}", name);
            }
        }
    }

    #[test]
    fn no_bytes_are_too_odd() {
        bolero::check!().for_each(|bytes: &[u8]| {
            let mut pieces = bytes.split(|b| *b == b'=').map(|p| OsString::from_vec(p.to_vec()));
            let requested = [(pieces.next().unwrap(), pieces.next().unwrap_or_default())];
            let Ok(all) = environment(run(&ann(), true), [], &requested) else { return };
            assert!(all.iter().all(|(name, value)| check(name, value).is_ok()));
        });
    }

    fn ann() -> User {
        User {
            name: "ann".into(),
            uid: 1000,
            gid: 1000,
            home: "/home/ann".into(),
            shell: "/bin/zsh".into(),
            groups: vec![1000],
        }
    }

    fn run(user: &User, login: bool) -> RunContext<'_> {
        RunContext { user, login, terminal: false, mark: "r1" }
    }

    fn variable(name: &str, value: &str) -> Variable {
        (name.into(), value.into())
    }

    fn build(login: bool, requested: &[(&str, &str)]) -> Result<Vec<Variable>, Failure> {
        let own = [
            ("LANG", "C.UTF-8"),
            ("LC_TIME", "de_DE"),
            ("LC_A=B", "x"),
            ("TZ", "Europe/Vienna"),
            ("SECRET", "x"),
            ("HOME", "/root"),
            ("PATH", "/agent"),
            ("LANGUAGE", "de"),
        ];
        let requested: Vec<Variable> = requested.iter().map(|(n, v)| variable(n, v)).collect();
        environment(run(&ann(), login), own.map(|(n, v)| variable(n, v)), &requested)
    }

    /// Compares with `NAME=VALUE` texts in any order, set apart by blanks.
    fn check_built(login: bool, requested: &[(&str, &str)], expected: &str) {
        let text = |(name, value): &Variable| format!("{}={}", name.display(), value.display());
        let mut built: Vec<String> = build(login, requested).unwrap().iter().map(text).collect();
        let mut expected: Vec<&str> = expected.split(' ').collect();
        built.sort_unstable();
        expected.sort_unstable();
        assert_eq!(built, expected);
    }

    fn refused(name: &str, value: &str, message: &str) {
        let failure = build(false, &[(name, value)]).unwrap_err();
        assert_eq!(failure.kind, Kind::InvalidArgument);
        assert!(failure.message.contains(message), "{failure}");
    }
}
