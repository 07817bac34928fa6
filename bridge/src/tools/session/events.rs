//! The events of a session, in a line each.

use std::fmt::Write as _;

use farwire_protocol::streams::session::{Actor, Event, What};
use jiff::Timestamp;

use crate::text::neutral::neutral_within;
use crate::text::signal;

/// How many characters of typed text are shown.
const TYPED: usize = 200;

/// Who did what: `laptop/ai-local(a) typed "ls⏎"`.
pub(super) fn describe(event: &Event) -> String {
    let mut text = match &event.actor {
        Some(actor) => format!("{} ", name(actor)),
        None => String::new(),
    };
    let done = match &event.what {
        None => "did something that only a newer version understands".to_owned(),
        Some(What::Opened) => "opened it".to_owned(),
        Some(What::Typed { text: Some(text), length }) => {
            let shown = with_signs(text);
            let more = if *length > text.len() as u64 {
                format!(" and more, {length} bytes")
            } else {
                String::new()
            };
            format!("typed \"{shown}\"{more}")
        }
        Some(What::Typed { text: None, length }) => {
            format!("typed {length} bytes that were not shown")
        }
        Some(What::Resized(size)) => format!("resized it to {}x{}", size.cols, size.rows),
        Some(What::Joined(true)) => "attached read-only".to_owned(),
        Some(What::Joined(false)) => "attached".to_owned(),
        Some(What::Left) => "left".to_owned(),
        Some(What::Leased(transfer)) => {
            let mut text = format!("lease {}", transfer.way.name());
            for (word, actor) in [("from", &transfer.from), ("to", &transfer.to)] {
                if let Some(actor) = actor {
                    text.extend([format!(" {word} {}", name(actor))]);
                }
            }
            if let Some(reason) = &transfer.reason {
                text.extend([format!(": {reason}")]);
            }
            text
        }
        Some(What::Rule(policy)) => format!("set the policy to {}", policy.name()),
        Some(What::Signalled(number)) => format!("sent {}", signal::name(*number)),
        Some(What::Refused(bytes)) => format!("was refused {bytes} bytes"),
        Some(What::Recovered) => "another agent process took it over".to_owned(),
        Some(What::Changed) => "changed its labels or limits".to_owned(),
        Some(What::Closed) => "closed it".to_owned(),
        Some(What::Ended) => "its program ended".to_owned(),
        Some(_) => "did something that only a newer version understands".to_owned(),
    };
    text.push_str(&done);
    neutral_within(&text, TYPED + 200)
}

/// When it happened, by the server's clock: `12:03:22`.
pub(super) fn time(event: &Event) -> String {
    let at = i64::try_from(event.at_ms).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
    at.map_or_else(|| "-".to_owned(), |at| at.strftime("%H:%M:%S").to_string())
}

/// Whether somebody typed.
pub(super) fn is_input(event: &Event) -> bool {
    matches!(event.what, Some(What::Typed { .. }))
}

fn name(actor: &Actor) -> String {
    let mut text = format!("{}/{}", actor.device, actor.surface);
    if let Some(client) = &actor.client {
        // Writing to a string cannot fail.
        let _ = write!(text, "({client})");
    }
    text
}

/// What was typed, with keys as signs.
fn with_signs(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).replace("\r\n", "⏎").replace(['\r', '\n'], "⏎");
    neutral_within(&text, TYPED)
}

#[cfg(test)]
mod tests {
    use farwire_protocol::cbor::Blob;

    use super::*;

    #[test]
    fn who_did_what_is_one_harmless_line() {
        let actor = Actor {
            device: "laptop".to_owned(),
            surface: "ai-local".to_owned(),
            client: Some("a".to_owned()),
            mine: None,
        };
        let event = |what| Event {
            number: 1,
            at_ms: 1_700_000_000_000,
            offset: 0,
            actor: Some(actor.clone()),
            what: Some(what),
        };
        let text = Some(Blob(b"ls\r\x03\x1b[A".to_vec()));
        let line = describe(&event(What::Typed { text, length: 7 }));
        assert_eq!(line, "laptop/ai-local(a) typed \"ls⏎␃␛[A\"");
        let secret = describe(&event(What::Typed { text: None, length: 8 }));
        assert_eq!(secret, "laptop/ai-local(a) typed 8 bytes that were not shown");
        assert_eq!(time(&event(What::Left)), "22:13:20");
    }
}
