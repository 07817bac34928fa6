//! `read`: lines of a file, or the picture that it holds.

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Ask, Entry, Part, Read as Question};

use crate::client::Client;
use crate::files::Answer;
use crate::files::place::{Place, ServerPath};
use crate::files::site::{Face, Site};

/// A picture has at most this many bytes.
const PICTURE: u64 = 5 << 20;

/// At most this many lines are asked for at once.
pub const MOST: u32 = 20_000;

/// Which lines of which file.
#[derive(Debug)]
pub struct ReadRequest<'a> {
    /// The file.
    pub file: &'a ServerPath,
    /// The first line, from 1; a negative number counts from the end, and goes up to it.
    pub offset: i64,
    /// At most this many lines.
    pub limit: u32,
    /// At most this many bytes.
    pub budget: u32,
}

/// What a file holds.
#[derive(Debug)]
pub struct ReadAnswer {
    /// The file.
    pub place: Place,
    /// What it was when it was opened.
    pub entry: Entry,
    /// What it holds.
    pub content: Content,
}

/// The content of a file.
#[derive(Debug)]
pub enum Content {
    /// Lines of text.
    Lines(Lines),
    /// A picture.
    Picture(Picture),
    /// Anything else.
    Binary,
}

/// Whole lines.
#[derive(Debug, Eq, PartialEq)]
pub struct Lines {
    /// The lines.
    pub text: Vec<u8>,
    /// The number of the first: from 1 on, or from the end backwards where nobody has counted.
    pub first: i64,
    /// How many lines the file has, where they were counted.
    pub all: Option<u64>,
    /// There is more of the file.
    pub more: bool,
    /// The file changed while it was read: the lines may be of several states.
    pub changed: bool,
}

/// A picture.
#[derive(Debug)]
pub struct Picture {
    /// Its content.
    pub bytes: Vec<u8>,
    /// Its media type.
    pub kind: &'static str,
}

impl ReadRequest<'_> {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// Those of the server.
    pub async fn carry_out(&self, client: &Client, face: Face) -> Result<ReadAnswer, Failure> {
        let limit = self.limit.clamp(1, MOST);
        let budget = self.budget;
        let part = match self.offset {
            ..0 => {
                let count = u32::try_from(self.offset.unsigned_abs()).unwrap_or(MOST).min(MOST);
                Part::Tail { count, budget }
            }
            _ => Part::Lines { first: self.offset.unsigned_abs().max(1), count: limit, budget },
        };
        let mut site = self.file.site(client, face).await?;
        let answer = site.ask(|place| question(place, part, None)).await?;
        let nothing = || Failure::new(Kind::ProtocolViolation, "an answer without the file");
        let entry = answer.entries.first().cloned().ok_or_else(nothing)?;
        let content = if answer.content.contains(&0) || kind(&answer.content).is_some() {
            let picture = match entry.size {
                ..=PICTURE => picture(&mut site, entry.revision).await?,
                _ => None,
            };
            picture.map_or(Content::Binary, Content::Picture)
        } else {
            Content::Lines(Lines::new(answer, budget, self.offset < 0))
        };
        Ok(ReadAnswer { place: site.place.clone(), entry, content })
    }
}

fn question(place: &Place, part: Part, revision: Option<u64>) -> Ask {
    Ask::Read(Question { path: Blob(place.path.clone()), part, revision, hash: None, before: None })
}

impl Lines {
    /// Leaves out the line that was cut by a budget, if there are others: the next question has it.
    fn new(answer: Answer, budget: u32, from_end: bool) -> Self {
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
        Self {
            text: content.to_vec(),
            first,
            all: answer.done.lines,
            more: answer.done.more == Some(true),
            // The second entry is what the file was at the end.
            changed: answer.entries.len() > 1,
        }
    }
}

/// The picture that a file holds, if it holds one.
async fn picture(site: &mut Site, revision: u64) -> Result<Option<Picture>, Failure> {
    let mut read = async |length| {
        let part = Part::Bytes { offset: 0, length };
        let answer = site.ask(|place| question(place, part, Some(revision))).await?;
        Ok::<_, Failure>(answer.content)
    };
    // What is no picture is not fetched.
    if kind(&read(Some(16)).await?).is_none() {
        return Ok(None);
    }
    let bytes = read(None).await?;
    Ok(kind(&bytes).map(|kind| Picture { bytes, kind }))
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
    fn a_line_that_was_cut_is_left_to_the_next_question() {
        let of = |content: &str, first, budget, from_end| {
            let lines = Lines::new(answer(content, first), budget, from_end);
            (String::from_utf8(lines.text).unwrap(), lines.first)
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
