//! `file_size`: how much is in a directory.

use farwire_protocol::failure::Failure;
use schemars::JsonSchema;
use serde::Deserialize;

use super::unread;
use crate::files::place::ServerPath;
use crate::files::site::Face;
use crate::text::header::{Header, Key};
use crate::text::{Word, human};
use crate::tools::caller::Caller;
use crate::tools::seat::Seat;
use crate::tools::tool::{Effect, Tool};
use crate::verbs::files::size::MeasureSize;

/// The arguments of `file_size`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSize {
    /// Server name.
    pub server: String,
    /// Directory or file (default: the root).
    pub path: Option<String>,
}

impl Tool for FileSize {
    const NAME: &'static str = "file_size";
    const TITLE: &'static str = "Size of a directory";
    const ABOUT: &'static str = "Show how much a directory on a server holds in total (du): size, \
        number of files and of directories.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let client = seat.client().await?;
        let path = ServerPath::new(&self.server, self.path.as_deref().unwrap_or(""));
        let answer = MeasureSize { path: &path }.carry_out(client, Face::Mcp).await?;
        let words = format_args!("{} files {} directories", answer.files, answer.directories);
        let mut header = Header::new(Word::File).value(&answer.place.to_text()).words(words);
        header = header.field(Key::Size, human::size(answer.bytes));
        if answer.unread.count > 0 {
            header = header.field(Key::Unread, answer.unread.count);
        }
        Ok(format!("{}\n{}", header.end(), unread(&answer.place, &answer.unread)))
    }
}
