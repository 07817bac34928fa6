//! `cargo xtask soak`: the trials that take too long for every day.
//!
//! They are in `tests/src/trials`, and in small among the tests; the program that makes them at
//! length is `tests/src/bin/farwire-soak.rs`.

use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::cargo::{Build, programs, run};

/// Make a trial at length, as `restarts` or `sessions --count 1000`
#[derive(Args, Debug)]
pub(crate) struct Soak {
    /// With the programs as they are built for tests: what is measured is larger and slower
    #[arg(long)]
    pub(crate) dev: bool,
    /// The trial and its settings; `--help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<String>,
}

impl Soak {
    pub(crate) fn carry_out(&self) -> Result<()> {
        let programs = programs(if self.dev { Build::WithTests } else { Build::Release })?;
        let mut soak = Command::new(programs.join("farwire-soak"));
        run(soak.args(&self.arguments).env("FARWIRE_PROGRAMS", programs))
    }
}
