//! WebDAV on real directories, with a client in memory.

mod attacks;
mod changes;
mod content;
mod findings;
mod fuzz;
mod locking;
mod properties;

use std::collections::VecDeque;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use farwire_protocol::cbor::Blob;
use farwire_protocol::streams::files::{Head, Header};

use super::*;
use crate::rules::Rules;

/// A client that sends one request.
#[derive(Debug, Default)]
struct Asker {
    content: VecDeque<Bytes>,
    /// Whether less came than was announced.
    broken: bool,
    head: Option<Head>,
    body: Vec<u8>,
    /// The parts of files that were sent.
    parts: Vec<(u64, u64)>,
}

impl Peer for Asker {
    fn content(&mut self) -> Result<Option<Bytes>, Broken> {
        match self.content.pop_front() {
            None if self.broken => Err(Broken),
            piece => Ok(piece),
        }
    }

    fn say(&mut self, message: &ToBridge) -> Result<(), Broken> {
        let ToBridge::Head(head) = message else { panic!("only heads are said") };
        assert!(self.head.replace(head.clone()).is_none(), "one head");
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        assert!(self.head.is_some(), "a body comes after its head");
        self.body.extend_from_slice(bytes);
        Ok(())
    }

    fn file(&mut self, file: &File, offset: u64, length: u64) -> Result<(), Broken> {
        assert!(self.head.is_some(), "a body comes after its head");
        self.parts.push((offset, length));
        let mut part = vec![0; usize::try_from(length).unwrap()];
        file.read_exact_at(&mut part, offset).map_err(|_| Broken)?;
        self.body.extend(part);
        Ok(())
    }
}

/// A response.
#[derive(Debug)]
struct Got {
    status: u16,
    headers: Vec<Header>,
    body: Vec<u8>,
    parts: Vec<(u64, u64)>,
}

impl Got {
    fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|header| header.name == name)?;
        Some(std::str::from_utf8(&header.value).unwrap())
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// A root with a file outside of it, and its WebDAV server.
struct World {
    above: tempfile::TempDir,
    dav: Dav,
    time: Arc<AtomicU64>,
}

impl World {
    fn new() -> Self {
        Self::with(Rules { writable: true, ..Rules::default() })
    }

    fn with(rules: Rules) -> Self {
        let above = tempfile::tempdir().unwrap();
        std::fs::create_dir(above.path().join("root")).unwrap();
        std::fs::write(above.path().join("secret"), "SECRET").unwrap();
        let time = Arc::new(AtomicU64::new(0));
        let shown = time.clone();
        let locks = Locks::with_clock(Arc::new(move || {
            Duration::from_millis(shown.load(Ordering::Relaxed))
        }));
        let root = File::open(above.path().join("root")).unwrap();
        let tree = Tree::enter(root.into(), rules).unwrap();
        let dav = Dav::new(Arc::new(tree), Arc::new(locks), "/dav", false).unwrap();
        Self { above, dav, time }
    }

    fn root(&self) -> std::path::PathBuf {
        self.above.path().join("root")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.root().join(path)).ok()
    }

    fn link(&self, target: &str, path: &str) {
        std::os::unix::fs::symlink(target, self.root().join(path)).unwrap();
    }

    /// Sends a request. Checks that nothing outside was revealed or changed, and that nothing
    /// unfinished is left.
    fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Got {
        self.ask_broken(method, target, headers, (body, false)).expect("an answer")
    }

    fn ask_broken(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        (body, broken): (&[u8], bool),
    ) -> Result<Got, Broken> {
        let header = |(name, value): &(&str, &str)| Header {
            name: (*name).to_owned(),
            value: Blob(value.as_bytes().to_vec()),
        };
        let http = Http {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: headers.iter().map(header).collect(),
        };
        self.ask_http(&http, body, broken)
    }

    fn ask_http(&self, http: &Http, body: &[u8], broken: bool) -> Result<Got, Broken> {
        let content = body.chunks(7).map(Bytes::copy_from_slice).collect();
        let mut asker = Asker { content, broken, ..Asker::default() };
        let served = self.dav.serve(http, &mut asker);
        assert_eq!(std::fs::read(self.above.path().join("secret")).unwrap(), b"SECRET");
        served?;
        let head = asker.head.expect("a head");
        let got = Got {
            status: head.status,
            headers: head.headers,
            body: asker.body,
            parts: asker.parts,
        };
        let all = [&got.body[..], format!("{:?}", got.headers).as_bytes()].concat();
        assert!(!all.windows(6).any(|part| part == b"SECRET"), "{http:?}");
        assert!(std::fs::read_dir(self.above.path()).unwrap().count() == 2, "{http:?}");
        Ok(got)
    }

    fn status(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> u16 {
        self.ask(method, target, headers, b"").status
    }

    fn copy(&self, method: &str, from: &str, to: &str, more: &[(&str, &str)]) -> u16 {
        let mut headers = vec![("Destination", to)];
        headers.extend(more);
        self.status(method, from, &headers)
    }

    /// The names in the root and in its directories.
    fn names(&self) -> Vec<String> {
        fn all(dir: &Path, above: &str, names: &mut Vec<String>) {
            for entry in std::fs::read_dir(dir).unwrap() {
                let entry = entry.unwrap();
                let name = format!("{above}{}", entry.file_name().to_string_lossy());
                if entry.file_type().unwrap().is_dir() {
                    all(&entry.path(), &format!("{name}/"), names);
                }
                names.push(name);
            }
        }
        let mut names = Vec::new();
        all(&self.root(), "", &mut names);
        names.sort();
        names
    }
}

#[test]
fn a_prefix_that_is_none_is_refused() {
    let world = World::new();
    for prefix in ["", "/", "work", "/a/b", "/..", "/A"] {
        let made = Dav::new(world.dav.tree.clone(), Arc::default(), prefix, false);
        assert_eq!(made.unwrap_err().kind, Kind::InvalidArgument, "{prefix}");
    }
}
