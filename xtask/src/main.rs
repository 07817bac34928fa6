//! `cargo xtask`: the tasks of this repository, the same on every machine and in CI.
//!
//! Each task is a file here; `cargo.rs` and `files.rs` have what they share. A task ends with the
//! exit code of the program that failed in it, so that `cargo xtask test` can stand wherever
//! `cargo test` could.

mod cargo;
mod files;

mod demo;
mod test;

mod ci;
mod reference;

mod bench;
mod fuzz;
mod lab;
mod show;
mod soak;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The tasks of this repository
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Demo(demo::Demo),
    Test(test::Test),
    Ci(ci::Ci),
    Tidy(ci::Tidy),
    Bench(bench::Bench),
    Reference(reference::Reference),
    Lab(lab::Lab),
    Fuzz(fuzz::Fuzz),
    Soak(soak::Soak),
    Show(show::Show),
}

fn main() -> ExitCode {
    match carry_out(Arguments::parse_from(arguments(std::env::args_os())).task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            let code = error.downcast_ref::<cargo::Ended>().map_or(1, cargo::Ended::code);
            ExitCode::from(code)
        }
    }
}

/// The command line, so that a `--` behind the task reaches the program that it was meant for.
fn arguments(given: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = given.into_iter().collect();
    if arguments.get(2).is_some_and(|argument| argument == "--") {
        // Clap takes the first one for itself.
        arguments.insert(2, "--".into());
    }
    arguments
}

fn carry_out(task: Task) -> Result<()> {
    match task {
        Task::Demo(demo) => demo.carry_out(),
        Task::Test(test) => test.carry_out(),
        Task::Ci(ci) => ci.carry_out(),
        Task::Tidy(tidy) => tidy.carry_out(),
        Task::Bench(bench) => bench.carry_out(),
        Task::Reference(reference) => reference.carry_out(),
        Task::Lab(lab) => lab.carry_out(),
        Task::Fuzz(fuzz) => fuzz.carry_out(),
        Task::Soak(soak) => soak.carry_out(),
        Task::Show(show) => show.carry_out(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::{Arguments, Parser as _, Task, arguments};

    #[test]
    fn the_command_line_holds_together() {
        Arguments::command().debug_assert();
    }

    fn check(line: &str) -> Task {
        Arguments::parse_from(arguments(line.split(' ').map(Into::into))).task
    }

    #[test]
    fn what_is_not_ours_is_passed_on_untouched() {
        for line in [
            "-p xtask run::",
            "run:: -- --nocapture",
            "-- --nocapture",
            "--no-run -- --",
            "--release",
        ] {
            let Task::Test(test) = check(&format!("xtask test {line}")) else { panic!("no test") };
            assert_eq!(test.arguments.join(" "), line);
        }
    }

    #[test]
    fn what_is_ours_is_not_passed_on() {
        let Task::Demo(demo) = check("xtask demo --release --keep") else { panic!("no demo") };
        assert!(demo.release);
        assert_eq!(demo.arguments, ["--keep"]);
        let Task::Soak(soak) = check("xtask soak --dev sessions --count 9") else { panic!("none") };
        assert!(soak.dev);
        assert_eq!(soak.arguments, ["sessions", "--count", "9"]);
    }
}
