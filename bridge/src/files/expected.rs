//! Which root a stream enters, and which directory that root must be.
//!
//! The agent knows a root by its name. A path means other files once the root of that name is
//! another directory, as after a restart of the agent with other options. So each request to enter
//! says which directory it expects, and a stream is not used before the agent has confirmed that.

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Enter, Root};

/// A request to enter a root.
#[derive(Clone, Debug)]
pub struct RootRequest {
    /// What the agent is asked.
    pub enter: Enter,
    /// Which directory the root must be.
    pub path: RootPath,
}

impl RootRequest {
    /// Whichever root it is that the agent opens: nothing has been resolved in it yet.
    pub const fn unbound(enter: Enter) -> Self {
        Self { enter, path: RootPath::Unknown }
    }
}

/// The directory that a root must be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RootPath {
    /// The one at this path on the server.
    Known(Vec<u8>),
    /// Whichever it is at the first time, and the same one from then on.
    Unknown,
}

impl RootPath {
    /// Compares the root that the agent has opened, and expects the same one from now on.
    ///
    /// # Errors
    ///
    /// `no_root` if it is another directory.
    pub(super) fn bind(&mut self, root: &Root) -> Result<(), Failure> {
        match self {
            Self::Known(path) if is_same_path(path, &root.path) => {}
            Self::Known(_) => {
                let text = format!("root `{}` is another directory by now", root.name);
                return Err(Failure::new(Kind::NoRoot, text)
                    .with_hint("nothing was done in it; try again if it is the one you mean"));
            }
            Self::Unknown => *self = Self::Known(root.path.0.clone()),
        }
        Ok(())
    }
}

/// Whether two absolute paths name one directory: slashes at their ends say nothing.
pub(super) fn is_same_path(one: &[u8], other: &[u8]) -> bool {
    let plain = |path: &[u8]| path.iter().rposition(|&byte| byte != b'/');
    let (one_end, other_end) = (plain(one), plain(other));
    one_end == other_end && one_end.is_none_or(|end| one.get(..=end) == other.get(..=end))
}

#[cfg(test)]
mod tests {
    use farwire_protocol::cbor::Blob;

    use super::*;

    #[test]
    fn a_root_stays_the_directory_that_it_was() {
        let root = |path: &[u8]| Root {
            name: "work".to_owned(),
            path: Blob(path.to_vec()),
            ..Root::default()
        };
        let mut path = RootPath::Unknown;
        path.bind(&root(b"/a")).unwrap();
        assert_eq!(path, RootPath::Known(b"/a".to_vec()));
        path.bind(&root(b"/a//")).unwrap();
        assert_eq!(path.bind(&root(b"/")).unwrap_err().kind, Kind::NoRoot);
        assert_eq!(path.bind(&root(b"/b")).unwrap_err().kind, Kind::NoRoot);
        path.bind(&root(b"/a")).unwrap();
    }
}
