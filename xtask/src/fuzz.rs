//! `cargo xtask fuzz`: the fuzz targets, for longer than the tests run them.
//!
//! A target is a test of a library that calls bolero's `check` macro. On stable Rust bolero gives
//! it random bytes, for one second unless it is told otherwise. The targets are found by reading
//! the sources and looked up in the compiled tests, so that none is passed over in silence.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::cargo::{answer, cargo, metadata, run};
use crate::files;

/// What a target calls. Written apart, so that this file does not look like one.
const CALL: &str = concat!("bolero::", "check!");

/// Run the fuzz targets for longer than the tests do
#[derive(Args, Debug)]
pub(crate) struct Fuzz {
    /// Only targets whose path contains this, as `frame::`
    #[arg(default_value = "", hide_default_value = true)]
    target: String,
    /// How long each target runs
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Optimised: more inputs in the same time, but minutes to build and no debug assertions
    #[arg(long)]
    release: bool,
}

impl Fuzz {
    pub(crate) fn carry_out(&self) -> Result<()> {
        let mut flags = vec!["test", "--workspace", "--lib"];
        if self.release {
            flags.push("--release");
        }
        let listed = answer(cargo(&flags).args(["--", "--list", "--format", "terse"]))?;
        let all = compiled(&sources()?, &listed)?;
        let wanted: Vec<&str> =
            all.iter().map(String::as_str).filter(|path| path.contains(&self.target)).collect();
        if wanted.is_empty() {
            let all = Vec::from_iter(all).join("\n  ");
            bail!("no fuzz target contains `{}`; there are\n  {all}", self.target);
        }
        println!("fuzz targets: {}, {} s each", wanted.len(), self.seconds);
        run(cargo(&flags)
            .args(["--no-fail-fast", "--", "--exact"])
            .args(wanted)
            .env("BOLERO_RANDOM_TEST_TIME_MS", (self.seconds * 1000).to_string())
            // Otherwise a number of inputs that a test asks for would end it early.
            .env("BOLERO_RANDOM_ITERATIONS", usize::MAX.to_string()))
    }
}

/// A target as the sources have it: the module of its file, and its name.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Source {
    module: String,
    name: String,
}

impl Source {
    /// Whether a compiled test is this one: in the module itself, or in one that its file contains.
    fn is(&self, path: &str) -> bool {
        let Some(rest) = path.strip_prefix(&self.module) else { return false };
        let rest = if self.module.is_empty() { Some(rest) } else { rest.strip_prefix("::") };
        let Some(rest) = rest else { return false };
        match rest.split_once("::") {
            None => rest == self.name,
            Some((_, name)) => name == self.name,
        }
    }
}

/// All targets in the libraries of this workspace.
fn sources() -> Result<BTreeSet<Source>> {
    let metadata = metadata(&["--no-deps"])?;
    let mut found = BTreeSet::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let manifest = package["manifest_path"].as_str().context("a package has a manifest")?;
        let source = Path::new(manifest).with_file_name("src");
        if !source.join("lib.rs").is_file() {
            continue;
        }
        for file in files::below(&source, "rs")? {
            let text = fs::read_to_string(&file)?;
            let module = module(file.strip_prefix(&source)?);
            let names = names(&text).map(|name| Source { module: module.clone(), name });
            found.extend(names);
        }
    }
    Ok(found)
}

/// `streams/run.rs` is `streams::run`, and `lib.rs` is the empty path.
fn module(file: &Path) -> String {
    let file = file.with_extension("");
    let parts = file.iter().map(|part| part.to_string_lossy().into_owned());
    parts.filter(|part| part != "lib").collect::<Vec<_>>().join("::")
}

/// The functions in a text that call bolero.
fn names(text: &str) -> impl Iterator<Item = String> {
    text.match_indices(CALL).filter_map(|(at, _)| {
        let (_, rest) = text.get(..at)?.rsplit_once("fn ")?;
        Some(rest.split(['(', '<']).next()?.trim().to_owned())
    })
}

/// The paths of the targets in the compiled tests, from lines like `frame::tests::name: test`.
fn compiled(sources: &BTreeSet<Source>, listed: &str) -> Result<BTreeSet<String>> {
    let tests: Vec<&str> = listed.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    let mut found = BTreeSet::new();
    for source in sources {
        let paths: Vec<&str> = tests.iter().copied().filter(|path| source.is(path)).collect();
        if paths.is_empty() {
            let Source { module, name } = source;
            bail!("`{name}` in `{module}` calls bolero and is not among the tests");
        }
        found.extend(paths.into_iter().map(str::to_owned));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::{CALL, Source, compiled, module, names};

    fn source(module: &str, name: &str) -> BTreeSet<Source> {
        BTreeSet::from([Source { module: module.into(), name: name.into() }])
    }

    #[test]
    fn a_target_is_named_by_the_function_around_the_call() {
        let text = format!("fn one() {{ {CALL}(); }}\nfn two() {{}}\nfn three() {{ {CALL}(); }}");
        assert_eq!(names(&text).collect::<Vec<_>>(), ["one", "three"]);
    }

    #[test]
    fn a_file_is_a_module() {
        assert_eq!(module(Path::new("lib.rs")), "");
        assert_eq!(module(Path::new("frame.rs")), "frame");
        assert_eq!(module(Path::new("streams/run/tests.rs")), "streams::run::tests");
    }

    const LISTED: &str = "any: test\n\nframe::tests::any: test\nframe::long::tests::any: test\n\
                          frames::tests::any: test\nrun::tests::any: test\n";

    #[test]
    fn a_target_is_found_among_the_compiled_tests() {
        for (from, path) in [
            ("", "any"),
            ("frame", "frame::tests::any"),
            ("frame::long", "frame::long::tests::any"),
            ("run::tests", "run::tests::any"),
        ] {
            let found = compiled(&source(from, "any"), LISTED).expect("it is there");
            assert!(found.contains(path), "{from}: {found:?}");
            assert!(from.is_empty() || found.len() == 1, "{from}: {found:?}");
        }
    }

    #[test]
    fn a_target_that_is_not_compiled_is_an_error() {
        for (from, name) in [("link", "any"), ("frame", "many"), ("fram", "any"), ("run", "ny")] {
            assert!(compiled(&source(from, name), LISTED).is_err(), "{from} {name}");
        }
    }
}
