//! The tools that one client is offered: those that are listed, and those that can be found
//! besides. `scope.rs` derives them from the words of a scope.

use super::tool::{Entry, Group};

/// The tool that finds others.
pub(super) const FIND: &str = "tool_find";

/// The tool that calls others.
pub(super) const CALL: &str = "tool_call";

/// The two tools that lead to others.
pub(super) const LEADERS: [&str; 2] = [FIND, CALL];

/// The tools that one client is offered.
#[derive(Clone, Debug)]
pub struct Offer {
    pub(super) scope: String,
    pub(super) listed: Vec<Entry>,
    pub(super) findable: Vec<Entry>,
    pub(super) groups: Vec<Group>,
}

impl Offer {
    /// The scope that it was made from.
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// Whether a group was enabled. A tool outside the group that has an argument for the same
    /// action checks this, too.
    pub fn enables(&self, group: Group) -> bool {
        self.groups.contains(&group)
    }

    /// The tools that clients list.
    pub fn list(&self) -> &[Entry] {
        &self.listed
    }

    /// Further tools that can be found and called.
    pub fn findable(&self) -> &[Entry] {
        &self.findable
    }

    /// A tool that is listed.
    pub fn tool(&self, name: &str) -> Option<Entry> {
        self.listed.iter().find(|entry| entry.name == name).copied()
    }

    /// A tool that `tool_call` may call: any except `tool_find` and `tool_call`.
    pub fn reachable(&self, name: &str) -> Option<Entry> {
        let mut all = self.listed.iter().chain(&self.findable);
        all.find(|entry| entry.name == name && !LEADERS.contains(&entry.name)).copied()
    }
}
