//! `cargo xtask`: the tasks of this repository, the same on every machine.

mod ci;
mod licences;
mod steps;
mod tidy;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The tasks of this repository
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Build the three programs and run the demonstration
    Demo {
        /// Passed to `farwire demo`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Build the three programs and run all tests
    Test {
        /// Passed to `cargo test`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Everything that must hold before a change lands
    Ci {
        /// Only these steps
        steps: Vec<String>,
        /// Not these steps
        #[arg(long, value_name = "STEP")]
        skip: Vec<String>,
    },
    /// Measure this build beside its peers
    Bench {
        /// Passed to xtask/bench/run.py
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Write docs/reference from the program
    Reference,
    /// Run the programs in network namespaces behind NAT (needs root and a lab, see docs/lab.md)
    Lab {
        /// Passed to tests/lab.sh
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run the fuzz targets for longer than the tests do
    Fuzz {
        /// How many inputs for each target
        #[arg(long, default_value_t = 200_000)]
        iterations: u32,
    },
}

fn main() -> ExitCode {
    match carry_out(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(task: Task) -> Result<()> {
    match task {
        Task::Demo { arguments } => steps::demo(&arguments),
        Task::Test { arguments } => steps::test(&arguments),
        Task::Ci { steps, skip } => ci::run(&steps, &skip),
        Task::Bench { arguments } => steps::bench(&arguments),
        Task::Reference => steps::reference(&steps::root().join("docs/reference")),
        Task::Lab { arguments } => steps::lab(&arguments),
        Task::Fuzz { iterations } => steps::fuzz(iterations),
    }
}
