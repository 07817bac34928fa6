//! `file_size`: how much is in a directory.

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::Failure;
use farwire_protocol::streams::files::Ask;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{site, unread};
use crate::text::header::{Header, Key};
use crate::text::{Word, human};
use crate::tools::{Caller, Desk, Effect, Tool};

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
    const ABOUT: &'static str = "How much a directory on a server holds, with all in it (du): size, number of files \
        and of directories.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, desk: &Desk, _: &Caller) -> Result<String, Failure> {
        let client = desk.client().await?;
        let mut at = site(client, &self.server, self.path.as_deref().unwrap_or("")).await?;
        let done = at.ask(|place| Ask::Usage(Blob(place.path.clone()))).await?.done;
        let (files, directories) = (done.files.unwrap_or(0), done.count.unwrap_or(0));
        let words = format_args!("{files} files {directories} directories");
        let mut header = Header::new(Word::File).value(&at.place.shown()).words(words);
        header = header.field(Key::Size, human::size(done.bytes.unwrap_or(0)));
        if let Some(count) = done.unread.filter(|count| *count > 0) {
            header = header.field(Key::Unread, count);
        }
        Ok(format!("{}\n{}", header.end(), unread(&at.place, &done)))
    }
}
