//! `cargo xtask lab`: the programs in network namespaces, behind NAT and on bad links.
//!
//! The lab itself is the script `tests/lab.sh`.

use std::process::Command;

use anyhow::{Result, bail};
use clap::Args;

use crate::cargo::{Build, programs, root, run};

/// Run the programs in network namespaces behind NAT (Linux, as root)
#[derive(Args, Debug)]
pub(crate) struct Lab {
    /// Make only the checks whose names hold one of these
    words: Vec<String>,
}

impl Lab {
    pub(crate) fn carry_out(&self) -> Result<()> {
        let script = root().join("tests/lab.sh");
        if !is_root() {
            bail!("network namespaces need root on Linux: run `cargo xtask lab` as root");
        }
        let programs = programs(Build::Alone)?;
        let mut lab = Command::new("bash");
        run(lab.arg(script).args(&self.words).env("FARWIRE_PROGRAMS", programs))
    }
}

#[cfg(target_os = "linux")]
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

#[cfg(not(target_os = "linux"))]
fn is_root() -> bool {
    false
}
