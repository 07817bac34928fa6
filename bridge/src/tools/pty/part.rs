//! Part of a session's output as an answer: as clean text, or as JSON that is exact to the byte.

use farwire_keystore::ShortId;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::sessions::window::Window;
use crate::text::chars;
use crate::text::header::{Call, Fate, Header, Key};
use crate::tools::answer::word;
use farwire_protocol::streams::run::Exit;

/// The format of an answer.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "doc comments would go into the schema that models pay for")]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// Part of the output, and the other fields of its header.
#[derive(Debug)]
pub(super) struct PtyOutput<'a> {
    pub(super) id: ShortId,
    pub(super) window: &'a Window,
    pub(super) format: Option<Format>,
    /// Bytes that were asked for and are no longer kept.
    pub(super) gone: u64,
    pub(super) more: Vec<(Key, String)>,
    pub(super) next: Option<Call>,
}

impl PtyOutput<'_> {
    /// The answer.
    pub(super) fn finish(self) -> String {
        match self.format.unwrap_or_default() {
            Format::Text => self.text(),
            Format::Json => self.json(),
        }
    }

    fn text(self) -> String {
        let window = self.window;
        let mut header =
            Header::ending(word(self.id), &self.id.to_string(), Fate::of(&window.state));
        header = header.field(Key::Offset, format_args!("{}-{}", window.from(), window.to()));
        if self.gone > 0 {
            header = header.field(Key::Dropped, self.gone);
        }
        for (key, value) in &self.more {
            header = header.field(*key, value);
        }
        let (text, hidden) = window.text();
        header = header.hidden(hidden);
        let line = match &self.next {
            Some(call) => header.next(call),
            None => header.end(),
        };
        format!("{line}\n{text}")
    }

    fn json(self) -> String {
        let window = self.window;
        let mut object = Map::new();
        let mut put = |name: &str, value: Value| drop(object.insert(name.to_owned(), value));
        put("session_id", self.id.to_string().into());
        put("state", if window.state.is_open() { "running" } else { "exited" }.into());
        match window.state.exit {
            Some(Exit::Code(code)) => put("exit_code", code.into()),
            Some(Exit::Signal(number)) => put("signal", number.into()),
            None => {}
        }
        put("offset", window.from().into());
        put("next_offset", window.to().into());
        put("more", window.more().into());
        put("oldest_offset", window.state.dropped_bytes.into());
        put("dropped_bytes", self.gone.into());
        for (key, value) in self.more {
            put(key.name(), value.into());
        }
        put("data", String::from_utf8_lossy(&window.piece.bytes).into());
        json(&Value::Object(object))
    }
}

/// JSON in which invisible characters are escaped.
pub(super) fn json(value: &Value) -> String {
    let mut out = String::new();
    for char in value.to_string().chars() {
        // Everything except ASCII is within strings, and controls are escaped already.
        if char.is_ascii() && !char.is_ascii_control() || chars::visible_form(char) == Some(char) {
            out.push(char);
        } else {
            let mut units = [0; 2];
            for unit in char.encode_utf16(&mut units) {
                out.extend([format!("\\u{unit:04x}")]);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::shown::Piece;
    use farwire_protocol::streams::run::State;

    fn part(format: Format) -> String {
        let bytes = "\u{1b}[31mred\u{1b}[0m \u{202e}x\r\n".as_bytes().to_vec();
        let piece = Piece { first_line: 1, offset: 7, bytes, ..Piece::default() };
        let window = Window { piece, state: State { bytes: 99, ..State::default() } };
        let next = Some(Call::new("pty_read").with("session_id", "s3"));
        let more = vec![(Key::Matched, "1".to_owned())];
        let id = "s3".parse().unwrap();
        PtyOutput { id, window: &window, format: Some(format), gone: 7, more, next }.finish()
    }

    #[test]
    fn text_has_no_escape_and_the_exact_next_call() {
        assert_eq!(
            part(Format::Text),
            "[session s3 running offset=7-26 dropped=7 matched=1 hidden=1 next=pty_read(session_id=s3)]\nred x\n"
        );
    }

    #[test]
    fn json_keeps_every_byte_and_shows_none_that_hides() {
        let text = part(Format::Json);
        assert!(text.is_ascii() && !text.contains('\u{1b}'), "{text}");
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["data"], "\u{1b}[31mred\u{1b}[0m \u{202e}x\r\n");
        assert_eq!(
            (value["next_offset"].as_u64(), value["more"].as_bool()),
            (Some(26), Some(true))
        );
        assert_eq!(json(&Value::from("a\u{e0041}é\u{7f}")), "\"a\\udb40\\udc41é\\u007f\"");
    }
}
