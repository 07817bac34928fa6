//! Paths relative to a root, as they come from outside.
//!
//! An odd path is refused, never normalized: what is done is exactly what was asked for.

use std::fmt;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{DEPTH_LIMIT, NAME_LIMIT, PATH_LIMIT};

/// The prefix of our own unfinished files, which are hidden and cannot be named.
pub const HIDDEN: &[u8] = b".farwire-";

/// Whether a name is that of an unfinished file of ours, also on case-insensitive file systems.
pub(crate) fn is_ours(name: &[u8]) -> bool {
    name.get(..HIDDEN.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(HIDDEN))
}

/// A path beneath a root: components separated by `/`, none of them empty, `.` or `..`. The empty
/// path is the root itself.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Rel(Vec<u8>);

impl Rel {
    /// The root itself.
    pub const ROOT: Self = Self(Vec::new());

    /// Parses a path.
    ///
    /// # Errors
    ///
    /// `invalid_argument` for a malformed path, `outside_root` for one that would leave the root.
    pub fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        if bytes.is_empty() {
            return Ok(Self::ROOT);
        }
        if bytes.len() > PATH_LIMIT {
            return Err(invalid(format!(
                "a path has at most {PATH_LIMIT} bytes, not {}",
                bytes.len()
            )));
        }
        let mut depth = 0;
        for name in bytes.split(|&byte| byte == b'/') {
            check_name(name)?;
            depth += 1;
        }
        if depth > DEPTH_LIMIT {
            return Err(invalid(format!(
                "a path has at most {DEPTH_LIMIT} components, not {depth}"
            )));
        }
        Ok(Self(bytes.to_vec()))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Its components.
    pub fn names(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|&byte| byte == b'/').filter(|name| !name.is_empty())
    }

    /// The parent directory, and the name in it. The root has neither.
    pub fn split(&self) -> Option<(Self, &[u8])> {
        if self.is_root() {
            return None;
        }
        Some(match self.0.iter().rposition(|&byte| byte == b'/') {
            Some(at) => (Self(self.0[..at].to_vec()), &self.0[at + 1..]),
            None => (Self::ROOT, &self.0[..]),
        })
    }

    /// Appends a name that comes from the file system, or a path that has been parsed.
    #[must_use]
    pub fn join(&self, below: &[u8]) -> Self {
        let mut path = self.0.clone();
        if !path.is_empty() && !below.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(below);
        Self(path)
    }

    /// This path relative to `above`. `None` if it is not beneath it.
    pub fn beneath(&self, above: &Self) -> Option<&[u8]> {
        if above.is_root() {
            return Some(&self.0);
        }
        match self.0.strip_prefix(above.as_bytes())? {
            [] => Some(&[]),
            [b'/', rest @ ..] => Some(rest),
            _ => None,
        }
    }
}

impl fmt::Display for Rel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str("the root");
        }
        write!(f, "`{}`", farwire_protocol::quote::quote(&self.0))
    }
}

/// Refuses a malformed name, or the name of an unfinished file of ours.
fn check_name(name: &[u8]) -> Result<(), Failure> {
    match name {
        b"" => Err(invalid("the path has an empty component".to_owned())),
        b"." => Err(invalid("the path has the component `.`".to_owned())),
        b".." => Err(Failure::new(Kind::OutsideRoot, "the path has the component `..`")),
        _ if name.len() > NAME_LIMIT => {
            Err(invalid(format!("a name has at most {NAME_LIMIT} bytes, not {}", name.len())))
        }
        _ if name.contains(&0) => Err(invalid("the path contains a NUL byte".to_owned())),
        _ if is_ours(name) => Err(Failure::new(
            Kind::NoSuchFile,
            "names that begin with `.farwire-` are reserved for Farwire",
        )
        .with_hint("files that are being written have such names; choose another one")),
        _ => Ok(()),
    }
}

fn invalid(message: String) -> Failure {
    Failure::new(Kind::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_out_or_nowhere_is_refused() {
        for (path, kind) in [
            (&b"/etc"[..], Kind::InvalidArgument),
            (b"a//b", Kind::InvalidArgument),
            (b"a/", Kind::InvalidArgument),
            (b"./a", Kind::InvalidArgument),
            (b"..", Kind::OutsideRoot),
            (b"a/../b", Kind::OutsideRoot),
            (b"a\0b", Kind::InvalidArgument),
            (b".farwire-tmp-1", Kind::NoSuchFile),
            (b".FarWire-tmp-1", Kind::NoSuchFile),
        ] {
            assert_eq!(Rel::parse(path).unwrap_err().kind, kind, "{path:?}");
        }
        assert!(Rel::parse(&[b'a'; NAME_LIMIT + 1]).is_err());
        assert!(Rel::parse(&b"a/".repeat(DEPTH_LIMIT + 1)[..DEPTH_LIMIT * 2 + 1]).is_err());
        assert!(Rel::parse(&b"a/".repeat(DEPTH_LIMIT)[..DEPTH_LIMIT * 2 - 1]).is_ok());
        assert!(
            Rel::parse(b"...").is_ok() && Rel::parse(b"..a").is_ok() && Rel::parse(b"a\n").is_ok()
        );
    }

    #[test]
    fn a_path_that_is_read_stays_beneath_its_root() {
        bolero::check!().for_each(|bytes: &[u8]| {
            if let Ok(path) = Rel::parse(bytes) {
                assert_eq!(path.as_bytes(), bytes);
                assert!(!bytes.starts_with(b"/") && !bytes.contains(&0));
                assert!(path.names().all(|name| name != b".." && name != b"." && !name.is_empty()));
            }
        });
    }

    #[test]
    fn beneath_is_decided_by_whole_components() {
        let rel = |path: &[u8]| Rel::parse(path).unwrap();
        assert_eq!(rel(b"a/b").beneath(&rel(b"a")), Some(&b"b"[..]));
        assert_eq!(rel(b"ab").beneath(&rel(b"a")), None);
        assert_eq!(rel(b"a").beneath(&rel(b"a")), Some(&b""[..]));
        assert_eq!(rel(b"a").beneath(&Rel::ROOT), Some(&b"a"[..]));
        let (above, name) = rel(b"a/b/c").split().map(|(a, n)| (a, n.to_vec())).unwrap();
        assert_eq!((above.join(&name), Rel::ROOT.split()), (rel(b"a/b/c"), None));
    }
}
