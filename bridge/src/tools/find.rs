//! `tool_find` and `tool_call`: tools that can be called but are not listed.
//!
//! Which those are is decided in `scope`.

use farwire_protocol::failure::{Failure, Kind};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::text::Word;
use crate::text::header::{Call, Header, Key};
use crate::text::neutral::neutral_within;
use crate::tools::caller::Caller;
use crate::tools::catalogue::CATALOGUE;
use crate::tools::offer;
use crate::tools::seat::Seat;
use crate::tools::tool::{Cancel, Effect, Entry, Tool};

/// At most this many tools are described in full at once.
const FULL: usize = 6;

/// The arguments of `tool_find`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolFind {
    /// Words for what you want to do, or a tool's name.
    pub query: Option<String>,
    /// Only this category: files, pty or session.
    pub category: Option<String>,
}

impl Tool for ToolFind {
    const NAME: &'static str = offer::FIND;
    const TITLE: &'static str = "Find more tools";
    const ABOUT: &'static str = "Find tools that are not listed: undo, patch, move, remove (files), leases (pty), \
        history, watch, retry, wait for jobs (session). Returns names and parameters; call them with tool_call.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let all = seat.settings.offer.findable();
        let entries: Vec<Entry> = match self.category.as_deref().map(str::trim) {
            None | Some("") => all.to_vec(),
            Some(name) => {
                let tools = CATALOGUE.iter().find(|one| one.name == name).map(|one| one.tools);
                let tools = tools.ok_or_else(|| {
                    let shown = neutral_within(name, 40);
                    Failure::new(Kind::InvalidArgument, format!("no category `{shown}`"))
                        .with_hint("leave category out, or use files, pty or session")
                })?;
                let within = |entry: &&Entry| tools.iter().any(|one| one.name == entry.name);
                all.iter().filter(within).copied().collect()
            }
        };
        let query = self.query.unwrap_or_default();
        let found = ranked(&entries, &query);
        let header =
            Header::new(Word::Tools).words(format_args!("{} of {}", found.len(), all.len()));
        if found.is_empty() {
            let call = Call::new(Self::NAME);
            return Ok(format!(
                "{}\nNothing matches. Without a query, all are listed.\n",
                header.next(&call)
            ));
        }
        let exact = found.first().filter(|entry| entry.name == query.trim());
        let full = if exact.is_some() { 1 } else { FULL.min(found.len()) };
        let brief = query.trim().is_empty();
        let mut text = String::new();
        for (at, entry) in found.iter().enumerate() {
            if brief || at >= full {
                text.extend([format!("{}: {}\n", entry.name, first_sentence(entry.about))]);
            } else {
                text.push_str(&describe(entry));
            }
            if exact.is_some() {
                break;
            }
        }
        let line = if brief {
            header.next(&Call::new(Self::NAME).with("query", "…"))
        } else if found.len() > full {
            header.field(Key::Shown, full).end()
        } else {
            header.end()
        };
        Ok(format!("{line}\n{text}"))
    }
}

/// The arguments of `tool_call`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolCall {
    /// From tool_find.
    pub name: String,
    /// The tool's own arguments.
    pub arguments: Option<Map<String, Value>>,
}

impl Tool for ToolCall {
    const NAME: &'static str = offer::CALL;
    const TITLE: &'static str = "Call a found tool";
    const ABOUT: &'static str =
        "Call a tool that tool_find has found, with its arguments. Returns that tool's result.";
    const EFFECT: Effect = Effect::ACTS;
    /// The effect is that of the called tool.
    const CANCEL: Cancel = Cancel::Notices;

    async fn call(self, seat: &Seat, caller: &Caller) -> Result<String, Failure> {
        let name = self.name.trim();
        let entry = seat.settings.offer.reachable(name).ok_or_else(|| {
            let shown = neutral_within(name, 60);
            Failure::new(Kind::InvalidArgument, format!("unknown tool: {shown}"))
                .with_hint("tool_find lists the tools")
        })?;
        let arguments = Value::Object(self.arguments.unwrap_or_default());
        entry.call(arguments, seat, caller)?.await
    }
}

/// A tool with its parameters, as it can be called.
fn describe(entry: &Entry) -> String {
    let schema = entry.schema();
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .map(|all| all.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let mut text = format!("{}: {}\n", entry.name, entry.about);
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        let kind = property.get("type").and_then(Value::as_str).unwrap_or("string");
        let about = property.get("description").and_then(Value::as_str).unwrap_or_default();
        let must = if required.contains(&name.as_str()) { ", required" } else { "" };
        text.extend([format!("  {name} ({kind}{must}): {about}\n")]);
    }
    text
}

fn first_sentence(text: &str) -> &str {
    text.split_inclusive(". ").next().unwrap_or(text).trim_end()
}

/// The tools that fit the words, the best first; all of them where there are no words.
fn ranked(entries: &[Entry], query: &str) -> Vec<Entry> {
    let query = query.to_lowercase();
    let words: Vec<&str> =
        query.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
    if words.is_empty() {
        return entries.to_vec();
    }
    let mut scored: Vec<(u32, Entry)> =
        entries.iter().map(|entry| (score(entry, query.trim(), &words), *entry)).collect();
    scored.retain(|(score, _)| *score > 0);
    // A stable sort: equal matches stay in the order of the catalogue.
    scored.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    scored.into_iter().map(|(_, entry)| entry).collect()
}

/// How well a tool fits: by its name first, then by what it is for, then by its parameters.
fn score(entry: &Entry, query: &str, words: &[&str]) -> u32 {
    if entry.name == query {
        return u32::MAX;
    }
    let about = format!("{} {}", entry.title, entry.about).to_lowercase();
    let (mut names, mut texts) = (String::new(), String::new());
    let schema = entry.schema();
    for (name, property) in
        schema.get("properties").and_then(Value::as_object).into_iter().flatten()
    {
        names = format!("{names} {name}");
        let about = property.get("description").and_then(Value::as_str).unwrap_or_default();
        texts = format!("{texts} {}", about.to_lowercase());
    }
    let whole = |text: &str, word: &str| {
        text.split(|c: char| !c.is_alphanumeric()).any(|other| other == word)
    };
    let one = |word: &&str| {
        // "reads", "waiting": a common prefix is enough for a match, and counts less.
        let stem = word.get(..4).unwrap_or(word);
        let mut score = 0;
        score += if whole(entry.name, word) {
            12
        } else if entry.name.contains(stem) {
            5
        } else {
            0
        };
        score += if whole(&about, word) {
            6
        } else if about.contains(stem) {
            2
        } else {
            0
        };
        score += if whole(&names, word) { 3 } else { 0 };
        score += if whole(&texts, word) { 1 } else { 0 };
        score
    };
    let scores: Vec<u32> = words.iter().map(one).collect();
    let fitting = u32::try_from(scores.iter().filter(|score| **score > 0).count()).unwrap_or(0);
    scores.iter().sum::<u32>() * fitting
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::scope::{Selection, offer};

    #[test]
    fn what_somebody_wants_to_do_leads_to_its_tool() {
        let offer = offer(Selection::default()).unwrap();
        for (query, tool) in [
            ("pty_read_at", "pty_read_at"),
            ("wait until pattern appears in terminal", "pty_read_until"),
            ("hand a lease over to another client", "pty_handoff"),
            ("retry with backoff", "session_retry"),
            ("wait for several jobs", "job_wait"),
            ("history of who typed what", "session_history"),
            ("resize terminal", "pty_resize"),
            ("confirm dangerous command", "confirm_dangerous_command"),
            ("read stderr", "pty_read_stderr"),
            ("default session", "session_set_active"),
        ] {
            let found = ranked(offer.findable(), query);
            let names: Vec<_> = found.iter().take(3).map(|entry| entry.name).collect();
            assert!(names.contains(&tool), "{query}: {names:?}");
        }
        assert!(ranked(offer.findable(), "zebra quux").is_empty());
        assert_eq!(ranked(offer.findable(), " ").len(), offer.findable().len());
    }

    #[test]
    fn a_tool_is_told_of_with_all_that_it_takes() {
        let offer = offer(Selection::default()).unwrap();
        for entry in offer.findable() {
            let text = describe(entry);
            assert!(text.len() < 2_600, "{}: {} bytes", entry.name, text.len());
            for name in entry.schema()["properties"].as_object().unwrap().keys() {
                assert!(text.contains(&format!("\n  {name} (")), "{text}");
            }
        }
    }
}
