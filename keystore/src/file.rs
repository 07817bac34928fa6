//! The format of every file that is replaced as a whole, and how damage to it is detected.
//!
//! ```text
//! farwire KIND VERSION CHECKSUM LF body
//! ```
//!
//! The checksum is SHA-256, in lower-case hexadecimal, over the line without the checksum, and the
//! body. It detects accidents: a truncated, empty or altered file is an error that names it, and
//! the file is never recreated. It does not defend against anyone who may write here. The line
//! keeps its format in all versions; the body of a version newer than ours is not read.

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::dir::Dir;
use crate::fault::{Damage, FileError};
use crate::lock::Guard;

/// The maximum length of the first line.
const LINE: usize = 128;

/// The name, version and size limit of a kind of file.
#[derive(Clone, Debug)]
pub(crate) struct Format {
    /// The word in the first line.
    pub(crate) kind: &'static str,
    /// The version that we write, and the highest that we read.
    pub(crate) version: u32,
    /// The maximum length of the body.
    pub(crate) limit: usize,
}

/// A value that is stored in a file of its own.
pub(crate) trait FileBody: Sized {
    /// The format of its file.
    const FORMAT: Format;

    /// Appends the body to `out`, which has the capacity for [`Format::limit`] bytes.
    fn write(&self, out: &mut Vec<u8>);

    /// Decodes the body.
    fn read(body: &[u8]) -> Result<Self, Damage>;
}

impl Format {
    fn head(&self) -> String {
        format!("farwire {} {} ", self.kind, self.version)
    }

    /// Returns the bytes of a file with this body.
    pub(crate) fn seal(&self, body: &[u8]) -> Zeroizing<Vec<u8>> {
        let head = self.head();
        let mut bytes = Zeroizing::new(Vec::with_capacity(head.len() + 65 + body.len()));
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(checksum(head.as_bytes(), body).as_bytes());
        bytes.push(b'\n');
        bytes.extend_from_slice(body);
        bytes
    }

    /// Checks a file of this format, and returns its body.
    pub(crate) fn open<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], Damage> {
        if bytes.is_empty() {
            return Err(Damage::Empty);
        }
        let end = bytes.iter().take(LINE).position(|&byte| byte == b'\n');
        let (line, body) =
            end.and_then(|end| bytes.split_at_checked(end)).ok_or(Damage::Checksum)?;
        let body = body.get(1..).ok_or(Damage::Checksum)?;
        let line = core::str::from_utf8(line).map_err(|_| Damage::Checksum)?;
        let (head, sum) = line.rsplit_once(' ').ok_or(Damage::Checksum)?;
        if checksum(format!("{head} ").as_bytes(), body) != sum {
            return Err(Damage::Checksum);
        }
        let mut words = head.split(' ');
        if words.next() != Some("farwire") || words.next() != Some(self.kind) {
            return Err(Damage::Kind);
        }
        match words.next().and_then(|word| word.parse().ok()) {
            Some(version) if version > self.version => Err(Damage::Newer(version)),
            Some(version) if version == self.version && words.next().is_none() => Ok(body),
            _ => Err(Damage::Content("its version was never written")),
        }
    }

    /// The maximum length of a file.
    pub(crate) const fn file_limit(&self) -> usize {
        self.limit + LINE
    }
}

fn checksum(head: &[u8], body: &[u8]) -> String {
    let hash = Sha256::new_with_prefix(head).chain_update(b"\n").chain_update(body).finalize();
    HEXLOWER.encode(&hash)
}

/// Reads a value from the bytes of its file.
pub(crate) fn parse<T: FileBody>(bytes: &[u8]) -> Result<T, Damage> {
    T::read(T::FORMAT.open(bytes)?)
}

/// Returns the bytes of a value's file.
pub(crate) fn bytes<T: FileBody>(value: &T) -> Zeroizing<Vec<u8>> {
    // A buffer that grows would leave secrets behind in the old allocation.
    let mut body = Zeroizing::new(Vec::with_capacity(T::FORMAT.limit));
    value.write(&mut body);
    T::FORMAT.seal(&body)
}

/// Loads a value if its file exists.
pub(crate) fn load<T: FileBody>(dir: &Dir, name: &str) -> Result<Option<T>, FileError> {
    load_with(dir, name, &T::FORMAT, T::read)
}

/// Loads a file if it exists, and decodes its body with `read`.
pub(crate) fn load_with<T>(
    dir: &Dir,
    name: &str,
    format: &Format,
    read: impl FnOnce(&[u8]) -> Result<T, Damage>,
) -> Result<Option<T>, FileError> {
    let Some(bytes) = dir.read(name, format.file_limit())? else { return Ok(None) };
    let value = format.open(&bytes).and_then(read);
    value.map(Some).map_err(|damage| FileError::damaged(dir.file_path(name), damage))
}

/// Saves a value, replacing its file. A value that could not be loaded again is refused.
pub(crate) fn save<T: FileBody>(
    dir: &Dir,
    guard: &Guard,
    name: &str,
    value: &T,
) -> Result<(), FileError> {
    let bytes = bytes(value);
    let readable = if bytes.len() > T::FORMAT.file_limit() {
        Err(Damage::TooLong)
    } else {
        parse::<T>(&bytes).map(drop)
    };
    readable.map_err(|damage| FileError::Unfit { path: dir.file_path(name), damage })?;
    dir.write(guard, name, &bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    use farwire_protocol::failure::{Failure, Kind};
    use proptest::prelude::*;

    use super::*;

    const FORMAT: Format = Format { kind: "thing", version: 3, limit: 1000 };

    /// Checks that `read`, which loads the file at `path`, detects every kind of damage and reports
    /// it as such.
    pub(crate) fn check_damage(path: &std::path::Path, read: impl Fn() -> Result<(), Failure>) {
        read().unwrap();
        let good = std::fs::read(path).unwrap();
        let refused = |bad: &[u8], how: &str| {
            std::fs::write(path, bad).unwrap();
            let failure = read().expect_err(how);
            assert_eq!(failure.kind, Kind::KeystoreCorrupt, "{how}: {failure}");
            assert!(failure.message.contains(path.to_str().unwrap()), "{how}: {failure}");
            assert_eq!(std::fs::read(path).unwrap(), bad, "nothing is recreated");
        };
        for length in 0..good.len() {
            refused(&good[..length], "cut");
        }
        for at in 0..good.len() {
            // One bit of each byte, in rotation, and the bit between `a` and `A`.
            for flip in [1 << (at % 8), 0x20] {
                let mut bad = good.clone();
                bad[at] ^= flip;
                refused(&bad, "one bit");
            }
        }
        refused(&vec![0; good.len()], "zeroes");
        refused(&[&good[..], b"\n"].concat(), "a tail");
        refused(&vec![b'x'; 1 << 20], "far too long");
        let newer = reseal(&good, |version| version + 1);
        std::fs::write(path, newer).unwrap();
        assert_eq!(read().unwrap_err().kind, Kind::StateVersion);
        std::fs::write(path, good).unwrap();
        read().unwrap();
    }

    /// The same file as written by a program of another version.
    fn reseal(good: &[u8], version: impl Fn(u32) -> u32) -> Vec<u8> {
        let end = good.iter().position(|&byte| byte == b'\n').unwrap();
        let words: Vec<_> = core::str::from_utf8(&good[..end]).unwrap().split(' ').collect();
        let version = version(words[2].parse().unwrap());
        let head = format!("farwire {} {version} ", words[1]);
        let body = &good[end + 1..];
        [head.as_bytes(), checksum(head.as_bytes(), body).as_bytes(), b"\n", body].concat()
    }

    proptest! {
        #[test]
        fn a_body_comes_back_as_it_was(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let bytes = FORMAT.seal(&body);
            prop_assert_eq!(FORMAT.open(&bytes).unwrap(), &body[..]);
        }

        #[test]
        fn a_file_with_any_few_bytes_changed_is_damaged(
            body in prop::collection::vec(any::<u8>(), 0..300),
            changes in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..4),
        ) {
            let good = FORMAT.seal(&body);
            let mut bad = good.clone();
            for (at, by) in changes {
                let at = at.index(bad.len());
                bad[at] ^= by;
            }
            prop_assume!(good != bad);
            prop_assert!(matches!(FORMAT.open(&bad), Err(Damage::Checksum)));
        }
    }

    #[test]
    fn another_kind_and_another_version_are_told_apart() {
        let other = Format { kind: "other", ..FORMAT };
        assert!(matches!(FORMAT.open(&other.seal(b"x")), Err(Damage::Kind)));
        let newer = Format { version: 4, ..FORMAT };
        assert!(matches!(FORMAT.open(&newer.seal(b"x")), Err(Damage::Newer(4))));
        let never = Format { version: 2, ..FORMAT };
        assert!(matches!(FORMAT.open(&never.seal(b"x")), Err(Damage::Content(_))));
    }

    #[test]
    fn any_bytes_are_opened_without_a_panic() {
        bolero::check!().for_each(|bytes: &[u8]| {
            if let Ok(body) = FORMAT.open(bytes) {
                assert_eq!(FORMAT.seal(body)[..], *bytes, "a file has one form");
            }
        });
    }
}
