//! An entry in a JSON file: the member `NAME` of an object like `mcpServers`.
//!
//! Most clients keep their servers like this; they differ in the file, the object's name and the
//! fields.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::client::{Document, ExistingEntry, Fault};
use super::entry::{Field, Job};
use super::json::edit::{self, EditError, Json};

/// Where the entry stands, and what is in it.
#[derive(Debug)]
pub(crate) struct JsonEntry<'a> {
    /// The job that was asked for.
    pub(crate) job: &'a Job<'a>,
    /// The file.
    pub(crate) path: PathBuf,
    /// The object that holds the entries of all servers.
    pub(crate) servers: &'static str,
    /// What the entry holds.
    pub(crate) fields: Vec<Field>,
}

impl JsonEntry<'_> {
    fn keys(&self) -> [&str; 2] {
        [self.servers, &self.job.args.name]
    }

    fn fresh(&self) -> Json {
        let members =
            self.fields.iter().map(|field| (field.key.to_owned(), field.rule.fresh().into()));
        Json::Object(members.collect())
    }
}

impl Document for JsonEntry<'_> {
    fn path(&self) -> &Path {
        &self.path
    }

    fn existing_entry(&self, text: &str) -> Result<ExistingEntry, Fault> {
        let Some(entry) = edit::find(or_object(text), &self.keys())? else {
            return Ok(ExistingEntry::Absent);
        };
        let entry = parsed(entry);
        Ok(if self.job.owns(&entry) {
            ExistingEntry::Ours(entry)
        } else {
            ExistingEntry::Foreign(entry)
        })
    }

    fn install(&self, text: &str) -> Result<String, Fault> {
        if text.trim().is_empty() {
            return Ok(self.fresh().under(&self.keys()).document());
        }
        let ExistingEntry::Ours(entry) = self.existing_entry(text)? else {
            return Ok(edit::put(text, &self.keys(), self.fresh())?);
        };
        let [servers, name] = self.keys();
        let mut text = text.to_owned();
        for field in &self.fields {
            if let Some(new) = field.rule.repair(entry.get(field.key)) {
                text = edit::put(&text, &[servers, name, field.key], new.into())?;
            }
        }
        Ok(text)
    }

    fn remove(&self, text: &str) -> Result<String, Fault> {
        match edit::remove(or_object(text), &self.keys())? {
            Some(text) => self.tidy(&text),
            None => Ok(text.to_owned()),
        }
    }

    fn tidy(&self, text: &str) -> Result<String, Fault> {
        Ok(without_empty(or_object(text), &[self.servers])?)
    }

    fn same(&self, one: &str, other: &str) -> bool {
        edit::same(or_object(one), or_object(other))
    }

    fn blank(&self, text: &str) -> bool {
        edit::same(or_object(text), "{}")
    }
}

/// An empty file stands for an empty object.
pub(crate) fn or_object(text: &str) -> &str {
    if text.trim().is_empty() { "{}" } else { text }
}

/// `text` without the object or array at `path`, where that is empty.
pub(crate) fn without_empty(text: &str, path: &[&str]) -> Result<String, EditError> {
    let empty =
        edit::find(text, path)?.is_some_and(|raw| edit::same(raw, "{}") || edit::same(raw, "[]"));
    let removed = if empty { edit::remove(text, path)? } else { None };
    Ok(removed.unwrap_or_else(|| text.to_owned()))
}

/// Parses a scanned value. A value that the parser still refuses (such as a huge number) is
/// ignored.
fn parsed(raw: &str) -> Value {
    serde_json::from_str(raw).unwrap_or(Value::Null)
}
