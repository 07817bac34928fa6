//! The audit line of a question.

use std::io::{BufRead as _, BufReader};

use farwire_protocol::cbor::{self, Blob};
use farwire_protocol::streams::files::{Enter, How, Patch, Revert, Root, Write};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::*;
use crate::rules::Rules;

struct Place {
    dir: tempfile::TempDir,
    _store: tempfile::TempDir,
    shared: RootState,
    lines: BufReader<File>,
}

impl Place {
    fn new() -> Self {
        let (dir, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let rules = Rules { writable: true, ..Rules::default() };
        let tree = Tree::enter(File::open(dir.path()).unwrap().into(), rules).unwrap();
        let undo = Undo::open(File::open(store.path()).unwrap().into(), 1 << 20).unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        let audit = Some(Arc::new(Audit::new(write)));
        let (locks, transfers) = Default::default();
        let shared = RootState { tree, locks, undo: Some(Arc::new(undo)), transfers, audit };
        Self { dir, _store: store, shared, lines: BufReader::new(read.into()) }
    }

    /// Asks with this content, which is complete or breaks off. Returns the line.
    fn line(&mut self, ask: Ask, content: &[u8], whole: bool) -> String {
        let kind = SocketType::SEQPACKET;
        let (near, far) =
            socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
        let root = Root {
            name: "work".to_owned(),
            path: Blob(b"/work".to_vec()),
            writable: true,
            excludes: None,
            confined: None,
            asks: None,
            beats: None,
        };
        let prefix = Some("/work".to_owned());
        let enter = Enter { prefix, ..Enter::default() };
        let serve = Serve { enter, root, who: "ann".to_owned(), device: Id([1; 32]) };
        let tree = self.shared.tree.share();
        let mut stream = Stream::new(far, tree, &self.shared, &serve);
        let mut said = Vec::new();
        packet::push(&mut said, MESSAGE, &cbor::encode(&ToAgent::Ask(Box::new(ask))));
        packet::push(&mut said, DATA, content);
        if whole {
            let length = ToAgent::Whole(content.len() as u64);
            packet::push(&mut said, MESSAGE, &cbor::encode(&length));
        }
        packet::send(&near, &said, &[]).unwrap();
        if !whole {
            drop(near);
        }
        stream.serve(&mut vec![0; PACKET]);
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }
}

fn patch() -> Ask {
    Ask::Patch(Patch { undo: Some(true), ..Patch::default() })
}

fn write(path: &str) -> Ask {
    Ask::Write(Write::new(Blob(path.into()), How::Create))
}

#[test]
fn a_line_names_what_a_patch_and_an_undo_changed() {
    let mut place = Place::new();
    let diff = b"--- /dev/null\n+++ b/one\n@@ -0,0 +1 @@\n+1\n--- /dev/null\n+++ b/two\n@@ -0,0 +1 @@\n+2\n";
    let line = place.line(patch(), diff, true);
    assert!(place.dir.path().join("two").exists(), "{line}");
    assert!(line.contains("\"paths\":[\"\",\"one\",\"two\"],\"result\":\"ok\""), "{line}");
    let line = place.line(Ask::Revert(Revert::default()), b"", true);
    assert!(line.contains("\"verb\":\"undo\",\"paths\":[\"one\",\"two\"]"), "{line}");
}

#[test]
fn what_was_refused_or_given_up_has_a_line_too() {
    let mut place = Place::new();
    let line = place.line(write("../x"), b"", true);
    assert!(line.contains("\"verb\":\"write\",\"paths\":[\"../x\"]"), "{line}");
    assert!(!line.contains("\"result\":\"ok\""), "{line}");
    let line = place.line(write("half"), b"ha", false);
    assert!(line.contains("\"paths\":[\"half\"],\"result\":\"cancelled\""), "{line}");
    let (method, target) = ("GET".to_owned(), "/work/none".to_owned());
    let http = farwire_protocol::streams::files::Http { method, target, headers: Vec::new() };
    let line = place.line(Ask::Http(http), b"", true);
    assert!(line.contains("\"status\":404,\"result\":\"refused\""), "{line}");
}
