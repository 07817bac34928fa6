//! `file_search`: lines that match, found on the server.

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::Failure;
use farwire_protocol::quote::quoted;
use farwire_protocol::streams::files::{Ask, Match, Search};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{enter, visible};
use crate::text::header::{Header, Key};
use crate::text::{Word, imitation};
use crate::tools::{Caller, Desk, Effect, Tool, budget};

/// A line is cut after so many characters.
const WIDTH: usize = 300;

/// The arguments of `file_search`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSearch {
    /// Server name.
    pub server: String,
    /// Regex, as in ripgrep.
    pub pattern: String,
    /// File or directory (default: the root).
    pub path: Option<String>,
    /// Only files like this, e.g. *.rs.
    pub glob: Option<String>,
    /// Lines around each match.
    pub context: Option<u32>,
    /// Matches (default 50).
    pub limit: Option<u32>,
    /// Capitals do not count.
    pub ignore_case: Option<bool>,
    /// The pattern is plain text.
    pub fixed: Option<bool>,
}

impl Tool for FileSearch {
    const NAME: &'static str = "file_search";
    const TITLE: &'static str = "Search files";
    const ABOUT: &'static str = "Search file contents on a server (grep, ripgrep), past what .gitignore names: \
        path:line: text.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, desk: &Desk, _: &Caller) -> Result<String, Failure> {
        let client = desk.client().await?;
        let mut at = enter(client, &self.server, self.path.as_deref().unwrap_or("")).await?;
        let search = Search {
            path: Blob(at.place.path.clone()),
            pattern: self.pattern,
            fixed: self.fixed,
            ignore_case: self.ignore_case,
            globs: self.glob.map(|glob| vec![glob]),
            context: self.context,
            limit: Some(self.limit.unwrap_or(50).clamp(1, 2_000)),
            all: None,
            names: None,
        };
        let mut answer = at.files.answer(client, Ask::Search(search), None).await?;
        answer.matches.sort_by(|one, other| (&one.path, one.line).cmp(&(&other.path, other.line)));
        let mut left = budget(None).characters();
        let (mut text, mut hidden, mut cut) = (String::new(), 0, false);
        let mut before: Option<&Match> = None;
        for found in &answer.matches {
            let (row, out_of_sight) = row(found, before);
            let cost = row.chars().count();
            if cost > left {
                cut = true;
                break;
            }
            left -= cost;
            hidden += out_of_sight;
            text.push_str(&row);
            before = Some(found);
        }
        let header = Header::new(Word::File).value(&at.place.shown());
        let mut header = header.field(Key::Matches, answer.done.count.unwrap_or(0));
        if let Some(files) = answer.done.files {
            header = header.field(Key::Searched, files);
        }
        if cut || answer.done.more == Some(true) {
            header = header.field(Key::More, "yes");
        }
        Ok(format!("{}\n{text}", header.hidden(hidden).end()))
    }
}

/// A line with its place; a mark where lines are left out before one that stands beside a match.
fn row(found: &Match, before: Option<&Match>) -> (String, u64) {
    let path = quoted(&found.path);
    let (text, hidden) = visible(&String::from_utf8_lossy(&found.text));
    let all = text.trim_end();
    let mut text: String = all.chars().take(WIDTH).collect();
    if text.len() < all.len() {
        text.push('…');
    }
    let beside = found.beside.unwrap_or(false);
    let sign = if beside { '-' } else { ':' };
    let apart = before.is_some_and(|before| {
        (before.path != found.path || before.line + 1 < found.line)
            && (beside || before.beside.unwrap_or(false))
    });
    let gap = if apart { "--\n" } else { "" };
    let line = format!("{path}{sign}{}{sign} {text}", found.line);
    (format!("{gap}{}\n", imitation::marked(&line)), hidden)
}
