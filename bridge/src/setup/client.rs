//! A client, for `farwire setup`: its documents, and how it starts an entry.

use std::path::Path;

use serde_json::Value;

use super::arguments::Scope;
use super::context::Context;
use super::entry::Job;
use super::json::edit::EditError;
use super::verify::{Launch, Problem};

/// A program that can be configured to start our MCP server.
pub(super) trait Client: Sync {
    /// Its name on the command line, and in `mcp serve --client`.
    fn name(&self) -> &'static str;

    /// The documents that configure it, the one with the entry first.
    fn documents<'a>(&self, job: &'a Job<'a>) -> Vec<Box<dyn Document + 'a>>;

    /// What a person must do for the change to take effect.
    fn next(&self, scope: Scope) -> &'static str;

    /// How it would start this entry.
    fn launch(&self, entry: &Value, context: &Context) -> Result<Launch, Problem>;
}

/// One configuration file, as a text that may have something of ours in it.
///
/// None of these reads or writes a file. An empty text stands for a missing file.
pub(super) trait Document {
    /// Where the client looks for it.
    fn path(&self) -> &Path;

    /// Returns what is in the entry's place, in the document that holds the entry.
    fn existing_entry(&self, _text: &str) -> Result<ExistingEntry, Fault> {
        Ok(ExistingEntry::Absent)
    }

    /// The text with everything of ours in it; unchanged if nothing is missing.
    fn install(&self, text: &str) -> Result<String, Fault>;

    /// The text without anything of ours; unchanged if there is nothing.
    fn remove(&self, text: &str) -> Result<String, Fault>;

    /// The text without containers that we may have left or found empty, for comparison only.
    fn tidy(&self, text: &str) -> Result<String, Fault>;

    /// Whether two texts are equal except for white space.
    fn same(&self, one: &str, other: &str) -> bool;

    /// Whether nothing is left in the text that anybody could miss.
    fn blank(&self, text: &str) -> bool;

    /// How many bytes the file may have. Claude Code's state has been seen at 5 MB.
    fn limit(&self) -> u64 {
        64 << 20
    }

    /// What it holds, in a few words.
    fn what(&self) -> String {
        "the entry".to_owned()
    }
}

/// What is in the place of our entry.
pub(super) enum ExistingEntry {
    Absent,
    Ours(Value),
    Foreign(Value),
}

/// Why a text cannot be edited, and where in it that is.
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) message: String,
}

impl From<EditError> for Fault {
    fn from(error: EditError) -> Self {
        Self { at: error.at(), message: error.to_string() }
    }
}
