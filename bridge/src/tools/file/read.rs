//! `file_read`: lines of a file, or the picture that it holds.

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Ask, Part, Read};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{age, described, numbered, site};
use crate::files::Answer;
use crate::files::place::Place;
use crate::files::site::Site;
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
        let mut at = site(client, &self.server, &self.path).await?;
        let limit = self.limit.unwrap_or(400).clamp(1, LINES);
        let budget = budget(self.max_output).characters();
        let bytes = u32::try_from(budget * 4).unwrap_or(u32::MAX);
        let offset = self.offset.unwrap_or(1);
        let part = match offset {
            ..0 => {
                let count = u32::try_from(offset.unsigned_abs()).unwrap_or(LINES).min(LINES);
                Part::Tail { count, budget: bytes }
            }
            _ => Part::Lines { first: offset.unsigned_abs().max(1), count: limit, budget: bytes },
        };
        let answer = at.ask(|place| Ask::Read(question(place, part, None))).await?;
        let nothing = || Failure::new(Kind::ProtocolViolation, "an answer without the file");
        let entry = answer.entries.first().ok_or_else(nothing)?;
        let header = Header::new(Word::File).value(&at.place.shown());
        if answer.content.contains(&0) || kind(&answer.content).is_some() {
            let header = described(header, entry).field(Key::Changed, age(entry));
            let picture = match entry.size {
                ..=PICTURE => picture(&mut at, entry.revision).await?,
                _ => None,
            };
            let word = picture.as_ref().map_or("binary", |(_, kind)| kind);
            if let Some((bytes, kind)) = picture {
                caller.show(bytes, kind);
            }
            return Ok(format!("{}\n", header.words(word).end()));
        }
        let lines = Lines::new(&answer, (bytes, offset < 0));
        let (text, last, hidden) = numbered(lines.content, lines.first, (limit, budget));
        let first = lines.first;
        let shown = match (last, answer.done.lines) {
            (Some(last), Some(all)) => format!("{first}-{last}/{all}"),
            (Some(last), None) if first < 0 => format!("{first}..{last}"),
            (Some(last), None) => format!("{first}-{last}"),
            (None, all) => format!("0/{}", all.unwrap_or(0)),
        };
        let header = described(header.field(Key::Lines, shown), entry);
        let header = header.field(Key::Changed, age(entry)).hidden(hidden);
        // What was read may be of several states: the second is what the file was at the end.
        let header = match answer.entries.get(1) {
            Some(_) => header.words("changed-while-read"),
            None => header,
        };
        let Some(next) = last.map(|last| last + 1) else {
            return Ok(format!("{}\n{text}", header.end()));
        };
        let more = match answer.done.lines {
            Some(all) => u64::try_from(next).is_ok_and(|next| next <= all),
            // What is counted from the end goes up to it.
            None if first < 0 => next < 0,
            None => answer.done.more == Some(true),
        };
        if !more {
            return Ok(format!("{}\n{text}", header.end()));
        }
        let call = Call::new(Self::NAME).with("server", &self.server).with("path", &self.path);
        Ok(format!("{}\n{text}", header.next(&call.with("offset", next))))
    }
}

/// The lines of an answer that are whole.
#[derive(Debug, Eq, PartialEq)]
struct Lines<'a> {
    content: &'a [u8],
    /// The number of the first: from 1 on, or from the end backwards where nobody has counted.
    first: i64,
}

impl<'a> Lines<'a> {
    /// Leaves out the line that was cut by a budget, if there are others: the next call has it.
    fn new(answer: &'a Answer, (budget, from_end): (u32, bool)) -> Self {
        let mut content = answer.content.as_slice();
        let mut first = answer.done.first.and_then(|first| i64::try_from(first).ok());
        let full = u32::try_from(content.len()).is_ok_and(|length| length >= budget);
        let ends = |content: &[u8]| content.iter().filter(|&&byte| byte == b'\n').count();
        if full && from_end {
            let begin = content.iter().position(|&byte| byte == b'\n').map(|at| at + 1);
            if let Some(rest) =
                begin.and_then(|at| content.get(at..)).filter(|rest| !rest.is_empty())
            {
                content = rest;
                first = first.map(|first| first + 1);
            }
        } else if full && !content.ends_with(b"\n") {
            let end = content.iter().rposition(|&byte| byte == b'\n').map(|at| at + 1);
            content = end.and_then(|at| content.get(..at)).unwrap_or(content);
        }
        let count = ends(content) + usize::from(!content.ends_with(b"\n"));
        let first = first.unwrap_or_else(|| -i64::try_from(count).unwrap_or(i64::MAX));
        Self { content, first }
    }
}

fn question(place: &Place, part: Part, revision: Option<u64>) -> Read {
    Read { path: Blob(place.path.clone()), part, revision, hash: None, before: None }
}

/// The picture that a file holds, if it holds one.
async fn picture(at: &mut Site, revision: u64) -> Result<Option<(Vec<u8>, &'static str)>, Failure> {
    let mut read = async |length| {
        let part = Part::Bytes { offset: 0, length };
        let answer = at.ask(|place| Ask::Read(question(place, part, Some(revision)))).await?;
        Ok::<_, Failure>(answer.content)
    };
    // What is no picture is not fetched.
    if kind(&read(Some(16)).await?).is_none() {
        return Ok(None);
    }
    let whole = read(None).await?;
    Ok(kind(&whole).map(|kind| (whole, kind)))
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

#[cfg(test)]
mod tests {
    use farwire_protocol::streams::files::Done;

    use super::*;

    fn answer(content: &str, first: Option<u64>) -> Answer {
        let done = Done { first, ..Done::default() };
        Answer { content: content.as_bytes().to_vec(), done, ..Answer::default() }
    }

    #[test]
    fn a_line_that_was_cut_is_left_to_the_next_call() {
        let of = |content: &str, first, budget, from_end| {
            let answer = answer(content, first);
            let lines = Lines::new(&answer, (budget, from_end));
            (String::from_utf8(lines.content.to_vec()).unwrap(), lines.first)
        };
        let is = |text: &str, first| (text.to_owned(), first);
        assert_eq!(of("one\ntwo\nth", Some(5), 10, false), is("one\ntwo\n", 5));
        assert_eq!(
            of("one\ntwo\nth", Some(5), 99, false),
            is("one\ntwo\nth", 5),
            "a whole last line"
        );
        assert_eq!(of("one", Some(5), 3, false), is("one", 5), "there is no other");
        assert_eq!(of("ne\ntwo\n", Some(5), 7, true), is("two\n", 6));
        assert_eq!(of("one\ntwo", None, 99, true), is("one\ntwo", -2), "nobody has counted");
        assert_eq!(of("ne\ntwo\n", None, 7, true), is("two\n", -1));
    }
}
