//! The lines of a client: which of them are messages, and what the others are answered with.
//!
//! A line that is no message is answered, and with the id of its request where there is one: a
//! client that gets no answer waits until its own time is up. rmcp would drop such a line.
//!
//! # Invariants
//!
//! - Of a line that is too long nothing is kept but its id.
//! - No id of a response is taken for that of a request: the client counts both on its own.

use std::collections::VecDeque;

use rmcp::RoleServer;
use rmcp::model::{ErrorCode, ErrorData, RequestId};
use rmcp::service::RxJsonRpcMessage;
use serde_json::Value;
use serde_json::error::Category;

/// The longest message.
const LIMIT: usize = 16 << 20;

/// The longest key, number or string that may be an id or the name of one, as it is written.
const TOKEN: usize = 1024;

/// A line that has been read to its end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Line {
    /// Without its line feed.
    Whole(Vec<u8>),
    /// It was longer than a message may be. With the id of its request.
    TooLong(Option<RequestId>),
}

/// What a line comes to.
#[derive(Debug)]
pub(super) enum Decoded {
    Message(Box<RxJsonRpcMessage<RoleServer>>),
    /// It is blank, or a notification that nobody knows and nobody waits for.
    Nothing,
    Refused(Refusal),
}

/// The answer to a line that is no message.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refusal {
    pub(super) id: Option<RequestId>,
    pub(super) error: ErrorData,
}

/// Makes lines of what is read.
#[derive(Debug)]
pub(super) struct LineReader {
    limit: usize,
    line: Vec<u8>,
    /// The line is longer than the limit.
    long: Option<IdScan>,
}

impl Default for LineReader {
    fn default() -> Self {
        Self::with_limit(LIMIT)
    }
}

impl LineReader {
    fn with_limit(limit: usize) -> Self {
        Self { limit, line: Vec::new(), long: None }
    }

    /// Takes what was read, and adds the lines that end in it.
    pub(super) fn push(&mut self, bytes: &[u8], lines: &mut VecDeque<Line>) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (part, ended) = match piece.strip_suffix(b"\n") {
                Some(part) => (part, true),
                None => (piece, false),
            };
            match &mut self.long {
                Some(scan) => scan.feed(part),
                None if self.line.len() + part.len() > self.limit => {
                    let mut scan = IdScan::default();
                    scan.feed(&std::mem::take(&mut self.line));
                    scan.feed(part);
                    self.long = Some(scan);
                }
                None => self.line.extend_from_slice(part),
            }
            if ended {
                lines.push_back(match self.long.take() {
                    Some(scan) => Line::TooLong(scan.request()),
                    None => Line::Whole(std::mem::take(&mut self.line)),
                });
            }
        }
    }
}

/// Decides what a line comes to.
pub(super) fn decode(line: Line) -> Decoded {
    let mut line = match line {
        Line::Whole(line) => line,
        Line::TooLong(id) => {
            let message = "a message has at most 16 MiB; use file_copy for larger files";
            let error = ErrorData::new(ErrorCode::INVALID_REQUEST, message, None);
            return Decoded::Refused(Refusal { id, error });
        }
    };
    replace_lone_surrogates(&mut line);
    let text = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line).trim_ascii();
    if text.is_empty() {
        return Decoded::Nothing;
    }
    match serde_json::from_slice(text) {
        Ok(message) => Decoded::Message(Box::new(message)),
        Err(error) => match error.classify() {
            Category::Syntax | Category::Eof => {
                let error = ErrorData::parse_error(format!("the line is no JSON: {error}"), None);
                Decoded::Refused(Refusal { id: IdScan::of(text).request(), error })
            }
            Category::Data | Category::Io => refuse_shape(text),
        },
    }
}

/// It is JSON, and no message.
fn refuse_shape(text: &[u8]) -> Decoded {
    let value: Value = serde_json::from_slice(text).unwrap_or_default();
    let method = value.get("method").and_then(Value::as_str);
    let id = value.get("id");
    if method.is_some_and(|method| id.is_none() || method.starts_with("notifications/")) {
        return Decoded::Nothing;
    }
    let id = id.filter(|_| method.is_some());
    let id = id.and_then(|id| serde_json::from_value(id.clone()).ok());
    let error = ErrorData::invalid_request("the line is no message of MCP", None);
    Decoded::Refused(Refusal { id, error })
}

/// Replaces escaped halves of surrogate pairs by U+FFFD: some clients send them, and no text has
/// them.
fn replace_lone_surrogates(line: &mut [u8]) {
    let mut at = 0;
    while let Some(found) = line.get(at..).and_then(|rest| memchr::memchr(b'\\', rest)) {
        at += found;
        at += match (surrogate(line, at), surrogate(line, at + 6)) {
            (Some(Half::High), Some(Half::Low)) => 12,
            (Some(_), _) => {
                if let Some(digits) = line.get_mut(at + 2..at + 6) {
                    digits.copy_from_slice(b"fffd");
                }
                6
            }
            // Whatever it escapes begins no other escape.
            (None, _) => 2,
        };
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Half {
    High,
    Low,
}

/// The half of a pair that is escaped here.
fn surrogate(line: &[u8], at: usize) -> Option<Half> {
    let digits = line.get(at..at + 6)?.strip_prefix(b"\\u")?;
    let digits = digits.iter().map(|&digit| char::from(digit).to_digit(16));
    match digits.collect::<Option<Vec<_>>>()?[..] {
        [0xd, 0x8..=0xb, _, _] => Some(Half::High),
        [0xd, 0xc..=0xf, _, _] => Some(Half::Low),
        _ => None,
    }
}

/// Looks for the id of a request in what need not be JSON, and need not be kept.
#[derive(Debug, Default)]
struct IdScan {
    depth: usize,
    /// Within a string; whether the next byte is escaped.
    string: Option<bool>,
    /// What is written in the outermost object since its last separator, up to a bound.
    token: Vec<u8>,
    /// The value that follows is that of `id`.
    of_id: bool,
    id: Option<RequestId>,
    /// There is a method: it is no response.
    method: bool,
}

impl IdScan {
    fn of(text: &[u8]) -> Self {
        let mut scan = Self::default();
        scan.feed(text);
        scan
    }

    /// The id, if it is one of a request.
    fn request(mut self) -> Option<RequestId> {
        self.separate();
        self.id.filter(|_| self.method)
    }

    fn feed(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.step(byte));
    }

    fn step(&mut self, byte: u8) {
        if let Some(escaped) = self.string {
            self.string = match byte {
                b'"' if !escaped => None,
                _ => Some(byte == b'\\' && !escaped),
            };
            return self.keep(byte);
        }
        match byte {
            b'{' | b'[' => {
                // What is in it is no part of the token, and a token with a bracket is no id.
                self.keep(byte);
                self.depth += 1;
            }
            b'}' | b']' => {
                if self.depth == 1 {
                    self.separate();
                }
                self.depth = self.depth.saturating_sub(1);
            }
            b',' if self.depth == 1 => self.separate(),
            b':' if self.depth == 1 => {
                let key = std::mem::take(&mut self.token);
                self.of_id = key == b"\"id\"";
                self.method |= key == b"\"method\"";
            }
            b' ' | b'\t' | b'\r' => {}
            _ => {
                self.keep(byte);
                if byte == b'"' {
                    self.string = Some(false);
                }
            }
        }
    }

    fn keep(&mut self, byte: u8) {
        if self.depth == 1 && self.token.len() <= TOKEN {
            self.token.push(byte);
        }
    }

    /// A value has ended.
    fn separate(&mut self) {
        let value = std::mem::take(&mut self.token);
        if std::mem::take(&mut self.of_id) && self.id.is_none() {
            self.id = serde_json::from_slice(&value).ok();
        }
    }
}

#[cfg(test)]
mod tests;
