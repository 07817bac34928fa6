//! Inserts values into a JSON text and removes them again; every other byte stays unchanged.
//!
//! New text follows its surroundings: the indentation and line ends of its neighbours, or
//! everything on one line where the neighbours stand on one line. What [`put`] or [`push`] added
//! last, [`remove`] or [`without`] takes away exactly.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::Value;

use super::{Container, Item, Malformed, container, root};

/// Why a text cannot be edited.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum EditError {
    /// It is not JSON at all.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// On the path to the requested value there is something that has no members.
    #[error("`{name}` is not an object")]
    NotAnObject {
        /// Where it stands.
        at: usize,
        /// What it is called.
        name: String,
    },
    /// There is something else where a list was expected.
    #[error("`{name}` is not an array")]
    NotAnArray {
        /// Where it stands.
        at: usize,
        /// What it is called.
        name: String,
    },
}

impl EditError {
    /// Where in the text it is.
    pub(crate) fn at(&self) -> usize {
        match self {
            Self::Malformed(malformed) => malformed.at,
            Self::NotAnObject { at, .. } | Self::NotAnArray { at, .. } => *at,
        }
    }
}

/// JSON whose members keep the order in which they are to be written.
#[derive(Clone, Debug)]
pub(crate) enum Json {
    /// Anything whose order does not matter.
    Value(Value),
    /// An object.
    Object(Vec<(String, Self)>),
    /// An array.
    Array(Vec<Self>),
}

impl From<Value> for Json {
    fn from(value: Value) -> Self {
        match value {
            Value::Object(members) => {
                Self::Object(members.into_iter().map(|(key, value)| (key, value.into())).collect())
            }
            Value::Array(items) => Self::Array(items.into_iter().map(Self::from).collect()),
            value => Self::Value(value),
        }
    }
}

impl Json {
    /// It inside objects of one member each, the outermost first in `path`.
    pub(crate) fn under(self, path: &[&str]) -> Self {
        path.iter().rev().fold(self, |json, key| Self::Object(vec![((*key).to_owned(), json)]))
    }

    /// As the text of a file of its own.
    pub(crate) fn document(&self) -> String {
        let mut writer = Writer::new(Style::default());
        self.write(&mut writer, "");
        writer.out.push('\n');
        writer.out
    }

    fn write(&self, writer: &mut Writer<'_>, indent: &str) {
        match self {
            Self::Value(value) => writer.out.push_str(&value.to_string()),
            Self::Object(members) => {
                writer.sequence(indent, ['{', '}'], members, |writer, indent, (key, json)| {
                    writer.key(key);
                    json.write(writer, indent);
                });
            }
            Self::Array(items) => {
                writer.sequence(indent, ['[', ']'], items, |writer, indent, json| {
                    json.write(writer, indent);
                });
            }
        }
    }
}

/// The text of the value at `path`.
pub(crate) fn find<'t>(text: &'t str, path: &[&str]) -> Result<Option<&'t str>, EditError> {
    match walk(text, path)? {
        (span, []) => Ok(text.get(span)),
        _ => Ok(None),
    }
}

/// Sets `path` to `json`, replacing its value or adding it after its last neighbour.
pub(crate) fn put(text: &str, path: &[&str], json: Json) -> Result<String, EditError> {
    let (span, missing) = walk(text, path)?;
    let [key, deeper @ ..] = missing else {
        let mut writer = Writer::new(Style::inside(text, &span));
        json.write(&mut writer, line_indent(text, span.start));
        return Ok(splice(text, span, &writer.out));
    };
    let object = object(text, &span, parent_name(path, missing))?;
    Ok(insert(text, &object, |writer, indent| {
        writer.key(key);
        json.under(deeper).write(writer, indent);
    }))
}

/// Removes what `path` names, if it exists.
pub(crate) fn remove(text: &str, path: &[&str]) -> Result<Option<String>, EditError> {
    let Some((name, parents)) = path.split_last() else { return Ok(None) };
    let (span, missing) = walk(text, parents)?;
    if !missing.is_empty() {
        return Ok(None);
    }
    let object = object(text, &span, parents.last().copied().unwrap_or(ROOT))?;
    Ok(retain(text, &object, |item| !item.is_called(text, name)))
}

/// Makes the array at `path` hold `string`; `None` where it does already.
pub(crate) fn push(text: &str, path: &[&str], string: &str) -> Result<Option<String>, EditError> {
    let (span, missing) = walk(text, path)?;
    let json = Json::Value(string.into());
    if !missing.is_empty() {
        return put(text, path, Json::Array(vec![json])).map(Some);
    }
    let array = array(text, &span, path)?;
    if array.items.iter().any(|item| item.is_string(text, string)) {
        return Ok(None);
    }
    Ok(Some(insert(text, &array, |writer, indent| json.write(writer, indent))))
}

/// Removes `string` from the array at `path`, if it is there.
pub(crate) fn without(
    text: &str,
    path: &[&str],
    string: &str,
) -> Result<Option<String>, EditError> {
    let (span, missing) = walk(text, path)?;
    if !missing.is_empty() {
        return Ok(None);
    }
    let array = array(text, &span, path)?;
    Ok(retain(text, &array, |item| !item.is_string(text, string)))
}

/// Whether two texts differ in nothing but the white space between their tokens.
pub(crate) fn same(a: &str, b: &str) -> bool {
    squeezed(a).eq(squeezed(b))
}

/// How far `path` leads into the text: the value there, and the missing part of `path`.
fn walk<'p, 'n>(
    text: &str,
    path: &'p [&'n str],
) -> Result<(Range<usize>, &'p [&'n str]), EditError> {
    let mut span = root(text)?;
    let mut rest = path;
    let mut parent = ROOT;
    while let [name, deeper @ ..] = rest {
        let object = object(text, &span, parent)?;
        let Some(item) =
            object.position(text, name).and_then(|position| object.items.get(position))
        else {
            break;
        };
        span = item.value.clone();
        parent = name;
        rest = deeper;
    }
    Ok((span, rest))
}

fn parent_name<'n>(path: &[&'n str], missing: &[&str]) -> &'n str {
    let present = path.len().saturating_sub(missing.len());
    present.checked_sub(1).and_then(|last| path.get(last)).copied().unwrap_or(ROOT)
}

fn object(text: &str, span: &Range<usize>, name: &str) -> Result<Container, EditError> {
    match container(text, span.start)? {
        Some(object) if text.as_bytes().get(span.start) == Some(&b'{') => Ok(object),
        _ => Err(EditError::NotAnObject { at: span.start, name: name.to_owned() }),
    }
}

fn array(text: &str, span: &Range<usize>, path: &[&str]) -> Result<Container, EditError> {
    match container(text, span.start)? {
        Some(array) if text.as_bytes().get(span.start) == Some(&b'[') => Ok(array),
        _ => Err(EditError::NotAnArray {
            at: span.start,
            name: path.last().copied().unwrap_or(ROOT).to_owned(),
        }),
    }
}

/// Adds one item, which `write` writes, behind the last one of `container`.
fn insert(text: &str, container: &Container, write: impl FnOnce(&mut Writer<'_>, &str)) -> String {
    let mut writer = Writer::new(Style::inside(text, &container.span));
    let (Some(first), Some(last)) = (container.items.first(), container.items.last()) else {
        let outer = line_indent(text, container.span.start);
        let indent = writer.deeper(outer);
        writer.line(&indent);
        write(&mut writer, &indent);
        writer.line(outer);
        return splice(text, container.inside(), &writer.out);
    };
    let indent = line_indent(text, first.start());
    writer.comma(indent);
    write(&mut writer, indent);
    splice(text, last.value.end..last.value.end, &writer.out)
}

/// Only those items that are to be kept, or `None` where that is all of them.
fn retain(text: &str, container: &Container, keep: impl Fn(&Item) -> bool) -> Option<String> {
    let mut new = String::new();
    let mut kept = 0;
    let mut previous = container.inside().start;
    for item in &container.items {
        // Each item brings the comma before it, and the first to stay the white space of the first.
        let separator = previous..item.start();
        previous = item.value.end;
        if keep(item) {
            let first = container.items.first().filter(|_| kept == 0);
            let separator =
                first.map_or(separator, |first| container.inside().start..first.start());
            new.extend(
                [text.get(separator), text.get(item.start()..item.value.end)].into_iter().flatten(),
            );
            kept += 1;
        }
    }
    if kept > 0 {
        new.push_str(text.get(previous..container.inside().end).unwrap_or_default());
    }
    (kept < container.items.len()).then(|| splice(text, container.inside(), &new))
}

fn splice(text: &str, span: Range<usize>, new: &str) -> String {
    let mut spliced = text.to_owned();
    spliced.replace_range(span, new);
    spliced
}

/// The white space with which the line of `at` begins.
fn line_indent(text: &str, at: usize) -> &str {
    let start =
        text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1);
    let line = text.get(start..at).unwrap_or_default();
    line.get(..line.len() - line.trim_start_matches([' ', '\t']).len()).unwrap_or_default()
}

/// How a text is laid out.
struct Style<'t> {
    /// What ends a line; `None` where everything stands on one.
    eol: Option<&'static str>,
    /// By how much an inner line is indented more than an outer one.
    unit: Cow<'t, str>,
    /// Whether a space follows a colon, and a comma within a line.
    spaced: bool,
}

impl Default for Style<'_> {
    fn default() -> Self {
        Self { eol: Some("\n"), unit: Cow::Borrowed("  "), spaced: true }
    }
}

impl<'t> Style<'t> {
    /// How things are laid out inside the container at `span`, or around it where it is empty.
    fn inside(text: &'t str, span: &Range<usize>) -> Self {
        let nearest = [span.start, root(text).map_or(0, |root| root.start)].into_iter();
        let mut filled = nearest.filter_map(|start| container(text, start).ok().flatten());
        let Some(example) = filled.find(|container| !container.items.is_empty()) else {
            let eol = if text.contains("\r\n") { "\r\n" } else { "\n" };
            return Self { eol: Some(eol), ..Self::default() };
        };
        let first = example.items.first().map_or(example.span.start, Item::start);
        let gap = text.get(example.span.start + 1..first).unwrap_or_default();
        let outer = line_indent(text, example.span.start);
        let inner = line_indent(text, first);
        Self {
            eol: gap.contains('\n').then_some(if gap.contains("\r\n") { "\r\n" } else { "\n" }),
            unit: inner
                .strip_prefix(outer)
                .filter(|unit| !unit.is_empty())
                .map_or(Cow::Borrowed("  "), Cow::Borrowed),
            spaced: gap.contains('\n') || spaced(text, &example),
        }
    }
}

/// New text, and how it is laid out.
struct Writer<'t> {
    style: Style<'t>,
    out: String,
}

impl<'t> Writer<'t> {
    fn new(style: Style<'t>) -> Self {
        Self { style, out: String::new() }
    }

    fn deeper(&self, indent: &str) -> String {
        format!("{indent}{}", self.style.unit)
    }

    fn line(&mut self, indent: &str) {
        if let Some(eol) = self.style.eol {
            self.out.extend([eol, indent]);
        }
    }

    fn comma(&mut self, indent: &str) {
        self.out.push(',');
        if self.style.eol.is_none() && self.style.spaced {
            self.out.push(' ');
        }
        self.line(indent);
    }

    fn key(&mut self, key: &str) {
        self.out.push_str(&Value::from(key).to_string());
        self.out.push_str(if self.style.spaced { ": " } else { ":" });
    }

    fn sequence<T>(
        &mut self,
        indent: &str,
        [open, close]: [char; 2],
        items: &[T],
        mut write: impl FnMut(&mut Self, &str, &T),
    ) {
        self.out.push(open);
        let inner = self.deeper(indent);
        for (position, item) in items.iter().enumerate() {
            if position == 0 {
                self.line(&inner);
            } else {
                self.comma(&inner);
            }
            write(self, &inner, item);
        }
        if !items.is_empty() {
            self.line(indent);
        }
        self.out.push(close);
    }
}

/// Whether a colon or a comma in this container is followed by a space.
fn spaced(text: &str, container: &Container) -> bool {
    let first = container.items.first();
    let colon = first.and_then(|item| text.get(item.key.as_ref()?.end..item.value.start));
    let comma = || text.get(first?.value.end..container.items.get(1)?.start());
    colon.or_else(comma).is_some_and(|gap| gap.ends_with(' '))
}

/// The bytes of a valid text without the white space between its tokens.
fn squeezed(text: &str) -> impl Iterator<Item = u8> + '_ {
    let mut in_string = false;
    let mut escaped = false;
    text.bytes().filter(move |byte| {
        let blank = !in_string && byte.is_ascii_whitespace();
        in_string ^= *byte == b'"' && !escaped;
        escaped = in_string && *byte == b'\\' && !escaped;
        !blank
    })
}

/// What the outermost value is called in an error.
const ROOT: &str = "the outermost value";

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn entry() -> Json {
        Json::Object(vec![
            ("b".to_owned(), json!(["x"]).into()),
            ("a".to_owned(), json!({}).into()),
        ])
    }

    fn check(text: &str, expected: Expect) {
        let edited = put(text, &["s", "n"], entry()).unwrap();
        expected.assert_eq(&edited);
        root(&edited).unwrap();
    }

    #[test]
    fn new_text_follows_the_indentation_around_it() {
        check(
            "{\n    \"z\": 1\n}\n",
            expect![[r#"
                {
                    "z": 1,
                    "s": {
                        "n": {
                            "b": [
                                "x"
                            ],
                            "a": {}
                        }
                    }
                }
            "#]],
        );
        check(
            "{\n\t\"s\": {},\n\t\"z\": [1,2]\n}",
            expect![[r#"
                {
                	"s": {
                		"n": {
                			"b": [
                				"x"
                			],
                			"a": {}
                		}
                	},
                	"z": [1,2]
                }"#]],
        );
        check(
            r#"{"s":{"m":{}},"z":1}"#,
            expect![[r#"{"s":{"m":{},"n":{"b":["x"],"a":{}}},"z":1}"#]],
        );
        check(
            r#"{ "s": {"m": 1}, "z": 1 }"#,
            expect![[r#"{ "s": {"m": 1, "n": {"b": ["x"], "a": {}}}, "z": 1 }"#]],
        );
        check(
            "{} ",
            expect![[r#"
                {
                  "s": {
                    "n": {
                      "b": [
                        "x"
                      ],
                      "a": {}
                    }
                  }
                } "#]],
        );
    }

    #[test]
    fn line_ends_are_those_of_the_file() {
        let edited = put("{\r\n  \"z\": 1\r\n}\r\n", &["s"], entry()).unwrap();
        assert_eq!(edited.matches("\r\n").count(), edited.matches('\n').count(), "{edited:?}");
    }

    #[test]
    fn a_value_is_replaced_where_it_stands() {
        let edited = put(r#"{"s": {"n": [1], "m": 2}}"#, &["s", "n"], json!("new").into()).unwrap();
        assert_eq!(edited, r#"{"s": {"n": "new", "m": 2}}"#);
    }

    #[test]
    fn something_else_in_the_way_is_named_and_kept() {
        let wrong = put(r#"{"s": [1]}"#, &["s", "n"], entry()).unwrap_err();
        assert_eq!((wrong.at(), wrong.to_string().as_str()), (6, "`s` is not an object"));
        let wrong = put("[]", &["s", "n"], entry()).unwrap_err();
        assert_eq!(wrong.to_string(), "`the outermost value` is not an object");
        let wrong = push(r#"{"s": {}}"#, &["s"], "x").unwrap_err();
        assert_eq!((wrong.at(), wrong.to_string().as_str()), (6, "`s` is not an array"));
    }

    #[test]
    fn a_string_is_in_a_list_once() {
        let once = push("{}", &["p", "allow"], "x").unwrap().unwrap();
        assert_eq!(push(&once, &["p", "allow"], "x").unwrap(), None);
        let twice = push(&once, &["p", "allow"], "y").unwrap().unwrap();
        expect![[r#"
            {
              "p": {
                "allow": [
                  "x",
                  "y"
                ]
              }
            }"#]]
        .assert_eq(&twice);
        assert_eq!(without(&twice, &["p", "allow"], "y").unwrap().unwrap(), once);
        assert_eq!(without(&twice, &["p", "allow"], "z").unwrap(), None);
        assert_eq!(without(r#"["x", "y","x"]"#, &[], "x").unwrap().unwrap(), r#"["y"]"#);
    }

    #[test]
    fn white_space_inside_strings_tells_texts_apart() {
        assert!(same("{ \"a\\\"  b\": 1 }\n", "{\"a\\\"  b\":1}"));
        assert!(!same(r#"{"a  b": 1}"#, r#"{"a b": 1}"#));
    }

    #[test]
    fn the_first_the_middle_and_the_last_member_can_be_taken_out() {
        let text = "{\n  \"a\": 1,\n  \"b\": 2,\n  \"c\": 3\n}";
        let cut = |name| remove(text, &[name]).unwrap().unwrap();
        assert_eq!(cut("a"), "{\n  \"b\": 2,\n  \"c\": 3\n}");
        assert_eq!(cut("b"), "{\n  \"a\": 1,\n  \"c\": 3\n}");
        assert_eq!(cut("c"), "{\n  \"a\": 1,\n  \"b\": 2\n}");
        assert_eq!(remove(r#"{ "a": 1 }"#, &["a"]).unwrap().unwrap(), "{}");
        assert_eq!(remove(text, &["d"]).unwrap(), None);
        assert_eq!(remove(text, &["d", "e"]).unwrap(), None);
    }

    proptest! {
        #[test]
        fn what_was_put_in_is_there_and_nothing_else_changes(
            value in super::super::tests::json(),
            pretty in any::<bool>(),
            name in "[a-e]{1,2}",
        ) {
            let text = if pretty { format!("{value:#}\n") } else { value.to_string() };
            let path = ["new", name.as_str()];
            let Ok(edited) = put(&text, &path, entry()) else {
                prop_assert!(!value.is_object());
                return Ok(());
            };
            let mut expected = value.clone();
            expected["new"] = json!({ name.as_str(): {"a": {}, "b": ["x"]} });
            prop_assert_eq!(serde_json::from_str::<Value>(&edited).unwrap(), expected);
            prop_assert_eq!(put(&edited, &path, entry()).unwrap(), edited.clone(), "a second time changes nothing");
            let restored = remove(&edited, &["new"]).unwrap().unwrap();
            if value.as_object().is_some_and(|members| !members.is_empty()) {
                prop_assert_eq!(restored, text, "taking it out restores every byte");
            } else {
                prop_assert!(same(&restored, &text));
            }
        }
    }

    #[test]
    fn no_bytes_can_make_an_edit_panic() {
        bolero::check!().for_each(|bytes: &[u8]| {
            let Ok(text) = std::str::from_utf8(bytes) else { return };
            if let Ok(edited) = put(text, &["s", "n"], entry()) {
                root(&edited).unwrap();
                root(&remove(&edited, &["s", "n"]).unwrap().unwrap()).unwrap();
            }
            if let Ok(Some(edited)) = push(text, &["s"], "x") {
                root(&without(&edited, &["s"], "x").unwrap().unwrap()).unwrap();
            }
        });
    }
}
