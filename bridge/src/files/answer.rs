//! What comes for one question, within bounds: an agent may be hostile.

use farwire_protocol::failure::Failure;
use farwire_protocol::streams::files::{Ask, Change, Done, Entry, Match, ToBridge};

use super::{Said, violation};

/// No answer that is kept in memory has more content.
const LIMIT: usize = 16 << 20;

/// No answer has more entries, matches or changes: as many as an agent lists at most, and some.
const MOST: usize = 200_000;

/// Nor do their paths and texts have more bytes together.
const TEXTS: usize = 64 << 20;

/// All that came for one question.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// How it ended.
    pub done: Done,
    /// Entries.
    pub entries: Vec<Entry>,
    /// Lines.
    pub matches: Vec<Match>,
    /// Changes.
    pub changes: Vec<Change>,
    /// Content.
    pub content: Vec<u8>,
}

/// An answer of which not everything has come.
#[derive(Debug)]
pub(super) struct Gathering {
    answer: Answer,
    /// At most this many entries, matches or changes may come.
    most: usize,
    /// How many bytes its paths and texts have.
    texts: usize,
}

impl Default for Gathering {
    fn default() -> Self {
        Self { answer: Answer::default(), most: MOST, texts: 0 }
    }
}

impl Gathering {
    /// The answer to a question, which may have as many entries as it asks for.
    pub(super) fn of(ask: &Ask) -> Self {
        let wanted = match ask {
            Ask::List(list) => list.limit.map_or(0, |limit| usize::try_from(limit).unwrap_or(0)),
            _ => 0,
        };
        Self { most: wanted.max(MOST), ..Self::default() }
    }

    /// Takes what came. Once the question is answered there is the answer, or why it was not done.
    ///
    /// # Errors
    ///
    /// `protocol_violation` for what belongs to no answer, or to one that is too large.
    pub(super) fn take(&mut self, said: Said) -> Result<Option<Result<Answer, Failure>>, Failure> {
        let answer = &mut self.answer;
        match said {
            Said::Content(bytes) if answer.content.len() + bytes.len() <= LIMIT => {
                answer.content.extend_from_slice(&bytes);
            }
            Said::Message(ToBridge::Entries(entries)) => {
                self.texts += entries.iter().map(|entry| entry.path.len()).sum::<usize>();
                answer.entries.extend(entries);
            }
            Said::Message(ToBridge::Matches(found)) => {
                self.texts +=
                    found.iter().map(|one| one.path.len() + one.text.len()).sum::<usize>();
                answer.matches.extend(found);
            }
            Said::Message(ToBridge::Changed(changes)) => {
                let paths = changes.iter().flat_map(|change| &change.paths);
                self.texts += paths.map(|path| path.len()).sum::<usize>();
                answer.changes.extend(changes);
            }
            Said::Message(ToBridge::Done(mut done)) => {
                if let Some(failure) = done.failure.take() {
                    return Ok(Some(Err(failure)));
                }
                answer.done = *done;
                return Ok(Some(Ok(std::mem::take(answer))));
            }
            Said::Content(_) => return Err(violation("the answer is larger than its limit")),
            Said::Message(_) => return Err(violation("an answer to another question")),
        }
        let most = [answer.entries.len(), answer.matches.len(), answer.changes.len()];
        let texts = TEXTS * (self.most / MOST);
        match self.texts > texts || most.iter().any(|count| *count > self.most) {
            true => Err(violation("the answer is larger than its limit")),
            false => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use farwire_protocol::cbor::Blob;
    use farwire_protocol::failure::Kind;
    use farwire_protocol::frame::PAYLOAD;
    use farwire_protocol::streams::files::What;

    use super::*;

    fn entries(count: usize) -> Said {
        let entry = Entry {
            path: Blob(b"a".to_vec()),
            what: What::File,
            size: 1,
            modified: 0,
            revision: 1,
            mode: 0o644,
            hash: None,
            target: None,
        };
        Said::Message(ToBridge::Entries(vec![entry; count]))
    }

    #[test]
    fn an_answer_is_there_with_its_end_and_not_before() {
        let mut gathering = Gathering::default();
        assert!(gathering.take(entries(2)).unwrap().is_none());
        assert!(gathering.take(Said::Content(Bytes::from_static(b"x"))).unwrap().is_none());
        let done = ToBridge::Done(Box::new(Done { count: Some(2), ..Done::default() }));
        let answer = gathering.take(Said::Message(done)).unwrap().unwrap().unwrap();
        assert_eq!(
            (answer.entries.len(), answer.content, answer.done.count),
            (2, b"x".to_vec(), Some(2))
        );
        let refused = Done::from_failure(Failure::new(Kind::NoSuchFile, "no"));
        let refused = gathering.take(Said::Message(ToBridge::Done(Box::new(refused))));
        assert_eq!(refused.unwrap().unwrap().unwrap_err().kind, Kind::NoSuchFile);
    }

    #[test]
    fn what_never_ends_is_not_gathered() {
        let mut gathering = Gathering::default();
        let over = (0..10).find_map(|_| gathering.take(entries(MOST / 8)).err());
        assert_eq!(over.unwrap().kind, Kind::ProtocolViolation);
        let mut gathering = Gathering::default();
        let piece = Bytes::from(vec![0; PAYLOAD]);
        let over =
            (0..=LIMIT / PAYLOAD).find_map(|_| gathering.take(Said::Content(piece.clone())).err());
        assert_eq!(over.unwrap().kind, Kind::ProtocolViolation);
    }
}
