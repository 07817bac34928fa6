//! `cargo xtask ci`: all that must hold before a change lands; the same list here and in CI.
//!
//! Stops at the first step that fails, and says how to repeat that step alone.

mod licences;
mod relay;
mod spdx;
mod tidy;

use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::cargo::{cargo, run};
use crate::{reference, test};
pub(crate) use tidy::Tidy;

/// These are programs: their documentation is for whoever works on them, private parts included.
const RUSTDOC: &str = "-D warnings -A rustdoc::private_intra_doc_links";

/// A name, and what must succeed.
type CiStep = (&'static str, fn() -> Result<()>);

/// Roughly in the order in which they fail fastest.
const STEPS: &[CiStep] = &[
    ("fmt", || run(&mut cargo(&["fmt", "--all", "--check"]))),
    ("tidy", tidy::check),
    ("licences", licences::check),
    ("relay", relay::check),
    ("clippy", || {
        run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    }),
    // Without the features that tests switch on in libraries: as the programs are shipped.
    ("check", || run(&mut cargo(&["check", "--workspace"]))),
    ("test", || test::Test { as_user: None, arguments: Vec::new() }.carry_out()),
    ("docs", || {
        run(cargo(&["doc", "--no-deps", "--workspace", "--document-private-items"])
            .env("RUSTDOCFLAGS", RUSTDOC))
    }),
    ("reference", reference::check),
];

/// Run all that must hold before a change lands
#[derive(Args, Debug)]
pub(crate) struct Ci {
    /// Only these steps
    #[arg(value_name = "STEP", value_parser = PossibleValuesParser::new(names()))]
    only: Vec<String>,
    /// Not these steps
    #[arg(long, value_name = "STEP", value_parser = PossibleValuesParser::new(names()))]
    skip: Vec<String>,
}

impl Ci {
    pub(crate) fn carry_out(&self) -> Result<()> {
        let begun = Instant::now();
        let wanted = |name: &str| {
            let named = |list: &[String]| list.iter().any(|one| one == name);
            (self.only.is_empty() || named(&self.only)) && !named(&self.skip)
        };
        for (name, step) in STEPS.iter().filter(|(name, _)| wanted(name)) {
            println!("--- {name}");
            let begun = Instant::now();
            step().with_context(|| {
                let seconds = begun.elapsed().as_secs_f64();
                format!("step `{name}` failed after {seconds:.1} s, repeat it with `cargo xtask ci {name}`")
            })?;
            println!("--- {name}: {:.1} s", begun.elapsed().as_secs_f64());
        }
        println!("--- all of it: {:.1} s", begun.elapsed().as_secs_f64());
        Ok(())
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    STEPS.iter().map(|(name, _)| *name)
}
