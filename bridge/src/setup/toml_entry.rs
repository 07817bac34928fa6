//! An entry in a TOML file: the table `mcp_servers.NAME`.
//!
//! A new entry is appended to the file, and a removed entry is cut out in whole lines, so that
//! nothing else can move. Only a repair inside an entry, and a file whose `mcp_servers` is an
//! inline table, go through `toml_edit`; [`keep_lines`] then puts back every line that did not
//! change, whatever its line end was.

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use toml_edit::{Array, DocumentMut, InlineTable, Item, Key, Table, TableLike, TomlError};

use super::client::{Document, ExistingEntry, Fault};
use super::entry::{Field, Job};

type Parsed<'t> = toml_edit::Document<&'t str>;

/// Where the entry stands, and what is in it.
#[derive(Debug)]
pub(crate) struct TomlEntry<'a> {
    /// The job that was asked for.
    pub(crate) job: &'a Job<'a>,
    /// The file.
    pub(crate) path: PathBuf,
    /// What the entry holds.
    pub(crate) fields: Vec<Field>,
    /// The tools that may be used without asking.
    pub(crate) approve: Vec<&'static str>,
}

impl Document for TomlEntry<'_> {
    fn path(&self) -> &Path {
        &self.path
    }

    fn existing_entry(&self, text: &str) -> Result<ExistingEntry, Fault> {
        let document = Parsed::parse(text)?;
        let Some(servers) = servers(&document)? else { return Ok(ExistingEntry::Absent) };
        let Some(entry) = servers.get(self.name()) else { return Ok(ExistingEntry::Absent) };
        let entry = to_json(entry);
        Ok(if self.job.owns(&entry) {
            ExistingEntry::Ours(entry)
        } else {
            ExistingEntry::Foreign(entry)
        })
    }

    fn install(&self, text: &str) -> Result<String, Fault> {
        match self.existing_entry(text)? {
            ExistingEntry::Ours(entry) => self.repair(text, &entry),
            ExistingEntry::Absent => self.add(text),
            ExistingEntry::Foreign(_) => self.add(&self.remove(text)?),
        }
    }

    fn remove(&self, text: &str) -> Result<String, Fault> {
        let document = Parsed::parse(text)?;
        match servers(&document)? {
            Some(servers) if servers.contains_key(self.name()) => {}
            _ => return Ok(text.to_owned()),
        }
        if let Some(Item::Table(servers)) = document.get(SERVERS) {
            return Ok(without_lines(text, regions(servers, self.name())));
        }
        let mut document: DocumentMut = unix(text).parse()?;
        if let Some(servers) = document.get_mut(SERVERS).and_then(Item::as_table_like_mut) {
            servers.remove(self.name());
        }
        Ok(keep_lines(text, &document.to_string()))
    }

    fn tidy(&self, text: &str) -> Result<String, Fault> {
        Ok(text.to_owned())
    }

    fn same(&self, one: &str, other: &str) -> bool {
        one.trim_end() == other.trim_end()
    }

    fn blank(&self, text: &str) -> bool {
        text.trim().is_empty()
    }

    /// A parsed document takes a hundred times the memory of its text.
    fn limit(&self) -> u64 {
        2 << 20
    }
}

impl TomlEntry<'_> {
    fn name(&self) -> &str {
        &self.job.args.name
    }

    /// A new entry.
    fn snippet(&self) -> String {
        let mut text = format!("[{SERVERS}.{}]\n", self.name());
        for field in &self.fields {
            text.extend([field.key, " = ", &to_toml(&field.rule.fresh()).to_string(), "\n"]);
        }
        for tool in &self.approve {
            text.extend(["\n[", SERVERS, ".", self.name(), ".tools.", tool, "]\n"]);
            text.extend([APPROVAL, " = \"approve\"\n"]);
        }
        text
    }

    /// The text with a new entry at its end, or inside `mcp_servers` if that is an inline table.
    fn add(&self, text: &str) -> Result<String, Fault> {
        if Parsed::parse(text)?.get(SERVERS).is_some_and(Item::is_value) {
            return self.repair(text, &json!({}));
        }
        let gap = match text {
            "" => "",
            text if text.ends_with('\n') => "\n",
            _ => "\n\n",
        };
        let mut new = format!("{gap}{}", self.snippet());
        if gap == "\n\n" {
            // A file without a final newline keeps none after our entry is removed.
            new.truncate(new.trim_end_matches('\n').len());
        }
        let new = if text.contains("\r\n") { new.replace('\n', "\r\n") } else { new };
        Ok(format!("{text}{new}"))
    }

    fn repair(&self, text: &str, entry: &Value) -> Result<String, Fault> {
        let mut document: DocumentMut = unix(text).parse()?;
        if self.write(&mut document, entry) {
            return Ok(keep_lines(text, &document.to_string()));
        }
        Ok(text.to_owned())
    }

    /// Writes what `old` lacks into the entry, and returns whether anything was missing.
    fn write(&self, document: &mut DocumentMut, old: &Value) -> bool {
        let entry =
            child(document.as_item_mut(), SERVERS).and_then(|servers| child(servers, self.name()));
        let Some(entry) = entry else { return false };
        let mut changed = false;
        for field in &self.fields {
            // The older spelling of the same limit, in milliseconds: a user has set one.
            if field.key == "startup_timeout_sec" && old.get("startup_timeout_ms").is_some() {
                continue;
            }
            if let Some(new) = field.rule.repair(old.get(field.key)) {
                set(entry, field.key, old.get(field.key), &new);
                changed = true;
            }
        }
        for tool in &self.approve {
            let approval = old.pointer(&format!("/tools/{tool}/{APPROVAL}"));
            if approval != Some(&json!("approve"))
                && let Some(tool) = child(entry, "tools").and_then(|tools| child(tools, tool))
            {
                set(tool, APPROVAL, approval, &json!("approve"));
                changed = true;
            }
        }
        changed
    }
}

impl From<TomlError> for Fault {
    fn from(error: TomlError) -> Self {
        let at = error.span().map_or(0, |span| span.start);
        Self { at, message: error.message().to_owned() }
    }
}

fn servers<'d>(document: &'d Parsed<'_>) -> Result<Option<&'d dyn TableLike>, Fault> {
    let Some(item) = document.get(SERVERS) else { return Ok(None) };
    let not_a_table = || Fault {
        at: item.span().map_or(0, |span| span.start),
        message: format!("`{SERVERS}` is not a table"),
    };
    item.as_table_like().ok_or_else(not_a_table).map(Some)
}

/// The table `key` in `parent`; if it is missing, it is created in the same form as `parent`.
fn child<'i>(parent: &'i mut Item, key: &str) -> Option<&'i mut Item> {
    let inline = parent.is_inline_table();
    let table = parent.as_table_like_mut()?;
    if table.get(key).is_none_or(|item| !item.is_table_like()) {
        let mut new = Table::new();
        new.set_implicit(true);
        new.set_dotted(table.is_dotted());
        table.insert(key, if inline { InlineTable::new().into() } else { Item::Table(new) });
    }
    table.get_mut(key)
}

/// Sets `key` of `table` to `new`, and keeps what surrounds the old value.
fn set(table: &mut Item, key: &str, old: Option<&Value>, new: &Value) {
    if let Some(table) = table.as_table_mut() {
        table.set_implicit(false);
    }
    if let Some(table) = table.as_inline_table_mut() {
        // Otherwise the space before the closing brace would come before the next comma.
        table.iter_mut().for_each(|(_, value)| value.decor_mut().set_suffix(""));
    }
    let Some(table) = table.as_table_like_mut() else { return };
    let Some(Item::Value(present)) = table.get_mut(key) else {
        table.insert(key, Item::Value(to_toml(new)));
        return;
    };
    let added = added(old, new);
    if let (Some(array), Some(added)) = (present.as_array_mut(), added) {
        array.extend(added.iter().map(to_toml));
        return;
    }
    let decor = present.decor().clone();
    *present = to_toml(new);
    *present.decor_mut() = decor;
}

/// What `new` appends to `old`, if that is the only difference.
fn added<'v>(old: Option<&Value>, new: &'v Value) -> Option<&'v [Value]> {
    new.as_array()?.strip_prefix(old?.as_array()?.as_slice())
}

/// Whole lines of the file.
struct Region {
    /// A position in the first line, and one in the last.
    span: Range<usize>,
    /// Whether it is a table with its header, and not a single key.
    table: bool,
}

/// The lines of an entry: one region for each table, and for each key outside of a table.
fn regions(servers: &Table, name: &str) -> Vec<Region> {
    let mut regions = Vec::new();
    if let Some((key, item)) = servers.get_key_value(name) {
        collect(key, item, &mut regions);
    }
    regions
}

fn collect(key: &Key, item: &Item, regions: &mut Vec<Region>) {
    match item {
        Item::None => {}
        Item::Value(value) => {
            let key = key.span().unwrap_or_default();
            let end = value.span().map_or(key.end, |value| value.end);
            regions.push(Region { span: key.start..end, table: false });
        }
        Item::Table(table) => collect_table(table, regions),
        Item::ArrayOfTables(tables) => {
            tables.iter().for_each(|table| collect_table(table, regions));
        }
    }
}

fn collect_table(table: &Table, regions: &mut Vec<Region>) {
    let header = table.span().filter(|_| !table.is_dotted() && !table.is_implicit());
    let mut below = Vec::new();
    for (name, item) in table {
        let Some(key) = table.key(name) else { continue };
        let is_line = item.is_value() || item.as_table().is_some_and(Table::is_dotted);
        collect(key, item, if is_line && header.is_some() { &mut below } else { regions });
    }
    if let Some(header) = header {
        let end = below.iter().map(|region| region.span.end).max().unwrap_or(header.end);
        regions.push(Region { span: header.start..end, table: true });
    }
}

/// The text without the lines of `regions`, and without one blank line above each table.
fn without_lines(text: &str, mut regions: Vec<Region>) -> String {
    regions.sort_by_key(|region| region.span.start);
    let mut kept = String::with_capacity(text.len());
    let mut from = 0;
    for Region { span, table } in regions {
        let above = text.get(..span.start).and_then(|above| above.rfind('\n'));
        kept.push_str(text.get(from..above.map_or(0, |newline| newline + 1)).unwrap_or_default());
        if let Some(length) = without_blank_line(&kept).filter(|_| table) {
            kept.truncate(length);
        }
        let below = text.get(span.end..).and_then(|below| below.find('\n'));
        from = below.map_or(text.len(), |newline| span.end + newline + 1);
    }
    let rest = text.get(from..).unwrap_or_default();
    if rest.is_empty() && !text.ends_with('\n') {
        kept.truncate(kept.trim_end_matches(['\r', '\n']).len());
    }
    // What was below our entry is now the top of the file.
    kept.push_str(if kept.is_empty() { rest.trim_start_matches(['\r', '\n']) } else { rest });
    kept
}

/// How long the text is without the blank line at its end, if it ends with one.
fn without_blank_line(text: &str) -> Option<usize> {
    let line = text.strip_suffix('\n')?;
    let line = line.strip_suffix('\r').unwrap_or(line);
    (line.is_empty() || line.ends_with('\n')).then_some(line.len())
}

/// The text with the line ends that `toml_edit` writes.
fn unix(text: &str) -> Cow<'_, str> {
    if text.contains('\r') { Cow::Owned(text.replace("\r\n", "\n")) } else { Cow::Borrowed(text) }
}

/// `edited`, in which the first and last lines that it shares with `old` are taken from `old`.
fn keep_lines(old: &str, edited: &str) -> String {
    let eol = if old.contains("\r\n") { "\r\n" } else { "\n" };
    let bare = |line: &&str| line.trim_end_matches(['\r', '\n']).len();
    let same = |(old, new): &(&&str, &&str)| old.get(..bare(old)) == new.get(..bare(new));
    let old: Vec<&str> = old.split_inclusive('\n').collect();
    let new: Vec<&str> = edited.split_inclusive('\n').collect();
    let head = old.iter().zip(&new).take_while(same).count();
    let (old_rest, new_rest) =
        (old.get(head..).unwrap_or_default(), new.get(head..).unwrap_or_default());
    let tail = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(same).count();
    let changed = new_rest.get(..new_rest.len() - tail).unwrap_or_default();
    let mut text = String::with_capacity(edited.len());
    for line in old.get(..head).unwrap_or_default() {
        text.push_str(line);
    }
    if !changed.is_empty() && !text.is_empty() && !text.ends_with('\n') {
        text.push_str(eol);
    }
    for line in changed {
        text.push_str(line.get(..bare(line)).unwrap_or_default());
        text.push_str(eol);
    }
    for line in old_rest.get(old_rest.len() - tail..).unwrap_or_default() {
        text.push_str(line);
    }
    text
}

pub(super) fn to_json(item: &Item) -> Value {
    match item {
        Item::None => Value::Null,
        Item::Value(value) => value_to_json(value),
        Item::Table(table) => members_to_json(table),
        Item::ArrayOfTables(tables) => tables.iter().map(|table| members_to_json(table)).collect(),
    }
}

fn members_to_json(table: &dyn TableLike) -> Value {
    table.iter().map(|(key, item)| (key.to_owned(), to_json(item))).collect::<Map<_, _>>().into()
}

fn value_to_json(value: &toml_edit::Value) -> Value {
    use toml_edit::Value as Toml;
    match value {
        Toml::String(text) => json!(text.value()),
        Toml::Integer(number) => json!(number.value()),
        Toml::Float(number) => json!(number.value()),
        Toml::Boolean(flag) => json!(flag.value()),
        Toml::Datetime(time) => json!(time.value().to_string()),
        Toml::Array(items) => items.iter().map(value_to_json).collect(),
        Toml::InlineTable(table) => members_to_json(table),
    }
}

/// The values that our fields have; none of them is an object.
fn to_toml(value: &Value) -> toml_edit::Value {
    match value {
        Value::Bool(flag) => (*flag).into(),
        Value::Number(number) => number.as_i64().unwrap_or(i64::MAX).into(),
        Value::Array(items) => items.iter().map(to_toml).collect::<Array>().into(),
        Value::String(text) => text.as_str().into(),
        Value::Null | Value::Object(_) => InlineTable::new().into(),
    }
}

/// The table of all servers.
const SERVERS: &str = "mcp_servers";

const APPROVAL: &str = "approval_mode";
