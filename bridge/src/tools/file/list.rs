//! `file_list`: what is in a directory.

use farwire_protocol::failure::Failure;
use farwire_protocol::quote::quote;
use farwire_protocol::streams::files::{Entry, Sort, What};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{age, index, unread};
use crate::files::place::ServerPath;
use crate::files::site::Face;
use crate::text::header::{Call, Header, Key};
use crate::text::table::Table;
use crate::text::{Word, human};
use crate::tools::arguments::budget;
use crate::tools::caller::Caller;
use crate::tools::seat::Seat;
use crate::tools::tool::{Effect, Tool};
use crate::verbs::files::list::{ListRequest, MOST};

/// The arguments of `file_list`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileList {
    /// Server name.
    pub server: String,
    /// Directory (default: the root).
    pub path: Option<String>,
    /// Pattern, e.g. **/*.rs; all levels.
    pub glob: Option<String>,
    /// Levels (default 1).
    pub depth: Option<u32>,
    /// name (default), size or time.
    pub sort: Option<ListOrder>,
    /// Entries (default 100).
    pub limit: Option<u32>,
    /// Entries to skip, from `next`.
    pub skip: Option<u32>,
}

/// In which order.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "doc comments would go into the schema that models pay for")]
pub enum ListOrder {
    Name,
    Size,
    Time,
}

impl Tool for FileList {
    const NAME: &'static str = "file_list";
    const TITLE: &'static str = "List files";
    const ABOUT: &'static str =
        "List a directory on a server, or find files by name pattern: size, age, path.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let client = seat.client().await?;
        let limit = self.limit.unwrap_or(100).clamp(1, 2_000);
        let skip = self.skip.unwrap_or(0).min(MOST);
        let dir = ServerPath::new(&self.server, self.path.as_deref().unwrap_or(""));
        let list = ListRequest {
            dir: &dir,
            depth: self.depth.unwrap_or_else(|| if self.glob.is_some() { u32::MAX } else { 1 }),
            // A search by name skips what .gitignore excludes.
            tidy: self.glob.is_some(),
            globs: self.glob.clone().into_iter().collect(),
            limit: Some(skip.saturating_add(limit)),
            sort: match self.sort.unwrap_or(ListOrder::Name) {
                ListOrder::Name => Sort::Name,
                ListOrder::Size => Sort::Size,
                ListOrder::Time => Sort::Time,
            },
        };
        let answer = list.carry_out(client, Face::Mcp).await?;
        let mut table = Table::new().limit(2, 5_000);
        let entries = answer.entries.get(index(skip)..).unwrap_or_default();
        for entry in entries {
            table.row([size(entry), age(entry), name(entry)]);
        }
        let (text, shown) = table.within(budget(None));
        let mut header = Header::new(Word::File).value(&answer.place.to_text());
        header = header.field(Key::Entries, shown);
        if answer.unread.count > 0 {
            header = header.field(Key::Unread, answer.unread.count);
        }
        let text = format!("{}{text}", unread(&answer.place, &answer.unread));
        if !answer.more && shown == entries.len() {
            return Ok(format!("{}\n{text}", header.end()));
        }
        let skip = skip.saturating_add(u32::try_from(shown).unwrap_or(u32::MAX));
        let header = header.field(Key::More, "yes");
        if skip >= MOST || shown == 0 {
            let text = format!(
                "A list ends after {MOST} entries: list a directory under it, or use a glob.\n{text}"
            );
            return Ok(format!("{}\n{text}", header.end()));
        }
        let call =
            Call::new(Self::NAME).with("server", &self.server).with("path", answer.place.to_text());
        let call = call.with_some("glob", self.glob.as_ref()).with_some("depth", self.depth);
        let call =
            call.with_some("sort", self.sort.map(ListOrder::name)).with_some("limit", self.limit);
        Ok(format!("{}\n{text}", header.next(&call.with("skip", skip))))
    }
}

impl ListOrder {
    const fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Size => "size",
            Self::Time => "time",
        }
    }
}

fn size(entry: &Entry) -> String {
    match entry.what {
        What::File => human::size(entry.size),
        What::Directory => "dir".to_owned(),
        What::Link => "link".to_owned(),
        What::Other => "other".to_owned(),
    }
}

fn name(entry: &Entry) -> String {
    let slash: &[u8] = if entry.what == What::Directory { b"/" } else { b"" };
    quote(&[&entry.path[..], slash].concat()).into_owned()
}
