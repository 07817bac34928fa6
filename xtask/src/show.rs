//! `cargo xtask show`: what sessions do, recorded in `docs/show`.
//!
//! What is shown is in `tests/src/show`; the program that records it is
//! `tests/src/bin/farwire-show.rs`.

use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::cargo::{Build, programs, root, run, target};

/// Record what sessions do in docs/show
///
/// Wants vim, htop, cc, and Python with `pyte`, which it installs below target/; what is missing is
/// skipped by name. The agent that is replaced is one of a debug build, and the one that takes its
/// place is built as it is shipped, which takes minutes.
#[derive(Args, Debug)]
pub(crate) struct Show {}

impl Show {
    pub(crate) fn carry_out(&self) -> Result<()> {
        let newer = programs(Build::Release)?.join("farwire-agent");
        let programs = programs(Build::WithTests)?;
        let mut show = Command::new(programs.join("farwire-show"));
        show.arg("--out").arg(root().join("docs/show")).arg("--venv").arg(target()?.join("show"));
        run(show.arg("--newer").arg(newer).env("FARWIRE_PROGRAMS", programs))
    }
}
