//! How a task starts another program: cargo, git, and the programs, which are built first.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// How the three programs are built.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Build {
    /// As `cargo build` does it: the quickest way to something that runs.
    Alone,
    /// With the tests. Tests switch on features of libraries, and libraries with other features are
    /// other libraries: built alone, the programs would need most of them a second time.
    WithTests,
    /// As they are shipped, with the simulated agents of the benchmark.
    Release,
}

/// A program ended badly; the task ends with the same code.
#[derive(Debug)]
pub(crate) struct Ended {
    shown: String,
    status: ExitStatus,
}

impl Ended {
    /// The exit code that this task ends with.
    pub(crate) fn code(&self) -> u8 {
        self.status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ended with {}", self.shown, self.status)
    }
}

impl std::error::Error for Ended {}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is in the workspace").to_path_buf()
}

/// The cargo that runs us, in the root of the workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// Git, in the root of the workspace.
pub(crate) fn git(arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.args(arguments).current_dir(root());
    command
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = command_line(command);
    let status = command.status().with_context(|| format!("cannot run `{shown}`"))?;
    if status.success() { Ok(()) } else { Err(Ended { shown, status }.into()) }
}

/// Runs a command to its end and gives its standard output.
pub(crate) fn answer(command: &mut Command) -> Result<String> {
    let shown = command_line(command);
    command.stderr(Stdio::inherit());
    let output = command.output().with_context(|| format!("cannot run `{shown}`"))?;
    if !output.status.success() {
        return Err(Ended { shown, status: output.status }.into());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{shown}` wrote no text"))
}

/// What `cargo metadata` says.
pub(crate) fn metadata(arguments: &[&str]) -> Result<Value> {
    let text = answer(cargo(&["metadata", "--format-version", "1"]).args(arguments))?;
    serde_json::from_str(&text).context("`cargo metadata` wrote no JSON")
}

/// The crates that `cargo tree` names, each with its features.
///
/// Unlike `cargo metadata`, this tells a library that is built from one that some platform of
/// somebody else's would need.
pub(crate) fn tree(arguments: &[&str]) -> Result<BTreeMap<String, String>> {
    let text = answer(cargo(&["tree", "--prefix", "none", "--format", "{p}|{f}"]).args(arguments))?;
    let crates: BTreeMap<String, String> = text.lines().filter_map(crate_in).collect();
    if crates.is_empty() {
        bail!("`cargo tree` named no crate");
    }
    Ok(crates)
}

/// Builds the three programs and gives the directory that they are in.
pub(crate) fn programs(build: Build) -> Result<PathBuf> {
    const PROGRAMS: [&str; 6] = ["-p", "farwire", "-p", "farwire-agent", "-p", "farwire-relay"];
    let mut command = cargo(&["build"]);
    match build {
        Build::Alone => command.args(PROGRAMS),
        Build::WithTests => command.args(["--workspace", "--bins", "--tests"]),
        Build::Release => {
            command.args(["--release", "--bins"]).args(PROGRAMS).args(["-p", "farwire-tests"])
        }
    };
    run(&mut command)?;
    let profile = if matches!(build, Build::Release) { "release" } else { "debug" };
    Ok(target()?.join(profile))
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> Result<PathBuf> {
    let metadata = metadata(&["--no-deps"])?;
    let directory = metadata["target_directory"].as_str();
    Ok(directory.context("`cargo metadata` names no target directory")?.into())
}

/// A command as one would type it.
fn command_line(command: &Command) -> String {
    let program =
        Path::new(command.get_program()).file_name().unwrap_or_else(|| command.get_program());
    let words = std::iter::once(program).chain(command.get_args()).map(|word| {
        let word = word.to_string_lossy();
        if word.is_empty() || word.contains([' ', '|', '{']) {
            format!("'{word}'")
        } else {
            word.into_owned()
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// `name v1.2.3 (origin)|one,two`, without which a line of `cargo tree` is empty.
fn crate_in(line: &str) -> Option<(String, String)> {
    let (package, features) = line.split_once('|')?;
    let name = package.split_whitespace().next()?;
    // A crate whose dependencies were shown before is marked behind its features.
    let features = features.strip_suffix("(*)").unwrap_or(features).trim_end();
    Some((name.to_owned(), features.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{Ended, cargo, command_line, crate_in, run};

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let command = cargo(&["test", "-p", "xtask", "two words"]);
        let shown = command_line(&command);
        assert!(shown.ends_with(" test -p xtask 'two words'"), "{shown}");
        assert!(!shown.contains('/'), "{shown}");
    }

    #[test]
    fn the_exit_code_of_what_failed_is_kept() {
        let mut command = Command::new("sh");
        let error = run(command.args(["-c", "exit 101"])).expect_err("it fails");
        let ended = error.downcast_ref::<Ended>().expect("it ended");
        assert_eq!(ended.code(), 101);
        // The steps of CI add their name, and keep it too.
        let error = error.context("a step");
        assert!(error.downcast_ref::<Ended>().is_some());
    }

    #[test]
    fn a_line_of_the_tree_is_a_crate_with_its_features() {
        let read = |line| crate_in(line).map(|(name, features)| format!("{name}: {features}"));
        assert_eq!(read("snow v0.10.0|risky,std"), Some("snow: risky,std".into()));
        assert_eq!(
            read("farwire-link v0.1.0 (/a b)|inner (*)"),
            Some("farwire-link: inner".into())
        );
        assert_eq!(read("log v0.4.0| (*)"), Some("log: ".into()));
        assert_eq!(read(""), None);
    }
}
