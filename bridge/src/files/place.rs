//! Which root a path is in.
//!
//! People and models name a file by where it is on its server (`/srv/work/notes.txt`), by the name
//! of a root and a path in it (`work/notes.txt`), or, where there is one root, by the path alone.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::header::Class;
use farwire_protocol::outer::valid_name;
use farwire_protocol::quote::{quote, unquote};
use farwire_protocol::streams::files::{Enter, Root};

use super::expected::is_same_path;
use super::{Files, RootPath, RootRequest, roots};
use crate::client::{Client, Server};

/// A path in a root.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// The name of the root.
    pub root: String,
    /// Where the root is on the server.
    pub root_path: Vec<u8>,
    /// The path in it; empty for the root itself.
    pub path: Vec<u8>,
    /// The server has other roots: a path begins with the name of its root.
    pub several: bool,
}

impl Place {
    /// How its root is entered. `client` is what servers' histories call whoever asks.
    pub(super) fn request(&self, client: &str) -> RootRequest {
        let (root, client) = (Some(self.root.clone()), Some(client.to_owned()));
        let enter = Enter { root, client, ..Enter::default() };
        RootRequest { enter, path: RootPath::Known(self.root_path.clone()) }
    }

    /// Whether both are in the same root of one server.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        self.root == other.root && is_same_path(&self.root_path, &other.root_path)
    }

    /// The path on the server, for people and models: it can be given back.
    pub fn to_text(&self) -> String {
        self.text_of(&self.path)
    }

    /// The same of another path in the root.
    pub fn text_of(&self, path: &[u8]) -> String {
        quote(&self.full(path)).into_owned()
    }

    /// Where another path in the root is on the server.
    pub(super) fn full(&self, path: &[u8]) -> Vec<u8> {
        let end = self.root_path.iter().rposition(|&byte| byte != b'/').map_or(0, |at| at + 1);
        let root = self.root_path.get(..end).unwrap_or_default();
        match path {
            [] if root.is_empty() => b"/".to_vec(),
            [] => root.to_vec(),
            path => [root, b"/", path].concat(),
        }
    }

    /// What stands before a path in this root for it to be found again.
    pub fn prefix(&self) -> String {
        if self.several { format!("{}/", self.root) } else { String::new() }
    }

    /// A path in this root as text that can be given back.
    pub fn argument_for(&self, path: &[u8]) -> String {
        quote(&[self.prefix().as_bytes(), path].concat()).into_owned()
    }

    /// What it is called: of a root, as the root is.
    pub fn name(&self) -> &[u8] {
        match self.path.rsplit(|&byte| byte == b'/').next() {
            Some(name) if !name.is_empty() => name,
            _ => self.root.as_bytes(),
        }
    }

    /// Whether it is in that directory of the same root.
    pub fn is_in(&self, dir: &Self) -> bool {
        let rest = self.path.strip_prefix(&dir.path[..]);
        self.is_beside(dir)
            && rest.is_some_and(|rest| {
                !rest.is_empty() && (dir.path.is_empty() || rest.starts_with(b"/"))
            })
    }

    /// The path of something in this directory.
    pub fn join(&self, below: &[u8]) -> Vec<u8> {
        let mut path = self.path.clone();
        if !path.is_empty() && !below.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(below);
        path
    }
}

/// A path on a server, as a person or a model names it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerPath {
    /// The name of the server.
    pub server: String,
    /// The path on it; empty where none was named.
    pub path: Vec<u8>,
}

impl ServerPath {
    /// The path that a text stands for, which may be quoted.
    pub fn new(server: &str, path: &str) -> Self {
        Self { server: server.to_owned(), path: path_of(path) }
    }

    /// Reads `SERVER:PATH` or `SERVER`. The path is taken as it is.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (server, path) = split(bytes).unwrap_or((bytes, b""));
        let server = std::str::from_utf8(server).ok()?;
        let named = !server.is_empty() && !server.contains('/');
        named.then(|| Self { server: server.to_owned(), path: path.to_vec() })
    }
}

/// What stands before the first colon and what behind it.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|&byte| byte == b':')?;
    Some((bytes.get(..at)?, bytes.get(at + 1..)?))
}

/// Which side is made like the other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// The server, like this machine.
    Up,
    /// This machine, like the server.
    Down,
}

/// One end of a copy. A path here with a colon begins with `/` or `./`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Endpoint {
    /// On this machine.
    Here(PathBuf),
    /// On a server.
    There(ServerPath),
}

impl Endpoint {
    /// Reads `SERVER:PATH` or a path here. The path on a server may be quoted.
    pub fn parse(text: &str) -> Self {
        match Self::of(text.as_bytes()) {
            Self::There(ServerPath { server, path }) => {
                let path = std::str::from_utf8(&path).map(path_of).unwrap_or(path);
                Self::There(ServerPath { server, path })
            }
            here => here,
        }
    }

    /// Reads the same, where the path is taken as it is.
    pub fn of(bytes: &[u8]) -> Self {
        let is_server = |server: &[u8]| std::str::from_utf8(server).is_ok_and(valid_name);
        let there = split(bytes).filter(|(server, _)| is_server(server));
        match there.and_then(|_| ServerPath::parse(bytes)) {
            Some(there) => Self::There(there),
            None => Self::Here(PathBuf::from(OsStr::from_bytes(bytes))),
        }
    }

    /// What is here, what is on a server, and which of them becomes like the other. `None` if both
    /// are on the same side.
    pub fn apart(from: Self, to: Self) -> Option<(PathBuf, ServerPath, Direction)> {
        match (from, to) {
            (Self::Here(local), Self::There(remote)) => Some((local, remote, Direction::Up)),
            (Self::There(remote), Self::Here(local)) => Some((local, remote, Direction::Down)),
            _ => None,
        }
    }
}

/// The path that a text stands for: a name that is no plain text is written as `$'caf\xe9'`, as a
/// whole or behind the directories that it is in. What only looks so is the name itself.
pub fn path_of(text: &str) -> Vec<u8> {
    let at = if text.starts_with("$'") { Some(0) } else { text.find("/$'").map(|at| at + 1) };
    let read = at.and_then(|at| Some((text.get(..at)?, unquote(text.get(at..)?).ok()?)));
    match read {
        Some((above, name)) => [above.as_bytes(), &name].concat(),
        None => text.as_bytes().to_vec(),
    }
}

/// Finds the root of a path on a server.
pub async fn find(client: &Client, server: &Server, path: &[u8]) -> Result<Place, Failure> {
    let known = roots::ask(client, server).await?;
    resolve(&known.roots, path).map_err(|failure| Failure {
        message: format!("`{}`: {}", server.name, failure.message),
        ..failure
    })
}

/// Resolves the name or the path of a root itself.
///
/// # Errors
///
/// `no_root` for a path in one: what is done to a whole root is not done because of a name that was
/// misspelt.
pub(super) fn resolve_root(roots: &[Root], text: &[u8]) -> Result<Place, Failure> {
    let place = resolve(roots, text)?;
    match place.path.is_empty() {
        true => Ok(place),
        false => {
            let text = format!("{} is no directory that is open for files", display(text));
            Err(Failure::new(Kind::NoRoot, text).with_hint(open(roots)))
        }
    }
}

/// A root as it is now: one of which nobody knows how it is confined is entered, to find that out.
///
/// # Errors
///
/// Why it is not served.
pub async fn served(client: &Client, server: &Server, root: &Root) -> Result<Root, Failure> {
    if root.confined.is_some() {
        return Ok(root.clone());
    }
    let (name, face) = (Some(root.name.clone()), Some("roots".to_owned()));
    let enter = Enter { root: name, client: face, ..Enter::default() };
    let request = RootRequest { enter, path: RootPath::Known(root.path.0.clone()) };
    let files = Files::enter(client, server, &request, Class::Interactive).await?;
    let entered = files.root.clone();
    files.leave().await?;
    Ok(entered)
}

/// Finds the root of a path among these.
///
/// # Errors
///
/// `no_root` where none contains it.
pub fn resolve(roots: &[Root], text: &[u8]) -> Result<Place, Failure> {
    let place = |root: &Root, path: &[u8]| Place {
        root: root.name.clone(),
        root_path: root.path.0.clone(),
        path: tidy(path),
        several: roots.len() > 1,
    };
    if roots.is_empty() {
        return Err(Failure::new(Kind::NoRoot, "no directory is open for files"));
    }
    if text.starts_with(b"/") {
        let text = [b"/", tidy(text).as_slice()].concat();
        let beneath = |root: &Root| {
            let root_path = root.path.strip_suffix(b"/").unwrap_or(&root.path);
            match text.strip_prefix(root_path)? {
                [] => Some(Vec::new()),
                [b'/', rest @ ..] => Some(rest.to_vec()),
                _ => None,
            }
        };
        let longest =
            roots.iter().filter(|root| beneath(root).is_some()).max_by_key(|root| root.path.len());
        return longest
            .and_then(|root| beneath(root).map(|path| place(root, &path)))
            .ok_or_else(|| none(roots, &text));
    }
    let plain = tidy(text);
    let (first, rest) = match plain.iter().position(|&byte| byte == b'/') {
        Some(at) => (&plain[..at], &plain[at + 1..]),
        None => (&plain[..], &[][..]),
    };
    if let Some(root) = roots.iter().find(|root| root.name.as_bytes() == first) {
        return Ok(place(root, rest));
    }
    match roots {
        [only] => Ok(place(only, &plain)),
        _ => Err(none(roots, text)),
    }
}

/// Without what only says "here": slashes at the ends and in rows, and `.`. What leads elsewhere
/// stays, and is refused by the server.
fn tidy(path: &[u8]) -> Vec<u8> {
    let names = path.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
    names.collect::<Vec<_>>().join(&b'/')
}

fn none(roots: &[Root], path: &[u8]) -> Failure {
    let text = format!("{} is in no directory that is open for files", display(path));
    Failure::new(Kind::NoRoot, text).with_hint(open(roots))
}

/// A path as it was given, in which an empty one can be seen.
fn display(path: &[u8]) -> String {
    match path {
        [] => "a path without a root".to_owned(),
        path => quote(path).into_owned(),
    }
}

/// Which roots there are.
fn open(roots: &[Root]) -> String {
    let one = |root: &Root| format!("{}={}", root.name, quote(&root.path));
    format!("the open directories are {}", roots.iter().map(one).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use farwire_protocol::cbor::Blob;

    use super::*;

    fn root(name: &str, path: &str) -> Root {
        let path = Blob(path.as_bytes().to_vec());
        Root {
            name: name.to_owned(),
            path,
            writable: true,
            excludes: None,
            confined: None,
            asks: None,
            beats: None,
        }
    }

    #[test]
    fn a_path_is_found_by_where_it_is_by_its_root_or_alone() {
        let roots =
            [root("work", "/srv/work"), root("sub", "/srv/work/sub/"), root("etc", "/opt/etc")];
        let found = |roots: &[Root], text: &str| {
            resolve(roots, text.as_bytes()).map(|place| {
                (
                    place.root.clone(),
                    String::from_utf8(place.path.clone()).unwrap(),
                    place.to_text(),
                )
            })
        };
        let is = |text: &str, root: &str, path: &str, shown: &str| {
            assert_eq!(
                found(&roots, text).unwrap(),
                (root.into(), path.into(), shown.into()),
                "{text}"
            );
        };
        is("/srv/work/a/b", "work", "a/b", "/srv/work/a/b");
        is("/srv/work", "work", "", "/srv/work");
        is("/srv//work/./a/", "work", "a", "/srv/work/a");
        is("/srv/work/sub/x", "sub", "x", "/srv/work/sub/x");
        is("etc/x", "etc", "x", "/opt/etc/x");
        is("work", "work", "", "/srv/work");
        is("work/../x", "work", "../x", "/srv/work/../x");
        for text in ["/srv/workshop", "/etc/passwd", "/", "x", ""] {
            assert_eq!(found(&roots, text).unwrap_err().kind, Kind::NoRoot, "{text}");
        }
        let one = &roots[..1];
        assert_eq!(found(one, "a/b").unwrap().1, "a/b");
        assert_eq!(found(one, ".").unwrap().1, "");
        assert_eq!(found(one, "/srv/other").unwrap_err().kind, Kind::NoRoot);
        assert_eq!(found(&[], "x").unwrap_err().kind, Kind::NoRoot);
    }

    #[test]
    fn what_lies_in_a_directory_is_known_by_whole_names() {
        let at = |path: &str| resolve(&[root("work", "/srv/work")], path.as_bytes()).unwrap();
        assert!(at("a/b").is_in(&at("a")) && at("a").is_in(&at("")) && at("a/b/c").is_in(&at("a")));
        assert!(
            !at("ab").is_in(&at("a")) && !at("a").is_in(&at("a")) && !at("a").is_in(&at("a/b"))
        );
        assert_eq!((at("a/b").name(), at("").name()), (&b"b"[..], &b"work"[..]));
    }

    #[test]
    fn what_is_meant_for_a_whole_root_names_one() {
        let roots = [root("work", "/srv/work"), root("etc", "/opt/etc")];
        let found = |roots: &[Root], text: &str| resolve_root(roots, text.as_bytes());
        assert_eq!(found(&roots, "work").unwrap().root, "work");
        assert_eq!(found(&roots, "/opt/etc/").unwrap().root, "etc");
        assert_eq!(found(&roots[..1], "").unwrap().root, "work");
        for (roots, text) in
            [(&roots[..1], "wrok"), (&roots[..1], "work/a"), (&roots, "wrok"), (&roots, "")]
        {
            let failure = found(roots, text).unwrap_err();
            assert_eq!(failure.kind, Kind::NoRoot, "{text}");
            assert!(
                failure.hint().starts_with("the open directories are work=/srv/work"),
                "{failure:?}"
            );
        }
    }

    #[test]
    fn an_end_is_here_or_on_a_server() {
        let there = |server: &str, path: &str| {
            Endpoint::There(ServerPath { server: server.into(), path: path.into() })
        };
        assert_eq!(Endpoint::parse("web-1:/srv/x"), there("web-1", "/srv/x"));
        assert_eq!(Endpoint::parse("web-1:a:b"), there("web-1", "a:b"));
        assert_eq!(Endpoint::parse("web-1:$'a b'"), there("web-1", "a b"));
        assert_eq!(Endpoint::of(b"web-1:$'a b'"), there("web-1", "$'a b'"));
        assert_eq!(Endpoint::parse("/tmp/a:b"), Endpoint::Here("/tmp/a:b".into()));
        assert_eq!(Endpoint::parse("./a:b"), Endpoint::Here("./a:b".into()));
        assert_eq!(Endpoint::parse("x"), Endpoint::Here("x".into()));
        assert_eq!(Endpoint::parse("db.example:x"), there("db.example", "x"));
        assert_eq!(Endpoint::parse("-x:y"), Endpoint::Here("-x:y".into()));
        let named = |text: &str| ServerPath::parse(text.as_bytes());
        assert_eq!(named("web-1"), Some(ServerPath::new("web-1", "")));
        assert_eq!(named("web-1:a"), Some(ServerPath::new("web-1", "a")));
        for bad in ["", ":a", "./a:b", "/srv"] {
            assert_eq!(named(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_shown_of_a_name_leads_back_to_it() {
        let roots = [root("work", "/srv/work")];
        for name in [&b"caf\xe9"[..], b" a\tb\n", b"$'x'", b"d/$'x'", b"d\xff/a'b", b"plain"] {
            let place = resolve(&roots, name).unwrap();
            assert_eq!(resolve(&roots, &path_of(&place.to_text())).unwrap(), place, "{name:?}");
            assert_eq!(path_of(&quote(name)), name);
        }
        assert_eq!(path_of(r"work/$'caf\xe9'"), b"work/caf\xe9");
        assert_eq!(path_of("a$'b"), b"a$'b");
    }

    #[test]
    fn any_text_is_a_place_or_an_error() {
        bolero::check!().for_each(|text: &[u8]| {
            let _ = resolve(&[root("a", "/a"), root("b", "/")], text);
        });
    }
}
