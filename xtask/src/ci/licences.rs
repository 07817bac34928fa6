//! What may go into the programs: licences that we can pass on, and no second cryptography library.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};

use super::spdx::satisfied;
use crate::cargo::{metadata, tree};

/// Licences under which a crate may be used here.
const ACCEPTED: &[&str] = &[
    "MIT",
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
];

/// Crates that stay out, whatever their licence: TLS and its primitives come from aws-lc-rs alone.
const BANNED: &[&str] = &["ring", "openssl", "openssl-sys", "native-tls"];

/// Where the programs run. On other platforms, crates that we use may need a banned one.
const PLATFORMS: &[&str] = &[
    "x86_64-unknown-linux-gnu",
    "aarch64-unknown-linux-gnu",
    "x86_64-unknown-linux-musl",
    "aarch64-apple-darwin",
    "x86_64-pc-windows-msvc",
];

pub(crate) fn check() -> Result<()> {
    let mut wrong = BTreeSet::new();
    // `--locked`, because what is not in Cargo.lock was not looked at.
    let metadata = metadata(&["--locked"])?;
    let packages = metadata["packages"].as_array().context("`cargo metadata` names no packages")?;
    for package in packages {
        let name = package["name"].as_str().context("a package has a name")?;
        wrong.extend(complaint(package["license"].as_str()).map(|why| format!("{name} {why}")));
    }
    for platform in PLATFORMS {
        let crates = tree(&["--workspace", "--target", platform])?;
        let banned = BANNED.iter().filter(|name| crates.contains_key(**name));
        wrong.extend(banned.map(|name| {
            format!(
                "{name} must stay out; see `cargo tree --workspace --target {platform} -i {name}`"
            )
        }));
    }
    if wrong.is_empty() {
        println!("{} crates, all under licences that we accept", packages.len());
        return Ok(());
    }
    bail!("{}", Vec::from_iter(wrong).join("\n"));
}

/// Why a crate with this licence may not be used, if so.
fn complaint(licence: Option<&str>) -> Option<String> {
    let Some(licence) = licence else {
        return Some("names no licence".into());
    };
    match satisfied(licence, &|name| ACCEPTED.contains(&name)) {
        Ok(true) => None,
        Ok(false) => Some(format!("is under `{licence}`, which we do not accept")),
        Err(error) => Some(format!("has a licence `{licence}` that cannot be read: {error:#}")),
    }
}

#[cfg(test)]
mod tests {
    use super::complaint;

    #[test]
    fn what_our_dependencies_say_is_understood() {
        for accepted in [
            "MIT OR Apache-2.0",
            "MIT/Apache-2.0",
            "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
            "MIT OR Apache-2.0 OR LGPL-2.1-or-later",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "ISC AND (Apache-2.0 OR ISC) AND MIT AND BSD-3-Clause AND (Apache-2.0 OR ISC OR MIT-0)",
        ] {
            assert_eq!(complaint(Some(accepted)), None);
        }
    }

    #[test]
    fn what_we_do_not_accept_is_named() {
        for refused in ["GPL-3.0-only", "MIT AND MPL-2.0", "ISC AND MIT AND OpenSSL", "SSPL-1.0"] {
            let complaint = complaint(Some(refused)).expect("it is refused");
            assert!(complaint.contains(refused), "{complaint}");
        }
        assert!(complaint(None).is_some());
        assert!(complaint(Some("MIT OR")).is_some());
    }
}
