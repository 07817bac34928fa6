//! `file_search`: lines that match, found on the server.

use farwire_protocol::failure::Failure;
use farwire_protocol::streams::files::Match;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{index, unread, visible};
use crate::files::place::ServerPath;
use crate::files::site::Face;
use crate::text::header::{Call, Header, Key};
use crate::text::{Word, imitation};
use crate::tools::arguments::budget;
use crate::tools::caller::Caller;
use crate::tools::seat::Seat;
use crate::tools::tool::{Effect, Tool};
use crate::verbs::files::search::{MOST, SearchRequest};

/// A line is cut after this many characters.
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
    /// Only matching files, e.g. *.rs.
    pub glob: Option<String>,
    /// Lines around each match.
    pub context: Option<u32>,
    /// Matches (default 50).
    pub limit: Option<u32>,
    /// Ignore case.
    pub ignore_case: Option<bool>,
    /// Treat the pattern as literal text.
    pub fixed: Option<bool>,
    /// Matches to skip, from `next`.
    pub skip: Option<u32>,
}

impl Tool for FileSearch {
    const NAME: &'static str = "file_search";
    const TITLE: &'static str = "Search files";
    const ABOUT: &'static str = "Search file contents on a server (grep, ripgrep), without what \
        .gitignore excludes: path:line: text.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let client = seat.client().await?;
        let limit = self.limit.unwrap_or(50).clamp(1, 2_000);
        let skip = self.skip.unwrap_or(0).min(MOST);
        let path = ServerPath::new(&self.server, self.path.as_deref().unwrap_or(""));
        let search = SearchRequest {
            path: &path,
            pattern: self.pattern.clone(),
            fixed: self.fixed.unwrap_or(false),
            ignore_case: self.ignore_case.unwrap_or(false),
            globs: self.glob.clone().into_iter().collect(),
            context: self.context,
            limit: Some(skip.saturating_add(limit)),
            all: false,
            names: false,
        };
        let answer = search.carry_out(client, Face::Mcp).await?;
        let mut left = budget(None).characters();
        let (mut text, mut hidden, mut cut) = (String::new(), 0, false);
        let mut before: Option<&Match> = None;
        let mut shown = 0;
        for found in behind(&answer.matches, skip) {
            let (row, out_of_sight) = row(&answer.place.argument_for(&found.path), found, before);
            let cost = row.chars().count();
            if cost > left {
                cut = true;
                break;
            }
            left -= cost;
            hidden += out_of_sight;
            text.push_str(&row);
            shown += u32::from(found.beside != Some(true));
            before = Some(found);
        }
        let header = Header::new(Word::File).value(&answer.place.to_text());
        let mut header = header.field(Key::Matches, answer.count);
        if let Some(files) = answer.files {
            header = header.field(Key::Searched, files);
        }
        if answer.binary > 0 {
            header = header.field(Key::Binary, answer.binary);
        }
        let unread = unread(&answer.place, &answer.unread);
        if answer.unread.count > 0 {
            header = header.field(Key::Unread, answer.unread.count);
        }
        header = header.hidden(hidden);
        if !cut && answer.more != Some(true) {
            return Ok(format!("{}\n{unread}{text}", header.end()));
        }
        let (skip, header) = (skip.saturating_add(shown), header.field(Key::More, "yes"));
        if skip >= MOST {
            let text = format!(
                "A search ends after {MOST} matches: search a directory under it, or use a glob.\n{unread}{text}"
            );
            return Ok(format!("{}\n{text}", header.end()));
        }
        if shown == 0 {
            let advice = "No match fits with this much context: ask for fewer context lines.";
            return Ok(format!("{}\n{advice}\n{unread}{text}", header.end()));
        }
        let call =
            Call::new(Self::NAME).with("server", &self.server).with("pattern", &self.pattern);
        let call = call.with("path", answer.place.to_text()).with_some("glob", self.glob.as_ref());
        let call = call.with_some("context", self.context).with_some("limit", self.limit);
        let call = call.with_some("ignore_case", self.ignore_case).with_some("fixed", self.fixed);
        Ok(format!("{}\n{unread}{text}", header.next(&call.with("skip", skip))))
    }
}

/// What follows this many matches, with the context of the last one: it may also be the context of
/// the next.
fn behind(matches: &[Match], skip: u32) -> &[Match] {
    let is_match = |found: &(usize, &Match)| found.1.beside != Some(true);
    let Some(last) = index(skip).checked_sub(1) else { return matches };
    let last = matches.iter().enumerate().filter(is_match).nth(last);
    last.and_then(|(at, _)| matches.get(at + 1..)).unwrap_or_default()
}

/// The part of a line that is shown: the match, with some text before it.
fn window(found: &Match) -> String {
    let at = usize::try_from(found.at.unwrap_or(0)).unwrap_or(usize::MAX);
    let before = String::from_utf8_lossy(found.text.get(..at).unwrap_or_default());
    let behind =
        String::from_utf8_lossy(found.text.get(at.min(found.text.len())..).unwrap_or_default());
    let (many, lead) = (before.chars().count(), WIDTH / 4);
    let all = many + behind.trim_end().chars().count();
    let skip = if all <= WIDTH { 0 } else { many.saturating_sub(lead).min(all - WIDTH) };
    let mut text = String::new();
    if skip > 0 || found.cut_before == Some(true) {
        text.push('…');
    }
    text.extend(before.chars().chain(behind.chars()).skip(skip).take(WIDTH));
    if skip + WIDTH < all || found.cut_after == Some(true) {
        text.push('…');
    }
    text
}

/// A line with its place; a mark where lines are left out before one that stands beside a match.
fn row(path: &str, found: &Match, before: Option<&Match>) -> (String, u64) {
    let (text, hidden) = visible(&window(found));
    let text = text.trim_end();
    let beside = found.beside.unwrap_or(false);
    let sign = if beside { '-' } else { ':' };
    let apart = before.is_some_and(|before| {
        (before.path != found.path || before.line + 1 < found.line)
            && (beside || before.beside.unwrap_or(false))
    });
    let gap = if apart { "--\n" } else { "" };
    let line = match found.binary == Some(true) {
        true if beside => format!("{path}: binary file, searched up to its first NUL"),
        true => format!("{path}: binary file matches"),
        false => format!("{path}{sign}{}{sign} {text}", found.line),
    };
    (format!("{gap}{}\n", imitation::marked(&line)), hidden)
}

#[cfg(test)]
mod tests {
    use farwire_protocol::cbor::Blob;

    use super::*;

    fn found(text: &str, at: usize) -> Match {
        let at = u32::try_from(at).ok();
        Match { text: Blob(text.as_bytes().to_vec()), at, ..Match::default() }
    }

    #[test]
    fn the_match_is_in_what_is_shown_of_a_long_line() {
        for (length, at) in
            [(333, 321), (1_000, 0), (1_000, 500), (1_000, 994), (300, 290), (20, 3)]
        {
            let line = format!("{}TOKEN{}", "é".repeat(at), "x".repeat(length));
            let shown = window(&found(&line, 2 * at));
            assert!(shown.contains("TOKEN"), "{length} {at}: {shown}");
            assert!(shown.chars().count() <= WIDTH + 2);
            assert_eq!(shown.starts_with('…'), at > WIDTH / 4 && at + 5 + length > WIDTH);
        }
        assert_eq!(window(&found("short\n", 0)).trim_end(), "short");
    }
}
