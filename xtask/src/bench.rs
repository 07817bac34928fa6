//! `cargo xtask bench`: this build measured beside its peers, in the same run.
//!
//! What is measured, and how, is in `xtask/bench/run.py`; the results that we publish are in
//! `docs/benchmarks.md`.

use std::process::Command;

use anyhow::{Result, bail};
use clap::Args;

use crate::cargo::{Build, programs, root, run};

/// Measure the shipped build beside its peers
#[derive(Args, Debug)]
pub(crate) struct Bench {
    /// Passed to xtask/bench/run.py, as `--rounds 100` or `--out FILE`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

impl Bench {
    pub(crate) fn carry_out(&self) -> Result<()> {
        let script = root().join("xtask/bench/run.py");
        if !script.is_file() {
            bail!("there is no {}: this checkout cannot measure", script.display());
        }
        let programs = programs(Build::Release)?;
        let mut measure = Command::new("python3");
        run(measure.arg(script).arg("--programs").arg(programs).args(&self.arguments))
    }
}
