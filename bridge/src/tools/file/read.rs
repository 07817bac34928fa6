//! `file_read`: lines of a file, or the picture that it holds.

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Ask, Part, Read};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{age, described, enter, numbered};
use crate::text::Word;
use crate::text::header::{Call, Header, Key};
use crate::tools::{Caller, Desk, Effect, Tool, budget};

/// A picture has at most so many bytes.
const PICTURE: u64 = 5 << 20;

/// So many lines are asked for at once at most.
const LINES: u32 = 20_000;

/// The arguments of `file_read`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileRead {
    /// Server name.
    pub server: String,
    /// Path on the server.
    pub path: String,
    /// First line, from 1; negative counts from the end.
    pub offset: Option<i64>,
    /// Lines (default 400).
    pub limit: Option<u32>,
    /// Characters (default 7500).
    pub max_output: Option<usize>,
}

impl Tool for FileRead {
    const NAME: &'static str = "file_read";
    const TITLE: &'static str = "Read file";
    const ABOUT: &'static str = "Read a file on a server: numbered lines, or the image. The header has rev for \
        file_write and file_edit, and the call for the rest.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, desk: &Desk, caller: &Caller) -> Result<String, Failure> {
        let client = desk.client().await?;
        let mut at = enter(client, &self.server, &self.path).await?;
        let limit = self.limit.unwrap_or(400).clamp(1, LINES);
        let budget = budget(self.max_output).characters();
        let bytes = u32::try_from(budget * 4).unwrap_or(u32::MAX);
        let offset = self.offset.unwrap_or(1);
        let part = match offset {
            ..0 => {
                let count = u32::try_from(offset.unsigned_abs()).unwrap_or(LINES).min(limit);
                Part::Tail { count, budget: bytes }
            }
            _ => Part::Lines { first: offset.unsigned_abs().max(1), count: limit, budget: bytes },
        };
        let path = Blob(at.place.path.clone());
        let read = Read { path: path.clone(), part, revision: None, hash: None };
        let answer = at.files.answer(client, Ask::Read(read), None).await?;
        let nothing = || Failure::new(Kind::ProtocolViolation, "an answer without the file");
        let entry = answer.entries.first().ok_or_else(nothing)?;
        let header = Header::new(Word::File).value(&at.place.shown());
        if answer.content.contains(&0) || kind(&answer.content).is_some() {
            let header = described(header, entry).field(Key::Changed, age(entry));
            if entry.size > PICTURE {
                return Ok(format!("{}\n", header.words("binary").end()));
            }
            let part = Part::Bytes { offset: 0, length: None };
            let whole = Read { path, part, revision: Some(entry.revision), hash: None };
            let answer = at.files.answer(client, Ask::Read(whole), None).await?;
            let Some(kind) = kind(&answer.content) else {
                return Ok(format!("{}\n", header.words("binary").end()));
            };
            caller.show(answer.content, kind);
            return Ok(format!("{}\n", header.words(kind).end()));
        }
        let first = answer.done.first.unwrap_or(1);
        let (text, last, hidden) = numbered(&answer.content, first, budget);
        let lines = match (last, answer.done.lines) {
            (Some(last), Some(all)) => format!("{first}-{last}/{all}"),
            (Some(last), None) => format!("{first}-{last}"),
            (None, all) => format!("0/{}", all.unwrap_or(0)),
        };
        let header = described(header.field(Key::Lines, lines), entry);
        let header = header.field(Key::Changed, age(entry)).hidden(hidden);
        let next = last.map_or(first, |last| last + 1);
        let more = match answer.done.lines {
            Some(all) => next <= all,
            None => answer.done.more == Some(true),
        };
        let line = match more && last.is_some() {
            true => {
                let call =
                    Call::new(Self::NAME).with("server", &self.server).with("path", &self.path);
                header.next(&call.with("offset", next))
            }
            false => header.end(),
        };
        Ok(format!("{line}\n{text}"))
    }
}

/// Which kind of picture it is, by how it begins.
fn kind(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}
