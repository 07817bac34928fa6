//! Parsers for the headers that matter. They are strict: what the grammar does not allow is
//! refused.

use std::time::Duration;

use super::reply::Refusal;

/// The most ranges in one request.
const RANGES: usize = 16;

/// The most entity tags in one condition.
const TAGS: usize = 32;

/// The longest time that a lock lasts.
pub(super) const LONGEST: Duration = Duration::from_secs(3600);

/// How far down a request reaches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Depth {
    /// Only the resource itself.
    Zero,
    /// The resource and its direct entries.
    One,
    /// Everything beneath it.
    Infinity,
}

/// The entity tags in a condition.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Tags {
    /// `*`: any.
    Any,
    /// One of these.
    These(Vec<Tag>),
}

/// An entity tag.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Tag {
    /// Whether it is weak.
    pub weak: bool,
    /// The text between the quotes.
    pub text: Vec<u8>,
}

impl Tag {
    /// The tag of a revision.
    pub(super) fn of(revision: u64) -> Self {
        Self { weak: false, text: format!("{revision:012x}").into_bytes() }
    }

    /// Parses one entity tag. Returns the rest.
    pub(super) fn take(text: &[u8]) -> Option<(Self, &[u8])> {
        let (weak, rest) = match text.strip_prefix(b"W/") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let rest = rest.strip_prefix(b"\"")?;
        let end = rest.iter().position(|&byte| byte == b'"')?;
        let (text, rest) = rest.split_at(end);
        text.iter()
            .all(u8::is_ascii_graphic)
            .then(|| (Self { weak, text: text.to_vec() }, &rest[1..]))
    }
}

impl Tags {
    /// Encodes the tags for dav-server, which splits at commas inside quotes, and never matches a
    /// weak tag: those are left out unless `weakly` is set.
    pub(super) fn to_bytes(&self, weakly: bool) -> Vec<u8> {
        let Self::These(tags) = self else { return b"*".to_vec() };
        let known = |tag: &&Tag| !tag.text.contains(&b',') && (weakly || !tag.weak);
        let tags: Vec<_> =
            tags.iter().filter(known).map(|tag| [b"\"", &tag.text[..], b"\""].concat()).collect();
        // No file of ours has this tag.
        if tags.is_empty() { b"\"-\"".to_vec() } else { tags.join(&b", "[..]) }
    }
}

/// Parses `Depth`.
pub(super) fn depth(value: &[u8]) -> Result<Depth, Refusal> {
    match value {
        b"0" => Ok(Depth::Zero),
        b"1" => Ok(Depth::One),
        _ if value.eq_ignore_ascii_case(b"infinity") => Ok(Depth::Infinity),
        _ => Err(Refusal::MALFORMED),
    }
}

/// Parses `Overwrite`.
pub(super) fn overwrite(value: &[u8]) -> Result<bool, Refusal> {
    match value {
        b"T" => Ok(true),
        b"F" => Ok(false),
        _ => Err(Refusal::MALFORMED),
    }
}

/// Parses a number of at most this many digits.
pub(super) fn number(value: &[u8], digits: usize) -> Result<u64, Refusal> {
    let fits = (1..=digits.min(18)).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| fits);
    text.and_then(|text| text.parse().ok()).ok_or(Refusal::MALFORMED)
}

/// Parses `X-OC-Mtime`: seconds since 1970, with or without a fraction. Returns nanoseconds.
pub(super) fn moment(value: &[u8]) -> Result<i64, Refusal> {
    let point = value.iter().position(|&byte| byte == b'.').unwrap_or(value.len());
    let (seconds, fraction) = value.split_at(point);
    let seconds = number(seconds, 11)?.cast_signed();
    let fraction = fraction.strip_prefix(b".").unwrap_or(b"0");
    if fraction.is_empty() || !fraction.iter().all(u8::is_ascii_digit) {
        return Err(Refusal::MALFORMED);
    }
    let digits = fraction.iter().chain(std::iter::repeat(&b'0')).take(9);
    let nanos = digits.fold(0, |nanos, digit| nanos * 10 + i64::from(digit - b'0'));
    let all = seconds.checked_mul(1_000_000_000).and_then(|all| all.checked_add(nanos));
    all.ok_or(Refusal::MALFORMED)
}

/// Parses `If-Match` or `If-None-Match`.
pub(super) fn tags(value: &[u8]) -> Result<Tags, Refusal> {
    if value == b"*" {
        return Ok(Tags::Any);
    }
    let mut tags = Vec::new();
    let mut rest = value;
    loop {
        let (tag, behind) = Tag::take(rest.trim_ascii_start()).ok_or(Refusal::MALFORMED)?;
        tags.push(tag);
        rest = behind.trim_ascii_start();
        if tags.len() > TAGS {
            return Err(Refusal::MALFORMED);
        }
        match rest {
            [] => return Ok(Tags::These(tags)),
            [b',', behind @ ..] => rest = behind,
            _ => return Err(Refusal::MALFORMED),
        }
    }
}

/// Parses `If-Range`.
pub(super) fn state_or_date(value: &[u8]) -> Result<(), Refusal> {
    match Tag::take(value) {
        Some((_, [])) => Ok(()),
        _ => date(value).map(|_| ()),
    }
}

/// Parses `Range`. Returns the number of ranges.
pub(super) fn ranges(value: &[u8]) -> Result<usize, Refusal> {
    let set = value.strip_prefix(b"bytes=").ok_or(Refusal::MALFORMED)?;
    let mut count = 0;
    for range in set.split(|&byte| byte == b',') {
        let range = range.trim_ascii();
        let dash = range.iter().position(|&byte| byte == b'-').ok_or(Refusal::MALFORMED)?;
        let (first, last) = (&range[..dash], &range[dash + 1..]);
        match (first, last) {
            (b"", last) => {
                number(last, 18)?;
            }
            (first, b"") => {
                number(first, 18)?;
            }
            (first, last) if number(first, 18)? <= number(last, 18)? => {}
            _ => return Err(Refusal::MALFORMED),
        }
        count += 1;
    }
    if count > RANGES { Err(Refusal::MALFORMED) } else { Ok(count) }
}

/// Parses `Timeout`. The first value counts, up to the longest time.
pub(super) fn timeout(value: &[u8]) -> Result<Duration, Refusal> {
    let mut first = None;
    for wish in value.split(|&byte| byte == b',') {
        let wish = wish.trim_ascii();
        let wish = match wish.strip_prefix(b"Second-") {
            Some(seconds) => Duration::from_secs(number(seconds, 10)?),
            None if wish == b"Infinite" => LONGEST,
            None => return Err(Refusal::MALFORMED),
        };
        let wish = wish.clamp(Duration::from_secs(1), LONGEST);
        first = first.or(Some(wish));
    }
    first.ok_or(Refusal::MALFORMED)
}

/// Parses `Lock-Token`: one URI between `<` and `>`.
pub(super) fn lock_token(value: &[u8]) -> Result<String, Refusal> {
    let uri = value.strip_prefix(b"<").and_then(|rest| rest.strip_suffix(b">"));
    uri.and_then(uri_text).ok_or(Refusal::MALFORMED)
}

/// Parses the URI of a lock or another state.
pub(super) fn uri_text(uri: &[u8]) -> Option<String> {
    let plain = |&byte: &u8| byte.is_ascii_graphic() && !b"<>\"".contains(&byte);
    let colon = uri.iter().position(|&byte| byte == b':')?;
    let good = colon > 0 && uri.len() <= 256 && uri.iter().all(plain);
    good.then(|| String::from_utf8_lossy(uri).into_owned())
}

/// Parses a date of HTTP. Returns seconds since 1970.
pub(super) fn date(value: &[u8]) -> Result<i64, Refusal> {
    read_date(value).ok_or(Refusal::MALFORMED)
}

fn read_date(value: &[u8]) -> Option<i64> {
    // `Sun, 06 Nov 1994 08:49:37 GMT`
    const MONTHS: &[u8] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    const DAYS: &[u8] = b"ThuFriSatSunMonTueWed";
    let value: &[u8; 29] = value.try_into().ok()?;
    let part = |from: usize, length: usize| value.get(from..from + length);
    let digits = |from, length| number(part(from, length)?, length).ok().map(u64::cast_signed);
    for (at, text) in [(3, &b", "[..]), (7, b" "), (11, b" "), (16, b" "), (19, b":"), (22, b":")] {
        (part(at, text.len())? == text).then_some(())?;
    }
    (part(25, 4)? == b" GMT").then_some(())?;
    let month = MONTHS.chunks(3).position(|name| Some(name) == part(8, 3))?;
    let (day, year) = (digits(5, 2)?, digits(12, 4)?);
    let (hour, minute, second) = (digits(17, 2)?, digits(20, 2)?, digits(23, 2)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let good = (1..=*lengths.get(month)?).contains(&day)
        && (1970..=9999).contains(&year)
        && hour < 24
        && minute < 60
        && second <= 60;
    good.then_some(())?;
    let before = year - 1;
    let leaps = |year: i64| year / 4 - year / 100 + year / 400;
    let days = (year - 1970) * 365 + leaps(before) - leaps(1969)
        + lengths.iter().take(month).sum::<i64>()
        + day
        - 1;
    let name = DAYS.chunks(3).nth(usize::try_from(days % 7).ok()?);
    (name == part(0, 3)).then_some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_headers_have_few_values() {
        assert_eq!(depth(b"0"), Ok(Depth::Zero));
        assert_eq!(depth(b"Infinity"), Ok(Depth::Infinity));
        for bad in [&b"2"[..], b"", b"-1", b"0 ", b"00", b"1,1", b"infinity, 0"] {
            assert!(depth(bad).is_err(), "{bad:?}");
        }
        assert!(overwrite(b"t").is_err() && overwrite(b"").is_err());
        assert_eq!(number(b"0012", 18), Ok(12));
        for bad in [&b"-1"[..], b"+1", b"", b" 1", b"1e3", b"1234567890123456789"] {
            assert!(number(bad, 18).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_time_of_a_client_has_seconds_and_perhaps_a_fraction() {
        assert_eq!(moment(b"1700000000"), Ok(1_700_000_000_000_000_000));
        assert_eq!(moment(b"1.5"), Ok(1_500_000_000));
        assert_eq!(moment(b"0.1234567891"), Ok(123_456_789));
        for bad in [&b""[..], b"-1", b"1.", b".5", b"1e3", b"99999999999", b"1.x"] {
            assert!(moment(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn states_are_quoted() {
        assert_eq!(tags(b"*"), Ok(Tags::Any));
        let two = tags(b"\"a\" , W/\"b,c\"").unwrap();
        let text = |weak, text: &[u8]| Tag { weak, text: text.to_vec() };
        assert_eq!(two, Tags::These(vec![text(false, b"a"), text(true, b"b,c")]));
        for bad in [&b"\""[..], b"", b"a", b"\"a", b"\"a\",", b"\"a\" \"b\"", b"*, \"a\"", b"W/"] {
            assert!(tags(bad).is_err(), "{bad:?}");
        }
        assert!(tags(&b"\"a\",".repeat(40)[..159]).is_err());
        let written = |text: &[u8], weakly| tags(text).unwrap().to_bytes(weakly);
        assert_eq!(written(b"\"a\",W/\"b\",\"c,d\"", true), b"\"a\", \"b\"");
        assert_eq!(written(b"\"a\",W/\"b\"", false), b"\"a\"");
        assert_eq!(
            (written(b"\",\"", true), written(b"*", true)),
            (b"\"-\"".to_vec(), b"*".to_vec())
        );
    }

    #[test]
    fn ranges_are_few_and_small_enough_to_add_up() {
        assert_eq!(ranges(b"bytes=0-0, 5-,-7"), Ok(3));
        for bad in [
            &b"bytes=0-18446744073709551615"[..],
            b"bytes=9-1",
            b"bytes=-",
            b"bytes=",
            b"bytes=a-b",
            b"lines=0-1",
            b"0-1",
            b"bytes=--1",
            b"bytes=1-2-3",
        ] {
            assert!(ranges(bad).is_err(), "{bad:?}");
        }
        assert!(ranges(&[&b"bytes="[..], &b"0-0,".repeat(16), b"1-1"].concat()).is_err());
    }

    #[test]
    fn the_first_wish_for_a_time_counts() {
        assert_eq!(timeout(b"Second-1"), Ok(Duration::from_secs(1)));
        assert_eq!(timeout(b"Infinite, Second-4100000000"), Ok(LONGEST));
        assert_eq!(timeout(b"Second-9999999999"), Ok(LONGEST));
        assert_eq!(timeout(b"Second-0"), Ok(Duration::from_secs(1)));
        for bad in [&b""[..], b"Second-", b"Second--1", b"second-1", b"Second-1,", b"1"] {
            assert!(timeout(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_date_is_one_that_was() {
        assert_eq!(date(b"Sun, 06 Nov 1994 08:49:37 GMT"), Ok(784_111_777));
        assert_eq!(date(b"Thu, 01 Jan 1970 00:00:00 GMT"), Ok(0));
        assert_eq!(date(b"Tue, 29 Feb 2028 23:59:59 GMT"), Ok(1_835_481_599));
        for bad in [
            &b"Mon, 06 Nov 1994 08:49:37 GMT"[..],
            b"Sun, 06 Nov 1994 08:49:37 UTC",
            b"Sun, 31 Feb 1994 08:49:37 GMT",
            b"Sunday, 06-Nov-94 08:49:37 GMT",
            b"Sun Nov  6 08:49:37 1994",
            b"Sun, 06 Nov 1994 24:49:37 GMT",
            b"0",
            b"",
        ] {
            assert!(date(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_token_is_one_uri() {
        assert_eq!(lock_token(b"<urn:uuid:1>").as_deref(), Ok("urn:uuid:1"));
        for bad in [&b"urn:uuid:1"[..], b"<>", b"<a>", b"<<urn:a>>", b"<urn:a> <urn:b>", b"<:a>"] {
            assert!(lock_token(bad).is_err(), "{bad:?}");
        }
    }
}
