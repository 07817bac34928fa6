//! What the owner of a root allows in it.

use std::borrow::Cow;

use farwire_protocol::failure::{Failure, Kind};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::path::Rel;

/// The default for the largest file that may be written: 64 GiB.
pub const FILE: u64 = 64 << 30;

/// The most entries of a listing.
pub const LISTED: usize = 100_000;

/// The most entries of an unordered listing that asks for more.
pub const STREAMED: usize = 1_000_000;

/// What the owner allows beneath a root.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Whether anything may be changed.
    pub writable: bool,
    /// Whether links that stay beneath the root are followed.
    pub follow: bool,
    /// Whether other file systems mounted beneath the root are part of it.
    pub mounts: bool,
    /// Whether files with several names are replaced.
    pub hard_links: bool,
    /// Paths that are treated as if they did not exist.
    pub hidden: Patterns,
    /// Paths that may be read and not be changed.
    pub kept: Patterns,
    /// The largest file that is written, in bytes.
    pub largest: u64,
    /// The bytes of the file system that are left free.
    pub spare: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            writable: false,
            follow: true,
            mounts: true,
            hard_links: false,
            hidden: Patterns::default(),
            kept: Patterns::default(),
            largest: FILE,
            spare: 0,
        }
    }
}

/// Patterns of paths, as in `.gitignore`: one without a slash matches a name anywhere, one with a
/// slash matches a path from the root. A match includes everything beneath it.
///
/// Case is ignored, because on some file systems `.ENV` is `.env`.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    set: GlobSet,
    texts: Vec<String>,
}

impl Patterns {
    /// Compiles patterns.
    pub fn new(texts: &[String]) -> Result<Self, Failure> {
        let mut set = GlobSetBuilder::new();
        for text in texts {
            let bad = |error: globset::Error| {
                Failure::new(
                    Kind::InvalidArgument,
                    format!("`{}` is not a pattern: {}", text, error.kind()),
                )
            };
            let plain = text.trim_end_matches('/');
            let whole = match plain.strip_prefix('/') {
                Some(rest) => rest.to_owned(),
                None if plain.contains('/') => plain.to_owned(),
                None => format!("**/{plain}"),
            };
            if whole.is_empty() || plain.is_empty() {
                return Err(Failure::new(Kind::InvalidArgument, "the pattern is empty"));
            }
            let whole = fold_text(&whole);
            let mut glob = GlobBuilder::new(&whole);
            glob.literal_separator(true).case_insensitive(true);
            set.add(glob.build().map_err(bad)?);
        }
        let set = set.build().map_err(|error| {
            Failure::new(Kind::InvalidArgument, format!("the patterns cannot be used: {error}"))
        })?;
        Ok(Self { set, texts: texts.to_vec() })
    }

    /// Whether there are no patterns.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// The patterns as they were written.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// Whether the path, or a directory above it, matches.
    pub fn fit(&self, path: &Rel) -> bool {
        if self.is_empty() {
            return false;
        }
        let path = fold(path.as_bytes());
        let ends = (0..path.len()).filter(|&at| path[at] == b'/').chain([path.len()]);
        ends.into_iter().any(|end| self.match_folded(&path[..end]))
    }

    /// Whether exactly this path matches. The caller knows that no directory above it does.
    pub fn fits_itself(&self, path: &[u8]) -> bool {
        !self.is_empty() && self.match_folded(&fold(path))
    }

    fn match_folded(&self, path: &[u8]) -> bool {
        use std::os::unix::ffi::OsStrExt as _;
        !path.is_empty() && self.set.is_match(std::ffi::OsStr::from_bytes(path))
    }
}

/// A path without the differences that a file system may ignore: invisible characters, and the case
/// of letters outside ASCII. The patterns ignore the case of ASCII themselves.
fn fold(path: &[u8]) -> Cow<'_, [u8]> {
    if path.is_ascii() {
        return Cow::Borrowed(path);
    }
    let chunks = path.utf8_chunks();
    let folded =
        chunks.flat_map(|chunk| [fold_text(chunk.valid()).into_bytes(), chunk.invalid().to_vec()]);
    Cow::Owned(folded.flatten().collect())
}

/// The same for a pattern. Its ASCII letters are kept, as a range of letters need not be a range in
/// the other case.
fn fold_text(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            _ if letter.is_ascii() => folded.push(letter),
            '\u{ad}' | '\u{34f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' => {}
            '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' => {}
            // By way of upper case: some letters share their upper-case form with another letter.
            _ => folded.extend(letter.to_uppercase().flat_map(char::to_lowercase)),
        }
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_takes_along_what_is_beneath_it() {
        let texts = [".env", "*.key", "/build/", "docs/private"].map(str::to_owned);
        let patterns = Patterns::new(&texts).unwrap();
        for path in [".env", "a/.env", "a/.env/b", "x.key", "build/x", "docs/private/y"] {
            assert!(patterns.fit(&Rel::parse(path.as_bytes()).unwrap()), "{path}");
        }
        for path in ["env", ".envrc", "a/build", "a/docs/private", "key", "docs"] {
            assert!(!patterns.fit(&Rel::parse(path.as_bytes()).unwrap()), "{path}");
        }
        assert!(Patterns::new(&["[".to_owned()]).is_err());
        assert!(Patterns::new(&["/".to_owned()]).is_err());
        assert!(!Patterns::default().fit(&Rel::ROOT));
    }

    #[test]
    fn case_makes_no_difference() {
        let texts = [".env", "*.KEY", "/Straße/É", "[A-_]x"].map(str::to_owned);
        let patterns = Patterns::new(&texts).unwrap();
        for path in [
            ".ENV",
            "a/.Env/b",
            "x.key",
            "x.Key",
            "x.\u{212a}ey",
            "STRASSE/é",
            "straße/É/x",
            "bx",
            ".e\u{200d}nv",
        ] {
            assert!(patterns.fit(&Rel::parse(path.as_bytes()).unwrap()), "{path}");
        }
        assert!(patterns.fit(&Rel::parse(b"\xff/.ENV").unwrap()));
        assert!(!patterns.fit(&Rel::parse(b"env").unwrap()));
    }
}
