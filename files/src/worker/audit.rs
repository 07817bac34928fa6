//! A line for each question that was answered: who asked what, and what came of it.
//!
//! The agent opens the file to be added to and to nothing else, and hands it over. A line is one JSON object,
//! written at once, so that lines of several workers do not mix. No content stands in it.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::time::{SystemTime, UNIX_EPOCH};

use farwire_protocol::failure::Kind;
use farwire_protocol::streams::files::{Ask, How};

/// A path is cut after so many characters.
const PATH: usize = 512;

/// Where lines go.
#[derive(Debug)]
pub(super) struct Audit {
    file: File,
    root: String,
}

impl Audit {
    pub(super) fn new(file: OwnedFd, root: String) -> Self {
        Self { file: file.into(), root }
    }

    /// Writes down one question. A disk that is full loses lines, and no question waits for it.
    pub(super) fn note(&self, who: &str, ask: &Ask, failure: Option<Kind>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (verb, paths) = what(ask);
        let mut line = String::with_capacity(160);
        // Writing to a string does not fail.
        let _ = write!(
            line,
            "{{\"time_ms\":{},\"root\":{},\"who\":{}",
            now.as_millis(),
            json(&self.root),
            json(who)
        );
        let _ = write!(line, ",\"verb\":{},\"paths\":[", json(&verb));
        for (at, path) in paths.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            let _ = write!(line, "{comma}{}", json(&String::from_utf8_lossy(path)));
        }
        let result = failure.map_or("ok", Kind::name);
        let _ = writeln!(line, "],\"result\":\"{result}\"}}");
        let _ = (&self.file).write_all(line.as_bytes());
    }
}

/// What was asked, in a word, and of what.
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
        Ask::Http(http) => return (format!("http {}", http.method), vec![http.target.as_bytes()]),
        Ask::Patch(patch) => ("patch", vec![&patch.path]),
        Ask::Changes(_) => ("changes", Vec::new()),
        Ask::Revert(revert) if revert.redo == Some(true) => ("redo", Vec::new()),
        Ask::Revert(_) => ("undo", Vec::new()),
        Ask::Archive(archive) => ("archive", vec![&archive.path]),
        Ask::Watch(watch) => ("watch", vec![&watch.path]),
        _ => ("unknown", Vec::new()),
    };
    (verb.to_owned(), paths)
}

/// A text as JSON, cut where it is long.
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
        let mut read = tempfile::NamedTempFile::new().unwrap();
        let audit = Audit::new(read.reopen().unwrap().into(), "work".to_owned());
        let path = Blob(b"a\n\"b\\\xff\xc3\xa9".to_vec());
        audit.note("laptop/human", &Ask::Stat(path), Some(Kind::NoSuchFile));
        let mut text = String::new();
        std::io::Read::read_to_string(&mut read, &mut text).unwrap();
        let rest = text.split_once(",\"root\"").unwrap().1;
        assert_eq!(
            rest,
            ":\"work\",\"who\":\"laptop/human\",\"verb\":\"stat\",\
             \"paths\":[\"a\\u000a\\\"b\\\\\\ufffd\\u00e9\"],\"result\":\"no_such_file\"}\n"
        );
    }
}
