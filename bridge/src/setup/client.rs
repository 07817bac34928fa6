//! What a client is to `farwire setup`: its documents, and how it starts an entry.

use std::path::Path;

use serde_json::Value;

use super::arguments::Scope;
use super::context::Context;
use super::entry::Job;
use super::json::edit::EditError;
use super::verify::{Launch, Problem};

/// A program that can be told to start our MCP server.
pub(super) trait Client: Sync {
    /// Its name on the command line, and in `mcp serve --client`.
    fn name(&self) -> &'static str;

    /// The documents that tell it so, the one with the entry first.
    fn documents<'a>(&self, job: &'a Job<'a>) -> Vec<Box<dyn Document + 'a>>;

    /// What a person must do for it to notice.
    fn next(&self, scope: Scope) -> &'static str;

    /// How it would start this entry.
    fn launch(&self, entry: &Value, context: &Context) -> Result<Launch, Problem>;
}

/// One configuration file, as a text that has something of ours in it or not.
///
/// None of these reads or writes a file. An empty text stands for a file that is not there.
pub(super) trait Document {
    /// Where the client looks for it.
    fn path(&self) -> &Path;

    /// What stands in the entry's place, in the document that holds the entry.
    fn existing_entry(&self, _text: &str) -> Result<ExistingEntry, Fault> {
        Ok(ExistingEntry::Absent)
    }

    /// The text with everything of ours in it; the same text where nothing is missing.
    fn install(&self, text: &str) -> Result<String, Fault>;

    /// The text without anything of ours; the same text where there is nothing.
    fn remove(&self, text: &str) -> Result<String, Fault>;

    /// The text without what we leave empty or may have found empty, to be compared only.
    fn tidy(&self, text: &str) -> Result<String, Fault>;

    /// Whether two texts mean the same and differ in white space at most.
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

/// What stands where our entry belongs.
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
