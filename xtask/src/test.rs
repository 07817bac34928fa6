//! `cargo xtask test`: the programs, and then every test, those of the programs together included.
//!
//! `tests/` runs the programs as processes. Cargo does not build the programs of other crates for a
//! test, so that a plain `cargo test` would try yesterday's.

use std::ffi::OsString;

use anyhow::Result;
use clap::Args;

use crate::cargo::{Build, cargo, programs, run};

/// Build the three programs and run all tests
///
/// Ends with the exit code of `cargo test`.
#[derive(Args, Debug)]
pub(crate) struct Test {
    /// Passed to `cargo test`: `cargo xtask test -p farwire-relay`, `cargo xtask test run:: -- --nocapture`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<String>,
}

impl Test {
    pub(crate) fn carry_out(&self) -> Result<()> {
        let programs = programs(Build::WithTests)?;
        run(cargo(&["test"])
            .args(selection(&self.arguments))
            .args(&self.arguments)
            .env("FARWIRE_PROGRAMS", programs))
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
    use super::selection;

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
        check(&["--", "-p"], &["--workspace", "--no-fail-fast"]);
    }
}
