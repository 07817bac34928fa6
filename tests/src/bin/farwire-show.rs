//! Records what sessions do: `cargo xtask show` builds the programs and runs this.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use clap::Parser;
use farwire_tests::show::{replaced, screens, secrets, together};

/// Record what sessions do
#[derive(Debug, Parser)]
#[command(name = "cargo xtask show")]
struct Show {
    /// Where the recordings go
    #[arg(long)]
    out: PathBuf,
    /// Where Python's `pyte` is installed, if it is not there yet
    #[arg(long)]
    venv: PathBuf,
    /// An agent of another build, which takes the place of the first
    #[arg(long)]
    newer: PathBuf,
}

#[tokio::main]
async fn main() -> Result<()> {
    let show = Show::parse();
    let missing: Vec<_> = ["vim", "htop"].into_iter().filter(|name| !there(name)).collect();
    match reference(&show.venv) {
        _ if !missing.is_empty() => {
            println!("skipped: screens: there is no {}", missing.join(" nor "));
        }
        Err(error) => println!("skipped: screens: {error:#}"),
        Ok(python) => {
            screens::screens(&python).await.write(&show.out, "screens.txt")?;
            println!("screens: the same as the reference emulator's");
        }
    }
    secrets::secrets().await.write(&show.out, "password.txt")?;
    println!("password: known by the terminal, not by its text");
    if there("cc") {
        replaced::replaced(&show.newer).await.write(&show.out, "replaced.txt")?;
        println!("replaced: the build went on, and its exit code was told");
    } else {
        println!("skipped: replaced: there is no cc");
    }
    together::together().await.write(&show.out, "together.txt")?;
    println!("together: two models and a person");
    Ok(())
}

fn there(program: &str) -> bool {
    let found = |place: PathBuf| place.join(program).is_file();
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(found))
}

/// A Python that has the reference emulator.
fn reference(venv: &Path) -> Result<PathBuf> {
    let python = venv.join("bin/python");
    let has = |python: &Path| {
        let mut command = Command::new(python);
        command.args(["-c", "import pyte"]).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if !has(&python) {
        let made = Command::new("python3").args(["-m", "venv"]).arg(venv).status();
        made.context("there is no python3")?;
        let mut install = Command::new(&python);
        install
            .args(["-m", "pip", "install", "--quiet", "pyte"])
            .status()
            .context("there is no pip")?;
    }
    has(&python).then_some(python).context("pyte could not be installed")
}
