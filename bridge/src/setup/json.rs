//! Scans JSON just closely enough to know where its parts are.
//!
//! A configuration file is somebody else's: what we do not change must keep its bytes. So nothing
//! is decoded and written back; a [`Scanner`] walks the text once, checks all of it against RFC
//! 8259, and says where the members of one object or the elements of one array begin and end.
//! `edit.rs` cuts and pastes at those places.
//!
//! Time is linear in the text and memory is one entry per item of the container that was asked for.

use std::ops::Range;

pub(crate) mod edit;

/// The text is not JSON.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Malformed {
    /// Where the error is.
    pub(crate) at: usize,
    /// What is wrong there.
    what: &'static str,
}

/// One member of an object or one element of an array.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Item {
    /// The span of its key, with the quotes. An element has none.
    pub(crate) key: Option<Range<usize>>,
    /// The span of its value.
    pub(crate) value: Range<usize>,
}

impl Item {
    /// Where it begins.
    pub(crate) fn start(&self) -> usize {
        self.key.as_ref().unwrap_or(&self.value).start
    }

    /// Whether it is a member of this name.
    pub(crate) fn is_called(&self, text: &str, name: &str) -> bool {
        let raw = self.key.clone().and_then(|key| text.get(key));
        raw.is_some_and(|raw| is_string(raw, name))
    }

    /// Whether its value is this string.
    pub(crate) fn is_string(&self, text: &str, string: &str) -> bool {
        text.get(self.value.clone()).is_some_and(|raw| is_string(raw, string))
    }
}

/// The span of an object or an array, and its items.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Container {
    /// From its opening to behind its closing bracket.
    pub(crate) span: Range<usize>,
    /// What it holds, in the order of the text.
    pub(crate) items: Vec<Item>,
}

impl Container {
    /// The span between the brackets.
    pub(crate) fn inside(&self) -> Range<usize> {
        self.span.start + 1..self.span.end - 1
    }

    /// The position of the member of this name. Of several the last counts, as it does for readers.
    pub(crate) fn position(&self, text: &str, name: &str) -> Option<usize> {
        self.items.iter().rposition(|item| item.is_called(text, name))
    }
}

/// Whether `raw`, a value as it stands in a text, is this string.
fn is_string(raw: &str, string: &str) -> bool {
    if !raw.contains('\\') {
        return raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')) == Some(string);
    }
    // Half a surrogate pair is valid JSON, but never equals one of our strings.
    serde_json::from_str::<String>(raw).is_ok_and(|decoded| decoded == string)
}

/// The span of the one value of the text. All of the text is checked.
pub(crate) fn root(text: &str) -> Result<Range<usize>, Malformed> {
    let mut scanner = Scanner::new(text, 0);
    scanner.blank();
    let start = scanner.at;
    scanner.value(0)?;
    let end = scanner.at;
    scanner.blank();
    match scanner.peek() {
        None => Ok(start..end),
        Some(_) => Err(scanner.wrong("there is text after the end of the value")),
    }
}

/// The object or the array that begins at `start`; `None` if something else does.
pub(crate) fn container(text: &str, start: usize) -> Result<Option<Container>, Malformed> {
    let mut scanner = Scanner::new(text, start);
    let mut items = Vec::new();
    let mut count = 0;
    let collect = |item| {
        count += 1;
        if count <= ITEM_LIMIT {
            items.push(item);
        }
    };
    match scanner.peek() {
        Some(b'{') => scanner.object(0, collect)?,
        Some(b'[') => scanner.array(0, collect)?,
        _ => return Ok(None),
    }
    if count > ITEM_LIMIT {
        return Err(Malformed {
            at: start,
            what: "it has more items than any configuration should",
        });
    }
    Ok(Some(Container { span: start..scanner.at, items }))
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str, at: usize) -> Self {
        Self { bytes: text.as_bytes(), at }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn wrong(&self, what: &'static str) -> Malformed {
        Malformed { at: self.at.min(self.bytes.len()), what }
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self, depth: usize) -> Result<(), Malformed> {
        match self.peek() {
            Some(b'{') => self.object(depth, |_| ()),
            Some(b'[') => self.array(depth, |_| ()),
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            Some(_) => Err(self.wrong("expected a value")),
            None => Err(self.wrong("the text ends where a value should be")),
        }
    }

    fn object(&mut self, depth: usize, mut found: impl FnMut(Item)) -> Result<(), Malformed> {
        self.sequence(depth, b'}', |scanner| {
            let key = scanner.at;
            if scanner.peek() != Some(b'"') {
                return Err(scanner.wrong("expected a key in quotes"));
            }
            scanner.string()?;
            let key = key..scanner.at;
            scanner.blank();
            if !scanner.eat(b':') {
                return Err(scanner.wrong("expected a colon after the key"));
            }
            scanner.blank();
            let value = scanner.at;
            scanner.value(depth + 1)?;
            found(Item { key: Some(key), value: value..scanner.at });
            Ok(())
        })
    }

    fn array(&mut self, depth: usize, mut found: impl FnMut(Item)) -> Result<(), Malformed> {
        self.sequence(depth, b']', |scanner| {
            let value = scanner.at;
            scanner.value(depth + 1)?;
            found(Item { key: None, value: value..scanner.at });
            Ok(())
        })
    }

    /// From the opening bracket to behind `close`: nothing, or `item`s with commas between them.
    fn sequence(
        &mut self,
        depth: usize,
        close: u8,
        mut item: impl FnMut(&mut Self) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        if depth >= DEPTH_LIMIT {
            return Err(self.wrong("nested too deeply"));
        }
        self.at += 1;
        self.blank();
        if self.eat(close) {
            return Ok(());
        }
        loop {
            item(self)?;
            self.blank();
            if self.eat(close) {
                return Ok(());
            }
            if !self.eat(b',') {
                return Err(self.wrong("expected a comma or the closing bracket"));
            }
            self.blank();
        }
    }

    fn string(&mut self) -> Result<(), Malformed> {
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(0..=0x1f) => return Err(self.wrong("a control character inside a string")),
                Some(_) => self.at += 1,
                None => return Err(self.wrong("the text ends inside a string")),
            }
        }
        self.at += 1;
        Ok(())
    }

    fn escape(&mut self) -> Result<(), Malformed> {
        let escape = self.bytes.get(self.at + 1..).unwrap_or_default();
        self.at += match escape {
            [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
            [b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|byte| byte.is_ascii_hexdigit()) => 6,
            _ => return Err(self.wrong("an unknown escape in a string")),
        };
        Ok(())
    }

    fn number(&mut self) -> Result<(), Malformed> {
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            if !self.eat(b'+') {
                self.eat(b'-');
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.wrong("expected a digit")) } else { Ok(()) }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Malformed> {
        if !self.bytes.get(self.at..).unwrap_or_default().starts_with(word) {
            return Err(self.wrong("expected a value"));
        }
        self.at += word.len();
        Ok(())
    }
}

/// The most items: each takes more memory than the shortest item has bytes.
const ITEM_LIMIT: usize = 100_000;

/// Deeper than any configuration, and shallow enough for the smallest stack.
const DEPTH_LIMIT: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// The scanner and a parser agree on what JSON is, and on where things stand.
    fn check(text: &str) {
        let parsed = serde_json::from_str::<serde::de::IgnoredAny>(text);
        match root(text) {
            Ok(span) => {
                parsed.unwrap();
                if let Some(found) = container(text, span.start).unwrap() {
                    assert_eq!(found.span, span);
                    for item in &found.items {
                        assert_eq!(root(&text[item.value.clone()]), Ok(0..item.value.len()));
                    }
                }
            }
            Err(wrong) => {
                assert!(wrong.at <= text.len());
                assert!(parsed.is_err() || wrong.what == "nested too deeply", "{wrong}: {text:?}");
            }
        }
    }

    #[test]
    fn texts_that_are_not_json_are_refused_where_they_go_wrong() {
        let cases = [
            ("", 0),
            ("{", 1),
            (r#"{"a":1,}"#, 7),
            ("[1 2]", 3),
            ("01", 1),
            ("1.", 2),
            ("-", 1),
            ("1e+", 3),
            ("\"a\nb\"", 2),
            (r#""\x""#, 1),
            (r#""\u12g4""#, 1),
            ("tru", 0),
            ("{}{}", 2),
            (r#"{"a" 1}"#, 5),
            ("{a:1}", 1),
            ("// no\n{}", 0),
            ("\"", 1),
        ];
        for (text, at) in cases {
            check(text);
            assert_eq!(root(text).unwrap_err().at, at, "{text:?}");
        }
    }

    #[test]
    fn depth_costs_an_error_and_not_the_stack() {
        let wrong = root(&"[".repeat(1_000_000)).unwrap_err();
        assert_eq!((wrong.at, wrong.to_string().as_str()), (DEPTH_LIMIT, "nested too deeply"));
        let deep = "[".repeat(DEPTH_LIMIT) + &"]".repeat(DEPTH_LIMIT);
        assert_eq!(root(&deep), Ok(0..deep.len()));
    }

    #[test]
    fn a_flood_of_items_costs_an_error_and_not_the_memory() {
        let flood = format!("[{}1]", "1,".repeat(ITEM_LIMIT));
        assert_eq!(root(&flood), Ok(0..flood.len()));
        assert_eq!(container(&flood, 0).unwrap_err().at, 0);
    }

    #[test]
    fn a_key_is_found_however_it_is_spelled_and_the_last_one_counts() {
        let text = r#"{"mcp": 1, "mc\u0070": 2, "\ud800": 3}"#;
        let found = container(text, 0).unwrap().unwrap();
        assert_eq!(found.position(text, "mcp"), Some(1));
        assert_eq!(found.position(text, "mc"), None);
    }

    pub(crate) fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<i32>().prop_map(|eighths| Value::from(f64::from(eighths) / 8.0)),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("[a-e]{0,3}|.{0,4}", inner, 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_a_writer_writes_is_accepted(value in json(), pretty in any::<bool>()) {
            let text = if pretty { format!("{value:#}\n") } else { value.to_string() };
            prop_assert!(root(&text).is_ok());
            check(&text);
        }

        #[test]
        fn what_is_nearly_json_is_judged_as_a_parser_judges_it(text in r#"[\[\]{}",:0-9eE+\-.truefalsn\\u \n]{0,24}"#) {
            check(&text);
        }

        #[test]
        fn a_broken_text_is_judged_as_a_parser_judges_it(value in json(), cut in any::<prop::sample::Index>(), with in "[\\[\\]{}\",:0\\\\ ]?") {
            let mut text = value.to_string();
            let mut at = cut.index(text.len() + 1);
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            text.insert_str(at, &with);
            check(&text);
            text.truncate(at);
            check(&text);
        }
    }

    #[test]
    fn any_bytes_are_judged_as_a_parser_judges_them() {
        bolero::check!().for_each(|bytes: &[u8]| {
            if let Ok(text) = std::str::from_utf8(bytes) {
                check(text);
            }
        });
    }
}
