//! What a listing was asked for and does not have: dav-server leaves it out, where RFC 4918 has it told.

use super::fs::Files;
use super::xml::{DAV, Name, Shape};

/// How an answer about one path ends.
const END: &[u8] = b"</D:response>";

/// The properties that were asked for by name.
#[derive(Debug)]
pub(super) struct Missing<'a> {
    wanted: Vec<Name>,
    files: &'a Files,
}

impl<'a> Missing<'a> {
    /// Those of a body: `None` if it names none.
    pub(super) fn of(shape: &Shape, files: &'a Files) -> Option<Self> {
        let named = shape.parts.iter().any(|part| part.is("prop"));
        let mut wanted = shape.leaves.clone();
        wanted.dedup();
        (named && !wanted.is_empty()).then_some(Self { wanted, files })
    }

    /// A piece of the listing, which is about one path, with what it lacks.
    pub(super) fn told(&self, piece: &[u8]) -> Option<Vec<u8>> {
        let found = self.files.found();
        let before = piece.strip_suffix(END)?;
        let lacks = |name: &&Name| match live_prefix(&name.space) {
            Some(prefix) => !mentions(piece, &format!("<{prefix}:{}", name.local)),
            None => !found.contains(name),
        };
        let missing: Vec<_> = self.wanted.iter().filter(lacks).collect();
        if missing.is_empty() {
            return None;
        }
        let mut whole = before.to_vec();
        whole.extend_from_slice(b"<D:propstat><D:prop>");
        for name in missing {
            let element = match (live_prefix(&name.space), &name.space[..]) {
                (Some("D"), _) => format!("<D:{}/>", name.local),
                (_, "") => format!("<{} xmlns=\"\"/>", name.local),
                (_, space) => format!("<x:{} xmlns:x=\"{}\"/>", name.local, escaped(space)),
            };
            whole.extend_from_slice(element.as_bytes());
        }
        whole.extend_from_slice(
            b"</D:prop><D:status>HTTP/1.1 404 Not Found</D:status></D:propstat>",
        );
        whole.extend_from_slice(END);
        Some(whole)
    }
}

/// How dav-server writes the properties that it knows itself.
fn live_prefix(space: &str) -> Option<&'static str> {
    match space {
        DAV => Some("D"),
        "http://apache.org/dav/props/" => Some("A"),
        "urn:schemas-microsoft-com:" => Some("Z"),
        _ => None,
    }
}

/// Whether an element begins so.
fn mentions(piece: &[u8], begin: &str) -> bool {
    let begin = begin.as_bytes();
    piece.windows(begin.len() + 1).any(|window| {
        window.strip_prefix(begin).is_some_and(|next| matches!(next, b">" | b"/" | b" "))
    })
}

fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, letter| {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\t' => escaped.push_str("&#9;"),
            '\n' => escaped.push_str("&#10;"),
            '\r' => escaped.push_str("&#13;"),
            letter => escaped.push(letter),
        }
        escaped
    })
}
