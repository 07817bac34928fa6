//! The audit log: a line for each question, also if it was refused or given up, with who asked
//! what, and the result.
//!
//! A line is a JSON object in ASCII, without content of files. It goes through a pipe to the agent,
//! which adds time and root and writes it to a file that no worker can reach. A question waits
//! until its line is in the pipe: a client faster than the agent's disk is slowed down, and no line
//! is dropped.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use farwire_protocol::failure::Kind;
use farwire_protocol::streams::files::{Ask, How, Http};

/// How many characters of a path are logged.
const PATH: usize = 512;

/// How many paths of a change are logged. The others are counted.
pub(super) const PATHS: usize = 20;

/// Beyond this many bytes no further path is added. Both paths of a copy always fit.
const FULL: usize = 20 << 10;

/// The longest line.
pub const LONGEST: usize = 32 << 10;

/// The pipe to the agent.
#[derive(Debug)]
pub(super) struct Audit(Mutex<File>);

impl Audit {
    pub(super) fn new(pipe: OwnedFd) -> Self {
        Self(Mutex::new(pipe.into()))
    }

    /// Logs one question.
    pub(super) fn note(&self, line: &AuditLine<'_>) {
        let mut pipe = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Without an agent there is nobody to answer either.
        let _ = pipe.write_all(line.text().as_bytes());
    }
}

/// A line of the log.
#[derive(Clone, Debug, Default)]
pub struct AuditLine<'a> {
    /// Device, surface and client.
    pub who: &'a str,
    /// The verb.
    pub verb: String,
    /// The directory that was entered, which the paths are relative to.
    pub below: &'a [u8],
    /// The paths of the question.
    pub paths: Vec<&'a [u8]>,
    /// How many more paths there are.
    pub more: usize,
    /// The status of a WebDAV response.
    pub status: Option<u16>,
    /// Why the question failed.
    pub failure: Option<Kind>,
}

impl<'a> AuditLine<'a> {
    /// The line of a question, without its result.
    pub(super) fn of(ask: &'a Ask) -> Self {
        let (verb, paths) = what(ask);
        Self { verb, paths, ..Self::default() }
    }

    /// The line in JSON.
    pub fn text(&self) -> String {
        let mut line = String::with_capacity(160);
        let path = |path: &[u8]| json(&String::from_utf8_lossy(path));
        // Writing to a string does not fail.
        let _ = write!(line, "{{\"who\":{},\"verb\":{}", json(self.who), json(&self.verb));
        if !self.below.is_empty() {
            let _ = write!(line, ",\"below\":{}", path(self.below));
        }
        line.push_str(",\"paths\":[");
        let mut more = self.more;
        for (at, one) in self.paths.iter().enumerate() {
            if line.len() > FULL {
                more += self.paths.len() - at;
                break;
            }
            let comma = if at > 0 { "," } else { "" };
            let _ = write!(line, "{comma}{}", path(one));
        }
        line.push(']');
        if more > 0 {
            let _ = write!(line, ",\"more\":{more}");
        }
        if let Some(status) = self.status {
            let _ = write!(line, ",\"status\":{status}");
        }
        let refused = self.status.is_some_and(|status| status >= 400);
        let done = if refused { "refused" } else { "ok" };
        let _ = writeln!(line, ",\"result\":\"{}\"}}", self.failure.map_or(done, Kind::name));
        line
    }
}

/// The verb and the paths of a question.
fn what(ask: &Ask) -> (String, Vec<&[u8]>) {
    let (verb, paths): (&str, Vec<&[u8]>) = match ask {
        Ask::List(list) => ("list", vec![&list.path]),
        Ask::Stat(path) => ("stat", vec![path]),
        Ask::Read(read) => ("read", vec![&read.path]),
        Ask::Write(write) if write.how == How::Append => ("append", vec![&write.path]),
        Ask::Write(write) => ("write", vec![&write.path]),
        Ask::Edit(edit) => ("edit", vec![&edit.path]),
        Ask::Search(search) => ("search", vec![&search.path]),
        Ask::MakeDirectory(make) => ("make-directory", vec![&make.path]),
        Ask::Remove(remove) => ("remove", vec![&remove.path]),
        Ask::Copy(copy) if copy.moved == Some(true) => ("move", vec![&copy.from, &copy.to]),
        Ask::Copy(copy) => ("copy", vec![&copy.from, &copy.to]),
        Ask::Arrived(arrived) => ("arrived", vec![&arrived.path]),
        Ask::Http(http) => return (format!("http {}", http.method), targets(http)),
        Ask::Patch(patch) => ("patch", vec![&patch.path]),
        Ask::Changes(_) => ("changes", Vec::new()),
        Ask::Revert(revert) if revert.redo == Some(true) => ("redo", Vec::new()),
        Ask::Revert(_) => ("undo", Vec::new()),
        Ask::Attributes(asked) => ("attributes", vec![&asked.path]),
        Ask::Usage(path) => ("usage", vec![path]),
        Ask::Archive(archive) => ("archive", vec![&archive.path]),
        Ask::Watch(watch) => ("watch", vec![&watch.path]),
        _ => ("unknown", Vec::new()),
    };
    (verb.to_owned(), paths)
}

/// The target and the destination of a request.
fn targets(http: &Http) -> Vec<&[u8]> {
    let headers = http.headers.iter();
    let mut to = headers.filter(|header| header.name.eq_ignore_ascii_case("destination"));
    let to = to.next().map(|header| &header.value.0[..]);
    [http.target.as_bytes()].into_iter().chain(to).collect()
}

/// A JSON string, cut off if it is long.
fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for char in text.chars().take(PATH) {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            ' '..='~' => out.push(char),
            char => {
                let mut units = [0; 2];
                for unit in char.encode_utf16(&mut units) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use farwire_protocol::cbor::Blob;

    use super::*;

    #[test]
    fn a_line_says_who_did_what_and_is_one_line_whatever_the_name() {
        let ask = Ask::Stat(Blob(b"a\n\"b\\\xff\xc3\xa9".to_vec()));
        let failure = Some(Kind::NoSuchFile);
        let line = AuditLine { who: "laptop/human", below: b"sub", failure, ..AuditLine::of(&ask) };
        assert_eq!(
            line.text(),
            "{\"who\":\"laptop/human\",\"verb\":\"stat\",\"below\":\"sub\",\
             \"paths\":[\"a\\u000a\\\"b\\\\\\ufffd\\u00e9\"],\"result\":\"no_such_file\"}\n"
        );
    }

    #[test]
    fn a_request_of_a_client_says_where_to_and_how_it_was_answered() {
        let header = farwire_protocol::streams::files::Header {
            name: "Destination".to_owned(),
            value: Blob(b"/w/b".to_vec()),
        };
        let (method, target) = ("MOVE".to_owned(), "/w/a".to_owned());
        let ask = Ask::Http(Http { method, target, headers: vec![header] });
        let line = AuditLine { status: Some(403), ..AuditLine::of(&ask) }.text();
        assert!(line.ends_with(
            "\"verb\":\"http MOVE\",\"paths\":[\"/w/a\",\"/w/b\"],\"status\":403,\"result\":\"refused\"}\n"
        ), "{line}");
    }

    #[test]
    fn a_line_is_bounded_whatever_stands_in_it() {
        let long = "\u{1f600}".repeat(4_096);
        let paths = vec![long.as_bytes(); 1_000];
        let line =
            AuditLine { who: &long, below: long.as_bytes(), paths, ..AuditLine::default() }.text();
        assert!(line.len() <= LONGEST && line.contains("\"more\":998,"), "{}", line.len());
    }
}
