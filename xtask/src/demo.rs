//! `cargo xtask demo`: the three programs, built and shown working together on this machine.
//!
//! What is shown is in `bridge/src/cli/demo.rs`.

use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::cargo::{Build, programs, run};

/// Build the three programs and run the demonstration
#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// Optimised, as the programs are shipped; takes minutes to build
    #[arg(long)]
    pub(crate) release: bool,
    /// Passed to `farwire demo`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<String>,
}

impl Demo {
    pub(crate) fn carry_out(&self) -> Result<()> {
        let programs = programs(if self.release { Build::Release } else { Build::Alone })?;
        run(Command::new(programs.join("farwire")).arg("demo").args(&self.arguments))
    }
}
