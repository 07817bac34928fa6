//! What the tasks do: each builds what it needs and runs it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is in the workspace").to_path_buf()
}

/// A cargo command in the root of the workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}").replace('"', "");
    let status = command.status().with_context(|| format!("cannot run {shown}"))?;
    if !status.success() {
        bail!("{status}: {shown}");
    }
    Ok(())
}

/// Where cargo puts what it builds.
fn target(profile: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    root().join(target.unwrap_or_else(|| "target".into())).join(profile)
}

/// Builds the three programs and gives the directory that they are in.
pub(crate) fn programs(release: bool) -> Result<PathBuf> {
    let mut build =
        cargo(&["build", "-p", "farwire", "-p", "farwire-agent", "-p", "farwire-relay"]);
    if release {
        build.arg("--release");
    }
    run(&mut build)?;
    Ok(target(if release { "release" } else { "debug" }))
}

pub(crate) fn demo(arguments: &[String]) -> Result<()> {
    run(Command::new(programs(false)?.join("farwire")).arg("demo").args(arguments))
}

pub(crate) fn test(arguments: &[String]) -> Result<()> {
    let programs = programs(false)?;
    run(cargo(&["test", "--workspace"]).args(arguments).env("FARWIRE_PROGRAMS", programs))
}

pub(crate) fn bench(arguments: &[String]) -> Result<()> {
    let programs = programs(true)?;
    let script = root().join("xtask/bench/run.py");
    run(Command::new("python3").arg(script).arg("--programs").arg(programs).args(arguments))
}

pub(crate) fn reference(directory: &Path) -> Result<()> {
    run(Command::new(programs(false)?.join("farwire")).arg("reference").arg(directory))
}

pub(crate) fn lab(arguments: &[String]) -> Result<()> {
    let programs = programs(false)?;
    let script = root().join("tests/lab.sh");
    run(Command::new("bash").arg(script).args(arguments).env("FARWIRE_PROGRAMS", programs))
}

/// The targets are ordinary tests whose names say that any input is read without a panic.
pub(crate) fn fuzz(iterations: u32) -> Result<()> {
    let mut tests = cargo(&["test", "--workspace", "--release", "--lib", "--", "without_a_panic"]);
    run(tests.env("BOLERO_RANDOM_ITERATIONS", iterations.to_string()))
}
