//! File names in a diff: quoted or not, with or without a prefix, with or without a time after
//! them.

use farwire_protocol::streams::files::PATH_LIMIT;

/// The longest line with two names.
const HEADER: usize = 2 * PATH_LIMIT + 64;

/// A name in a diff.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Name {
    /// `/dev/null`: no file.
    Nothing,
    /// The bytes of the name, including a prefix.
    File(Vec<u8>),
}

impl Name {
    fn new(bytes: Vec<u8>) -> Self {
        if bytes == b"/dev/null" { Self::Nothing } else { Self::File(bytes) }
    }

    pub(super) fn file(&self) -> Option<&[u8]> {
        match self {
            Self::Nothing => None,
            Self::File(name) => Some(name),
        }
    }
}

/// Parses the name in a `---` or `+++` line. Returns the rest of the line too; `None` if a quote is
/// not closed.
pub(super) fn parse_name(text: &[u8]) -> Option<(Name, &[u8])> {
    if text.starts_with(b"\"") {
        let (name, rest) = parse_quoted(text)?;
        return Some((Name::new(name), rest));
    }
    let end = text.iter().position(|&byte| byte == b'\t').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    Some((Name::new(name.to_vec()), rest))
}

/// Parses a name that takes the rest of a line: `rename from NAME`.
pub(super) fn whole(text: &[u8]) -> Option<Vec<u8>> {
    match text.starts_with(b"\"") {
        true => parse_quoted(text).filter(|(_, rest)| rest.is_empty()).map(|(name, _)| name),
        false => Some(text.to_vec()).filter(|name| !name.is_empty()),
    }
}

/// Parses a name in double quotes, with escapes as in C. Returns the rest of the line too.
fn parse_quoted(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut rest = text.strip_prefix(b"\"")?;
    let mut name = Vec::new();
    loop {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        match byte {
            b'"' => return Some((name, rest)),
            b'\\' => {
                let (&escape, after) = rest.split_first()?;
                rest = after;
                name.push(match escape {
                    b'a' => 0x07,
                    b'b' => 0x08,
                    b't' => b'\t',
                    b'n' => b'\n',
                    b'v' => 0x0b,
                    b'f' => 0x0c,
                    b'r' => b'\r',
                    b'\\' | b'"' => escape,
                    b'0'..=b'3' => {
                        let (digits, after) = rest.split_at_checked(2)?;
                        rest = after;
                        let octal = |digit: &u8| digit.checked_sub(b'0').filter(|digit| *digit < 8);
                        let (one, two) = (octal(digits.first()?)?, octal(digits.get(1)?)?);
                        ((escape - b'0') << 6) | (one << 3) | two
                    }
                    _ => return None,
                });
            }
            byte => name.push(byte),
        }
    }
}

/// A name without its first components. `None` if nothing remains.
pub(super) fn strip_components(name: &[u8], components: usize) -> Option<&[u8]> {
    let mut rest = name;
    for _ in 0..components {
        let at = memchr::memchr(b'/', rest)?;
        rest = rest.get(at + 1..)?;
    }
    (!rest.is_empty()).then_some(rest)
}

/// Whether git, depending on its settings, may write this before the names of a diff.
fn is_prefix(component: &[u8]) -> bool {
    matches!(component, [b'a' | b'b' | b'c' | b'i' | b'o' | b'w' | b'1' | b'2'])
}

fn first(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(b'/', name)?;
    Some((name.get(..at)?, name.get(at + 1..)?))
}

/// The number of components before both names of a file: 1 if they are prefixes of git, or if the
/// names are equal without them.
pub(super) fn before_both(old: &[u8], new: &[u8]) -> usize {
    match (first(old), first(new)) {
        _ if old == new => 0,
        (Some((one, _)), Some((other, _))) if is_prefix(one) && is_prefix(other) => {
            usize::from(one != other)
        }
        (Some((_, one)), Some((_, other))) => usize::from(one == other),
        _ => 0,
    }
}

/// The number of components before a name whose counterpart is unknown.
pub(super) fn before_one(name: &[u8]) -> usize {
    usize::from(first(name).is_some_and(|(first, _)| is_prefix(first)))
}

/// What a line `diff --git OLD NEW` says about one file.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct GitLine {
    pub(super) old: Vec<u8>,
    pub(super) new: Vec<u8>,
    /// The number of components before both names.
    pub(super) strip: usize,
}

/// Parses the names in a line `diff --git OLD NEW`. Names with blanks are not quoted there, so the
/// line is divided where both parts name the same file. `None` if they name two files.
pub(super) fn header(text: &[u8], strip: Option<usize>) -> Option<GitLine> {
    let made = |(_, old, new, strip): (u8, &[u8], &[u8], usize)| {
        Some(GitLine { old: old.to_vec(), new: new.to_vec(), strip })
    };
    if text.starts_with(b"\"") {
        let (old, rest) = parse_quoted(text)?;
        let new = whole(rest.strip_prefix(b" ")?)?;
        return made(pair(&old, &new, strip)?);
    }
    if let Some(at) = memchr::memmem::find(text, b" \"") {
        let new = whole(text.get(at + 1..)?)?;
        return made(pair(text.get(..at)?, &new, strip)?);
    }
    // The work is quadratic in the number of blanks.
    let text = Some(text).filter(|text| text.len() <= HEADER)?;
    let pairs = memchr::memchr_iter(b' ', text)
        .filter_map(|at| pair(text.get(..at)?, text.get(at + 1..)?, strip));
    made(pairs.min_by_key(|(unlikely, ..)| *unlikely)?)
}

/// Both names if they are those of one file, before the number of components in front of them, and
/// after a rank: lower is likelier.
fn pair<'a>(
    old: &'a [u8],
    new: &'a [u8],
    strip: Option<usize>,
) -> Option<(u8, &'a [u8], &'a [u8], usize)> {
    let guessed = strip.unwrap_or_else(|| before_both(old, new));
    if strip_components(old, guessed)? != strip_components(new, guessed)? {
        return None;
    }
    let usual = guessed == 1 && before_one(old) == 1 && before_one(new) == 1;
    let unlikely = if usual { 0 } else { 1 + u8::try_from(guessed).unwrap_or(1) };
    Some((unlikely, old, new, guessed))
}

/// Whether the time after a name is the beginning of 1970, which in the output of `diff -N` means
/// that there is no file.
pub(super) fn is_epoch(stamp: &[u8]) -> bool {
    let parse = || {
        let text = std::str::from_utf8(stamp).ok()?.trim();
        let mut words = text.split_ascii_whitespace();
        let (day, time, zone) = (words.next()?, words.next()?, words.next().unwrap_or("+0000"));
        let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
        if !fraction.bytes().all(|digit| digit == b'0') {
            return None;
        }
        let mut parts = time.split(':').map(|part| part.parse::<i32>().ok());
        let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
        let (sign, zone) = match zone.split_at_checked(1)? {
            ("+", zone) => (1, zone),
            ("-", zone) => (-1, zone),
            _ => return None,
        };
        let zone: i32 = zone.replace(':', "").parse().ok()?;
        let offset = sign * (zone / 100 * 60 + zone % 100);
        let day = match day {
            "1970-01-01" => 0,
            "1969-12-31" => -24 * 60,
            _ => return None,
        };
        let within = (0..24).contains(&hours) && (0..60).contains(&minutes) && seconds == 0;
        Some(within && day + hours * 60 + minutes - offset == 0)
    };
    parse().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_names_are_read_as_git_writes_them() {
        for (text, name) in [
            ("\"b/\\303\\266.txt\"", "b/ö.txt".as_bytes()),
            ("\"a\\tb\\nc\\\"d\\\\e\\a\\b\\v\\f\\r\"", b"a\tb\nc\"d\\e\x07\x08\x0b\x0c\r"),
            ("\"caf\\351\"", b"caf\xe9"),
            ("plain name", b"plain name"),
        ] {
            assert_eq!(whole(text.as_bytes()).unwrap(), name, "{text}");
        }
        for text in ["\"a", "\"a\\", "\"a\\q\"", "\"a\\40\"", "\"a\\777\"", "\"a\"b", ""] {
            assert_eq!(whole(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_line_with_two_names_is_divided_where_both_are_of_one_file() {
        for (text, old, strip) in [
            ("a/x b/x", "a/x", 1),
            ("a/x y b/x y", "a/x y", 1),
            ("a/x b/x b/x b/x", "a/x b/x", 1),
            ("i/x w/x", "i/x", 1),
            ("x x", "x", 0),
            ("a/x a/x", "a/x", 0),
            ("x y x y", "x y", 0),
            ("old/x new/x", "old/x", 1),
            ("\"a/\\303\\266\" \"b/\\303\\266\"", "a/ö", 1),
            ("a/x \"b/x\"", "a/x", 1),
        ] {
            let found = header(text.as_bytes(), None).unwrap();
            assert_eq!((found.old.as_slice(), found.strip), (old.as_bytes(), strip), "{text}");
        }
        for text in ["a/x b/y", "x", "", "a/x", "\"a/x\" b/y"] {
            assert_eq!(header(text.as_bytes(), None), None, "{text}");
        }
        assert_eq!(header(b"p/q/x r/s/x", Some(2)).unwrap().strip, 2);
        assert_eq!(header(b"x x", Some(1)), None);
    }

    #[test]
    fn the_time_that_means_no_file_is_known_in_every_zone() {
        for stamp in [
            "\t1970-01-01 00:00:00.000000000 +0000",
            "\t1970-01-01 01:00:00.000000000 +0100",
            "\t1969-12-31 19:00:00.000000000 -0500",
            "\t1970-01-01 05:30:00 +05:30",
        ] {
            assert!(is_epoch(stamp.as_bytes()), "{stamp}");
        }
        for stamp in [
            "",
            "\t2026-01-01 00:00:00.000000000 +0000",
            "\t1970-01-01 00:00:01.000000000 +0000",
            "\t1970-01-01 00:00:00.000000001 +0000",
            "\t1970-01-01 00:00:00.000000000 +0100",
            "\t1970-01-01",
        ] {
            assert!(!is_epoch(stamp.as_bytes()), "{stamp}");
        }
    }

    #[test]
    fn any_names_are_read_without_a_panic() {
        bolero::check!().for_each(|bytes: &[u8]| {
            let _ = (parse_name(bytes), whole(bytes), is_epoch(bytes));
            let _ = (header(bytes, None), header(bytes, Some(1)));
        });
    }
}
