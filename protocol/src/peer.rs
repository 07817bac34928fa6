//! Decodes messages of a peer whose texts a person or a model will read.
//!
//! [`decode`] sanitises every text string of a message before the message is decoded, whatever
//! field it belongs to: one line, no control characters, no characters that hide or reorder others,
//! at most [`TEXT_LIMIT`] characters. Fields that are added later are covered automatically. Byte
//! strings (output, paths, contents) stay unchanged; code that displays them sanitises them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use minicbor::Decode;

use crate::cbor::{self, Error};
use crate::chars::{self, REPLACEMENT};

/// The maximum number of characters of a text string; the rest is replaced by `…`.
pub const TEXT_LIMIT: usize = 4_096;

/// The maximum count, size, age or offset that a peer may name: 2⁵³ − 1, some 9 petabytes. Sums of
/// up to 2,048 such numbers fit a `u64`, and each is exact in JSON.
pub const COUNT_LIMIT: u64 = (1 << 53) - 1;

/// Decodes a message of at most `limit` bytes that fills `bytes` completely, and sanitises its
/// texts.
pub fn decode<T>(bytes: &[u8], limit: usize) -> Result<T, Error>
where
    T: for<'b> Decode<'b, ()>,
{
    if bytes.len() > limit {
        return Err(Error::TooLong { length: bytes.len(), limit });
    }
    match rewritten(bytes) {
        // Replacements may be longer than what they replace.
        Cow::Owned(harmless) => cbor::decode(&harmless, harmless.len()),
        Cow::Borrowed(bytes) => cbor::decode(bytes, limit),
    }
}

/// Returns the text on one line, without anything that a terminal interprets or a reader cannot
/// see.
///
/// The function is idempotent.
pub fn line(text: &str) -> Cow<'_, str> {
    let harmless = |char: char| chars::visible_form(char) == Some(char);
    if text.len() <= TEXT_LIMIT && text.chars().all(harmless) {
        return Cow::Borrowed(text);
    }
    let longer = text.chars().nth(TEXT_LIMIT).is_some();
    let kept = text.chars().take(TEXT_LIMIT - usize::from(longer));
    let mut out: String = kept.map(sanitize_char).collect();
    out.extend(longer.then_some('…'));
    Cow::Owned(out)
}

fn sanitize_char(char: char) -> char {
    match char {
        '\n' | '\r' | '\t' => ' ',
        _ => chars::visible_form(char).unwrap_or(REPLACEMENT),
    }
}

/// Returns the message with sanitised texts, borrowed if nothing changes. Invalid CBOR is left to
/// the decoder, which refuses it.
fn rewritten(bytes: &[u8]) -> Cow<'_, [u8]> {
    let mut out: Option<Vec<u8>> = None;
    let mut rest = bytes;
    while let Some(item) = Item::read(rest) {
        let (raw, after) = rest.split_at(item.length);
        let harmless = match item.text.map(line) {
            Some(Cow::Owned(harmless)) => Some(harmless),
            _ => None,
        };
        if harmless.is_some() && out.is_none() {
            out = Some(bytes[..bytes.len() - rest.len()].to_vec());
        }
        if let Some(out) = &mut out {
            match harmless {
                Some(text) => out.extend(cbor::encode(&text)),
                None => out.extend_from_slice(raw),
            }
        }
        rest = after;
    }
    let Some(mut out) = out else { return Cow::Borrowed(bytes) };
    out.extend_from_slice(rest);
    Cow::Owned(out)
}

/// The head of a data item and, for a string, its content; arrays and maps are heads that other
/// items follow (RFC 8949, section 3).
struct Item<'b> {
    length: usize,
    text: Option<&'b str>,
}

impl<'b> Item<'b> {
    fn read(bytes: &'b [u8]) -> Option<Self> {
        let first = *bytes.first()?;
        let (width, value) = match first & 0x1f {
            short @ 0..24 => (0, u64::from(short)),
            wide @ 24..28 => {
                let width = 1_usize << (wide - 24);
                let value = bytes.get(1..=width)?;
                (width, value.iter().fold(0, |all, &byte| all << 8 | u64::from(byte)))
            }
            // An item of indefinite length, or the break that ends it: only a head.
            31 => return Some(Self { length: 1, text: None }),
            _ => return None,
        };
        let head = 1 + width;
        let major = first >> 5;
        if major != 2 && major != 3 {
            return Some(Self { length: head, text: None });
        }
        let length = head.checked_add(usize::try_from(value).ok()?)?;
        let content = bytes.get(head..length)?;
        let text = if major == 3 { Some(core::str::from_utf8(content).ok()?) } else { None };
        Some(Self { length, text })
    }
}

/// Decodes a number of at most [`COUNT_LIMIT`]; for fields that are added, compared or subtracted.
pub(crate) fn count<'b, C>(
    d: &mut minicbor::Decoder<'b>,
    _: &mut C,
) -> Result<u64, minicbor::decode::Error> {
    within(d.u64()?)
}

/// As [`count`], for an optional field; use it with `nil = "crate::peer::absent"`.
pub(crate) fn some_count<'b, C>(
    d: &mut minicbor::Decoder<'b>,
    context: &mut C,
) -> Result<Option<u64>, minicbor::decode::Error> {
    Option::<u64>::decode(d, context)?.map(within).transpose()
}

/// Decodes a number of a request, and clamps it to [`COUNT_LIMIT`]: larger waits and positions mean
/// the same.
#[cfg(feature = "inner")]
pub(crate) fn clamped<'b, C>(
    d: &mut minicbor::Decoder<'b>,
    _: &mut C,
) -> Result<u64, minicbor::decode::Error> {
    Ok(d.u64()?.min(COUNT_LIMIT))
}

/// As [`clamped`], for an optional field; use it with `nil = "crate::peer::absent"`.
#[cfg(feature = "inner")]
pub(crate) fn some_clamped<'b, C>(
    d: &mut minicbor::Decoder<'b>,
    context: &mut C,
) -> Result<Option<u64>, minicbor::decode::Error> {
    Ok(Option::<u64>::decode(d, context)?.map(|number| number.min(COUNT_LIMIT)))
}

/// The value of an absent field.
pub(crate) fn absent<T>() -> Option<Option<T>> {
    Some(None)
}

/// Decodes a list of at most `MOST` entries.
pub(crate) fn list<'b, C, T: Decode<'b, C>, const MOST: usize>(
    d: &mut minicbor::Decoder<'b>,
    context: &mut C,
) -> Result<Vec<T>, minicbor::decode::Error> {
    let entries = d.array_iter_with(context)?;
    entries.enumerate().map(|(at, entry)| few::<MOST>(at).and(entry)).collect()
}

/// Decodes a map of at most `MOST` entries.
pub(crate) fn map<'b, C, K: Decode<'b, C> + Ord, V: Decode<'b, C>, const MOST: usize>(
    d: &mut minicbor::Decoder<'b>,
    context: &mut C,
) -> Result<BTreeMap<K, V>, minicbor::decode::Error> {
    let entries = d.map_iter_with(context)?;
    entries.enumerate().map(|(at, entry)| few::<MOST>(at).and(entry)).collect()
}

fn few<const MOST: usize>(at: usize) -> Result<(), minicbor::decode::Error> {
    if at < MOST {
        return Ok(());
    }
    Err(minicbor::decode::Error::message("a list over its limit"))
}

/// Decodes a signal number, 1 to 127: the range that `wait` can report.
#[cfg(feature = "inner")]
pub(crate) fn signal<'b, C>(
    d: &mut minicbor::Decoder<'b>,
    _: &mut C,
) -> Result<i32, minicbor::decode::Error> {
    let number = d.i32()?;
    if (1..=127).contains(&number) {
        return Ok(number);
    }
    Err(minicbor::decode::Error::message("no signal has this number"))
}

fn within(number: u64) -> Result<u64, minicbor::decode::Error> {
    if number <= COUNT_LIMIT {
        return Ok(number);
    }
    Err(minicbor::decode::Error::message("a number over its limit"))
}

#[cfg(test)]
mod tests {
    use minicbor::Encode;
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
    #[cbor(map)]
    struct Message {
        #[n(0)]
        name: String,
        #[n(1)]
        labels: Option<BTreeMap<String, Vec<String>>>,
        #[n(2)]
        content: cbor::Blob,
        #[n(3)]
        number: i64,
    }

    #[derive(Debug, Decode, Encode, PartialEq)]
    #[cbor(map)]
    struct Counted {
        #[cbor(n(0), decode_with = "count")]
        bytes: u64,
        #[cbor(n(1), decode_with = "some_count", nil = "absent")]
        lines: Option<u64>,
    }

    fn message(name: &str) -> Message {
        let labels = BTreeMap::from([(name.to_owned(), vec!["plain".to_owned(), name.to_owned()])]);
        Message {
            name: name.to_owned(),
            labels: Some(labels),
            content: name.as_bytes().to_vec().into(),
            number: i64::MIN,
        }
    }

    fn received(message: &Message) -> Message {
        decode(&cbor::encode(message), 1 << 20).unwrap()
    }

    #[test]
    fn texts_are_harmless_wherever_they_stand_and_bytes_stay_as_they_are() {
        let hostile = "a\u{1b}]0;x\u{7}b\r\nc\u{202e}d\u{9b}31m";
        let got = received(&message(hostile));
        let text = "a␛]0;x␇b  c\u{fffd}d\u{fffd}31m";
        assert_eq!(got.name, text);
        let labels = got.labels.unwrap();
        assert_eq!(labels.keys().collect::<Vec<_>>(), [text]);
        assert_eq!(labels[text], ["plain", text]);
        assert_eq!(&got.content[..], hostile.as_bytes());
        assert_eq!(got.number, i64::MIN);
    }

    #[test]
    fn a_harmless_message_is_what_was_sent() {
        assert_eq!(received(&message("naïve 名前 🚀")), message("naïve 名前 🚀"));
    }

    #[test]
    fn a_long_text_is_cut() {
        let got = received(&message(&"é".repeat(TEXT_LIMIT + 1)));
        assert_eq!(got.name.chars().count(), TEXT_LIMIT);
        assert!(got.name.ends_with("é…"), "{}", &got.name[got.name.len() - 9..]);
    }

    #[test]
    fn numbers_over_the_limit_are_refused_and_absent_ones_stay_absent() {
        let read = |counted: &Counted| decode::<Counted>(&cbor::encode(counted), 100);
        for lines in [None, Some(0), Some(COUNT_LIMIT)] {
            let counted = Counted { bytes: COUNT_LIMIT, lines };
            assert_eq!(read(&counted).unwrap(), counted);
        }
        assert!(read(&Counted { bytes: COUNT_LIMIT + 1, lines: None }).is_err());
        assert!(read(&Counted { bytes: 0, lines: Some(u64::MAX) }).is_err());
    }

    proptest! {
        #[test]
        fn any_text_becomes_one_harmless_line_and_stays_it(text: String) {
            let once = line(&text).into_owned();
            prop_assert!(once.chars().all(|char| char != '\n' && char != '\t' && chars::is_text(char)));
            prop_assert!(once.chars().count() <= TEXT_LIMIT);
            prop_assert!(matches!(line(&once), Cow::Borrowed(_)));
        }
    }

    #[test]
    fn a_text_in_pieces_of_unknown_number_is_harmless_too() {
        // {0: (_ "a\x1b", "b"), 2: h'', 3: 0}
        let bytes = b"\xa3\x00\x7f\x62a\x1b\x61b\xff\x02\x40\x03\x00";
        let harmless = rewritten(bytes).into_owned();
        assert!(!harmless.contains(&0x1b), "{harmless:?}");
    }

    #[test]
    fn any_bytes_are_read_or_refused() {
        bolero::check!().for_each(|bytes: &[u8]| {
            if let Ok(message) = decode::<Message>(bytes, 1 << 16) {
                assert_eq!(line(&message.name), message.name.as_str());
            }
        });
    }
}
