//! What no source may be or contain: rules that its text alone shows.

use std::path::Path;

/// Beyond so many lines we ask whether a file still holds one idea.
pub(crate) const LONG: usize = 600;

/// What no source may contain. Written apart, so that this file does not find itself.
const FORBIDDEN: &[&str] =
    &[concat!("#[ig", "nore"), concat!("to", "do!("), concat!("unimpl", "emented!(")];

/// What is wrong with a source.
pub(crate) fn complaints(path: &Path, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if !text.starts_with("//!") {
        wrong.push("does not begin with `//!` and what it does".into());
    }
    if path.ends_with("mod.rs") {
        wrong.push("should be `foo.rs` beside `foo/`".into());
    }
    wrong.extend(unchecked(path, text));
    let forbidden = FORBIDDEN.iter().filter(|word| text.contains(**word));
    wrong.extend(forbidden.map(|word| format!("contains `{word}`")));
    wrong
}

/// Where what a peer says would be taken as it is: its texts in the bridge and in `link`, its
/// numbers in any message.
fn unchecked(path: &Path, text: &str) -> Vec<String> {
    let within = |folder: &str| path.to_string_lossy().replace('\\', "/").contains(folder);
    let mut wrong = Vec::new();
    if within("tests") {
        return wrong;
    }
    if (within("bridge/src/") || within("link/src/")) && text.contains("cbor::decode") {
        wrong.push("decodes with `cbor::decode`: `peer::decode` makes texts harmless".into());
    }
    if within("protocol/src/streams") {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let bare = lines.windows(2).filter(|two| {
            let counts = two[1].ends_with(": u64,") || two[1].ends_with(": Option<u64>,");
            two[0].starts_with("#[n(") && counts && !two[1].contains("revision:")
        });
        wrong.extend(bare.map(|two| {
            format!("has `{}` without a limit: decode it with `crate::peer::count`", two[1])
        }));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{FORBIDDEN, complaints};

    #[test]
    fn a_file_that_says_what_it_does_is_left_alone() {
        assert!(complaints(Path::new("src/run.rs"), "//! Runs.\n\nfn run() {}\n").is_empty());
    }

    #[test]
    fn numbers_and_texts_of_a_peer_are_not_taken_as_they_are() {
        let message = "//! M.\n#[n(1)]\npub lines: Option<u64>,\n#[n(2)]\npub revision: u64,\n";
        assert_eq!(complaints(Path::new("protocol/src/streams/run.rs"), message).len(), 1);
        let reads = "//! R.\nfn read() { cbor::decode(bytes, 9) }\n";
        assert_eq!(complaints(Path::new("bridge/src/runs.rs"), reads).len(), 1);
        assert!(complaints(Path::new("relay/src/run.rs"), reads).is_empty());
    }

    #[test]
    fn what_breaks_a_rule_is_named() {
        assert_eq!(complaints(Path::new("src/run.rs"), "\n//! Runs.\n").len(), 1);
        assert_eq!(complaints(Path::new("src/run/mod.rs"), "//! Runs.\n").len(), 1);
        for word in FORBIDDEN {
            let text = format!("//! Runs.\n{word}");
            assert_eq!(complaints(Path::new("src/run.rs"), &text), [format!("contains `{word}`")]);
        }
    }
}
