//! Which tools one process offers: decided by words at its start, and never changed after that.
//!
//! ```text
//!     --scope core          the tools that clients list
//!     --catalog pty.*       what tool_find finds and tool_call calls, beyond those
//! ```
//!
//! A tool that is in neither does not exist: it is not listed, not found, and calling it is calling
//! an unknown tool. A scope is a list of words: a category (`core`), all of its tools (`pty.*`),
//! one tool (`pty.pty_read`), everything (`*`), or a [`Profile`]. Tools of a [`Group`] are in a
//! scope only if the group was enabled.

use farwire_protocol::failure::{Failure, Kind};

use super::catalogue::{CATALOGUE, Category};
use super::offer::{FIND, LEADERS, Offer};
use super::tool::{Entry, Group};
use crate::text::neutral::neutral_within;

/// The tools that are listed by default.
pub const SCOPE: &str = "core";

/// The tools that can be found by default.
pub const CATALOG: &str = "files.*,pty.*,session.*";

/// A scope with a name.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// Its name.
    pub name: &'static str,
    /// For whom it is.
    pub about: &'static str,
    /// What it stands for.
    pub scope: &'static str,
    /// It has no tool that changes anything.
    pub reads: bool,
}

/// All profiles.
pub const PROFILES: &[Profile] = &[
    Profile {
        name: "reporting",
        about: "Sees everything and changes nothing.",
        scope: "core.servers,core.status,core.output,pty.pty_list,pty.pty_status,pty.pty_wait,pty.pty_read_at,\
            pty.pty_resume,session.session_list,session.session_watch,session.session_history,\
            session.session_diagnostics,session.session_commands,session.session_command_status,session.job_wait",
        reads: true,
    },
    Profile {
        name: "terminals",
        about: "Terminals by the `pty_` names, for clients that were written for another terminal server.",
        scope: "core.servers,pty.*",
        reads: false,
    },
    Profile {
        name: "operator",
        about: "The everyday tools, and terminals that are shared with people.",
        scope: "core,session.*",
        reads: false,
    },
    Profile {
        name: "full",
        about: "Every tool; of the optional groups, those that are enabled.",
        scope: "*",
        reads: false,
    },
];

/// What was asked for at the start.
#[derive(Clone, Copy, Debug)]
pub struct Selection<'a> {
    /// The tools that clients list.
    pub scope: &'a str,
    /// What can be found besides.
    pub catalog: &'a str,
    /// The groups that are enabled.
    pub groups: &'a [Group],
    /// Only tools that change nothing.
    pub read_only: bool,
}

impl Default for Selection<'_> {
    fn default() -> Self {
        Self { scope: SCOPE, catalog: CATALOG, groups: &[], read_only: false }
    }
}

/// Reads the words of a scope and of a catalogue.
///
/// # Errors
///
/// `invalid_argument` for words that mean nothing.
pub fn offer(asked: Selection<'_>) -> Result<Offer, Failure> {
    let mut listed = tools(asked.scope, asked.groups)?;
    let mut findable = tools(asked.catalog, asked.groups)?;
    if asked.read_only {
        listed.retain(|entry| entry.effect.read_only && entry.name != FIND);
        findable.clear();
    }
    // A client without `tool_find` can find nothing, and one without `tool_call` can only look.
    if !LEADERS.iter().all(|name| listed.iter().any(|entry| entry.name == *name)) {
        findable.clear();
    }
    findable.retain(|entry| listed.iter().all(|other| other.name != entry.name));
    let scope = if asked.read_only { "read-only " } else { "" }.to_owned() + asked.scope;
    Ok(Offer { scope, listed, findable, groups: asked.groups.to_vec() })
}

/// The tools that a list of words means, in the order of the catalogue.
fn tools(scope: &str, groups: &[Group]) -> Result<Vec<Entry>, Failure> {
    let mut words = Vec::new();
    for word in scope.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match PROFILES.iter().find(|profile| profile.name == word) {
            Some(profile) => words.extend(profile.scope.split(',')),
            None => words.push(word),
        }
    }
    if words.is_empty() {
        return Err(
            Failure::new(Kind::InvalidArgument, "the scope names no tool").with_hint(scope_hint())
        );
    }
    let enabled = |entry: &Entry| entry.group.is_none_or(|group| groups.contains(&group));
    for word in &words {
        check(word, &enabled)?;
    }
    let wanted = |category: &Category, entry: &Entry| {
        words.iter().any(|word| match word.split_once('.') {
            None => *word == "*" || *word == category.name,
            Some((name, tool)) => name == category.name && (tool == "*" || tool == entry.name),
        })
    };
    let all = CATALOGUE.iter().flat_map(|category| {
        category.tools.iter().filter(move |entry| wanted(category, entry) && enabled(entry))
    });
    Ok(all.copied().collect())
}

/// Checks that a word means something: a misspelt word must not silently remove tools.
fn check(word: &str, enabled: &impl Fn(&Entry) -> bool) -> Result<(), Failure> {
    let wrong = |what: String| Failure::new(Kind::InvalidArgument, what).with_hint(scope_hint());
    let shown = neutral_within(word, 60);
    let (name, tool) = word.split_once('.').unwrap_or((word, "*"));
    if name == "*" && tool == "*" {
        return Ok(());
    }
    let category = CATALOGUE.iter().find(|category| category.name == name);
    let category = category
        .ok_or_else(|| wrong(format!("scope: there is no category, tool or profile `{shown}`")))?;
    if tool == "*" {
        return Ok(());
    }
    let entry = category.tools.iter().find(|entry| entry.name == tool);
    let entry = entry.ok_or_else(|| wrong(format!("scope: there is no tool `{shown}`")))?;
    match entry.group {
        Some(group) if !enabled(entry) => Err(wrong(format!("scope: `{tool}` is optional"))
            .with_hint(format!("add --enable {}", group.name()))),
        _ => Ok(()),
    }
}

fn scope_hint() -> String {
    let categories = CATALOGUE.iter().map(|category| category.name);
    let profiles = PROFILES.iter().map(|profile| profile.name);
    let words: Vec<_> = categories.chain(profiles).collect();
    format!("use {}, CATEGORY.* or CATEGORY.TOOL, or * for all", words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(scope: &str, groups: &[Group]) -> Vec<&'static str> {
        tools(scope, groups).unwrap().iter().map(|entry| entry.name).collect()
    }

    #[test]
    fn names_are_unique_and_begin_with_their_category() {
        let mut seen = std::collections::HashSet::new();
        for category in CATALOGUE {
            for entry in category.tools {
                assert!(seen.insert(entry.name), "{} twice", entry.name);
                assert!(
                    entry.name.len() <= 48 && PROFILES.iter().all(|one| one.name != entry.name)
                );
            }
        }
    }

    #[test]
    fn words_mean_categories_tools_profiles_and_everything() {
        assert_eq!(names("core.run, core.stop", &[]), ["run", "stop"]);
        assert_eq!(names("core", &[]), names("core.*", &[]));
        let all = names("*", &[]);
        assert_eq!(all, names("full", &[]));
        assert!(all.len() > names("core", &[]).len() + 10);
        for wrong in ["", ",", "nope", "core.nope", "pty.run", "*.run"] {
            let failure = tools(wrong, &[]).unwrap_err();
            assert_eq!(failure.kind, Kind::InvalidArgument, "{wrong}");
            assert!(failure.hint().contains("core"), "{wrong}");
        }
    }

    #[test]
    fn optional_groups_are_in_no_scope_unless_they_are_enabled() {
        let optional = ["pty_signal", "pty_close_all", "set_limits", "pty_health"];
        for name in optional {
            assert!(!names("*", &[]).contains(&name) && !names("pty.*", &[]).contains(&name));
            assert!(names("*", Group::ALL).contains(&name));
            let failure = tools(&format!("pty.{name}"), &[]).unwrap_err();
            assert!(failure.hint().starts_with("add --enable "), "{failure:?}");
        }
        assert!(names("pty.*", &[Group::Control]).contains(&"pty_signal"));
        assert!(!names("pty.*", &[Group::Control]).contains(&"set_limits"));
    }

    #[test]
    fn a_profile_that_only_reads_has_no_tool_that_does_more() {
        for profile in PROFILES {
            let tools = tools(profile.name, Group::ALL).unwrap();
            assert!(!tools.is_empty());
            assert_eq!(
                tools.iter().all(|entry| entry.effect.read_only),
                profile.reads,
                "{}",
                profile.name
            );
        }
    }

    #[test]
    fn what_is_in_neither_scope_nor_catalogue_does_not_exist() {
        let of = |asked| offer(asked).unwrap();
        let offer = of(Selection::default());
        assert!(offer.tool("run").is_some() && offer.tool("pty_read").is_none());
        assert!(offer.reachable("pty_read").is_some() && offer.reachable("run").is_some());
        assert!(offer.reachable("pty_signal").is_none() && offer.reachable("tool_call").is_none());
        let offer = of(Selection { catalog: "pty.pty_list", ..Selection::default() });
        assert_eq!(offer.findable().len(), 1);
        assert!(offer.reachable("pty_read").is_none());
        let offer = of(Selection { scope: "core.run", ..Selection::default() });
        assert!(offer.findable().is_empty() && offer.reachable("pty_read").is_none());
    }

    #[test]
    fn read_only_leaves_nothing_that_changes_something() {
        let asked =
            Selection { scope: "*", groups: Group::ALL, read_only: true, ..Selection::default() };
        let offer = offer(asked).unwrap();
        assert!(offer.list().iter().all(|entry| entry.effect.read_only));
        assert!(offer.tool("run").is_none() && offer.tool("pty_read_at").is_some());
        assert!(offer.findable().is_empty() && offer.reachable("run").is_none());
    }
}
