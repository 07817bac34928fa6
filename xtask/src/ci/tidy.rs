//! `cargo xtask tidy`: the rules of this house that no compiler knows.
//!
//! Each check is a file of `tidy/`. Some look at texts and refuse at once; those that look at names
//! and at the graph of modules give findings, which `known.txt` may allow for now. Which files are
//! looked at is said in `files.rs`.

mod circles;
mod comments;
mod dependencies;
mod findings;
mod functions;
mod graph;
mod homonyms;
mod layers;
mod links;
mod modules;
mod pages;
mod participles;
mod report;
mod sources;
mod tuples;

use std::fs;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::cargo::root;
use crate::files;
use findings::{Finding, KNOWN, Known};
use graph::Graph;
use modules::Crate;

/// The tests of the programs together: names and parameters there are as tests need them.
const TESTS: &str = "tests";

/// The checks that give findings.
const CHECKS: &[&str] =
    &["circle", "upward", "layers", "homonym", "participle", "tuple", "comment", "page"];

/// Check the rules of this house that no compiler knows
///
/// The same as `cargo xtask ci tidy`, unless something is asked for.
#[derive(Args, Debug)]
pub(crate) struct Tidy {
    /// Print everything that the checks find, also what known.txt allows; of one check if it is
    /// named
    #[arg(
        long,
        value_name = "CHECK",
        num_args = 0..=1,
        default_missing_value = "all",
        value_parser = PossibleValuesParser::new(CHECKS.iter().chain(&["all"]))
    )]
    list: Option<String>,
    /// Print which file of a crate names which, and what
    #[arg(long, value_name = "CRATE", conflicts_with = "list")]
    graph: Option<String>,
    /// Lower known.txt to what is left, after something was mended
    #[arg(long, conflicts_with_all = ["list", "graph"])]
    shrink: bool,
}

impl Tidy {
    pub(crate) fn carry_out(&self) -> Result<()> {
        if let Some(check) = &self.list {
            let houses = modules::workspace()?;
            print!("{}", report::list(&houses, &find(&houses)?, check));
            Ok(())
        } else if let Some(name) = &self.graph {
            let houses = modules::workspace()?;
            let house = houses.iter().find(|house| house.name == *name);
            print!("{}", report::graph(house.with_context(|| format!("no crate is in `{name}`"))?));
            Ok(())
        } else if self.shrink {
            shrink()
        } else {
            check()
        }
    }
}

/// That nothing is wrong but what is known.
pub(crate) fn check() -> Result<()> {
    let mut wrong = texts()?;
    wrong.extend(dependencies::unused()?);
    let known = fs::read_to_string(root().join(KNOWN)).context(KNOWN)?;
    wrong.extend(Known::parse(&known)?.complaints(&find(&modules::workspace()?)?));
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("{}", wrong.join("\n"));
}

fn shrink() -> Result<()> {
    let path = root().join(KNOWN);
    let before = fs::read_to_string(&path).context(KNOWN)?;
    let after = Known::parse(&before)?.shrunk(&find(&modules::workspace()?)?);
    fs::write(&path, after).context(KNOWN)
}

/// What is wrong in sources and documents by their text alone.
fn texts() -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for path in files::below(&root(), "rs")? {
        let text = fs::read_to_string(&path)?;
        let complaints = sources::complaints(&path, &text).into_iter();
        wrong.extend(complaints.map(|complaint| format!("{} {complaint}", files::relative(&path))));
        let lines = text.lines().count();
        if lines > sources::LONG {
            println!(
                "warning: {} has {lines} lines: is it still one idea?",
                files::relative(&path)
            );
        }
    }
    for path in files::below(&root(), "md")? {
        let text = fs::read_to_string(&path)?;
        let directory = path.parent().context("a file is in a directory")?;
        let dead = links::dead(&text, &|link| directory.join(link).exists()).into_iter();
        wrong.extend(dead.map(|(line, link)| {
            format!("{}:{line} links to `{link}`, which is not there", files::relative(&path))
        }));
    }
    Ok(wrong)
}

/// Everything that the checks find, known or not.
fn find(houses: &[Crate]) -> Result<Vec<Finding>> {
    let mut findings = pages::check(houses)?;
    for house in houses {
        let graph = Graph::of(house);
        findings.extend(circles::check(house, &graph));
        findings.extend(layers::check(house, &graph));
        if house.name != TESTS {
            findings.extend(participles::check(house));
            findings.extend(tuples::check(house));
        }
        for path in files::below(&root().join(&house.name), "rs")? {
            let text = fs::read_to_string(&path)?;
            findings.extend(comments::check(&house.name, &files::relative(&path), &text));
        }
    }
    findings.extend(homonyms::check(houses.iter().filter(|house| house.name != TESTS)));
    Ok(findings)
}
