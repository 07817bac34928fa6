//! `file_read`: lines of a file, or the picture that it holds.

use farwire_protocol::failure::Failure;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{age, describe, number_lines};
use crate::files::place::ServerPath;
use crate::files::site::Face;
use crate::text::Word;
use crate::text::header::{Call, Header, Key};
use crate::tools::arguments::budget;
use crate::tools::caller::Caller;
use crate::tools::seat::Seat;
use crate::tools::tool::{Effect, Tool};
use crate::verbs::files::read::{Content, Lines, MOST, ReadRequest};

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

    async fn call(self, seat: &Seat, caller: &Caller) -> Result<String, Failure> {
        let client = seat.client().await?;
        let limit = self.limit.unwrap_or(400).clamp(1, MOST);
        let budget = budget(self.max_output).characters();
        let file = ServerPath::new(&self.server, &self.path);
        let offset = self.offset.unwrap_or(1);
        let bytes = u32::try_from(budget * 4).unwrap_or(u32::MAX);
        let read = ReadRequest { file: &file, offset, limit, budget: bytes };
        let answer = read.carry_out(client, Face::Mcp).await?;
        let (header, entry) =
            (Header::new(Word::File).value(&answer.place.to_text()), &answer.entry);
        let lines = match answer.content {
            Content::Lines(lines) => lines,
            content => {
                let header = describe(header, entry).field(Key::Changed, age(entry));
                let Content::Picture(picture) = content else {
                    return Ok(format!("{}\n", header.words("binary").end()));
                };
                caller.show(picture.bytes, picture.kind);
                return Ok(format!("{}\n", header.words(picture.kind).end()));
            }
        };
        let (text, last, hidden) = number_lines(&lines.text, lines.first, limit, budget);
        let header = describe(header.field(Key::Lines, range(&lines, last)), entry);
        let header = header.field(Key::Changed, age(entry)).hidden(hidden);
        // The lines may come from several versions; the second entry is the file's state at the
        // end.
        let header = if lines.changed { header.words("changed-while-read") } else { header };
        let next = last.map(|last| last + 1).filter(|next| goes_on(&lines, *next));
        let Some(next) = next else {
            return Ok(format!("{}\n{text}", header.end()));
        };
        let call = Call::new(Self::NAME).with("server", &self.server).with("path", &self.path);
        Ok(format!("{}\n{text}", header.next(&call.with("offset", next))))
    }
}

/// Which lines are shown, and of how many.
fn range(lines: &Lines, last: Option<i64>) -> String {
    let first = lines.first;
    match (last, lines.all) {
        (Some(last), Some(all)) => format!("{first}-{last}/{all}"),
        (Some(last), None) if first < 0 => format!("{first}..{last}"),
        (Some(last), None) => format!("{first}-{last}"),
        (None, all) => format!("0/{}", all.unwrap_or(0)),
    }
}

/// Whether the file continues with this line.
fn goes_on(lines: &Lines, next: i64) -> bool {
    match lines.all {
        Some(all) => u64::try_from(next).is_ok_and(|next| next <= all),
        // A range that is counted from the end goes up to the end.
        None if lines.first < 0 => next < 0,
        None => lines.more,
    }
}
