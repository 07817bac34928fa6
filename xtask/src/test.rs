//! `cargo xtask test`: the programs, and then every test, those of the programs together included.
//!
//! `tests/` runs the programs as processes. Cargo does not build the programs of other crates for a
//! test, so that a plain `cargo test` would try yesterday's.

use std::ffi::OsString;
use std::num::NonZero;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::cargo::{Build, answer, cargo, programs, run};

/// Build the three programs and run all tests
///
/// Ends with the exit code of `cargo test`.
#[derive(Args, Debug)]
pub(crate) struct Test {
    /// Run the tests as this user of this machine, and build as yourself; needs root, and setpriv
    /// from util-linux
    #[arg(long, value_name = "USER")]
    pub(crate) as_user: Option<String>,
    /// Passed to `cargo test`: `cargo xtask test -p farwire-relay`,
    /// `cargo xtask test run:: -- --nocapture`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<String>,
}

impl Test {
    pub(crate) fn carry_out(&self) -> Result<()> {
        let programs = programs(Build::WithTests)?;
        let mut command = cargo(&["test"]);
        if let Some(user) = &self.as_user {
            let runner = runner(user)?;
            can_reach(&runner, &programs.join("farwire"))?;
            command.arg("--config").arg(format!("target.'cfg(all())'.runner={runner:?}"));
        }
        if std::env::var_os(THREADS).is_none() {
            let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
            command.env(THREADS, threads(cores).to_string());
        }
        run(command
            .args(selection(&self.arguments))
            .args(&self.arguments)
            .env("FARWIRE_PROGRAMS", programs))
    }
}

/// How many tests run at a time, for every test program that does not get `--test-threads`.
const THREADS: &str = "RUST_TEST_THREADS";

/// Returns how many tests run at a time on a machine with `cores`: two for each core, but more than
/// 16 only where there are more cores.
///
/// A test of the programs together mostly waits for them: on two cores the suite takes 13 minutes
/// with two threads and 9 with four. Each of them starts a relay, agents and bridges, which need
/// memory and do not only wait, hence the limit.
///
/// Unit tests get as many threads. One `cargo test` has to run everything: with other packages
/// selected, libraries would have other features and be built again.
fn threads(cores: usize) -> usize {
    const MANY: usize = 16;
    (2 * cores).min(MANY).max(cores)
}

/// What stands before each test program so that it runs as this user. Nothing of whoever builds is
/// left in its environment, nor a home directory: programs that nobody logged in for have none
/// either.
fn runner(user: &str) -> Result<Vec<String>> {
    let number = |flag: &str| -> Result<String> {
        let id = answer(Command::new("id").args([flag, "--", user]))?;
        Ok(id.trim().to_owned())
    };
    let (uid, gid) = (number("-u")?, number("-g")?);
    if uid == "0" {
        bail!("`{user}` is root");
    }
    let mut words: Vec<_> = ["setpriv", "--reuid", &uid, "--regid", &gid, "--init-groups", "--"]
        .map(String::from)
        .into();
    words.push("env".into());
    for name in ["HOME", "USER", "LOGNAME", "MAIL", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"]
        .into_iter()
        .chain(["XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "TMPDIR", "SUDO_USER"])
    {
        words.extend(["-u".into(), name.into()]);
    }
    Ok(words)
}

/// That the user can start the programs: a directory above them may be closed.
fn can_reach(runner: &[String], program: &Path) -> Result<()> {
    let (first, rest) = runner.split_first().context("a runner has a program")?;
    let reached = Command::new(first).args(rest).arg("test").arg("-x").arg(program).status();
    match reached.context("setpriv of util-linux is needed")?.success() {
        true => Ok(()),
        false => bail!(
            "{} cannot be started by that user: build where everybody can read",
            program.display()
        ),
    }
}

/// All crates unless some are named, and all of their tests even when one failed.
fn selection(arguments: &[String]) -> Vec<OsString> {
    let ours = || arguments.iter().take_while(|argument| *argument != "--");
    let mut more = Vec::new();
    if !ours().any(|argument| argument.starts_with("-p") || argument.starts_with("--package")) {
        more.push("--workspace".into());
    }
    if !ours().any(|argument| argument == "--no-fail-fast") {
        more.push("--no-fail-fast".into());
    }
    more
}

#[cfg(test)]
mod tests {
    use super::{selection, threads};

    #[test]
    fn tests_that_wait_share_the_cores() {
        for (cores, expected) in [(1, 2), (2, 4), (8, 16), (12, 16), (64, 64)] {
            assert_eq!(threads(cores), expected, "{cores} cores");
        }
    }

    fn check(arguments: &[&str], expected: &[&str]) {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.into()).collect();
        assert_eq!(selection(&arguments), expected, "{arguments:?}");
    }

    #[test]
    fn all_crates_are_tested_unless_some_are_named() {
        check(&[], &["--workspace", "--no-fail-fast"]);
        check(&["run::"], &["--workspace", "--no-fail-fast"]);
        check(&["-p", "farwire"], &["--no-fail-fast"]);
        check(&["--package=farwire", "--no-fail-fast"], &[]);
        check(&["--test", "it", "--", "-p"], &["--workspace", "--no-fail-fast"]);
    }
}
