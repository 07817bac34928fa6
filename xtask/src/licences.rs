//! Licences of everything that goes into the programs, from `cargo metadata`.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::steps::cargo;

/// What may go into the programs.
const ALLOWED: &[&str] = &[
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "CC0-1.0",
    "0BSD",
    "Unlicense",
    "BlueOak-1.0.0",
    "CDLA-Permissive-2.0",
    "OpenSSL",
];

/// Crates that stay out, whatever their licence.
const BANNED: &[&str] = &["openssl", "openssl-sys", "native-tls"];

pub(crate) fn check() -> Result<()> {
    let output = cargo(&["metadata", "--format-version", "1", "--locked"]).output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let mut wrong = BTreeSet::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        if BANNED.contains(&name) {
            wrong.insert(format!("{name} must stay out"));
        }
        match package["license"].as_str() {
            Some(licence) if allowed(licence) => {}
            Some(licence) => {
                wrong.insert(format!("{name}: {licence}"));
            }
            // Some old crates name a file instead.
            None => {
                wrong.insert(format!("{name} names no licence"));
            }
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("{}", wrong.into_iter().collect::<Vec<_>>().join("\n"));
}

/// Whether an SPDX expression can be satisfied by what we allow: AND binds tighter than OR.
fn allowed(expression: &str) -> bool {
    let tokens = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let tokens: Vec<&str> = tokens.split_whitespace().collect();
    let (result, rest) = either(&tokens);
    result && rest.is_empty()
}

fn either<'a, 'b>(tokens: &'a [&'b str]) -> (bool, &'a [&'b str]) {
    let (mut result, mut rest) = both(tokens);
    while let Some((&"OR", after)) = rest.split_first() {
        let (other, left) = both(after);
        result |= other;
        rest = left;
    }
    (result, rest)
}

fn both<'a, 'b>(tokens: &'a [&'b str]) -> (bool, &'a [&'b str]) {
    let (mut result, mut rest) = one(tokens);
    while let Some((&"AND", after)) = rest.split_first() {
        let (other, left) = one(after);
        result &= other;
        rest = left;
    }
    (result, rest)
}

fn one<'a, 'b>(tokens: &'a [&'b str]) -> (bool, &'a [&'b str]) {
    match tokens {
        ["(", rest @ ..] => {
            let (result, rest) = either(rest);
            match rest.split_first() {
                Some((&")", after)) => (result, after),
                _ => (false, rest),
            }
        }
        [licence, "WITH", exception, rest @ ..] => {
            (ALLOWED.contains(&format!("{licence} WITH {exception}").as_str()), rest)
        }
        [licence, rest @ ..] => (ALLOWED.contains(licence), rest),
        [] => (false, tokens),
    }
}

#[cfg(test)]
mod tests {
    use super::allowed;

    #[test]
    fn expressions_are_satisfied_or_not() {
        for good in [
            "MIT",
            "MIT OR GPL-3.0",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "MIT/Apache-2.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
        ] {
            assert!(allowed(good), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT", "", "MIT MIT", "Apache-2.0 WITH Foo"] {
            assert!(!allowed(bad), "{bad}");
        }
    }
}
