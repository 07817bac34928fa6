//! That the middle is blind shows in what it is made of.
//!
//! The relay has none of the crates that the end-to-end layer needs, is built without the feature
//! that has this layer, and names none of its modules. That it compiles alone proves the last two;
//! built together with the other programs, it would see their features.

use std::fs;

use anyhow::{Result, bail};

use crate::cargo::{cargo, root, run, tree};
use crate::files;

/// What somebody would need to take part in the end-to-end layer, or holds its keys.
const CRATES: &[&str] = &[
    "snow",
    "ml-kem",
    "x25519-dalek",
    "chacha20poly1305",
    "poly1305",
    "hkdf",
    "farwire-keystore",
    "farwire-agent",
    "farwire",
];

/// The feature of `protocol` and `link` that has the end-to-end layer.
const FEATURE: &str = "inner";

/// Modules of that layer.
const MODULES: &[&str] = &["inner", "streams", "handshake", "noise", "conversation"];

pub(crate) fn check() -> Result<()> {
    let crates = tree(&["-p", "farwire-relay", "-e", "normal,build", "--target", "all"])?;
    let mut wrong: Vec<String> = CRATES
        .iter()
        .filter(|name| crates.contains_key(**name))
        .map(|name| {
            format!("the relay depends on {name}; see `cargo tree -p farwire-relay -i {name}`")
        })
        .collect();
    for ours in ["farwire-protocol", "farwire-link"] {
        if crates.get(ours).is_some_and(|on| on.split(',').any(|one| one == FEATURE)) {
            wrong.push(format!("the relay has {ours} with the feature `{FEATURE}`"));
        }
    }
    for path in files::below(&root().join("relay/src"), "rs")? {
        let text = fs::read_to_string(&path)?;
        let named = named_modules(&text).into_iter();
        wrong.extend(
            named.map(|(line, name)| format!("{}:{line} names `{name}`", files::relative(&path))),
        );
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    run(&mut cargo(&["check", "-p", "farwire-relay"]))
}

/// The modules of the end-to-end layer that a text of Rust names, with their lines: in a `use`, or
/// as a part of a path. Fields, variables and comments may be called as they like.
fn named_modules(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut using = false;
    for (number, line) in text.lines().enumerate() {
        let code = line.trim_start();
        if code.starts_with("//") {
            continue;
        }
        using |= code.starts_with("use ") || (code.starts_with("pub") && code.contains(" use "));
        for word in line.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')) {
            let parts: Vec<&str> = word.split("::").collect();
            let path = using || parts.len() > 1;
            for (at, part) in parts.iter().enumerate() {
                let of_type = at.checked_sub(1).is_some_and(|before| is_type(parts[before]));
                if path && !of_type && MODULES.contains(part) {
                    found.push((number + 1, *part));
                }
            }
        }
        using &= !line.contains(';');
    }
    found
}

/// Whether this is the name of a type: what follows it is a function of that type, and no module.
fn is_type(name: &str) -> bool {
    name.starts_with(|first: char| first.is_uppercase())
}

#[cfg(test)]
mod tests {
    use super::named_modules;

    #[test]
    fn a_module_of_the_inner_layer_is_seen_however_it_is_named() {
        for text in [
            "use farwire_protocol::streams::run::Start;",
            "use farwire_protocol::{header, streams};",
            "    use farwire_link::inner;",
            "pub(crate) use farwire_protocol::handshake as hello;",
            "let opened = farwire_protocol::conversation::open(bytes);",
            "let opened = noise::Session::new();",
        ] {
            assert_eq!(named_modules(text).len(), 1, "{text}");
        }
        assert_eq!(
            named_modules("use farwire_protocol::{\n    header,\n    streams,\n};"),
            [(3, "streams")]
        );
    }

    #[test]
    fn words_that_are_no_modules_are_left_alone() {
        for text in [
            "//! One connection's control conversation.",
            "    // The handshake:: of TLS.",
            "let streams = TaskTracker::new(); streams.spawn(serve(streams));",
            "self.inner.lock()",
            "let header = Header::handshake(target, 9);",
            "let mut inner: Inner = relay.handshakes;",
            "use std::time::Instant;\nlet inner = 1;",
        ] {
            assert!(named_modules(text).is_empty(), "{text}");
        }
    }
}
